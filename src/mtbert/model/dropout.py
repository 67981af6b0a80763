"""Dropout that draws from one generator and from nothing else."""

import numpy as np
import torch
from torch import Tensor

BITS = 16  # of an element's random number: 8 would make 0.1016 of a rate of 0.1


def dropout(x: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """``x`` with each element zeroed with probability ``p`` and the rest divided by ``1 - p``.

    The mask is a function of the generator's state and of the shape of ``x``; ``p`` is kept to 2**-16 on the CPU.
    ``generator=None`` means evaluation: ``x`` itself, as for ``p = 0``.
    """
    if generator is None or p == 0.0:
        return x
    keep = _cpu_mask(x.shape, p, generator) if x.device.type == "cpu" else _mask(x, p, generator)
    return (x * keep).mul_(1.0 / (1.0 - p))


def _cpu_mask(shape: torch.Size, p: float, generator: torch.Generator) -> Tensor:
    # The generator gives one number, which seeds a faster generator of bits: with what follows, 0.7 ms for 900 x 384
    # on one core, where the generator's own numbers take 2.1.
    seed = int(torch.empty((), dtype=torch.int64).random_(generator=generator))
    size = shape.numel()
    bits = np.random.SFC64(seed).random_raw(-(-size * BITS // 64)).view(np.uint16)[:size]
    return torch.from_numpy(bits >= min(round(p * 2**BITS), 2**BITS - 1)).view(shape)


def _mask(x: Tensor, p: float, generator: torch.Generator) -> Tensor:
    return torch.rand(x.shape, generator=generator, device=x.device) >= p
