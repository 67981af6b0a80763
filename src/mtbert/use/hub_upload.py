"""Uploads the files of a model to the Hugging Face Hub, as one commit."""

import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mtbert import json_files
from mtbert.hub_client import asked, without_token
from mtbert.messages import count, few, warn
from mtbert.model.download import READ_ME
from mtbert.recipe.files import RECIPE_FILE
from mtbert.use.hub_runs import EXPORT_FILE, MODEL_FILES

if TYPE_CHECKING:
    from huggingface_hub import HfApi, ModelInfo

NEW_FILES = {".gitattributes", READ_ME}  # a repository without other files was made on the Hub's page


@dataclass(frozen=True)
class Pushed:
    """The result of :func:`push`.

    Attributes:
        name: The model's name on the Hub, ``user/name``.
        commit: The commit, which can be loaded as ``user/name@commit`` even after a later push.
        url: The address of the model's page.
        files: The names of the files that were pushed.
        public: Whether everybody can read the model.
    """

    name: str
    commit: str
    url: str
    files: tuple[str, ...]
    public: bool

    def __repr__(self) -> str:
        seen = "public" if self.public else "private"
        return f"{self.url} ({seen}): {count(len(self.files), 'file')}, commit {self.commit[:12]}"


def _found(api: "HfApi", name: str) -> "ModelInfo | None":
    """Returns the Hub's metadata of a repository; None if it does not exist or the token gives no access to it."""
    try:
        return asked(name, lambda: api.model_info(name))
    except FileNotFoundError:
        return None


def _written_before(api: "HfApi", name: str, commit: str | None, old: Collection[str]) -> set[str]:
    """Returns the names of files that an earlier push may have written. Some of these files may not exist.

    ``old`` lists all files in the repository. The result holds ``export.json`` and the files that ``export.json``
    lists. If ``old`` contains ``mtbert.json``, the result also holds every file name that mtbert gives to the files of
    a model, such as ``model.safetensors``.
    """
    found = {EXPORT_FILE, RECIPE_FILE, *MODEL_FILES} if MODEL_FILES[0] in old else {EXPORT_FILE}
    if EXPORT_FILE in old:
        file = asked(name, lambda: api.hf_hub_download(name, EXPORT_FILE, revision=commit))
        try:
            about = json_files.read_json(Path(file), "")
        except ValueError:
            return found
        listed = about.get("files") if isinstance(about, dict) else None
        found |= {path for path in listed if isinstance(path, str)} if isinstance(listed, list) else set()
    return found


def upload(api: "HfApi", name: str, folder: Path, message: str, public: bool, console: Console) -> Pushed:
    """Uploads the files in ``folder`` as one commit. The commit also removes all other files of an earlier push.

    Raises:
        ValueError: If the repository is public and ``public`` is false, or if it holds another model.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

    there = _found(api, name)
    if there is None:
        asked(name, lambda: api.create_repo(name, private=not public, exist_ok=True))
        there = asked(name, lambda: api.model_info(name))
    elif public and there.private:
        warn(console, f"{name}: exists and is private; pushing does not change that.")
    if not there.private and not public:
        raise ValueError(
            f"{name}: exists and is public, so everybody could read the model. Give --public, or another name."
        )
    new = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
    old = {file.rfilename for file in there.siblings or ()}
    if not old & {MODEL_FILES[0], EXPORT_FILE} and old & set(new) - NEW_FILES:
        raise ValueError(f"{name}: holds another model ({few(sorted(old - NEW_FILES), most=3)}). Give another name.")
    leftover = sorted((_written_before(api, name, there.sha, old) & old) - set(new))
    operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = []
    operations += [CommitOperationAdd(path, str(file)) for path, file in new.items()]
    operations += [CommitOperationDelete(path) for path in leftover]
    size = sum(file.stat().st_size for file in new.values())
    console.print(f"pushing {count(len(new), 'file')}, {size / 1e6:.1f} MB, to {name}", soft_wrap=True)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)  # what the Hub says of the card
        done = asked(name, lambda: api.create_commit(name, operations, commit_message=message, parent_commit=there.sha))
    for one in said:
        warn(console, without_token(" ".join(str(one.message).split())))
    return Pushed(name, done.oid, f"{api.endpoint}/{name}", tuple(new), not there.private)
