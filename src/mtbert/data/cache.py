"""The tokens of a data set: made once, kept in a file named by all that they depend on, and mapped from then on.

A file is one line of little-endian int32: the digest, the number of cut texts, the length of each sequence, the
numbers of the cut texts, all ids, all segment ids.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import Tokenizer

from mtbert.batch import Ints, Sequences
from mtbert.data.tokenizer import sequences as tokenized

FORMAT = 1  # raised with each change to the file, or to what mtbert.data.tokenizer makes of a text
FEW = 1000  # texts that are tokenised in a tenth of a second; a file for each such set would only fill the disk
UNUSED = 30 * 24 * 3600  # seconds after which a file that no run has read is removed
SUFFIX = ".tokens"
DIGEST = 8  # numbers, of four bytes each


def sequences(
    tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], max_length: int, segments: bool
) -> tuple[Sequences, set[int]]:
    """Returns the result of :func:`mtbert.data.tokenizer.sequences`, from the user's cache folder if it is there.

    The arrays of a file are mapped, not copied, and read-only. A file that is damaged is replaced; a folder that cannot
    be written leaves the tokens unkept.

    Raises:
        ValueError: If ``max_length`` leaves no room beside the special tokens.
    """
    if len(texts) < FEW:
        return tokenized(tokenizer, texts, max_length, segments)
    key = _key(texts, tokenizer.to_str(), tokenizers.__version__, max_length, segments)
    file = _folder() / (key + SUFFIX)
    with suppress(OSError, ValueError):
        return _read(file, len(texts))
    made, cut = tokenized(tokenizer, texts, max_length, segments)
    with suppress(OSError):
        _write(file, made, cut)
    return made, cut


def _folder() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(os.environ.get("MTBERT_CACHE") or f"{caches}/mtbert")) / "tokens"


def _key(texts: Sequence[tuple[str, ...]], *settings: object) -> str:
    key = hashlib.sha256(json.dumps([FORMAT, len(texts), *settings]).encode())
    flat = list(chain.from_iterable(texts))
    # Lengths tell ("ab", "c") from ("a", "bc"), in a third of the time of JSON.
    key.update(np.fromiter(map(len, flat), dtype="<i8", count=len(flat)).tobytes())
    key.update("".join(flat).encode())
    return key.hexdigest()


def _read(file: Path, texts: int) -> tuple[Sequences, set[int]]:
    """The content of a file; OSError or ValueError where it is not there, or not as it was written."""
    # A plain view: slices of np.memmap itself run Python code, and a batch takes two of each sequence.
    flat = np.asarray(np.memmap(file, dtype="<i4", mode="r"))
    if flat[:DIGEST].tobytes() != _digest(file, flat[DIGEST:]):
        raise ValueError(f"{file}: damaged.")
    with suppress(OSError):  # a folder that can only be read is of use too
        os.utime(file)
    lengths, cut, tokens = np.split(flat[DIGEST + 1 :], [texts, texts + flat[DIGEST]])
    ids, segments = np.split(tokens, 2)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return Sequences(ids=ids, segments=segments, offsets=offsets), set(cut.tolist())


def _write(file: Path, made: Sequences, cut: set[int]) -> None:
    """Writes beside ``file`` and renames, so that a kill or a second writer leaves a whole file or none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for other in file.parent.glob(f"*{SUFFIX}"):  # what killed writers left too
        with suppress(OSError):
            if time.time() - other.stat().st_mtime > UNUSED:
                other.unlink()
    numbers = np.array(sorted(cut), dtype=np.int32)
    flat = np.concatenate([[len(cut)], made.lengths, numbers, made.ids, made.segments], dtype="<i4")
    handle, name = tempfile.mkstemp(SUFFIX, dir=file.parent)  # for its owner alone: ids can be read as texts
    try:
        with os.fdopen(handle, "wb") as new:
            new.write(_digest(file, flat) + flat.tobytes())
        os.replace(name, file)
    finally:
        Path(name).unlink(missing_ok=True)


def _digest(file: Path, flat: Ints) -> bytes:
    """Returns the digest of a file's numbers and its name, which stands for the texts that the tokens belong to."""
    digest = hashlib.sha256(file.stem.encode())
    digest.update(flat.data)
    return digest.digest()
