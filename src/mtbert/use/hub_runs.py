"""Finds the model that a user names: a folder on this machine, or a model on the Hugging Face Hub."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from mtbert import json_files
from mtbert.hub_client import asked, bars_shown
from mtbert.messages import clean, few
from mtbert.recipe.files import RECIPE_FILE

MODEL_FILES = (
    "mtbert.json",
    "config.json",
    "tokenizer.json",
    "model.safetensors",
    "heads.safetensors",
    "tokenizer_config.json",
    "adapters.safetensors",
    "tops.safetensors",
)
LONGEST_HUB_NAME = 96
EXPORT_FILE = "export.json"  # a folder with this file is an export
_NAME = re.compile(r"(?!.*(--|\.\.))(?!.*[.-](/|$))(?!.*\.git$)[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9][\w./-]{0,199}", re.ASCII)
_OWN_FOLDERS = ("runs", "studies", "tuned")  # where commands write by default: a name in these is never asked for
_CACHED = re.compile(r".*/models--(.+?)--(.+)/snapshots/([0-9a-f]{12})[0-9a-f]*", re.DOTALL)


def find_run(given: str | Path) -> Path:
    """Returns the folder of a run or of a model.

    If ``given`` is a path that exists, it is returned unchanged. Otherwise, there are three cases:

    - ``user/name@revision`` is fetched from the Hub.
    - ``user/name`` is fetched from the Hub, unless the current directory has a folder ``user``, or ``user`` is the name
      of a folder into which commands write by default, such as ``runs``.
    - Anything else is returned unchanged.

    The folder of a fetched model lies in the cache of ``huggingface_hub``.

    Raises:
        FileNotFoundError: If the Hub has no model of this name, or if files of the model are missing there.
        ConnectionError: If the model is not in the cache, and the network or the Hub fails.
    """
    path = Path(given)
    name, at, revision = str(given).partition("@")
    if not is_hub_name(name) or os.path.lexists(path):
        return path
    if at:
        return _fetched(name, revision) if _REVISION.fullmatch(revision) else path
    return path if os.path.isdir(path.parent) or str(path.parent) in _OWN_FOLDERS else _fetched(name, None)


def is_hub_name(name: str) -> bool:
    """Returns whether ``name`` is ``user/name`` as the Hub allows it."""
    return len(name) <= LONGEST_HUB_NAME and _NAME.fullmatch(name) is not None


def hub_name(folder: Path) -> str | None:
    """Returns ``user/name@0123456789ab`` if ``folder`` is a model that was fetched from the Hub, otherwise None."""
    found = _CACHED.fullmatch(folder.as_posix())
    return f"{found[1]}/{found[2]}@{found[3]}" if found else None


def _fetched(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    called = name if revision is None else f"{name}@{revision}"

    def fetch(revision: str | None, wanted: Sequence[str], *, cached: bool = False) -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(wanted), local_files_only=cached))

    what = f"{called}: no folder here, and on the Hub"
    with bars_shown(False):
        folder = asked(what, lambda: fetch(revision, [MODEL_FILES[0], EXPORT_FILE]))
        if not (folder / MODEL_FILES[0]).is_file():
            raise FileNotFoundError(f"{called}: no model of mtbert on the Hub. {_instead(folder, name)}")
        commit, files = folder.name, [*MODEL_FILES, RECIPE_FILE]  # a push at this moment makes another commit
        try:
            fetch(commit, files, cached=True)
            here = True
        except LocalEntryNotFoundError:
            here = False
    if not here:
        asked(what, lambda: fetch(commit, files))
    missing = [file for file in MODEL_FILES[:5] if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(f"{called}: the model on the Hub lacks {few(missing)}. Push it again.")
    return folder


def _instead(folder: Path, name: str) -> str:
    """Returns a sentence that says what to do if the repository ``name`` on the Hub holds no model of mtbert.

    If the repository holds an export, the sentence says so. ``folder`` is where the repository was downloaded.
    """
    file = folder / EXPORT_FILE
    if not file.is_file():
        return f"It has no {MODEL_FILES[0]}. Give the name of a model that mtbert push has written."
    try:
        found = json_files.read_json(file, "")
        to = found.get("to") if isinstance(found, dict) else None
    except ValueError:
        to = None
    kind = clean(str(to)[:40]) if isinstance(to, str) else "unknown"
    return f"It is an export in the format {kind}; the model's page says how to load it: https://huggingface.co/{name}"
