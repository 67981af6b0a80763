"""Finding and reading recipe and study files, by name or path, together with the files that they extend."""

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from mtbert import files, yaml_text
from mtbert.messages import clean, few, nearest, shown

MOST_SHIPPED = 6  # shipped files that a message names
LONGEST_CHAIN = 20  # largest number of files that extend one another


@dataclass(frozen=True)
class Extended:
    """The content of one recipe or study file, without the content of the files that it extends."""

    path: Path
    shipped: bool
    raw: dict[str, Any]


@dataclass(frozen=True)
class YamlFiles:
    """Finds and reads files of one kind: either recipes or studies.

    ``what`` is the name of the kind in messages. ``key`` is a key that every file of this kind needs; messages mention
    it.
    """

    what: str
    key: str
    folder: str  # the folder of the package with the shipped files
    listing: str = ""  # in brackets, the command that lists the shipped files

    def shipped(self) -> list[str]:
        """Returns the names of the recipes that come with the package.

        If ``self`` is for studies, returns the names of the studies instead.
        """
        return sorted(p.relative_to(self._home).with_suffix("").as_posix() for p in self._home.rglob("*.yaml"))

    def describe(self, name: str) -> str:
        """Returns a one-line description of a shipped file: the comment in its first line."""
        with (self._home / f"{name}.yaml").open(encoding="utf-8") as file:
            return file.readline().removeprefix("#").strip()

    def read(self, name: str, beside: Path) -> list[Extended]:
        """Returns a list of files: the one called ``name``, the one that it extends, and so on to the last one.

        Args:
            name: The name of a shipped file, or a path.
            beside: The folder that a relative path starts from. A path in ``extends`` starts from the folder of the
                file that contains it.

        Raises:
            FileNotFoundError: If one of the files does not exist. The message suggests a similar name, or else says
                which files ship.
            ValueError: If one of the files cannot be read, or if a file extends itself directly or through others.
        """
        chain: list[Extended] = []
        base: Any = name
        while base is not None:
            path, shipped = self._find(base, beside)
            where = f"{self.what} {clean(str(path))}"
            seen = [file.path for file in chain]
            if path in seen:
                names = " -> ".join(p.name for p in (*seen, path))
                raise ValueError(f"{where}: extends itself through {clean(names)}.")
            if len(seen) == LONGEST_CHAIN:
                raise ValueError(f"{where}: the {LONGEST_CHAIN}th that the one before extends. Extend fewer.")
            raw = yaml_text.read_yaml(path, self.what, self.key)
            base = raw.pop("extends", None)
            if base is not None and not isinstance(base, str):
                raise ValueError(f"{where}, extends: a name or a path, found {shown(base)}.")
            chain.append(Extended(path, shipped, raw))
            beside = path.parent
        return chain

    @property
    def _home(self) -> Path:
        return Path(str(resources.files("mtbert") / self.folder))

    def _find(self, name: str, beside: Path) -> tuple[Path, bool]:
        if name in self.shipped():
            return self._home / f"{name}.yaml", True
        path = beside / name
        if name and os.path.exists(path):  # unlike Path.exists, it raises no error for a name that is too long
            return files.resolved(path), False
        raise self._missing(name, path)

    def _missing(self, name: str, path: Path) -> FileNotFoundError:
        others = [Path(f"{path}.yaml"), path.with_suffix(".yaml"), path.with_suffix(".yml")] if path.name else []
        there = next((other.name for other in others if os.path.isfile(other)), None)
        if there is not None:
            hint = f" Did you mean {shown(str(Path(name).with_name(there)))}?"
        else:
            shipped = self.shipped()
            known = _files_beside(name, path) | {each: each for each in shipped}
            found = nearest(name.removesuffix(path.suffix), known)
            hint = f" Give a file, or a shipped {self.what}: {few(shipped, MOST_SHIPPED)}{self.listing}."
            hint = hint if found is None else f" Did you mean {shown(known[found])}?"
        return FileNotFoundError(f"{self.what} {few([name])}: no such file and no such shipped {self.what}.{hint}")


def _files_beside(name: str, path: Path) -> dict[str, str]:
    """Returns a dict of the YAML files beside ``path``, for example ``{"recipes/other": "recipes/other.yaml"}``.

    ``name`` is ``path`` as the user wrote it, ``recipes/mine`` in this example.
    """
    try:
        found = [each for each in sorted(path.parent.iterdir()) if each.suffix in (".yaml", ".yml")]
    except (OSError, ValueError):  # no such folder
        return {}
    named = [str(Path(name).with_name(each.name)) for each in found] if path.name else []
    return {each.rpartition(".")[0]: each for each in named}


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Returns ``base`` with ``change`` merged into it: mappings are merged key by key, other values are replaced."""
    result = dict(copy.deepcopy(base))
    for key, value in change.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = merge(old, value)
        else:
            result[key] = copy.deepcopy(value)
    return result
