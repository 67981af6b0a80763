"""The folders in which mtbert and its libraries keep files that can be made or fetched again."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from mtbert.doctor.findings import Finding, size_text
from mtbert.messages import clean, count

LARGE = 20 * 10**9  # bytes
MOST_FILES = 200_000  # of a folder whose size is asked


def cache_sizes() -> list[Finding]:
    """Returns each cache with its size and how to empty it, and advice if it is large or cannot be written."""
    from huggingface_hub import constants

    from mtbert.data.cache import cache_folder

    data_sets = os.environ.get("HF_DATASETS_CACHE") or os.path.join(constants.HF_HOME, "datasets")
    ours = cache_folder().parent
    return [
        _cache("tables and tokens", ours, f"rm -r {shlex.quote(str(ours))}", writable=True),
        _cache("models of the Hub", Path(constants.HF_HUB_CACHE), "hf cache rm NAME (hf cache ls)"),
        _cache("data sets of the Hub", Path(data_sets), f"rm -r {shlex.quote(data_sets)}"),
    ]


def _cache(name: str, folder: Path, empty: str, *, writable: bool = False) -> Finding:
    sizes = list(_sizes(folder))
    size, files = sum(sizes), len(sizes)
    more = "at least " if files == MOST_FILES else ""
    text = f"{name}: {more}{size_text(size)} in {count(files, 'file')}, {clean(str(folder))}"
    text += f"; empty it: {clean(empty)}" if files else ""
    advice = []
    if size > LARGE:
        advice.append(f"The cache of {name} takes {size_text(size)} of disk. Empty it: {clean(empty)}")
    if writable and not _writable(folder):
        advice.append(
            f"{clean(str(folder))} cannot be written, so each command reads and tokenises all rows again. "
            "Set MTBERT_CACHE to a folder that can."
        )
    facts = {"name": name, "folder": str(folder), "size": size, "files": files, "empty": empty}
    return Finding("cache", text, advice, facts=facts)


def _sizes(folder: Path) -> Iterator[int]:
    """Yields the sizes of the files below ``folder``, and stops after :data:`MOST_FILES` files. Follows no links."""
    files = 0
    for place, _, names in os.walk(folder):
        for name in names:
            if files == MOST_FILES:
                return
            try:
                yield os.lstat(os.path.join(place, name)).st_size
            except OSError:  # removed meanwhile
                continue
            files += 1


def _writable(folder: Path) -> bool:
    """Returns whether ``folder`` can be written, or made if it does not exist."""
    there = next((place for place in (folder, *folder.parents) if place.exists()), Path("/"))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
