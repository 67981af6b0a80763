"""Functions that guess, by file names, which files belong together and which files hold train, dev or test data."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mtbert.data.cells import readable
from mtbert.drafting.looking import SeenFile
from mtbert.messages import few

_SPLITS = {
    "train": ("train", "training"),
    "dev": ("dev", "devel", "development", "valid", "validation", "val"),
    "test": ("test", "testing", "heldout"),
}


@dataclass(frozen=True)
class FileGroup:
    """Files that hold the rows of one table. ``name`` is what their names have in common; it may be empty."""

    name: str
    train: Sequence[SeenFile]
    dev: Sequence[SeenFile] = ()
    test: Sequence[SeenFile] = ()


def groups(seen: Sequence[SeenFile]) -> list[FileGroup]:
    """Returns the given files as tables. A table has train files with similar names, and their dev and test files.

    Files of the same name except for digits, such as ``may-1.csv`` and ``may-2.csv``, hold the rows of one table if
    they have the same columns.

    Raises:
        ValueError: If a dev or test file has no train file.
    """
    found: dict[tuple[str, str], dict[str, list[SeenFile]]] = {}
    for file in seen:
        name, split = split_of(file.place.stem)
        alike = re.sub(r"\d+", "", name)
        key = next((key for key in found if key[0] == alike and _belong(found[key], split, file)), None)
        found.setdefault(key or (alike, name), {}).setdefault(split, []).append(file)
    made = []
    for (_, name), by_split in found.items():
        if "train" not in by_split:
            if len(seen) > 1:
                lost = few([readable(file.place.name) for files in by_split.values() for file in files], 3)
                raise ValueError(
                    f"{lost}: dev or test data by the name, but of no train file here. Name that file too."
                )
            by_split = {"train": list(seen)}
        made.append(FileGroup(name, by_split["train"], by_split.get("dev", ()), by_split.get("test", ())))
    return made


def split_of(stem: str) -> tuple[str, str]:
    """Returns the name of a file without its split, and the split: ``train``, ``dev`` or ``test``.

    >>> split_of("reviews-dev"), split_of("validation-00000-of-00001"), split_of("contest_2")
    (('reviews', 'dev'), ('', 'dev'), ('contest_2', 'train'))
    """
    words = [word for word in re.split(r"[\W_]+", re.sub(r"-\d{5}-of-\d{5}$", "", stem)) if word]
    for split, names in _SPLITS.items():
        for at in (-1, 0):
            if words and words[at].lower() in names:
                del words[at]
                return "-".join(words), split
    return stem, "train"


def _belong(by_split: dict[str, list[SeenFile]], split: str, file: SeenFile) -> bool:
    others = by_split.get(split)
    return others is None or sorted(others[0].names) == sorted(file.names)
