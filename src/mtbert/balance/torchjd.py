"""Balancing methods of the package torchjd that need the Gram matrix of one step alone.

Source: Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024; the package's documentation names
the paper of each method.

Dimension key: T tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from mtbert.balance import check_gram
from mtbert.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# What torchjd 0.18 computes from the Gram matrix of one step alone. Not here: Sum and PCGrad, which have files of their
# own; ExcessMTL, MoDo and SDMGrad, which read their input as a Jacobian or as the products of two batches; NashMTL,
# ConFIG, GradDrop and TrimmedMean, which need the gradients themselves; GradVac, PCD and CRMOGM, which carry state from
# step to step; Constant, which is what a task's weight does; Krum, which needs the number of lying tasks; FairGrad with
# a degree of fairness, which sends the weight of a zero gradient to infinity.
Method = Literal["AlignedMTL", "CAGrad", "DualProj", "IMTLG", "MGDA", "Mean", "Random", "UPGrad"]

# How far CAGrad may move away from the mean gradient, as a share of its length: the one value that the
# authors' scripts use on both NYU-v2 and CityScapes. It has no default.
CAGRAD_C = 0.4


class TorchJD(Settings):
    """The weights of a method of torchjd, with its defaults; 0 for a gradient that is zero.

    Its methods average where plain addition and PCGrad add, so their steps are about T times
    shorter. Adam does not notice, clipping does: compare with method ``Mean``.
    """

    kind: Literal["torchjd"] = "torchjd"
    method: Method

    def check_installed(self) -> None:
        """Raises ValueError if the method's packages are not installed; a recipe that names them is valid without."""
        _weighting(self.method)

    def __call__(self, gram_TT: Tensor, generator: torch.Generator) -> Tensor:
        """Returns ``[T]``; ``generator`` seeds the draws of methods that have some."""
        import torch

        check_gram(gram_TT)
        weights_T = torch.zeros(len(gram_TT), dtype=torch.float64)
        # A gradient that is zero would be all that MGDA takes, and a share of what Mean and Random give.
        present = gram_TT.diagonal() > 0
        # torchjd draws from the global generator. That of the CPU alone is seeded: torch.manual_seed would reach
        # those of all devices, which are not put back.
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        if present.any():
            # No method depends on the unit, but torchjd takes a trace below 1e-4 for zero, which gradients reach.
            present_TT = gram_TT[present][:, present]
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                weights_T[present] = _weighting(self.method)(present_TT / present_TT.trace())
        return weights_T


def _weighting(method: Method) -> Callable[[Tensor], Tensor]:
    """Returns a torchjd weighting, a function of the Gram matrix; ValueError if what it needs is not installed."""
    try:
        from torchjd import aggregation

        kind = getattr(aggregation, f"{method}Weighting")
        weighting: Callable[[Tensor], Tensor] = kind(c=CAGRAD_C) if method == "CAGrad" else kind()
    except ImportError as error:
        raise ValueError(
            f"train.aggregation: method '{method}' needs torchjd and its solvers, found them missing. "
            'Run: pip install "mtbert[balance]"'
        ) from error
    return weighting
