"""Means of losses where an example has several labels and some are missing.

Dimension key: B examples, K labels of an example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def mean_of_known(losses_BK: Tensor, labels_BK: Tensor) -> Tensor:
    """Returns the mean over the labels that an example has, ``[B]``; 0 if it has none.

    The losses of missing labels, which are ``nan``, may be any finite numbers: they get no gradient.
    """
    known_BK = ~labels_BK.isnan()
    return losses_BK.where(known_BK, losses_BK.new_zeros(())).sum(-1) / known_BK.sum(-1).clamp(min=1)
