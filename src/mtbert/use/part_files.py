"""The files in which ``predict`` stores the answers to large inputs, and the records that say which files are finished.

Such a file is called a part, and lies in the output folder. The subfolder ``.mtbert`` contains a record for each
finished part. It also contains ``job.json``, which names the model, the tasks and the options with which all parts are
made.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtbert import files, locks
from mtbert.data import cache
from mtbert.data.cells import readable
from mtbert.data.streams import Block
from mtbert.json_files import read_settings, write_settings
from mtbert.messages import LONGEST, clean, few, shown
from mtbert.settings import Settings
from mtbert.use import outputs
from mtbert.use.outputs import JOB_FILE, RECORDS, Answered
from mtbert.use.scorer import ScoredBlock, Scorer

JOB_FORMAT = 1
REPAIR = "Give another folder, or remove this one."


class Job(Settings):
    """The content of ``job.json``, which says how all output files in a folder are made.

    The output files contain a model's answers to the rows of the input files. If the input files are JSON lines,
    ``columns`` is empty, because each line has its own keys.
    """

    format: int = JOB_FORMAT
    model: str  # SHA-256 of the model's files
    tasks: tuple[str, ...]
    single: bool  # whether exactly one --task was given
    texts: dict[str, tuple[str, ...]]  # the columns of texts of each task
    ids: tuple[str, ...]
    numbered: str | None  # the column that numbers the rows, because the input has no ids
    columns: tuple[str, ...]  # of the input files
    types: dict[str, str]  # the type of each of these columns
    names: dict[str, str]  # the output column of each answer
    separators: dict[str, str | None]  # what stands between the labels in one cell of an answer, by task
    part_rows: int
    suffix: str


_MEANINGS = {
    "model": "another model",
    "tasks": "other tasks",
    "single": "other tasks",
    "texts": "other columns",
    "ids": "another id column",
    "numbered": "ids from another place",
    "columns": "other columns of the input",
    "types": "other types of columns",
    "names": "other names of answers",
    "separators": "another separator of labels",
    "part_rows": "another --part-rows",
    "suffix": "input files of another format",
}


class PartRecord(Settings):
    """One finished part: the input that it was made from, its rows, and its size.

    Attributes:
        size, modified, sha256: The size of the input file in bytes, the time of its last change in nanoseconds, and
            its digest.
        rows: The number of rows in the part.
        last: Whether it is the last part of the input file.
        bytes: The size of the part.
        without: For each task, the number of rows without an answer.
    """

    size: int
    modified: int
    sha256: str
    rows: int
    last: bool
    bytes: int
    without: dict[str, int]


@dataclass(frozen=True)
class InputFile:
    """An input file that matches the pattern of a job.

    Attributes:
        path: The path of the file.
        place: The path of the file, relative to the folder with which the pattern begins.
        number: The index of the file in the sorted list of all input files.
    """

    path: Path
    place: Path
    number: int

    @property
    def name(self) -> str:
        """The name of the file in messages."""
        return readable(str(self.path))

    @property
    def stem(self) -> str:
        """The name of the file without the ending of its format."""
        bare = self.place.name
        bare = bare[:-3] if bare.lower().endswith(".gz") else bare
        return Path(bare).stem

    @property
    def suffix(self) -> str:
        """The ending of the file's name in lower case, without ``.gz``: ``.csv`` for ``A.CSV.gz``."""
        bare = self.place.name.lower().removesuffix(".gz")
        return Path(bare).suffix


@dataclass(frozen=True)
class Filled:
    """Facts about one part of the answers to an input file.

    ``rows`` is its number of rows. ``last`` says whether it is the last part of its input file. ``without`` maps the
    name of each task to the number of rows that the task has not answered.
    """

    rows: int
    last: bool
    without: dict[str, int]


