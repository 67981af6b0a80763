"""Gradients of a few tasks, literal and random, and every balancing method.

Dimension key: T tasks, P numbers of a gradient.
"""

from typing import get_args

import pytest
import torch
from torch import Tensor

from mtbert.balance.pcgrad import PCGrad
from mtbert.balance.sum import Sum
from mtbert.balance.torchjd import Method, TorchJD

METHODS = get_args(Method)
SEAM = [Sum(), PCGrad(), *(TorchJD(method=method) for method in METHODS)]
every_aggregation = pytest.mark.parametrize("aggregation", SEAM, ids=lambda a: a.method)

# Three gradients; for each of them, the two possible orders of projections give different results.
LITERAL_TP = torch.tensor([[1.0, -1.0], [-2.0, 1.0], [0.0, 1.0]], dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_gradients(tasks: int, size: int, seed: int = 0) -> Tensor:
    return torch.randn(tasks, size, generator=seeded(seed), dtype=torch.float64)


def gram_of(gradients_TP: Tensor) -> Tensor:
    return gradients_TP @ gradients_TP.T
