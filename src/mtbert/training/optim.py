"""The optimizer: parameter groups, embedding gradients, gradient norms and learning-rate schedules."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from mtbert.environment import with_float64
from mtbert.model.model import Model

# Largest accepted norm of a step's gradients. Adam keeps their squares in float32; a square that overflows would stay
# infinite for the rest of the run.
LARGEST_NORM = 1e19


def adamw(
    parameters: Mapping[nn.Parameter, float],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> AdamW:
    """Returns an AdamW optimizer for ``parameters``.

    Parameters with the same learning-rate factor and the same weight decay form a group. Biases, LayerNorm weights and
    all other parameters with fewer than two dimensions get no weight decay.

    Args:
        parameters: The parameters to train, each with the factor by which :func:`step` multiplies its learning rate.
        lr: The learning rate before factors and schedule are applied.
        betas: The decay rates of Adam's two running means.
        eps: The term that is added to Adam's denominator.
        weight_decay: The decoupled weight decay. Each step multiplies weights by ``1 - learning rate * weight_decay``.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter, factor in parameters.items():
        groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    return AdamW(
        [
            {"params": members, "factor": factor, "weight_decay": weight_decay if decays else 0.0}
            for (factor, decays), members in groups.items()
        ],
        lr=lr,
        betas=betas,
        eps=eps,
        fused=True,
    )


def step(optimizer: AdamW, lr: float, shrink: float = 1.0) -> None:
    """Makes one optimizer step.

    The learning rate of each parameter group is ``lr`` times the factor of the group. All gradients are first divided
    by ``shrink``.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
    # grad_scale is what torch's GradScaler sets: the fused kernel divides by it, without one more pass over memory.
    # The tensor is created on the device, because a number on the host would be copied once per group.
    device = optimizer.param_groups[0]["params"][0].device
    scale = torch.full((), shrink, device=device) if shrink != 1.0 else None
    optimizer.grad_scale = scale  # type: ignore[attr-defined]
    optimizer.step()


class RowGradient:
    """The dense gradient of the word embeddings, in a buffer that all steps of a run reuse.

    Each step clears the rows that the step before it wrote, and writes the rows of the words in its batch.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.dense: Tensor | None = None  # allocated when it is first needed
        self.rows = torch.empty(0, dtype=torch.int64, device=weight.device)

    def spread(self) -> None:
        """Makes the gradient of ``self.weight`` dense if it is sparse.

        All calls write the dense gradient to the same tensor, ``self.dense``.
        """
        gradient = self.weight.grad
        if gradient is None or not gradient.is_sparse:
            return
        gradient = gradient.coalesce()
        if self.dense is None:
            self.dense = torch.zeros_like(self.weight)
        self.dense.index_fill_(0, self.rows, 0.0)
        self.rows = gradient.indices()[0]
        self.dense.index_copy_(0, self.rows, gradient.values())
        self.weight.grad = self.dense


def total_norm(parameters: Iterable[nn.Parameter]) -> float:
    """Returns the Euclidean norm of the gradients of all ``parameters``, taken together as one vector."""
    return norm([p.grad for p in parameters if p.grad is not None])


@torch.no_grad()
def norm(gradients: Sequence[Tensor]) -> float:
    """Returns the Euclidean norm of all ``gradients``, taken together as one vector.

    The norm is correct even if squares overflow or underflow in float32. Sparse gradients are coalesced first.
    """
    dense = [g.coalesce().values() if g.is_sparse else g for g in gradients]
    found = float(nn.utils.get_total_norm(dense))
    if 1e-12 < found < 1e18 or not dense:
        return found
    # The norm is very small or large, so float32 may have lost its square. Float64 in every step would take twice as
    # long.
    return math.hypot(*(float(torch.linalg.vector_norm(with_float64(g), dtype=torch.float64)) for g in dense))


def factors(model: Model, decay: float | None) -> dict[nn.Parameter, float]:
    """Returns the trainable parameters of ``model``, each with the factor by which its learning rate is multiplied.

    If ``decay`` is None, every factor is 1. Otherwise, the top layer of the encoder has factor 1, and each lower layer
    has ``decay`` times the factor of the layer above it. The embeddings count as one more layer at the bottom. The
    pooler, the heads and all other parameters have factor 1.

    Source: Sun et al., "How to Fine-Tune BERT for Text Classification?", 2019.
    """
    depths, top = model.depths(), model.encoder.config.layers
    below = {p: max(0, top - depths[p]) if p in depths else 0 for p in model.parameters()}
    return {p: (decay or 1.0) ** layers for p, layers in below.items() if p.requires_grad}


def learning_rate(step: int, *, steps: int, warmup: float, schedule: Literal["linear", "constant"]) -> float:
    """Returns the factor by which the schedule multiplies the learning rate at the step with index ``step``.

    ``steps`` is the number of steps of the run. They are counted from 0. In the warm-up, the first
    ``int(warmup * steps)`` steps, the factor rises linearly to 1. After the warm-up, the schedule ``constant`` keeps
    the factor at 1. The schedule ``linear`` lowers the factor, so that it would reach 0 one step after the last step.
    """
    rising = int(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 1.0 if schedule == "constant" else (steps - step) / max(1, steps - rising)
