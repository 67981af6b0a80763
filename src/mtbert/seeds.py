"""Random generators seeded by their purpose, so that one part of the program never changes what another part draws."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def torch_generator(*purpose: str | int) -> torch.Generator:
    """Returns a PyTorch generator on the CPU, seeded by the words of ``purpose``.

    The same words give the same random numbers, and different words give unrelated ones.
    """
    import torch

    digest = hashlib.sha256(" ".join(map(str, purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Returns a NumPy generator, seeded by ``seed`` and the words of ``purpose``.

    The same seed and words give the same random numbers, and different ones give unrelated numbers.
    """
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest[:16], "little")))
