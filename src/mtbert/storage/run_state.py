"""The run state, which a run needs besides its model in order to continue. It is saved in the folder ``last/``.

Resuming does not trust the files in that folder. It first checks a digest of each file, and then checks that the
numbers and tensors fit the run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from mtbert import files, json_files
from mtbert.messages import few, shown
from mtbert.model.stored import check_finite
from mtbert.settings import Settings
from mtbert.storage.tensors import read_tensors, save_tensors

VALUES, TENSORS, SEAL = "state.json", "training.safetensors", "digest.json"
SEALED = ("config.json", "model.safetensors", "heads.safetensors", "tokenizer.json", "mtbert.json", VALUES, TENSORS)
STATE_REPAIR = "Put the file back as it was, or start the run again."


class Values(Settings):
    """The content of ``state.json``: the numbers that say how far a run has come."""

    done: int = Field(ge=0)  # optimizer steps
    taken: tuple[int, ...]  # batches that each table has had
    evaluated: int = Field(ge=0)  # the step of the last evaluation
    best: float | None  # the best score so far
    stale: int = Field(ge=0)  # evaluations since the best score was first reached
    sure: float | None = None  # what decides between equal scores, of the best evaluation; older versions wrote none
    conflicting: int = Field(default=0, ge=0)  # steps in which the gradients of two tasks conflicted
    generator: str  # the state of the dropout generator, as hex digits
    metrics_bytes: int = Field(default=0, ge=0)  # the length of metrics.jsonl at this step
    tensors: int = Field(ge=0)  # number of tensors in training.safetensors


@dataclass(frozen=True)
class RunState:
    """The state that a run needs, besides its model, to continue: numbers, and tensors by name."""

    values: Values
    tensors: dict[str, Tensor]


class Seal(Settings):
    """The content of ``digest.json``: digests that show whether a saved run state is complete and unchanged."""

    run: str  # SHA-256 of the run's settings
    files: dict[str, str]  # SHA-256 of every other file in the folder, by its name


def save_state(state: RunState, folder: Path) -> None:
    """Writes a run state into ``folder``."""
    save_tensors(state.tensors, folder / TENSORS)
    json_files.write_settings(folder / VALUES, state.values)


def load_state(folder: Path) -> RunState:
    """Returns the run state that is saved in ``folder``.

    Raises:
        FileNotFoundError, ValueError: If a file is missing or damaged. The message names the file.
    """
    values = json_files.read_settings(folder / VALUES, Values, STATE_REPAIR)
    tensors = read_tensors(folder / TENSORS)
    if len(tensors) != values.tensors:
        raise ValueError(
            f"{folder / TENSORS}: must have {values.tensors} tensors by {VALUES}, found {len(tensors)}. {STATE_REPAIR}"
        )
    check_finite(folder / TENSORS, tensors, STATE_REPAIR)
    return RunState(values, tensors)


def replace_values(folder: Path, values: Values, run: str) -> None:
    """Replaces ``state.json`` and ``digest.json`` in ``folder`` atomically. The content of other files stays the same.

    Args:
        folder: A folder with a run state.
        values: The new content of ``state.json``.
        run: The SHA-256 of the run's settings.
    """

    def write(new: Path) -> None:
        for path in folder.iterdir():
            if path.name not in (VALUES, SEAL):
                files.link(path, new / path.name)
        json_files.write_settings(new / VALUES, values)
        seal(new, run)

    files.write_folder(folder, write)


def seal(folder: Path, run: str) -> None:
    """Writes ``digest.json`` into ``folder``, with the SHA-256 of each file there and of the run's settings.

    ``run`` is the SHA-256 of the settings.
    """
    digests = {path.name: files.sha256(path, STATE_REPAIR) for path in sorted(folder.iterdir())}
    json_files.write_settings(folder / SEAL, Seal(run=run, files=digests))


def check_seal(folder: Path) -> str | None:
    """Checks the files in ``folder`` against ``digest.json``, and returns the digest of the run's settings.

    If the folder has no ``digest.json``, nothing is checked, and None is returned. Older versions did not write this
    file.

    Raises:
        FileNotFoundError, ValueError: If a file is missing or has changed since it was saved. The message names the
            file.
    """
    file = folder / SEAL
    if not file.exists():
        return None
    found = json_files.read_settings(file, Seal, STATE_REPAIR)
    missing = [name for name in SEALED if name not in found.files]
    if missing:
        raise ValueError(f"{file}: damaged: has no digest of {missing[0]}. {STATE_REPAIR}")
    for name, digest in found.files.items():
        if Path(name).name != name:
            raise ValueError(f"{file}: damaged: {shown(name)} is not the name of a file. {STATE_REPAIR}")
        if files.sha256(folder / name, STATE_REPAIR) != digest:
            raise ValueError(
                f"{folder / name}: damaged: not the file that was saved, according to {SEAL}. {STATE_REPAIR}"
            )
    return found.run


def check_values(values: Values, steps: int, tables: int, joint: bool) -> None:
    """Checks that the content of ``state.json`` is consistent and fits the run.

    Args:
        values: The content of ``state.json``.
        steps: The number of optimizer steps in the whole run.
        tables: The number of tables.
        joint: Whether each step takes a batch of every table.

    Raises:
        ValueError: If a value is wrong. The message names the value.
    """
    done = values.done
    if done > steps:
        raise ValueError(f"done: {done} steps, but the run has {steps}")
    if len(values.taken) != tables or min(values.taken) < 0:
        raise ValueError(f"taken: must be a count for each of {tables} tables, found {shown(list(values.taken))}")
    if any(count != done for count in values.taken) if joint else sum(values.taken) != done:
        raise ValueError(f"taken: must be the batches of {done} {'joint ' * joint}steps, found {list(values.taken)}")
    for name in ("evaluated", "stale", "conflicting"):
        if getattr(values, name) > done:
            raise ValueError(f"{name}: {getattr(values, name)}, with {done} steps done")


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Checks that tensors have the expected names, shapes and dtypes.

    Raises:
        ValueError: If a tensor is missing, is not expected, or has the wrong shape or dtype. The message names the
            tensor.
    """
    for wrong, what in (
        (expected.keys() - found.keys(), "there must be"),
        (found.keys() - expected.keys(), "this run has no"),
    ):
        if wrong:
            raise ValueError(f"{what} {few(sorted(wrong), most=3)}")
    for name, tensor in expected.items():
        if (found[name].shape, found[name].dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(f"{name} must be {_kind(tensor)}, found {_kind(found[name])}")


def generator_state(generator: torch.Generator) -> str:
    """Returns the state of ``generator`` as hex digits."""
    return bytes(generator.get_state().tolist()).hex()


def set_generator_state(generator: torch.Generator, text: str) -> None:
    """Sets the state of a random generator to the state that ``text`` holds, written as hex digits.

    Raises:
        ValueError: If ``text`` is not a valid state of this generator.
    """
    try:
        generator.set_state(torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8))
    except (ValueError, RuntimeError):
        raise ValueError(
            f"generator: {shown(text, 20)} is not the state of a generator on {generator.device}"
        ) from None


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
