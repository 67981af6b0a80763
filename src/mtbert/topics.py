"""The topics of mtbert's documentation. A topic is a page, or one section of a page. The package contains all pages."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from mtbert.messages import few, near, shown

PAGES = Path(__file__).parent / "docs"  # in a checkout, a link to the folder of the documents
MOST_FOUND = 12  # most topics about some words


def page_titles() -> dict[str, str]:
    """Returns a dict from the name of each page of mtbert's documentation to the page's title."""
    return {page.stem: next(_headings(page.read_text(encoding="utf-8")))[2] for page in sorted(PAGES.glob("*.md"))}


def topics_about(words: str) -> dict[str, str]:
    """Returns a dict from the name of each topic about ``words`` to the topic's heading; at most ``MOST_FOUND`` topics.

    A topic is found if each of ``words`` is the beginning of a word in the topic's heading. If no heading fits, the
    texts of the topics are searched in the same way, and topics with more mentions come before the others.
    """
    titles = page_titles()
    named = {name: titles[name] for word in words.split() for name in get_close_matches(word.lower(), titles, n=1)}
    wanted = [re.compile(rf"(?<!\w){re.escape(word)}", re.IGNORECASE) for word in words.split()]
    in_headings: dict[str, str] = {}
    in_texts: dict[str, tuple[int, str]] = {}
    for name in titles:
        text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        sections = list(_headings(text))
        ends = [*(place for place, _, _ in sections[1:]), len(text)]
        for (start, level, title), end in zip(sections, ends, strict=True):
            topic = name if level == 1 else f"{name}/{slug(title)}"
            if wanted and all(word.search(title) for word in wanted):
                in_headings.setdefault(topic, title)
            mentions = [len(word.findall(text, start, end)) for word in wanted]
            if all(mentions) and mentions:
                in_texts.setdefault(topic, (sum(mentions), title))
    by_mentions = sorted(in_texts.items(), key=lambda found: -found[1][0])
    found = in_headings or {topic: title for topic, (_, title) in by_mentions}
    return dict(list((named | found).items())[:MOST_FOUND]) if found else {}


def topic_text(topic: str) -> str:
    """Returns the Markdown text of a topic.

    Args:
        topic: The name of a page, such as ``install``; or a page and one of its headings, such as
            ``install/check-the-machine``. For a heading, the text is the section with all its subsections.

    Raises:
        ValueError: If there is no such page or heading. The message suggests the most similar one.
    """
    name, _, heading = topic.partition("/")
    names = page_titles()
    if name not in names:
        raise ValueError(f"{shown(topic)}: no such topic.{near(name, names)} List them with: mtbert docs")
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    if not heading:
        return text
    sections = list(_headings(text))
    slugs = [slug(title) for _, _, title in sections]
    if heading not in slugs:
        hint = near(heading, slugs)
        raise ValueError(f"{shown(topic)}: page {name} has no such heading.{hint} It has: {few(slugs)}.")
    start, level, _ = sections[slugs.index(heading)]
    ends = [place for place, other, _ in sections if place > start and other <= level]
    return text[start : min(ends, default=len(text))]


def slug(title: str) -> str:
    """Returns a heading in lower case, with dashes between the words, and without punctuation.

    The names of topics contain headings in this form.

    >>> slug("Check the `machine`!")
    'check-the-machine'
    """
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip())


def _headings(text: str) -> Iterator[tuple[int, int, str]]:
    """Yields each heading outside of code blocks: its place in the text, its level, and its title."""
    fenced = False
    place = 0
    for line in text.splitlines(keepends=True):
        fenced ^= line.lstrip().startswith("```")
        found = re.match(r"(#+) (.+)", line)
        if found and not fenced:
            yield place, len(found[1]), found[2].strip()
        place += len(line)
