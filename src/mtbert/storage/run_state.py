"""A run's state in ``last/``: what the next step needs beside the model, and the digests of all files there.

Resuming trusts nothing in the folder: first the digests, then the numbers and tensors, which must be those of the run.
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
PUT_BACK = "Put the file back as it was, or start the run again."


class Values(Settings):
    """How far a run is."""

    done: int = Field(ge=0)  # optimizer steps
    taken: tuple[int, ...]  # batches of each task
    evaluated: int = Field(ge=0)  # the step of the last evaluation
    best: float | None
    stale: int = Field(ge=0)  # evaluations since the best
    conflicting: int = Field(default=0, ge=0)  # steps in which two tasks' gradients pointed apart
    generator: str  # the state of the dropout generator, as hex digits
    metrics_bytes: int = Field(default=0, ge=0)  # the length of metrics.jsonl at this step
    tensors: int = Field(ge=0)  # in training.safetensors


@dataclass(frozen=True)
class RunState:
    """A run's state beside the model that predicts: its values, and all tensors of training by name."""

    values: Values
    tensors: dict[str, Tensor]


class Seal(Settings):
    """The content of ``digest.json``: SHA-256 of the run's settings, and of every other file of the folder."""

    run: str
    files: dict[str, str]


def save_state(state: RunState, folder: Path) -> None:
    """Writes a run's state into ``folder``."""
    save_tensors(state.tensors, folder / TENSORS)
    (folder / VALUES).write_text(state.values.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_state(folder: Path) -> RunState:
    """Returns the run's state saved in ``folder``.

    Raises:
        ValueError, FileNotFoundError: If a file is missing or damaged; the message names it.
    """
    values = json_files.read_settings(folder / VALUES, Values, PUT_BACK)
    tensors = read_tensors(folder / TENSORS)
    if len(tensors) != values.tensors:
        raise ValueError(
            f"{folder / TENSORS}: must have {values.tensors} tensors by {VALUES}, found {len(tensors)}. {PUT_BACK}"
        )
    check_finite(folder / TENSORS, tensors, PUT_BACK)
    return RunState(values, tensors)


def replace_values(folder: Path, values: Values, run: str) -> None:
    """Puts other values into ``folder`` at once; all else there stays, and takes no room twice."""

    def write(new: Path) -> None:
        for path in folder.iterdir():
            if path.name not in (VALUES, SEAL):
                files.link(path, new / path.name)
        (new / VALUES).write_text(values.model_dump_json(indent=2) + "\n", encoding="utf-8")
        seal(new, run)

    files.write_folder(folder, write)


def seal(folder: Path, run: str) -> None:
    """Writes the digests of all files in ``folder``, and of the settings of the run that it is of."""
    digests = {path.name: files.sha256(path, PUT_BACK) for path in sorted(folder.iterdir())}
    (folder / SEAL).write_text(Seal(run=run, files=digests).model_dump_json(indent=2) + "\n", encoding="utf-8")


def check_seal(folder: Path) -> str | None:
    """Returns the digest of the settings that ``folder`` was saved with, ``None`` if an older version saved it.

    Raises:
        ValueError, FileNotFoundError: If a file is not as it was saved; the message names it.
    """
    file = folder / SEAL
    if not file.exists():
        return None
    found = json_files.read_settings(file, Seal, PUT_BACK)
    missing = [name for name in SEALED if name not in found.files]
    if missing:
        raise ValueError(f"{file}: damaged: has no digest of {missing[0]}. {PUT_BACK}")
    for name, digest in found.files.items():
        if Path(name).name != name:
            raise ValueError(f"{file}: damaged: {shown(name)} is no name of a file. {PUT_BACK}")
        if files.sha256(folder / name, PUT_BACK) != digest:
            raise ValueError(f"{folder / name}: damaged: not as it was saved, by {SEAL}. {PUT_BACK}")
    return found.run


def check_values(values: Values, steps: int, tasks: int, joint: bool) -> None:
    """Raises ValueError, which says what is wrong, unless ``values`` fit each other and the run's number of steps."""
    done = values.done
    if done > steps:
        raise ValueError(f"done: {done} steps, and the run has {steps}")
    if len(values.taken) != tasks or min(values.taken) < 0:
        raise ValueError(f"taken: must be a count for each of {tasks} tasks, found {shown(list(values.taken))}")
    if any(count != done for count in values.taken) if joint else sum(values.taken) != done:
        raise ValueError(f"taken: must be the batches of {done} {'joint ' * joint}steps, found {list(values.taken)}")
    for name in ("evaluated", "stale", "conflicting"):
        if getattr(values, name) > done:
            raise ValueError(f"{name}: {getattr(values, name)}, with {done} steps done")


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises ValueError, which names the tensor, unless names, shapes and kinds of numbers are the expected ones."""
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
    """Returns the generator's state as text."""
    return bytes(generator.get_state().tolist()).hex()


def set_generator_state(generator: torch.Generator, text: str) -> None:
    """Puts the generator where :func:`generator_state` found it.

    Raises:
        ValueError: If the text is no such state.
    """
    try:
        generator.set_state(torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8))
    except (ValueError, RuntimeError):
        raise ValueError(
            f"generator: {shown(text, 20)} is not the state of a generator on {generator.device}"
        ) from None


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
