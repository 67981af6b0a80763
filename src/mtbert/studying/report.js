"use strict";
// Charts that say what the pointer or the focus is on, and tables that sort. The page can be read without this script.

// Charts ----------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";

// Shows the words about a mark under its chart.
const tell = (plot, words) => {
  const line = plot.closest(".chart").querySelector(".details");
  line.textContent = words || plot.closest(".chart").dataset.hint || "";
  line.classList.toggle("said", Boolean(words));
};
const clear = plot => {
  plot.classList.remove("pointed");
  for (const mark of plot.querySelectorAll(".shown")) mark.classList.remove("shown");
  for (const circle of plot.querySelectorAll("circle.at")) if (circle !== document.activeElement) circle.remove();
  tell(plot, "");
};
const show = (plot, mark, words) => {
  clear(plot);
  plot.classList.add("pointed");
  mark.classList.add("shown");
  tell(plot, words);
};

// Returns the points of a curve: their places in its drawing, and what they say.
const kept = new WeakMap();
const points = curve => {
  if (!kept.has(curve)) {
    const split = name => curve.hasAttribute(name) ? curve.getAttribute(name).split("|") : [];
    const [xs, ys, more] = ["data-x", "data-y", "data-more"].map(split);
    const places = curve.getAttribute("d").match(/[\d.-]+ [\d.-]+/g) || [];
    kept.set(curve, places.map((place, i) => {
      const [x, y] = place.split(" ").map(Number);
      return {x, y, words: `${curve.dataset.name}: ${ys[i]} at ${xs[i]}${more[i] ? ` (${more[i]})` : ""}`};
    }));
  }
  return kept.get(curve);
};

// Marks a point of a curve with a circle, which can have the focus.
const showPoint = (plot, curve, point) => {
  show(plot, curve, point.words);
  const circle = document.createElementNS(SVG, "circle");
  const style = [...curve.classList].find(name => /^s\d$/.test(name));
  for (const [name, value] of Object.entries({class: `at ${style}`, cx: `${point.x / 10}%`, cy: point.y, r: 6, role: "img",
    tabindex: -1, "aria-label": point.words})) circle.setAttribute(name, value);
  plot.append(circle);
  return circle;
};

const nearest = (plot, event) => {
  const box = plot.getBoundingClientRect();
  const x = event.clientX - box.left, y = event.clientY - box.top;
  let found = null, least = Infinity;
  for (const curve of plot.querySelectorAll(".curve")) for (const point of points(curve)) {
    const distance = (point.x / 1000 * box.width - x) ** 2 + (point.y - y) ** 2;
    if (distance < least) { least = distance; found = [curve, point]; }
  }
  return found;
};

// Makes a chart answer to the pointer and to the keys. Its first mark is reached with Tab, the others with arrows.
const enliven = plot => {
  const marks = [...plot.querySelectorAll(".mark")];
  if (!marks.length) return;
  const curves = plot.classList.contains("curves");
  const across = plot.classList.contains("matrix") ? Math.round(plot.querySelectorAll("tbody tr:first-child td").length) : 1;
  marks[0].tabIndex = 0;
  let at = 0, point = -1; // the mark with the focus, and the number of its point

  const focus = mark => {
    marks[at].tabIndex = -1;
    at = marks.indexOf(mark);
    mark.tabIndex = 0;
    mark.focus();
  };
  plot.addEventListener("pointermove", event => {
    if (curves) { const found = nearest(plot, event); if (found) showPoint(plot, ...found); return; }
    const mark = event.target.closest(".mark");
    if (mark) show(plot, mark, mark.getAttribute("aria-label"));
  });
  plot.addEventListener("pointerleave", () => clear(plot));
  plot.addEventListener("focusin", event => {
    const mark = event.target.closest(".mark");
    if (mark) { at = marks.indexOf(mark); point = -1; show(plot, mark, mark.getAttribute("aria-label")); }
  });
  plot.addEventListener("focusout", event => { if (!plot.contains(event.relatedTarget)) clear(plot); });
  plot.addEventListener("keydown", event => {
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (!step) return;
    event.preventDefault();
    if (curves && step[0]) {
      const all = points(marks[at]);
      point = Math.min(Math.max(point + step[0], 0), all.length - 1);
      if (!all.length) return;
      const before = plot.querySelector("circle.at");
      showPoint(plot, marks[at], all[point]).focus();
      if (before) before.remove(); // only now: to remove what has the focus would lose it
      return;
    }
    const next = marks[at + step[0] + (across > 1 ? across : 1) * step[1]];
    if (next) focus(next);
  });
};

document.querySelectorAll(".chart").forEach((chart, i) => {
  const line = chart.querySelector(".details");
  if (!i) chart.dataset.hint = line.textContent = "Point at a chart, or reach it with Tab and use the arrow keys: this line says what is there.";
  line.hidden = false;
});
document.querySelectorAll(".plot").forEach(enliven);

// Tables ----------------------------------------------------------------------------------------------------

// Returns the number that a cell begins with, such as -0.012 of "-0.012 [-0.020, -0.004]", or NaN.
const numberOf = text => parseFloat(text.replace(/^< /, "").replace(/^([+-]?\d{1,3})((,\d{3})+)/, (_, a, b) => a + b.replaceAll(",", "")));

const sortable = table => {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], first = [...body.rows];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      for (const other of heads) other.removeAttribute("aria-sort");
      if (before === "ascending") { body.append(...first); return; } // the third click brings the first order back
      const sign = before ? 1 : -1;
      const text = row => row.cells[column].textContent.trim();
      const order = (a, b) => {
        const [x, y] = [text(a), text(b)];
        if (!x || !y) return !x - !y; // empty cells come last
        const [m, n] = [numberOf(x), numberOf(y)];
        return sign * (isNaN(m) || isNaN(n) ? -x.localeCompare(y) : m - n);
      };
      body.append(...[...first].sort(order));
      head.setAttribute("aria-sort", before ? "ascending" : "descending");
    });
  });
};
document.querySelectorAll("table.sortable").forEach(sortable);
