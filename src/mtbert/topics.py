"""The topics of mtbert's documentation. A topic is a page, or one section of a page. The package contains all pages."""

import re
from collections.abc import Iterator
from pathlib import Path

from mtbert.messages import few, near, shown

PAGES = Path(__file__).parent / "docs"  # in a checkout, a link to the folder of the documents


def page_titles() -> dict[str, str]:
    """Returns a dict from the name of each page of mtbert's documentation to the page's title."""
    return {page.stem: next(_headings(page.read_text(encoding="utf-8")))[2] for page in sorted(PAGES.glob("*.md"))}


def topic_text(topic: str) -> str:
    """Returns the Markdown text of a topic.

    Args:
        topic: The name of a page, such as ``install``; or a page and one of its headings, such as
            ``install/is-the-machine-well``. A section includes the sections below it.

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
    """Returns a heading as it is written in a topic.

    >>> slug("Is the machine `well`?")
    'is-the-machine-well'
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
