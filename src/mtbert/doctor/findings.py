"""The findings of ``mtbert doctor``: facts, and advice where something will be slow or fail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """One line of ``mtbert doctor``.

    Attributes:
        topic: The name in front of the line, such as ``memory``.
        text: The line itself.
        advice: What will be slow or fail, and what to do about it. Empty if all is well.
        broken: Whether mtbert cannot work in this state.
        facts: The same facts for programs, as values that JSON can hold. Sizes are in bytes, and times in seconds.
    """

    topic: str
    text: str
    advice: Sequence[str] = ()
    broken: bool = False
    facts: Mapping[str, object] = field(default_factory=dict)


def size_text(size: float) -> str:
    """Returns a number of bytes as text, in units of 1000.

    >>> size_text(999), size_text(1_250_000), size_text(24e9)
    ('999 B', '1.2 MB', '24.0 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} B" if unit == "B" else f"{size:,.1f} {unit}"
