"""Checks that all processes of a run work with the same data, the same programs and the same weights.

All processes get the same gradients, and each process updates its own copy of the weights. If two processes computed
differently, their weights would drift apart without an error.
"""

from collections.abc import Mapping

import torch

from mtbert import environment
from mtbert.messages import few
from mtbert.processes import Lost
from mtbert.training.run import Run


def check_same_start(run: Run, digests: Mapping[str, str]) -> None:
    """Checks that this process starts ``run`` in the same way as the first process.

    ``digests`` holds the SHA-256 of each data source that this process reads.

    Raises:
        ValueError: If the data, the device, the precision or the version of a package differ.
    """
    ours = {"train.device": run.device.type, "train.precision": str(run.model.compute).removeprefix("torch.")}
    ours |= environment.package_versions()
    data, theirs = run.processes.from_first((digests, ours))
    different = [name for name in data if digests.get(name) != data[name]]
    if different:
        raise ValueError(f"{few(different)}: not the data of the first process. Give all processes the same files.")
    for name in ours | theirs:
        here, first = ours.get(name, "missing"), theirs.get(name, "missing")
        if here != first:
            repair = "Use machines of one kind." if name.startswith("train.") else "Install the same on all machines."
            raise ValueError(f"rank {run.processes.rank}, {name}: {here}, but {first} in the first process. {repair}")


def check_same_weights(run: Run) -> None:
    """Checks that the trained weights are the same in all processes, bit for bit.

    Raises:
        Lost: If a process has other weights than the first one.
    """
    if run.processes.size == 1:
        return
    first, *others = run.processes.all(_checksum(run))
    different = [str(rank) for rank, checksum in enumerate(others, 1) if checksum != first]
    if different:
        sentence = (
            f"rank {few(different)} came to other weights than the first process, because it computes differently."
        )
        raise Lost(run.processes.told(f"{sentence} Use machines of one kind."))


def _checksum(run: Run) -> int:
    """Returns a sum over all trained weights, in which each weight counts as the integer with the same 32 bits."""
    with torch.no_grad():
        return int(torch.stack([p.view(torch.int32).sum(dtype=torch.int64) for p in run.trained]).sum())
