"""Reading tables from files: the column names and the numbered rows of every supported format, in bounded memory.

A file is read once from beginning to end: by lines, by objects, or by small batches of rows. Only the wanted columns
are kept. Only regular files are opened.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mtbert import files
from mtbert.data import conll, objects, parquet, plain, separated
from mtbert.data.records import LARGEST_TABLE, Records
from mtbert.messages import near, shown
from mtbert.progress_bar import progress_of

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".conll")  # each may be followed by .gz
SUFFIXES = (*TEXT_SUFFIXES, ".parquet")
SHEETS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods")
BOM = b"\xef\xbb\xbf"


@contextmanager
def opened(
    name: str,
    path: Path,
    wanted: Sequence[str],
    *,
    every: bool = False,
    unlimited: bool = False,
    may_be_empty: bool = False,
) -> Iterator[Records]:
    """Yields the records of a file, with the values of the ``wanted`` columns.

    Args:
        name: The name of the file in messages.
        path: The path of the file.
        wanted: The columns to read.
        every: Whether to read all columns. If true, ``wanted`` only helps to detect the separator of columns.
        unlimited: Whether the file may be larger than ``LARGEST_TABLE``.
        may_be_empty: Whether a JSON file without any object is allowed. If ``every`` is true, this argument has no
            effect, and such a file is an error.

    Raises:
        FileNotFoundError: If there is no such file. The message suggests the file with the most similar name.
        ValueError: If the format of the file is unknown, or if the file cannot be read. If a line is wrong, the message
            names it.
    """
    suffix, packed = file_kind(name, path)
    with opened_bytes(name, path, unlimited=unlimited or packed or suffix == ".parquet") as file:

        def digest() -> str:
            with progress_of(f"hashing {name}"), plain.disk_errors(name):
                file.seek(0)
                return hashlib.file_digest(file, "sha256").hexdigest()

        if suffix == ".parquet":
            columns, rows = parquet.parquet_records(name, file, None if every else wanted)
            yield Records(columns, rows, unit="row", digest=digest)
            return
        with plain.decoded(name, file, packed, unlimited=unlimited) as text:
            is_array = suffix == ".json" and text.top.lstrip()[:1] == "["
            if suffix in (".json", ".jsonl"):
                found = objects.array(name, text) if is_array else objects.each_line(name, text)
                names, kept = (
                    objects.whole_objects(name, found)
                    if every
                    else objects.keep(name, found, wanted, may_be_empty=may_be_empty)
                )
                unit = "item" if is_array else "line"
                yield Records(names, kept, unit=unit, late=not every, digest=digest, reached=file.tell)
            elif suffix == ".conll":
                columns, rows = conll.conll_records(name, text, wanted, every=every)
                yield Records(columns, rows, digest=digest, reached=file.tell)
            else:
                line, columns, rows = separated.separated_records(name, suffix, text, wanted, every)
                yield Records(columns, rows, header=f", line {line}", digest=digest, reached=file.tell)


@contextmanager
def opened_bytes(name: str, path: Path, *, unlimited: bool) -> Iterator[io.BufferedReader]:
    """Opens a regular file.

    Args:
        name: The name of the file in messages.
        path: The path of the file.
        unlimited: Whether the file may have more than ``LARGEST_TABLE`` bytes.

    Raises:
        FileNotFoundError: If there is no such file. The message suggests the file with the most similar name.
        ValueError: If the file cannot be opened, is no regular file, or is too large.
    """
    # Not around the whole block: there, an error may be of another file, such as one that the caller writes.
    with plain.disk_errors(name):
        opened = _open(name, path, 2**63 if unlimited else LARGEST_TABLE)
    with opened as file:
        yield file


def check_file(name: str, path: Path) -> None:
    """Raises FileNotFoundError if a file does not exist, ValueError if its format is unknown or it cannot be opened."""
    file_kind(name, path)
    _open(name, path, 2**63).close()


def file_kind(name: str, path: Path) -> tuple[str, bool]:
    """Returns a pair: the suffix that identifies the format of a file, and whether the file is compressed with gzip."""
    bare = path.name.lower()
    packed = bare.endswith(".gz")
    suffix = Path(bare.removesuffix(".gz")).suffix
    if suffix in SHEETS:
        raise ValueError(
            f"{name}: a spreadsheet, which is not read. Save the sheet as CSV (UTF-8), or from Python: "
            'pandas.read_excel(FILE).to_csv("FILE.csv", index=False).'
        )
    if suffix not in (TEXT_SUFFIXES if packed else SUFFIXES):
        if path.is_dir():
            raise ValueError(f"{name}: a folder, not a file. Name one of the files in it, or use hub: for a data set.")
        found = shown(suffix + ".gz" if packed else suffix)
        raise ValueError(
            f"{name}: {found} is not a known kind of file. Use one of {', '.join(SUFFIXES)}, or one of the first "
            f"{len(TEXT_SUFFIXES)} with .gz behind it."
        )
    return suffix, packed


def _open(name: str, path: Path, largest: int) -> io.BufferedReader:
    try:
        return files.open_regular(path, largest, name)
    except FileNotFoundError:
        if not path.parent.is_dir():
            folder = Path(name).parent  # "." for a bare name, which is left out of the message
            missing = shown(str(path.parent if folder == Path() else folder))
            raise FileNotFoundError(f"{name}: there is no folder {missing}. Check the path.") from None
        try:
            others = [p.name for p in path.parent.iterdir() if p.is_file()]
        except OSError:
            others = []
        hint = near(path.name, others, "Check the path.")
        raise FileNotFoundError(f"{name}: there is no such file.{hint}") from None
    except ValueError as error:
        raise ValueError(f"{error} Check the path.") from None
