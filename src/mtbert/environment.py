"""The device and precision of a run, and a record of the machine and packages that it uses."""

import math
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import psutil
import torch
from pydantic import Field
from torch import Tensor

from mtbert import json_files
from mtbert.messages import count
from mtbert.settings import Settings

ENVIRONMENT_FILE = "environment.json"  # a folder with this file and recipe.yaml is a run
PACKAGES = ("mtbert", "torch", "numpy", "tokenizers", "safetensors", "datasets", "pydantic", "scikit-learn", "scipy")

CGROUP = Path("/sys/fs/cgroup")
WAIT = "Wait for them, or set OMP_WAIT_POLICY=PASSIVE."  # PyTorch's threads wait by spinning, which takes cores too

MOST_THREADS = 4096  # limit on a run's threads; PyTorch itself has none


def device(name: str) -> torch.device:
    """Returns the device called ``name``. For ``auto``, this is CUDA if present, else MPS, else the CPU.

    Raises:
        ValueError: If this machine has no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    if not there[name]:
        raise ValueError(f"train.device: this machine has no '{name}'. Use auto.")
    return torch.device(name)


def precision(name: str, device: torch.device) -> torch.dtype:
    """Returns the dtype in which matrices are multiplied, for the setting ``name``: ``fp32``, ``bf16`` or ``auto``.

    ``auto`` means bfloat16 if the hardware multiplies bfloat16 natively, and float32 otherwise.
    """
    if name != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and bool({"amx_bf16", "avx512_bf16"} & _features())
    return torch.bfloat16 if fast else torch.float32


def with_float64(tensor: Tensor) -> Tensor:
    """Returns ``tensor`` on a device that supports float64: copied to the CPU if it is on MPS, otherwise unchanged."""
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def usable_cores() -> int:
    """Returns the number of cores that this process may use. CPU affinity or a container can limit this number."""
    bound = getattr(os, "sched_getaffinity", None)
    cores = len(bound(0)) if bound else os.cpu_count() or 1
    quota = _cgroup("cpu.max", "cpu/cpu.cfs_quota_us").split()
    period = quota[1] if len(quota) > 1 else _cgroup("cpu/cpu.cfs_period_us")
    with suppress(ValueError, IndexError, ZeroDivisionError):
        if (share := int(quota[0]) / int(period)) > 0:
            cores = min(cores, math.ceil(share))
    return max(1, cores)


def load_average() -> float:
    """Returns the load average of the last minute: how many threads, of all programs, ran or wanted to run."""
    return psutil.getloadavg()[0]


def others_load() -> str:
    """Returns the load in words, such as ``load 9.5 on 8 cores``, if other programs want the cores too; else ``""``.

    This is meant for the start of a command, when its own threads are not yet part of the load.
    """
    cores = max(os.cpu_count() or 1, usable_cores())  # the load is that of the whole machine, not of a container
    return f"load {load_average():.1f} on {count(cores, 'core')}" if load_average() > cores + 1 else ""


def memory_limit() -> int | None:
    """Returns the memory that a container may use, in bytes; None if there is no limit."""
    with suppress(ValueError):
        return int(_cgroup("memory.max", "memory/memory.limit_in_bytes"))
    return None


def memory_used() -> int:
    """Returns how many bytes of memory the container of this process uses; 0 if unknown.

    Memory in which the operating system caches files does not count, unless the files were used recently.
    """
    lines = dict(
        line.split(" ", 1) for line in _cgroup("memory.stat", "memory/memory.stat").splitlines() if " " in line
    )
    with suppress(ValueError):
        used = int(_cgroup("memory.current", "memory/memory.usage_in_bytes"))
        return max(0, used - int(lines.get("inactive_file", 0)))
    return 0


def _cgroup(*names: str) -> str:
    """Returns the content of the first readable file in ``names``, or ``""``. The names are relative to ``CGROUP``."""
    for name in names:
        with suppress(OSError):
            return (CGROUP / name).read_text().strip()
    return ""


def out_of_memory(error: BaseException) -> bool:
    """Returns whether ``error`` means that memory ran out, on any device."""
    return type(error).__name__ in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in str(error)


class RunRecord(Settings):
    """The content of ``environment.json``: the packages and the machine that a run used, and digests of its inputs."""

    python: str
    packages: dict[str, str]
    platform: str
    cpu: str
    cores: int | None
    threads: int = Field(gt=0, le=MOST_THREADS)
    device: str
    git_commit: str | None  # of mtbert; None if it does not run from a git checkout
    data: dict[str, str]  # SHA-256 by source
    recipe: str  # SHA-256 of the settings without data.root and train.epochs; older records include the epochs
    leaked: dict[str, int] = Field(
        default={}
    )  # by task: dev examples with a text that is trained on; older versions wrote none
    sealed: bool = False  # whether last/ has digests of its files; older versions wrote none
    launch: str | None = Field(
        default=None
    )  # of the processes that began the run or made it longer; older versions wrote none


def make_record(
    device: torch.device,
    data: Mapping[str, str],
    recipe: str,
    leaked: Mapping[str, int] | None = None,
    launch: str | None = None,
) -> RunRecord:
    """Returns the record of the current environment.

    Args:
        device: The device that the run computes on.
        data: A dict from the name of a data source to its SHA-256.
        recipe: The SHA-256 of the run's settings.
        leaked: A dict from task to the number of the task's dev examples that contain a text from the train data.
        launch: A random text that identifies the ``torchrun`` that started this process. By this text, restarted
            processes recognise their run. None if no ``torchrun`` started this process, or if ``torchrun`` never
            restarts processes (``--max-restarts 0``).
    """
    return RunRecord(
        python=platform.python_version(),
        packages=package_versions(),
        platform=platform.platform(),
        cpu=str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor()),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        git_commit=_commit(),
        data=dict(data),
        recipe=recipe,
        leaked=dict(leaked or {}),
        sealed=True,
        launch=launch,
    )


def read_record(file: Path) -> RunRecord:
    """Returns the record of a run's environment that is stored in ``file``.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged. The message names the file.
    """
    return json_files.read_settings(file, RunRecord, "Start the run again.")


def package_versions() -> dict[str, str]:
    """Returns the versions of those packages in :data:`PACKAGES` that are installed, by package name.

    The version of PyTorch includes the build, as in ``2.11.0+cu130``.
    """
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found | {"torch": str(torch.__version__)}


def _features() -> set[str]:
    return {name for name, found in torch.cpu.get_capabilities().items() if found is True}


def _commit() -> str | None:
    """Returns the commit of the git checkout that this file belongs to, or None if it belongs to no checkout."""
    here = Path(__file__)
    for arguments in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "HEAD"]):
        try:
            done = subprocess.run(
                ["git", "-C", str(here.parent), *arguments], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
    return done.stdout.strip()
