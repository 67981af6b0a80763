"""The machine: which device and precision a run takes, and the record of what it ran on."""

import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from mtbert import json_files
from mtbert.settings import Settings

ENVIRONMENT_FILE = "environment.json"  # beside recipe.yaml; the two make a folder a run
PACKAGES = ("mtbert", "torch", "numpy", "tokenizers", "safetensors", "datasets", "pydantic", "scikit-learn", "scipy")

MOST_THREADS = 4096  # of a run; PyTorch makes as many as it is told to


def device(name: str) -> torch.device:
    """The device called ``name``; ``auto`` takes CUDA, else MPS, else the CPU.

    Raises:
        ValueError: If this machine does not have it.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    if not there[name]:
        raise ValueError(f"train.device: this machine has no '{name}'. Use auto.")
    return torch.device(name)


def precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products: for ``auto``, bfloat16 where the hardware multiplies it, else float32."""
    if name != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and bool({"amx_bf16", "avx512_bf16"} & _features())
    return torch.bfloat16 if fast else torch.float32


def with_float64(tensor: Tensor) -> Tensor:
    """Returns ``tensor`` on a device that has float64: itself, or a copy on the CPU of one from MPS."""
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on any device."""
    return type(error).__name__ in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in str(error)


class Record(Settings):
    """The circumstances of a run: versions, hardware, threads, git commit of mtbert (null outside a checkout), data."""

    python: str
    packages: dict[str, str]
    platform: str
    cpu: str
    cores: int | None
    threads: int = Field(gt=0, le=MOST_THREADS)
    device: str
    git_commit: str | None
    data: dict[str, str]  # sha256 by source
    recipe: str  # sha256 of all its settings but the place of the data and the epochs; older records count these
    sealed: bool = False  # each last/ of the run has digests; an older version saved none


def record(device: torch.device, data: Mapping[str, str], recipe: str) -> Record:
    """The record of this moment."""
    return Record(
        python=platform.python_version(),
        packages=_versions(),
        platform=platform.platform(),
        cpu=str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor()),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        git_commit=_commit(),
        data=dict(data),
        recipe=recipe,
        sealed=True,
    )


def read(file: Path) -> Record:
    """The record in ``file``.

    Raises:
        FileNotFoundError, ValueError: If it is not there or damaged.
    """
    return json_files.read_settings(file, Record, "Start the run again.")


def _versions() -> dict[str, str]:
    """Returns the versions of those of :data:`PACKAGES` that are installed: training on CSV files needs no datasets.

    PyTorch's own names its build, such as ``2.11.0+cu130``, which an installed package may leave out.
    """
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found | {"torch": str(torch.__version__)}


def _features() -> set[str]:
    return {name for name, found in torch.cpu.get_capabilities().items() if found is True}


def _commit() -> str | None:
    """The commit of the checkout that this file is part of."""
    here = Path(__file__)
    for arguments in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "HEAD"]):
        try:
            done = subprocess.run(
                ["git", "-C", str(here.parent), *arguments], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
    return done.stdout.strip()
