"""Generators that depend on what they are for and on nothing else."""

import hashlib

import numpy as np
import torch


def torch_generator(*purpose: str | int) -> torch.Generator:
    """Returns a generator on the CPU: the same words give the same draws, other words unrelated ones."""
    digest = hashlib.sha256(" ".join(map(str, purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Returns a NumPy generator: the same seed and words give the same draws, others unrelated ones."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest[:16], "little")))
