"""Writing settings as YAML. A comment, at the end of the line or above it, gives the reason for a value."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mtbert.messages import clean
from mtbert.yaml_text import inline

COMMENT_WIDTH = 110  # a longer line has its comment above it


@dataclass(frozen=True)
class Setting:
    """A setting: its key, its value or the settings inside it, and a comment. Without a key, it is a comment alone."""

    key: str
    value: Any = None
    why: str = ""
    inside: Sequence["Setting"] = ()


def commented(settings: Sequence[Setting], indent: str = "") -> str:
    """Returns settings as YAML text with comments.

    >>> print(commented([Setting("tasks", inside=[Setting("a", "b: c", "a guess")])]), end="")
    tasks:
      a: 'b: c'  # a guess
    """
    lines: list[str] = []
    for setting in settings:
        value = "" if setting.inside or not setting.key else f" {inline(setting.value)}"
        line = f"{indent}{inline(setting.key)}:{value}" if setting.key else ""
        comment = clean(setting.why)
        if line and comment and len(line) + 4 + len(comment) <= COMMENT_WIDTH:
            line, comment = f"{line}  # {comment}", ""
        start = f"{indent}# "
        lines += textwrap.wrap(comment, COMMENT_WIDTH, initial_indent=start, subsequent_indent=start) if comment else []
        lines += [line] if line else []
        lines += commented(setting.inside, indent + "  ").splitlines()
    return "".join(f"{line}\n" for line in lines)
