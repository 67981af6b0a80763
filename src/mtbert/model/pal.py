"""Projected attention layers (PAL): a small network for each task, in parallel with every layer of the shared encoder.

Source: Stickland and Murray, "BERT and PALs: Projected Attention Layers for Efficient Adaptation in Multi-Task
Learning", ICML 2019. Details that the paper leaves open are as in the authors' code: 6 heads, a bias in every linear
layer, and GELU with erf. Every layer computes ``h' = LN(FFN(a) + a + PAL(h))``, where ``h`` is the input of the layer
and ``a`` is the normalised output of its attention. Unlike in the authors' code, each task draws its initial weights
from its own random generator.

The formula is for post-norm layers, the only kind in the paper: a norm follows each residual sum, so ``h`` is
normalised. In a pre-norm layer, the input of the layer is not normalised, but the input of the attention is. There,
``h`` is the input of the attention, and ``PAL(h)`` is added to the last residual sum of the layer.

Dimension key: N tokens of a batch, M tokens of a task, D encoder width, W width of the small network.
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
    """The networks of one task for projected attention layers (PAL): one small network for each encoder layer.

    From the input ``h`` of the layer's attention, a network computes ``GELU(V_D MHA(V_E h))``, or ``V_D GELU(V_E h)``
    if it has no attention. ``V_E`` projects down to the small width, and ``V_D`` projects back up. ``MHA`` is
    multi-head attention without an output matrix.
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
        """Returns the output, ``[M, D]``, of the PAL network for the encoder layer with index ``layer``.

        ``x_MD`` is the input of the layer's attention. ``generator`` draws the dropout masks; None means no dropout.
        """
        projection = layer % len(self.down)  # always 0 if all layers share one
        x_MW = self.down[projection](x_MD)
        if self.qkv is None:
            added_MD: Tensor = self.up[projection](F.gelu(x_MW))
            return added_MD
        mixed_MW = attend(self.qkv[layer](x_MW), groups, self.heads, self.p, generator)
        return F.gelu(self.up[projection](mixed_MW))


def build_adapter(settings: Pal, config: EncoderConfig, name: str, seed: int | None) -> Projected:
    """Returns new PAL networks for the task called ``name``.

    The initial weights depend only on ``seed`` and the name, not on other tasks. If ``seed`` is None, the weights have
    shapes but no values (device "meta").
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
    """Returns the function that computes what PAL adds in each layer, or None if no task of the batch has PAL networks.

    The function applies each task's networks to the tokens of that task. It returns zeros for the tokens of tasks
    without networks.

    Args:
        modules: A dict from task name to the networks that :func:`build_adapter` returned for the task.
        layout: Which tokens of the batch belong to which task.
        generator: Draws the dropout masks; None for no dropout.
        rounded: Whether to pad tensors, as :class:`Groups` does with its argument of the same name.
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
        # split, not slices: the backward pass of split is one concatenation, that of a slice fills N rows with zeros.
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
