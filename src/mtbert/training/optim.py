"""Parameter groups, gradients of embeddings and learning-rate schedules."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from mtbert.environment import with_float64
from mtbert.model.model import Model

LARGEST_NORM = 1e19  # of a step's gradients: Adam keeps their squares in float32, and one that is infinite for good


def adamw(
    parameters: Mapping[nn.Parameter, float],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> AdamW:
    """AdamW over ``parameters``, each with a factor on the learning rate, which :func:`step` applies.

    Biases and LayerNorm weights (all vectors) do not decay.
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
    """A step in which each group has its share of the learning rate ``lr``, and gradients are divided by ``shrink``."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
    # What torch's scaler of gradients sets: the division is part of the fused step, not one more pass over memory.
    # Filled where the weights are: a number of the host would be copied once for each group.
    device = optimizer.param_groups[0]["params"][0].device
    scale = torch.full((), shrink, device=device) if shrink != 1.0 else None
    optimizer.grad_scale = scale  # type: ignore[attr-defined]
    optimizer.step()


class RowGradient:
    """The gradient of an embedding, which is zero but for the rows of a step's words, in one tensor for the whole run.

    A backward pass produces a sparse gradient. Each step clears the rows of the previous step and writes its own into
    one dense buffer. Filling 30,000 rows of new memory with zeros takes longer than the products of a small batch.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.dense: Tensor | None = None  # made when it is first needed
        self.rows = torch.empty(0, dtype=torch.int64, device=weight.device)

    def spread(self) -> None:
        """Makes the weight's sparse ``grad`` the dense one that an optimizer reads; another is left as it is."""
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
    """Returns the norm of the gradients of all ``parameters`` as one vector, also where float32 loses its square."""
    return norm([p.grad for p in parameters if p.grad is not None])


@torch.no_grad()
def norm(gradients: Sequence[Tensor]) -> float:
    """Returns the norm of these tensors as one vector; sparse ones are coalesced first."""
    dense = [g.coalesce().values() if g.is_sparse else g for g in gradients]
    found = float(nn.utils.get_total_norm(dense))
    if 1e-12 < found < 1e18 or not dense:
        return found
    # Summed in float64 at once, squares would take twice as long in every step.
    return math.hypot(*(float(torch.linalg.vector_norm(with_float64(g), dtype=torch.float64)) for g in dense))


def factors(model: Model, decay: float | None) -> dict[nn.Parameter, float]:
    """The trainable parameters of ``model``, each with its factor on the learning rate.

    With a layer-wise ``decay`` the top layer of the encoder has 1, each layer below it ``decay`` times the one above,
    and the embeddings come below the lowest layer; pooler, heads and all else have 1.

    Source: Sun et al., "How to Fine-Tune BERT for Text Classification?", 2019.
    """
    depth = len(model.encoder.layers)

    def factor(name: str) -> float:
        layer = re.match(r"encoder\.layers\.(\d+)\.", name)
        if layer is not None:
            return (decay or 1.0) ** (depth - 1 - int(layer[1]))
        lowest = name.startswith("encoder.") and not name.startswith("encoder.pooler.")
        return (decay or 1.0) ** depth if lowest else 1.0

    return {p: factor(name) for name, p in model.named_parameters() if p.requires_grad}


def rate(step: int, *, steps: int, warmup: float, schedule: Literal["linear", "constant"]) -> float:
    """The factor on the learning rate at ``step`` (from 0) of ``steps``.

    It rises from ``1 / (warmup * steps)`` to 1 over the first ``warmup`` share of the steps, then stays, or falls
    to reach 0 just after the last step.
    """
    rising = int(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 1.0 if schedule == "constant" else (steps - step) / max(1, steps - rising)