class PartFolder:
    """The output folder of ``predict`` for large inputs. The answers to one input file lie in one or more output files.

    Args:
        folder: The folder.
        suffix: The ending of the output files, such as ``.csv``.
    """

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder, self.suffix = folder, suffix
        self._records = folder / RECORDS

    def part(self, given: InputFile, number: int) -> Path:
        """Returns the path of an output file: part ``number`` of the answers to the input file ``given``."""
        return self.folder / given.place.with_name(f"{given.stem}-{number:05}{self.suffix}")

    def record(self, given: InputFile, number: int) -> PartRecord | None:
        """Returns the record of a finished part. Returns None if the part is not finished.

        If the part was made from an input file without rows, and the input file has changed since then, the part counts
        as not finished.

        Raises:
            ValueError: If the part was made from an input file with rows, and the input file has changed since then.
        """
        part = self.part(given, number)
        try:
            found = read_settings(self._record_file(part), PartRecord, "")
            whole = part.stat().st_size == found.bytes if found.rows else True
        except (FileNotFoundError, ValueError):
            return None
        if not whole:
            return None
        now = given.path.stat()
        if (now.st_size, now.st_mtime_ns) != (found.size, found.modified) and digest(given.path) != found.sha256:
            if not found.rows:  # the file was empty, so there is no part that could be of another content
                return None
            several = part.with_name(f"{given.stem}-*{self.suffix}")
            raise ValueError(
                f"{given.name}: has changed since {clean(str(part))} was made from it. Remove {clean(str(several))} "
                "to have its parts made again, or give another folder."
            )
        return found

    def finished(self, given: InputFile) -> dict[int, PartRecord]:
        """Returns the record of each finished part of a file, by the part's number."""
        folder = self._record_file(self.part(given, 0)).parent
        start, stop = f"{given.stem}-", f"{self.suffix}.json"
        names = os.listdir(folder) if folder.is_dir() else []
        texts = [n[len(start) : -len(stop)] for n in names if n.startswith(start) and n.endswith(stop)]
        numbers = sorted(int(text) for text in texts if text.isdecimal() and text.isascii())
        found = {number: self.record(given, number) for number in numbers}
        return {number: record for number, record in found.items() if record is not None}

    def claimed(self, given: InputFile, number: int, *, wait: bool) -> AbstractContextManager[bool]:
        """Claims a part (see :func:`mtbert.locks.claimed`)."""
        return locks.claimed(self._records, str(self.part(given, number).relative_to(self.folder)), wait=wait)

    def write(self, given: InputFile, number: int, fill: Callable[[Path], Filled] | None) -> None:
        """Writes a part and then its record, each atomically.

        ``fill`` writes the part to the path that it gets. ``fill`` is None if the input file has no rows; then only the
        record is written.
        """
        part = self.part(given, number)
        before = given.path.stat()
        content = digest(given.path)
        made: list[Filled] = []
        part.parent.mkdir(parents=True, exist_ok=True)
        if fill is not None:
            files.write(part, lambda new: made.append(fill(new)))
        filled = made[0] if made else Filled(0, True, {})
        now = given.path.stat()
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            part.unlink(missing_ok=True)
            raise ValueError(f"{given.name}: changed while it was read. Start again when it is complete.")
        file = self._record_file(part)
        file.parent.mkdir(parents=True, exist_ok=True)
        record = PartRecord(
            size=now.st_size,
            modified=now.st_mtime_ns,
            sha256=content,
            rows=filled.rows,
            last=filled.last,
            bytes=part.stat().st_size if made else 0,
            without=filled.without,
        )
        write_settings(file, record)

    def begin(self, job: Job) -> None:
        """Makes the output folder and records ``job`` in it, or checks that the existing folder is for the same job.

        A job is the model, the tasks and the options with which all parts in a folder are made.

        Raises:
            ValueError: If the folder holds the parts of another job, or files that ``predict`` has not written.
        """
        if not self._records.is_dir() and self.folder.is_dir() and (other := sorted(self.folder.iterdir())):
            raise ValueError(
                f"--output {clean(str(self.folder))}: holds {few([p.name for p in other], 3, quoted=True)}, which "
                "predict has not written. Give a new folder, or an empty one."
            )
        with files.naming(self.folder):
            self._records.mkdir(parents=True, exist_ok=True)
        with locks.claimed(self._records, JOB_FILE, wait=True):
            file = self._records / JOB_FILE
            if not file.exists():
                write_settings(file, job)
                return
            found = read_settings(file, Job, REPAIR)
        for key, meaning in _MEANINGS.items():
            was, now = getattr(found, key), getattr(job, key)
            if was != now:
                values = "" if key == "model" else f" ({_difference(was, now)})"
                raise ValueError(
                    f"--output {clean(str(self.folder))}: its parts were made with {meaning}{values}. {REPAIR}"
                )

    def _record_file(self, part: Path) -> Path:
        inside = part.relative_to(self.folder)
        return self._records / inside.with_name(f"{inside.name}.json")


