"""Generators that depend on what they are for and on nothing else."""

import hashlib

import torch


def torch_generator(*purpose: str | int) -> torch.Generator:
    """A generator on the CPU: the same words give the same draws, other words unrelated ones."""
    digest = hashlib.sha256(" ".join(map(str, purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
