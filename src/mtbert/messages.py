"""Functions for the text of messages: they make foreign text safe to print, suggest names, and shorten lists.

Text from a file, a command line or another library may hold anything: control characters that clear a terminal, line
breaks that forge a second message, or ten megabytes. Text from outside enters a message only through the functions of
this module.
"""

import difflib
import io
import re
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LONGEST = 80  # characters of one foreign value in a message
LONGEST_LINE = 2000  # characters of a whole message


def shown(value: object, longest: int = LONGEST) -> str:
    """Returns ``value`` as one line of at most ``longest`` characters, with control characters escaped.

    Strings are quoted. The two quotes around a string are not counted.

    >>> shown("a\\tb")
    "'a\\\\tb'"
    >>> shown("x" * 1000, longest=10)
    "'xxxxxxx...'"
    """
    if isinstance(value, str):
        # Only the part that is shown gets escaped: a label may have ten million characters.
        return f"'{_cut(clean(value[: longest + 1]), longest)}'"
    if isinstance(value, bytes | bytearray):
        value = bytes(value[:longest])
    try:
        text = repr(value)
    except Exception:  # Python writes no integer of more than 4,300 digits, and a caller's class may do anything
        text = f"<{type(value).__name__}>"
    return _cut(clean(text), longest)


def clean(text: str, *, lines: bool = False) -> str:
    """Returns ``text`` with every non-printing character escaped as in a Python literal.

    Args:
        text: Any text.
        lines: Whether to keep line breaks as they are.

    >>> clean("a\\x1b[2Jb\\r")
    'a\\\\x1b[2Jb\\\\r'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _prints(c) or (lines and c == "\n") else _escaped(c) for c in text)


def near(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Returns the suggestion `` Did you mean 'x'?``, with the name ``x`` in ``known`` that is most similar to ``word``.

    If no name is similar enough, returns ``otherwise`` with a space before it.

    >>> near("trian", ["train", "dev"])
    " Did you mean 'train'?"
    """
    found = nearest(word, known)
    return f" Did you mean {shown(found)}?" if found is not None else otherwise and f" {otherwise}"


def nearest(word: str, known: Iterable[str], least: float = 0.5) -> str | None:
    """Returns the name in ``known`` that is most similar to ``word`` but not equal; None if none is similar enough.

    A name is similar enough if its similarity to ``word``, from 0 to 1 as computed by :mod:`difflib`, is at least
    ``least``. A name with the same letters in another order is always similar enough, and is the most similar name.

    >>> nearest("lable", ["table", "label"]), nearest("lable", ["dev"])
    ('label', None)
    """
    names, cut = [name for name in known if name != word], word[:LONGEST]
    moved = [name for name in names if sorted(name) == sorted(cut)]
    return next(iter(moved or difflib.get_close_matches(cut, names, n=1, cutoff=least)), None)


def few(items: Sequence[object] | Iterable[object], most: int = 12, *, quoted: bool = False) -> str:
    """Returns ``items`` as a text for a message, such as ``a, b, c and 3 more``.

    The text lists at most ``most`` items, and says how many items are not listed. Every item is made safe to print. The
    text is ``none`` if there are no items.

    >>> few(["a", "b", "c"], most=2, quoted=True)
    "'a', 'b' and 1 more"
    """
    listed = list(items)
    texts = [shown(item) if quoted else clean(str(item)[:LONGEST]) for item in listed[:most]]
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return (", ".join(texts) if listed else "none") + more


def count(number: int, word: str) -> str:
    """Returns a number with its noun: ``1 row``, ``2 rows``.

    >>> count(2000, "row")
    '2,000 rows'
    """
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def reason(error: BaseException) -> str:
    """Returns the first line of an error's message without its full stop, or the name of its type if it has no message.

    This is meant for errors that other libraries raise.
    """
    lines = (clean(line.strip())[:200].rstrip(".") for line in str(error).splitlines() if line.strip())
    return next(lines, type(error).__name__)


