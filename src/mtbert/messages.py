"""The words that messages share: foreign values made safe to print, near names, short lists, and warnings.

Text that comes from a file, a command line or another library may hold anything: control characters that clear a
terminal, line breaks that forge a second message, ten megabytes. :func:`shown` and :func:`clean` are the only way from
there into a message.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LONGEST = 80  # characters of a foreign value in a message
LONGEST_LINE = 2000  # characters of a whole line


def shown(value: object, longest: int = LONGEST) -> str:
    """Returns ``value`` in quotes on one line, with control characters escaped and the rest of a long text cut.

    >>> shown("a\\tb")
    "'a\\\\tb'"
    >>> shown("x" * 1000, longest=10)
    "'xxxxxxx...'"
    """
    if isinstance(value, str):
        # A cut text is escaped only as far as it is shown: a label may have ten million characters.
        return f"'{_cut(clean(value[: longest + 1]), longest)}'"
    if isinstance(value, bytes | bytearray):
        value = bytes(value[:longest])
    return _cut(clean(repr(value)), longest)


def clean(text: str, *, lines: bool = False) -> str:
    """Returns ``text`` with every character that does not print as itself escaped as in a Python literal.

    Args:
        text: Any text.
        lines: True keeps line breaks.

    >>> clean("a\\x1b[2Jb\\r")
    'a\\\\x1b[2Jb\\\\r'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _prints(c) or (lines and c == "\n") else _escaped(c) for c in text)


def near(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Returns `` Did you mean 'x'?`` with the nearest of ``known``, else ``otherwise``; both begin with a space.

    >>> near("trian", ["train", "dev"])
    " Did you mean 'train'?"
    """
    found = difflib.get_close_matches(word[:LONGEST], [name for name in known if name != word], n=1, cutoff=0.5)
    return f" Did you mean {shown(found[0])}?" if found else otherwise and f" {otherwise}"


def few(items: Sequence[object] | Iterable[object], most: int = 12, *, quoted: bool = False) -> str:
    """Returns ``a, b, c and 3 more``, or ``none``.

    >>> few(["a", "b", "c"], most=2, quoted=True)
    "'a', 'b' and 1 more"
    """
    listed = list(items)
    texts = [shown(item) if quoted else clean(str(item)[:LONGEST]) for item in listed[:most]]
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return (", ".join(texts) or "none") + more


def count(number: int, word: str) -> str:
    """Returns ``1 row`` or ``2 rows``.

    >>> count(2000, "row")
    '2,000 rows'
    """
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def reason(error: BaseException) -> str:
    """Returns the first line of what another library says is wrong, without its full stop; never empty."""
    lines = (clean(line.strip())[:200].rstrip(".") for line in str(error).splitlines() if line.strip())
    return next(lines, type(error).__name__)


def warn(console: "Console", line: str) -> None:
    """Prints ``warning: line`` on ``console``; every warning of the project goes through here."""
    console.print(f"warning: {clean(line[:LONGEST_LINE])}", style="yellow", markup=False, soft_wrap=True)


def _prints(character: str) -> bool:
    # Cf holds the marks that turn the direction of text; a zero-width joiner belongs to emoji and to many scripts.
    return character.isprintable() or (unicodedata.category(character) == "Zs") or character in "\u200c\u200d"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _cut(text: str, longest: int) -> str:
    # An escape is not cut in two.
    return text if len(text) <= longest else re.sub(r"\\[^\\]{0,8}$", "", text[: longest - 3]) + "..."
