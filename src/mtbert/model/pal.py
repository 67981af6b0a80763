"""Projected attention layers (PAL): a small network for each task beside every layer of the shared encoder.

Source: Stickland and Murray, "BERT and PALs: Projected Attention Layers for Efficient Adaptation in Multi-Task
Learning", ICML 2019. What the paper leaves open is as in their code: 6 heads, a bias in every linear layer, GELU with
erf. In every layer ``h' = LN(FFN(a) + a + PAL(h))``: ``a`` is the attention's output after its normalisation, ``h`` the
layer's input. Difference: each task draws its first weights from a generator of its own.

The source has no layers with norms before their halves (pre-norm). Here such a layer adds ``PAL(h)`` to its last sum,
where ``h`` is the normalised input of its attention; every ``h`` of the source is normalised too.

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
    """The networks of one task, one per layer: ``GELU(V_D MHA(V_E h))`` or ``V_D GELU(V_E h)``.

    ``MHA`` has no output matrix.
    """

    def __init__(self, settings: Pal, config: EncoderConfig) -> None:
        super().__init__()
        self.heads, self.p = settings.heads, settings.dropout
        width = settings.resolved_width
        copies = 1 if settings.resolved_shared else config.layers
        self.down = nn.ModuleList(nn.Linear(config.width, width) for _ in range(copies))
        self.up = nn.ModuleList(nn.Linear(width, config.width) for _ in range(copies))
        every_layer = range(config.layers)
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in every_layer) if settings.attends else None

    def forward(self, layer: int, x_MD: Tensor, groups: Groups, generator: torch.Generator | None) -> Tensor:
        """Returns the addition to encoder layer number ``layer``, ``[M, D]``; ``generator`` draws the dropout."""
        projection = layer % len(self.down)  # always 0 if all layers share one
        x_MW = self.down[projection](x_MD)
        if self.qkv is None:
            added_MD: Tensor = self.up[projection](F.gelu(x_MW))
            return added_MD
        mixed_MW = attend(self.qkv[layer](x_MW), groups, self.heads, self.p, generator)
        return F.gelu(self.up[projection](mixed_MW))


def build_adapter(settings: Pal, config: EncoderConfig, name: str, seed: int | None) -> Projected:
    """Returns the networks of the task called ``name``.

    Their initial weights depend only on ``seed`` and the name, not on other tasks. Without a seed the weights have
    shapes but no numbers (device "meta").
    """
    with torch.device("meta"):  # so that no global random number is drawn for weights that are replaced
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
    """Returns the function that the encoder calls in each layer, or None if no task of the batch has networks.

    The function applies the networks of each task to the tokens of that task, and returns zeros for all other tokens.

    Args:
        modules: The networks of each task from :func:`build_adapter`, by name.
        layout: The layout of the batch.
        generator: Draws the dropout; None for no dropout.
        rounded: Whether to round shapes up, as in :class:`Groups`.
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
        # split, not slices: the backward pass of split is one concatenation, but each slice's fills N rows with zeros.
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
