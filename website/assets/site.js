/* Wide tables scroll inside of a wrapper that the theme adds. Here it can be reached by keyboard too. */
const reach = () => {
  for (const wrapper of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) wrapper.tabIndex = 0;
};
reach();
new MutationObserver(reach).observe(document.body, { childList: true, subtree: true });
