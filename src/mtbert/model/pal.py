"""Projected attention layers (PAL): a small network of each task's own beside every layer of the shared encoder.

Source: Stickland and Murray, "BERT and PALs: Projected Attention Layers for Efficient Adaptation in Multi-Task
Learning", ICML 2019, where the paper is silent their code: 6 heads, a bias in every linear layer, erf GELU. In
every layer ``h' = LN(FFN(a) + a + PAL(h))``: ``a`` is the attention's output after its normalisation, ``h`` the
layer's input. Difference: each task draws its first weights from a generator of its own.

A layer with norms before its halves (pre-norm), which the paper does not have, adds ``PAL(h)`` to its last sum; ``h``
is what its attention reads, normalised as every ``h`` of the paper is.

Dimension key: N tokens of a step, M tokens of a task, D encoder width, W width of the small network.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtbert.batch import Layout
from mtbert.model.attention import Groups, attend
from mtbert.model.encoder import Adapter, EncoderConfig
from mtbert.model.heads import INIT_STD
from mtbert.model.settings import Pal
from mtbert.seeds import torch_generator


class Projected(nn.Module):
    """One task's networks, ``GELU(V_D MHA(V_E h))`` or ``V_D GELU(V_E h)``; ``MHA`` has no output matrix."""

    def __init__(self, settings: Pal, config: EncoderConfig) -> None:
        super().__init__()
        self.heads, self.p = settings.heads, settings.dropout
        width = settings.resolved_width
        copies = 1 if settings.resolved_shared else config.layers
        self.down = nn.ModuleList(nn.Linear(config.width, width) for _ in range(copies))
        self.up = nn.ModuleList(nn.Linear(width, config.width) for _ in range(copies))
        attention = settings.kind == "attention"
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(config.layers)) if attention else None

    def forward(self, layer: int, x_MD: Tensor, groups: Groups, generator: torch.Generator | None) -> Tensor:
        """Returns the addition to encoder layer ``layer``, ``[M, D]``; ``generator`` draws dropout, ``None``: none."""
        projection = layer % len(self.down)  # 0 where all layers share one
        x_MW = self.down[projection](x_MD)
        if self.qkv is None:
            added_MD: Tensor = self.up[projection](F.gelu(x_MW))
            return added_MD
        mixed_MW = attend(self.qkv[layer](x_MW), groups, self.heads, self.p, generator)
        return F.gelu(self.up[projection](mixed_MW))


def build_adapter(settings: Pal, config: EncoderConfig, name: str, seed: int | None) -> Projected:
    """Returns the network of the task called ``name``.

    Its weights depend on ``seed`` and the name, not on other tasks. Without a seed it has shapes alone, on "meta".
    """
    with torch.device("meta"):  # no global random number is spent on weights to be replaced
        module = Projected(settings, config)
    if seed is None:
        return module
    module.to_empty(device="cpu")
    generator = torch_generator("pal", seed, name)
    for parameter in module.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=INIT_STD, generator=generator)
        else:
            nn.init.zeros_(parameter)
    return module


def adapter(
    modules: Mapping[str, nn.Module], layout: Layout, generator: torch.Generator | None, *, rounded: bool = False
) -> Adapter | None:
    """Returns the function that the encoder calls in each layer: a task's network on its tokens, zeros elsewhere.

    ``modules`` are :func:`build`'s by task name; ``None`` comes back when no task of the batch has one. ``rounded`` is
    that of :class:`Groups`: few shapes, as the encoder has them.
    """
    groups = {
        name: Groups(layout.only(name), next(modules[name].parameters()).device, rounded)
        for name in layout.spans
        if name in modules
    }
    if not groups:
        return None
    sizes = [span.stop - span.start for span in layout.spans.values()]

    def add(layer: int, x_ND: Tensor) -> Tensor:
        # split, not slices: its backward is one concatenation, that of a slice fills all N tokens with zeros.
        *parts, dummies = torch.split(x_ND, [*sizes, len(x_ND) - sum(sizes)])
        added = [
            of_task(name, layer, x_MD) if name in groups else torch.zeros_like(x_MD)
            for name, x_MD in zip(layout.spans, parts, strict=True)
        ]
        return torch.cat([*added, torch.zeros_like(dummies)])

    def of_task(name: str, layer: int, x_MD: Tensor) -> Tensor:
        padded_MD = F.pad(x_MD, (0, 0, 0, groups[name].dummies)) if groups[name].dummies else x_MD
        added: Tensor = modules[name](layer, padded_MD, groups[name], generator)
        return added[: len(x_MD)] if groups[name].dummies else added

    return add
