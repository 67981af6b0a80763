"""Pieces of Markdown that the generated pages share."""

import re


def cell(text: str) -> str:
    """Returns ``text`` as the content of a cell of a table: on one line, without bars that would end the cell."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def table(head: list[str], rows: list[list[str]]) -> str:
    """Returns a Markdown table, or an empty text if there are no rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *[[cell(one) for one in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def from_docstring(text: str) -> str:
    """Returns the prose of a docstring as Markdown: roles and double backticks become single backticks."""
    text = re.sub(r":(?:class|func|meth|mod|data|attr):`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")
