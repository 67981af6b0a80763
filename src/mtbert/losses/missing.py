"""Means of losses for examples that have several labels, some of which may be missing.

Dimension key: B examples, K labels of an example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def mean_of_known(losses_BK: Tensor, labels_BK: Tensor) -> Tensor:
    """Returns the mean loss over the known labels of each example, ``[B]``; 0 if all its labels are missing.

    Missing labels are ``nan`` in ``labels_BK``. Their losses may be any finite numbers, and get no gradient.
    """
    known_BK = ~labels_BK.isnan()
    return losses_BK.where(known_BK, losses_BK.new_zeros(())).sum(-1) / known_BK.sum(-1).clamp(min=1)
