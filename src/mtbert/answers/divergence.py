"""Divergences between two predictions of one model for the same examples.

For classes with probabilities ``p`` and ``q``, the divergence is ``(p - q) * (log p - log q)``, summed over classes.
For the logits ``a`` and ``b`` of yes/no questions, it is ``(sigmoid(a) - sigmoid(b)) * (a - b)``. For scores ``a`` and
``b``, it is ``(a - b) * (a - b)``. All are symmetric and at least 0. Values and gradients stay finite, however
confident the predictions are.

Dimension key: B examples, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def symmetric_kl(logits_BK: Tensor, other_BK: Tensor, *, detached: bool = False) -> Tensor:
    """Returns ``KL(p || q) + KL(q || p)`` for each example, ``[B]``, in nats.

    ``p`` is the softmax of ``logits_BK``, and ``q`` is the softmax of ``other_BK``.

    If ``detached`` is true, the value is the same, but the gradient differs: ``p`` counts as a constant in
    ``KL(p || q)``, and ``q`` counts as a constant in ``KL(q || p)``.
    """
    log_p_BK = at_least_float32(logits_BK).log_softmax(-1)
    log_q_BK = at_least_float32(other_BK).log_softmax(-1)
    means_BK = log_p_BK.exp() - log_q_BK.exp()
    return (_stopped(means_BK, detached) * (log_p_BK - log_q_BK)).sum(-1)


def bernoulli_kl(logits_B: Tensor, other_B: Tensor, *, detached: bool = False) -> Tensor:
    """Returns the symmetric KL divergence between two yes/no predictions for each example, ``[B]``, in nats.

    Each prediction is a logit ``log(p / (1 - p))``. If ``detached`` is true, no gradient flows through the targets of
    the two KL divergences. The value stays the same.
    """
    a_B, b_B = at_least_float32(logits_B), at_least_float32(other_B)
    return _stopped(a_B.sigmoid() - b_B.sigmoid(), detached) * (a_B - b_B)


def squared_error(scores_B: Tensor, other_B: Tensor, *, detached: bool = False) -> Tensor:
    """Returns the squared difference between two scores for each example, ``[B]``.

    If ``detached`` is true, both scores still get gradients, which are half as large. The value stays the same.
    """
    apart_B = at_least_float32(scores_B) - at_least_float32(other_B)
    return _stopped(apart_B, detached) * apart_B


def at_least_float32(x: Tensor) -> Tensor:
    """Returns ``x``, converted to float32 if its dtype has fewer bits."""
    import torch

    return x.to(torch.promote_types(x.dtype, torch.float32))


def _stopped(means: Tensor, detached: bool) -> Tensor:
    # Gives the gradient of sum p_fixed * log(p_fixed / q) + q_fixed * log(q_fixed / p): only the logarithms have one.
    return means.detach() if detached else means
