"""Looking at files that no recipe describes yet: the columns, and the cells of the first rows."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mtbert.answers.seen import SeenColumn
from mtbert.data import formats, hub
from mtbert.data.cells import as_label, check_name, listed, readable
from mtbert.data.records import Records, check_names
from mtbert.files import resolved
from mtbert.messages import few, shown
from mtbert.numbers import number

MOST_LOOKED_AT = 50_000  # rows of a file that are looked at
CHARACTERS_LOOKED_AT = 2**25  # characters in these rows
TRIED = 100  # rows that decide what separates the columns
WORDS_OF_A_NAME = 8  # a name of a column with as many words is no name


@dataclass(frozen=True)
class GivenFile:
    """A file, or a folder that ``Dataset.save_to_disk`` wrote. ``name`` stands in the recipe and in messages."""

    path: Path
    name: str

    @property
    def is_data_set(self) -> bool:
        """Whether ``path`` is a folder that ``Dataset.save_to_disk`` wrote, and not a file.

        A recipe names such a folder under the key ``hub``, as in ``train: {hub: my-folder}``.
        """
        return self.path.is_dir()

    @property
    def stem(self) -> str:
        """The name without folder and suffix."""
        return self.path.name if self.is_data_set else self.path.name.removesuffix(".gz").rpartition(".")[0]


@dataclass(frozen=True)
class SeenFile:
    """A file and its columns. ``rows`` is the number of rows that were read. ``whole`` says if all rows were read."""

    place: GivenFile
    columns: Sequence[SeenColumn]
    rows: int
    whole: bool

    @property
    def names(self) -> list[str]:
        """The names of all columns."""
        return [column.name for column in self.columns]


def given_files(given: Iterable[str]) -> list[GivenFile]:
    """Returns the files that the user gave, without repeats.

    If a folder was written by ``DatasetDict.save_to_disk``, the folders of its splits are returned in its place.

    Raises:
        ValueError: If a name cannot be written in a recipe, or if a folder is not a data set.
    """
    found: dict[Path, GivenFile] = {}
    for name in given:
        check_name(name)
        path = Path(name)
        for each in _parts(path):
            found.setdefault(resolved(each), GivenFile(each, str(each)))
    return list(found.values())


def _parts(path: Path) -> list[Path]:
    if not path.is_dir() or (path / "state.json").is_file():
        return [path]
    splits = sorted(file.parent for file in path.glob("*/state.json"))
    if not (path / "dataset_dict.json").is_file() or not splits:
        raise ValueError(
            f"{readable(str(path))}: a folder that datasets did not save. Give the files in it, or a folder that "
            "save_to_disk wrote."
        )
    return splits


def look(place: GivenFile) -> SeenFile:
    """Returns the columns of a file, and the cells of its first rows.

    At most ``MOST_LOOKED_AT`` rows and ``CHARACTERS_LOOKED_AT`` characters are kept.

    Raises:
        FileNotFoundError, ValueError: If the file cannot be read, has no rows, or has no names of columns.
    """
    columns = _columns(place)
    if columns[0].startswith("sep="):
        raise ValueError(f"{readable(place.name)}, line 1: {shown(columns[0])} is for Excel alone. Remove this line.")
    if len(columns) == 1 and "|" in columns[0]:
        raise ValueError(
            f"{readable(place.name)}, line 1: a tab, a comma or a semicolon must separate columns, found "
            f"{shown(columns[0])}. Replace each | by a tab."
        )
    cells: list[list[object]] = [[] for _ in columns]
    rows = characters = 0
    with _opened(place, columns) as records:
        whole = True
        for _, values in records.rows:
            if rows == MOST_LOOKED_AT or characters > CHARACTERS_LOOKED_AT:
                whole = False
                break
            for kept, value in zip(cells, values, strict=True):
                kept.append(_cell(value))
                characters += len(value) if isinstance(value, str) else 8
            rows += 1
        has_header = bool(records.header)
    if not rows:
        raise ValueError(f"{readable(place.name)}: a header but no rows. Add rows.")
    seen = [SeenColumn(name, _lists(kept)) for name, kept in zip(columns, cells, strict=True)]
    if has_header and any(map(_is_a_cell, seen)):
        raise ValueError(
            f"{readable(place.name)}{records.header}: must name the columns, found what looks like a row, "
            f"{few(columns, 3, quoted=True)}. Write a line of names above it, such as text,label."
        )
    return SeenFile(place, seen, rows, whole)


@contextmanager
def _opened(place: GivenFile, wanted: Sequence[str]) -> Iterator[Records]:
    if place.is_data_set:
        with hub.opened_data_set(readable(place.name), str(place.path), None, None, Path(), wanted) as records:
            yield records
    else:
        with formats.opened(readable(place.name), place.path, wanted) as records:
            yield records


def _columns(place: GivenFile) -> list[str]:
    """Returns the names of a file's columns. They may be separated by commas, ``;`` or tabs."""
    names = _names(place, ())
    inside = [sign for sign in ";\t" if any(sign in name for name in names)]
    choices = [names, *(_names(place, [part.strip() for part in ",".join(names).split(sign)]) for sign in inside)]
    for columns in choices[:-1]:
        with suppress(ValueError), _opened(place, columns) as records:
            for _ in islice(records.rows, TRIED):
                pass
            return columns
    return choices[-1]


def _names(place: GivenFile, wanted: Sequence[str]) -> list[str]:
    with _opened(place, wanted) as records:
        if records.late:  # the names of the objects that are looked at
            for _ in islice(records.rows, MOST_LOOKED_AT):
                pass
        check_names(f"{readable(place.name)}{records.header}", list(records.columns))
        return list(records.columns)


def _cell(value: object) -> object:
    """Returns the value of a cell in one of the forms that :class:`SeenColumn` lists."""
    if isinstance(value, list | tuple):
        return list(value)
    with suppress(ValueError):
        return as_label(value)
    return value


def _lists(cells: list[object]) -> list[object]:
    """Returns the cells of a column. If all of them are lists in the form of text, they are parsed."""
    filled = [cell for cell in cells if cell is not None]
    if filled and all(isinstance(cell, str) and cell.startswith("[") and cell.endswith("]") for cell in filled):
        with suppress(ValueError):
            return [listed(cell) if isinstance(cell, str) else cell for cell in cells]
    return cells


def _is_a_cell(column: SeenColumn) -> bool:
    """Returns whether the name of a column looks like one of its cells."""
    name = as_label(column.name)
    if name is None:
        return False
    if number(name) is not None:
        return bool(column.numbers)
    return len(name.split()) >= WORDS_OF_A_NAME or (name in column.counts and bool(column.classes))
