"""The balancing methods of the package torchjd that need only the Gram matrix of the current step.

Source: Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024. The documentation of torchjd names
the paper of each method.

Dimension key: T tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mtbert.balance import check_gram
from mtbert.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# The methods of torchjd 0.18 that need only the Gram matrix of the current step. Left out are:
# - Sum and PCGrad, which have files of their own here;
# - ExcessMTL, MoDo and SDMGrad, which take a Jacobian, or the products of two batches;
# - NashMTL, ConFIG, GradDrop and TrimmedMean, which need the gradients themselves;
# - GradVac, PCD and CRMOGM, which carry state from step to step;
# - Constant, which does the same as the weights of tasks;
# - Krum, which needs to know how many tasks are adversarial;
# - FairGrad, whose degree of fairness drives the weight of a zero gradient to infinity.
Method = Literal["AlignedMTL", "CAGrad", "DualProj", "IMTLG", "MGDA", "Mean", "Random", "UPGrad"]

# How far CAGrad may move away from the mean gradient, as a share of its length. torchjd has no default; this is the
# only value that the authors' scripts use on both NYU-v2 and CityScapes.
CAGRAD_C = 0.4


class TorchJD(Settings):
    """The balancing methods of torchjd, with their default settings.

    These methods average the gradients, whereas plain addition and PCGrad add them. With T tasks, an average is about T
    times shorter than a sum, so gradient clipping changes the average less often. A fair baseline for these methods is
    therefore the method ``Mean``, and not plain addition. A task whose gradient is zero does not count in the average.
    """

    kind: Literal["torchjd"] = "torchjd"
    method: Method = Field(description="the name of the method in torchjd")

    def check_installed(self) -> None:
        """Raises ValueError if the packages of the method are not installed.

        This is not part of the recipe's validation: a recipe is valid without the packages.
        """
        _weighting(self.method)

    def __call__(self, gram_TT: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the weights of the task gradients, ``[T]``, float64.

        ``generator`` gives the seed for the balancing methods that draw random numbers.

        Raises:
            ValueError: If ``gram_TT`` is not square or not finite, or if packages of the balancing method are missing.
        """
        import torch

        check_gram(gram_TT)
        weights_T = torch.zeros(len(gram_TT), dtype=torch.float64)
        # Zero gradients are left out: MGDA would give all weight to one, and Mean and Random would give it a share.
        present = gram_TT.diagonal() > 0
        # torchjd draws from the global generator. Only the CPU's is seeded here: torch.manual_seed would also seed
        # those of all other devices, which fork_rng does not restore.
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        if present.any():
            # No method depends on the scale, but torchjd treats a trace below 1e-4 as zero, and gradients can be small.
            present_TT = gram_TT[present][:, present]
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                weights_T[present] = _weighting(self.method)(present_TT / present_TT.trace())
        return weights_T


def _weighting(method: Method) -> Callable[[Tensor], Tensor]:
    """Returns torchjd's weighting for ``method``: a function from the Gram matrix to the weights of the task gradients.

    Raises:
        ValueError: If torchjd, or a solver that the method needs, is not installed.
    """
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
