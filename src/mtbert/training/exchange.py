"""The exchange of gradients between the processes of a run, so that all have the sums over all shards."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtbert.processes import Processes
from mtbert.profiling import timed
from mtbert.training.shards import Sums
from mtbert.training.shared_memory import SharedMemory, share_memory

WORTH_SHARING = 2**18  # numbers; fewer are sent through a socket, even if the two processes can share memory


@dataclass(frozen=True)
class _Outline:
    """A message that announces :class:`Sums`. A process sends it to its partner before it sends the gradients.

    Attributes:
        rest: A copy of the :class:`Sums` in which the list of gradients is empty.
        shapes: The shape of each gradient; None if there is no gradient.
        rows: For each sparse gradient, the number of its rows that are not 0; None for all other gradients.
    """

    rest: Sums
    shapes: Sequence[torch.Size | None]
    rows: Sequence[int | None]


class Exchange:
    """Adds up the sums of losses and gradients that several processes have computed.

    Args:
        processes: The processes that train the run.
        device: The device of the gradients.

    Raises:
        ValueError: If several processes cannot exchange tensors on ``device``.
    """

    def __init__(self, processes: Processes, device: torch.device) -> None:
        if processes.size > 1 and device.type not in ("cpu", "cuda"):
            raise ValueError(f"train.device: several processes cannot train on '{device.type}'. Use cpu or cuda.")
        self.processes, self.device = processes, device
        self._shared: dict[int, SharedMemory | None] = {}  # by the rank of the partner; None: it cannot share memory

    def sum(self, sums: Sums) -> Sums:
        """Returns the total over all processes. ``sums`` holds the sums of this process.

        Sums are added in a binary tree. Within each process, :func:`~mtbert.training.shards.tree_sum` has added the
        lower levels of the tree. This method adds the upper levels. The tree, and therefore the total, is the same for
        any number of processes.
        """
        for partner in self.processes.partners:
            theirs = self._trade(sums, partner)
            sums = sums + theirs if self.processes.rank < partner else theirs + sums
        return sums

    def _trade(self, sums: Sums, partner: int) -> Sums:
        """Sends ``sums`` to the process ``partner``, and returns the sums that ``partner`` sends back."""
        gradients = [g.coalesce() if g is not None and g.is_sparse else g for g in sums.gradients]
        told = self.processes.trade(
            partner,
            _Outline(
                Sums((), sums.losses, sums.tokens, sums.error),
                [None if g is None else g.shape for g in gradients],
                [g.values().shape[0] if g is not None and g.is_sparse else None for g in gradients],
            ),
        )
        if sums.error is not None or told.rest.error is not None:
            return told.rest
        sizes = [
            0 if shape is None else shape.numel() if rows is None else rows * shape[1:].numel()
            for shape, rows in zip(told.shapes, told.rows, strict=True)
        ]
        flat = [g.values().flatten() if g.is_sparse else g.flatten() for g in gradients if g is not None]
        of_rows = [g.indices()[0] for g in gradients if g is not None and g.is_sparse]
        numbers = self._trade_numbers([torch.empty(0, device=self.device), *flat], partner, sum(sizes))
        no_rows = torch.empty(0, dtype=torch.int64, device=self.device)
        size = sum(r or 0 for r in told.rows)
        rows_of_theirs = self.processes.trade_tensor(partner, torch.cat([no_rows, *of_rows]), size)
        theirs: list[Tensor | None] = []
        indices = iter(torch.split(rows_of_theirs, [rows for rows in told.rows if rows is not None]))
        for part, shape, rows in zip(torch.split(numbers, sizes), told.shapes, told.rows, strict=True):
            if shape is None:
                theirs.append(None)
            elif rows is None:
                theirs.append(part.view(shape))
            else:
                values = part.view(rows, *shape[1:])
                theirs.append(
                    torch.sparse_coo_tensor(
                        next(indices)[None], values, shape, is_coalesced=True, check_invariants=False
                    )
                )
        return Sums(theirs, told.rest.losses, told.rest.tokens)

    def _trade_numbers(self, flat: Sequence[Tensor], partner: int, size: int) -> Tensor:
        """Sends ``flat`` to the process ``partner``, and returns the ``size`` numbers that ``partner`` sends back.

        The result may lie in memory that ``partner`` writes to. ``partner`` does not overwrite the result before this
        process begins its next exchange with ``partner``.
        """
        own = sum(map(len, flat))
        shared = self._shared_with(partner, max(own, size))
        if shared is None:
            return self.processes.trade_tensor(partner, torch.cat(list(flat)), size)
        with timed("communication"), torch.no_grad():
            torch.cat(list(flat), out=shared.mine[:own])
            self.processes.trade_tensor(partner, torch.zeros(1), 1)  # both have written
        return shared.theirs[:size]

    def _shared_with(self, partner: int, size: int) -> SharedMemory | None:
        """Returns memory that this process and ``partner`` share, with room for ``size`` numbers from each of them.

        Returns None if the two processes cannot share memory, or if ``size`` is too small for shared memory to be
        faster.
        """
        if self.device.type != "cpu" or size < WORTH_SHARING:
            return None
        found = self._shared.get(partner)
        if partner not in self._shared or (found is not None and len(found.mine) < size):
            found = self._shared[partner] = share_memory(self.processes, partner, size)
        return found
