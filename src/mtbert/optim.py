"""Parameter groups and learning-rate schedules."""

from typing import Literal

from torch import nn
from torch.optim import AdamW


def adamw(model: nn.Module, *, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> AdamW:
    """AdamW over the trainable parameters; biases and LayerNorm weights (all vectors) do not decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)


def rate(step: int, *, steps: int, warmup: float, schedule: Literal["linear", "constant"]) -> float:
    """The factor on the learning rate at ``step`` (from 0) of ``steps``.

    It rises from ``1 / (warmup * steps)`` to 1 over the first ``warmup`` share of the steps, then stays, or falls
    to reach 0 just after the last step.
    """
    rising = int(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 1.0 if schedule == "constant" else (steps - step) / max(1, steps - rising)
