"""Local attention: each token attends to the tokens of its sequence that are at most ``window`` positions away.

Long sequences are divided into blocks of ``window`` tokens. The keys that the queries of a block attend to lie in the
block and in its two neighbours, so memory and time are proportional to the length of the sequence.

Dimension key: S sequences, H heads, R = S * H, L tokens of a sequence, E width of a head, W window, C blocks of a
sequence.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtbert.model.mix import Mix


def too_far(queries: int, keys: int, window: int, device: torch.device, *, before: int = 0) -> Tensor:
    """Returns a mask ``[queries, keys]``, true where a key is more than ``window`` positions away from a query.

    The queries are at positions 0, 1, and so on. The first key is ``before`` positions before the first query.
    """
    from_first = torch.arange(keys, device=device) - before
    return (from_first - torch.arange(queries, device=device)[:, None]).abs() > window


def takes_blocks(length: int, window: int) -> bool:
    """Returns whether local attention over ``length`` tokens is cheaper if computed in blocks of ``window`` tokens."""
    return length > 3 * window


def mix_blocks(
    mix: Mix, q_RLE: Tensor, k_RLE: Tensor, v_RLE: Tensor, padding_SL: Tensor | None, heads: int, window: int
) -> Tensor:
    """Returns the output of local attention, ``[R, L, E]``, which ``mix`` computes in blocks of tokens.

    Each token attends to the tokens of its sequence that are at most ``window`` positions away. There are S sequences,
    and R is S times ``heads``. ``padding_SL`` is true where a sequence has no token. If ``padding_SL`` is None, all
    sequences have L tokens.
    """
    rows, length, width = q_RLE.shape
    behind = -length % window  # places without a token, which fill the last block
    count = (length + behind) // window
    if padding_SL is None:
        padding_SL = torch.zeros(1, length, dtype=torch.bool, device=q_RLE.device)
    missing_SL = F.pad(padding_SL, (window, window + behind), value=True)
    missing = _neighbours(missing_SL[..., None], window).view(len(missing_SL), 1, count, 1, 3 * window)
    far = too_far(window, 3 * window, window, q_RLE.device, before=window)
    q = F.pad(q_RLE, (0, 0, 0, behind)).reshape(rows * count, window, width)
    k, v = (_neighbours(F.pad(x, (0, 0, window, window + behind)), window).flatten(0, 1) for x in (k_RLE, v_RLE))
    mixed = mix(q, k, v, missing | far, (rows // heads, heads, count))
    return mixed.view(rows, count * window, width)[:, :length]


def _neighbours(x_RLE: Tensor, window: int) -> Tensor:
    """Returns each block of tokens, except the first and the last, joined with the block before and the block after.

    ``x_RLE`` consists of C blocks, and each block has W tokens, where W is ``window``. The result is
    ``[R, C - 2, 3 * W, E]``.
    """
    blocks = x_RLE.reshape(x_RLE.shape[0], -1, window, x_RLE.shape[2])
    return torch.cat([blocks[:, :-2], blocks[:, 1:-1], blocks[:, 2:]], dim=2)