def _difference(was: Any, now: Any) -> str:
    """Returns a text with both values of an option. For long lists or dicts, the text shows only what differs."""
    if max(len(repr(was)), len(repr(now))) > LONGEST:
        if isinstance(was, tuple):
            more, less = [x for x in now if x not in was], [x for x in was if x not in now]
            if more or less:
                return f"now more: {few(more, quoted=True)}; now missing: {few(less, quoted=True)}"
        if isinstance(was, dict):
            key = next(key for key in (*was, *now) if was.get(key) != now.get(key))
            return f"{shown(key)}: {shown(was.get(key))}, not {shown(now.get(key))}"
    return f"{shown(was)}, not {shown(now)}"


def digest(file: Path) -> str:
    """Returns the SHA-256 of an input file, and remembers it in this process and in the user's cache folder."""
    found = cache.file_digest(file)
    with suppress(OSError):
        cache.remember(file, found)
    return found


@contextmanager
def part_writer(file: Path, scorer: Scorer) -> Iterator[Callable[[Block, ScoredBlock], None]]:
    """Yields a function that appends a block of rows, with the answers, to an output file."""
    with file.open("wb") as opened:
        if scorer.suffix != ".parquet":
            yield _text_writer(opened, scorer)
            return
        import pyarrow.parquet as pq

        writer: Any = None

        def write(block: Block, scored: ScoredBlock) -> None:
            nonlocal writer
            table = _with_answers(block.table, scored, scorer)
            if writer is None:
                writer = pq.ParquetWriter(opened, table.schema)
            writer.write_table(table)

        yield write
        if writer is not None:
            writer.close()


def _text_writer(opened: Any, scorer: Scorer) -> Callable[[Block, ScoredBlock], None]:
    def write(block: Block, scored: ScoredBlock) -> None:
        columns: Sequence[str] = scorer.output_columns(block.columns)
        given = block.rows
        if scored.numbers is not None:
            given = [(number, *row) for number, row in zip(scored.numbers, given, strict=True)]
        rows = [dict(zip(columns, row, strict=True)) | answer for row, answer in zip(given, scored.rows, strict=True)]
        answered = Answered([*columns, *scorer.names.values()], rows, {})
        opened.write(outputs.as_bytes(answered, scorer.suffix, header=opened.tell() == 0))

    return write


def _with_answers(table: Any, scored: ScoredBlock, scorer: Scorer) -> Any:
    """Returns an Arrow table with the answers added as its last columns.

    If ``scored`` holds row numbers, a column with these numbers is added as the first column of the table.
    """
    import pyarrow as pa

    if scored.numbers is not None:
        table = table.add_column(0, scorer.numbered, pa.array(scored.numbers, pa.string()))
    for name, kind in scorer.types.items():
        values = [row[name] for row in scored.rows]
        table = table.append_column(name, pa.array(values, kind))
    return table
