"""Reading text files, plain or compressed with gzip, in parts of bounded size."""

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mtbert.data.cells import LONGEST_TEXT
from mtbert.data.records import LARGEST_TABLE
from mtbert.messages import reason

_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)  # errors that a damaged gzip file raises


@contextmanager
def disk_errors(name: str) -> Iterator[None]:
    """A context manager that turns an error from the disk into a one-line ValueError about the file ``name``.

    FileNotFoundError and the errors of a damaged gzip file are left as they are.
    """
    try:
        yield
    except (FileNotFoundError, gzip.BadGzipFile):
        raise
    except OSError as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: OSError) -> ValueError:
    why = error.strerror or reason(error)
    return ValueError(f"{name}: cannot be read ({why}). Check the path and its permissions.")


class Text:
    """The text of a file, read by lines or in parts.

    Reading raises a ValueError if it meets a NUL character, a byte that is not valid UTF-8, a line that is too long, or
    a gzip file that is damaged or too large. The message names the file, and the line if it is known.
    """

    def __init__(self, name: str, stream: io.TextIOWrapper, top: str, largest: int) -> None:
        self.name = name
        self.top = top  # the beginning of the text, from which the kind of content can be seen
        self.line = 0  # number of lines that have been read completely
        self._stream = stream
        self._left = self._largest = largest

    def __iter__(self) -> Iterator[str]:
        """Yields all lines of the file, with their line breaks."""
        while line := self._take(self._stream.readline):
            self.line += 1
            if len(line) > LONGEST_TEXT:
                raise ValueError(
                    f"{self.name}, line {self.line}: more than {LONGEST_TEXT:,} characters, which is no row of texts. "
                    "Check that the file is what it should be."
                )
            yield line

    def part(self, size: int) -> str:
        """Returns the next ``size`` characters, or fewer at the end of the file."""
        part = self._take(lambda _: self._stream.read(size))
        self.line += part.count("\n")
        return part

    def _take(self, read: Callable[[int], str]) -> str:
        try:
            text = read(LONGEST_TEXT + 1)
        except _DAMAGED as error:
            raise ValueError(f"{self.name}: not a whole gzip file ({reason(error)}). Pack it again.") from None
        except OSError as error:
            raise _unreadable(self.name, error) from None
        self._left -= len(text)
        if self._left < 0:
            raise ValueError(f"{self.name}: unpacks to more than {self._largest:,} characters. Keep fewer rows.")
        if "\0" in text:
            line = self._at(text, text.index("\0"))
            raise ValueError(f"{self.name}, line {line}: a NUL character is not text. Save the file as UTF-8 text.")
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError as error:  # surrogateescape has decoded an invalid byte as a surrogate
                line, byte = self._at(text, error.start), ord(text[error.start]) - 0xDC00
                raise ValueError(
                    f"{self.name}, line {line}: byte 0x{byte:02x} is not UTF-8. Save the file as UTF-8."
                ) from None
        return text

    def _at(self, text: str, index: int) -> int:
        return self.line + 1 + text.count("\n", 0, index)


@contextmanager
def decoded(name: str, file: io.BufferedReader, packed: bool, *, unlimited: bool = False) -> Iterator[Text]:
    """Returns a context manager that yields the text of an open file as one :class:`Text`.

    Args:
        name: The name of the file in messages.
        file: The open file.
        packed: Whether the file is compressed with gzip.
        unlimited: Whether the text may have more than ``LARGEST_TABLE`` characters.

    Raises:
        ValueError: If ``packed`` is true but the file is not a gzip file.
    """
    stream: Any = gzip.GzipFile(fileobj=file, mode="rb") if packed else file
    try:
        with disk_errors(name):
            top = stream.peek(io.DEFAULT_BUFFER_SIZE)
    except _DAMAGED as error:
        raise ValueError(f"{name}: not a gzip file ({reason(error)}). Pack it again, or drop .gz.") from None
    # Lines that end in a bare carriage return come from old Macs, and from an export format that Excel still offers.
    end = "\r" if b"\r" in top and b"\n" not in top else "\n"
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=end)
    try:
        yield Text(name, text, top.decode("utf-8-sig", errors="replace"), sys.maxsize if unlimited else LARGEST_TABLE)
    finally:
        text.detach()  # otherwise the wrapper would close the file
