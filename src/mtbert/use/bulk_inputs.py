"""Finding the input files of a ``predict`` command, and checking all files before the first answer is computed."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtbert import files
from mtbert.data import streams
from mtbert.files import resolved
from mtbert.messages import clean, few, shown
from mtbert.use import outputs
from mtbert.use.outputs import RECORDS
from mtbert.use.part_files import InputFile

MAGIC = "*?["  # a file name with one of these is a pattern


def is_pattern(source: str) -> bool:
    """Returns whether ``source`` is a pattern for file names, and not the name of an existing file."""
    return any(sign in source for sign in MAGIC) and not os.path.lexists(source)


def find_inputs(pattern: str, folder: Path) -> list[InputFile]:
    """Returns the files that match ``pattern``, sorted by name. Files in the output folder ``folder`` are left out.

    Raises:
        FileNotFoundError: If no file matches.
        ValueError: If ``folder`` contains matching files although no job has written to ``folder`` yet, if all matching
            files are in ``folder``, or if the pattern or the name of a file cannot be used.
    """
    option = f"--input '{clean(pattern)}'"
    if is_pattern(pattern):
        fixed = pattern[: min(pattern.index(sign) for sign in MAGIC if sign in pattern)]
        root = Path(fixed[: fixed.rfind("/") + 1])
        if ".." in Path(pattern.removeprefix(str(root))).parts:  # parts would lie outside of the output folder
            raise ValueError(f"{option}: has '..' behind a wildcard. Begin the pattern with the folder that it means.")
        # A set, because ** twice in a pattern finds a file twice.
        matches = sorted({path for name in glob.glob(pattern, recursive=True) if not (path := Path(name)).is_dir()})
    else:
        if os.path.isdir(pattern):
            raise ValueError(f"{option}: a folder. Give a pattern for the files in it, such as 'FOLDER/*.parquet'.")
        root, matches = Path(pattern).parent, [Path(pattern)] if os.path.lexists(pattern) else []
    real = resolved(folder)
    inside = {path for path in matches if resolved(path).is_relative_to(real)}
    if inside and not (folder / RECORDS).is_dir():
        raise ValueError(
            f"--output {clean(str(folder))}: holds input files, such as '{clean(str(min(inside)))}'. Give another "
            "folder."
        )
    if not matches:
        raise FileNotFoundError(f"{option}: no file matches. Check the pattern, and put it in quotes.")
    if len(inside) == len(matches):
        raise ValueError(
            f"{option}: finds only files in the output folder {clean(str(folder))}, where predict writes its parts. "
            "Give another --output, or move the input files."
        )
    paths = [path for path in matches if path not in inside]
    return _checked([InputFile(path, path.relative_to(root), number) for number, path in enumerate(paths)])


def _checked(found: list[InputFile]) -> list[InputFile]:
    """Returns ``found`` unchanged, after checking the files' names and endings."""
    stems: dict[Path, InputFile] = {}
    for given in found:
        if clean(str(given.path)) != str(given.path):
            raise ValueError(f"{given.name}: its name has characters that cannot be shown. Rename it.")
        if given.suffix not in outputs.ANSWERS:
            raise ValueError(
                f"{given.name}: files to score in parts end in {few(outputs.ANSWERS)}. Change the pattern."
            )
        if given.suffix != found[0].suffix:
            raise ValueError(
                f"{given.name}: ends in {given.suffix}, but {found[0].name} in {found[0].suffix}. Score files of one "
                "kind at a time."
            )
        other = stems.setdefault(given.place.with_name(given.stem), given)
        if other is not given:
            raise ValueError(f"{given.name}: its parts would have the names of those of {other.name}. Rename one.")
    return found


def check_folder(folder: Path, home: Path, reads: dict[Path, str]) -> None:
    """Checks that files with a model's answers may be written into the output folder.

    Args:
        folder: The folder.
        home: The folder of the run or model.
        reads: Files and folders that must not be overwritten, each with a phrase that says what it is.
    """
    files.check_out(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output {folder}: a file. With a pattern as --input, give a folder.")
    real = resolved(folder)
    outputs.check_place(f"--output {folder}", real / "part", home, reads, parts=real)


@dataclass(frozen=True)
class InputColumns:
    """The columns of one input file. A command expects the same columns in all of its input files.

    Attributes:
        name: The name of the file.
        names: The names of the columns.
        types: The type of each column.
    """

    name: str
    names: tuple[str, ...]
    types: tuple[str, ...]


def common_columns(found: Sequence[InputFile], wanted: Sequence[str]) -> InputColumns:
    """Returns the columns of the first file, after checking that all other files can be read and have the same columns.

    JSON lines files need not have the same columns, because each line names its own columns. Their columns are those of
    the first file that is not empty, and the other files are not read yet.

    Raises:
        ValueError: If a file cannot be read or has other columns, or if all files are empty.
    """
    if found[0].suffix == ".jsonl":
        for given in found:
            with streams.opened_stream(given.name, given.path, wanted) as stream:
                if stream.more():
                    return InputColumns(given.name, stream.columns, stream.types)
        raise ValueError(f"{found[0].name}: the file is empty, and so is every other input file. Give rows.")
    first = found[0]
    with streams.opened_stream(first.name, first.path, wanted) as stream:
        columns, types = stream.columns, stream.types
    for given in found[1:]:
        with streams.opened_stream(given.name, given.path, wanted) as stream:
            for column in dict.fromkeys((*columns, *stream.columns)):
                if (column in columns) != (column in stream.columns):
                    both = (given, first) if column in stream.columns else (first, given)
                    raise ValueError(
                        f"{both[0].name}: has a column {shown(column)}, but {both[1].name} has none. {_ALIKE}"
                    )
            if columns != stream.columns:
                raise ValueError(f"{given.name}: has the columns of {first.name} in another order. {_ALIKE}")
            for column, one, other in zip(columns, types, stream.types, strict=True):
                if one != other:
                    raise ValueError(
                        f"{given.name}, column {shown(column)}: is of type {other}, but {one} in {first.name}. {_ALIKE}"
                    )
    return InputColumns(first.name, columns, types)


_ALIKE = "All files must have the same columns, or be scored into folders of their own."