def plain_console(file: IO[str] | None = None, *, stderr: bool = False, quiet: bool = False) -> "Console":
    """Returns a console that prints every text as it is, without markup, emoji or highlighting.

    If ``file`` is given, the console prints to that file, even in a notebook.
    """
    from rich.console import Console

    # A label or a path may hold "[b]" or ":smile:", which are not markup here.
    in_notebook = None if file is None else False
    return Console(
        file=file,
        stderr=stderr,
        quiet=quiet,
        force_jupyter=in_notebook,
        highlight=False,
        markup=False,
        emoji=False,
    )


def caller_console(progress: bool | None, *, stderr: bool = False) -> "Console":
    """Returns a console that prints if ``progress`` is true, or if it is None and the code runs in a notebook."""
    console = plain_console(stderr=stderr)
    console.quiet = not (console.is_jupyter if progress is None else progress)
    return console


def recorder(width: int = 100) -> "Console":
    """Returns a console that only records what is printed on it, for :func:`recorded_html` or ``export_text``."""
    from rich.console import Console

    return Console(
        record=True,
        file=io.StringIO(),
        width=width,
        force_jupyter=False,
        highlight=False,
        markup=False,
        emoji=False,
    )


def recorded_html(console: "Console") -> str:
    """Returns what was printed on a :func:`recorder` as HTML, which a notebook shows."""
    return console.export_html(inline_styles=True, code_format=_HTML)


_HTML = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


class MtbertWarning(UserWarning):
    """A Python warning about data, a run or scores. A function that shows progress prints the warning instead."""


@dataclass(frozen=True)
class Note:
    """One line of text for the user. ``warning`` says whether it is a warning."""

    text: str
    warning: bool = False


def as_warnings(lines: Iterable[str]) -> list[Note]:
    """Returns each line as a warning."""
    return [Note(line, warning=True) for line in lines]


def tell(console: "Console", notes: Iterable[Note]) -> None:
    """Prints each note on a line of its own. Notes that are warnings go through :func:`warn`."""
    for note in notes:
        if note.warning:
            warn(console, note.text)
        else:
            console.print(clean(note.text[:LONGEST_LINE]), markup=False, soft_wrap=True)


def warn(console: "Console", line: str) -> None:
    """Prints ``warning: line`` on ``console``; every warning of mtbert goes through this function.

    If ``console`` is quiet, instead issues an :class:`MtbertWarning`, located at the line of code that called mtbert.
    """
    text = clean(line[:LONGEST_LINE])
    if console.quiet:
        warnings.warn(text, MtbertWarning, stacklevel=_level_of_caller())
    else:
        console.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)


def _level_of_caller() -> int:
    """Returns the ``stacklevel`` with which :func:`warn` warns at the line of code that called mtbert."""
    frame, level, found = sys._getframe(1), 1, 1
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
            found = level + 1
        frame, level = frame.f_back, level + 1
    return found


def tell_end(console: "Console", done: str, *following: str) -> None:
    """Prints the last lines of a command: where its results are, and the commands that the user may want to type next.

    Every command that takes long ends with these lines. ``following`` holds the next commands as text, for example from
    :func:`command_line`.
    """
    console.print(f"done: {done}", markup=False, soft_wrap=True)
    for word, line in zip(("next", *["or"] * len(following)), following, strict=False):
        console.print(f"{word}: {line}", markup=False, soft_wrap=True)


def _prints(character: str) -> bool:
    # Every other character of category Cf is escaped, because some of them reverse the direction of text. The two
    # zero-width joiners are part of emoji and of many scripts.
    return character.isprintable() or (unicodedata.category(character) == "Zs") or character in "\u200c\u200d"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _cut(text: str, longest: int) -> str:
    # An escape sequence that would be cut in two is dropped whole.
    return text if len(text) <= longest else re.sub(r"\\[^\\]{0,8}$", "", text[: longest - 3]) + "..."
