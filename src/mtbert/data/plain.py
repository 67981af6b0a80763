"""Files of text, plain or packed by gzip, read in parts of bounded size."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mtbert.data.cells import LONGEST
from mtbert.data.records import LARGEST
from mtbert.messages import reason


class Text:
    """Text of a file, a line or a part at a time; NUL characters and bytes that are not UTF-8 are refused."""

    def __init__(self, name: str, stream: io.TextIOWrapper, top: str) -> None:
        self.name = name
        self.top = top  # the beginning, to see of what kind the content is
        self.line = 0  # lines that were read whole
        self._stream = stream
        self._left = LARGEST

    def __iter__(self) -> Iterator[str]:
        """Gives all lines with their ends."""
        while line := self._take(self._stream.readline):
            self.line += 1
            if len(line) > LONGEST:
                raise ValueError(
                    f"{self.name}, line {self.line}: more than {LONGEST:,} characters, which is no row of texts. "
                    "Check that the file is what it should be."
                )
            yield line

    def part(self, size: int) -> str:
        """Returns the next ``size`` characters, fewer at the end."""
        part = self._take(lambda _: self._stream.read(size))
        self.line += part.count("\n")
        return part

    def _take(self, read: Callable[[int], str]) -> str:
        try:
            text = read(LONGEST + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{self.name}: not a whole gzip file ({reason(error)}). Pack it again.") from None
        self._left -= len(text)
        if self._left < 0:
            raise ValueError(f"{self.name}: unpacks to more than {LARGEST:,} characters. Keep fewer rows.")
        if "\0" in text:
            line = self._at(text, text.index("\0"))
            raise ValueError(f"{self.name}, line {line}: a NUL character is not text. Save the file as UTF-8 text.")
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError as error:  # a byte that surrogateescape carried over
                line, byte = self._at(text, error.start), ord(text[error.start]) - 0xDC00
                raise ValueError(
                    f"{self.name}, line {line}: byte 0x{byte:02x} is not UTF-8. Save the file as UTF-8."
                ) from None
        return text

    def _at(self, text: str, index: int) -> int:
        return self.line + 1 + text.count("\n", 0, index)


@contextmanager
def decoded(name: str, file: io.BufferedReader, packed: bool) -> Iterator[Text]:
    stream: Any = gzip.GzipFile(fileobj=file, mode="rb") if packed else file
    try:
        top = stream.peek(io.DEFAULT_BUFFER_SIZE)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{name}: not a gzip file ({reason(error)}). Pack it again, or drop .gz.") from None
    # Lines that end in carriage returns alone are those of old Macs, and of a choice that Excel still offers.
    end = "\r" if b"\r" in top and b"\n" not in top else "\n"
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=end)
    try:
        yield Text(name, text, top.decode("utf-8-sig", errors="replace"))
    finally:
        text.detach()  # else it would close the file
