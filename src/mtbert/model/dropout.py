"""Dropout that draws its masks from an explicit random generator."""

import numpy as np
import torch
from torch import Tensor

BITS = 16  # bits of the random number that each element gets; with 8 bits, a rate of 0.1 would become 0.1016


def dropout(x: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """Returns ``x`` after dropout: each element is set to 0 with probability ``p`` and otherwise divided by ``1 - p``.

    Args:
        x: Any tensor of floating-point numbers.
        p: The dropout rate. On the CPU, it is rounded to a multiple of 2**-16.
        generator: Draws the mask, which depends only on the generator's state and the shape of ``x``. If this is None
            (evaluation) or ``p`` is 0, ``x`` is returned unchanged.
    """
    if generator is None or p == 0.0:
        return x
    keep = _cpu_mask(x.shape, p, generator) if x.device.type == "cpu" else _mask(x, p, generator)
    return (x * keep).mul_(1.0 / (1.0 - p))


def _cpu_mask(shape: torch.Size, p: float, generator: torch.Generator) -> Tensor:
    # The generator draws one number, which seeds a faster bit generator. For 900 x 384 elements on one core this takes
    # 0.7 ms in all, against 2.1 ms for the numbers of torch's generator.
    seed = int(torch.empty((), dtype=torch.int64).random_(generator=generator))
    size = shape.numel()
    bits = np.random.SFC64(seed).random_raw(-(-size * BITS // 64)).view(np.uint16)[:size]
    return torch.from_numpy(bits >= min(round(p * 2**BITS), 2**BITS - 1)).view(shape)


def _mask(x: Tensor, p: float, generator: torch.Generator) -> Tensor:
    return torch.rand(x.shape, generator=generator, device=x.device) >= p
