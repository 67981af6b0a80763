"""Low-rank adaptation (LoRA): the encoder is frozen, and a trained change of low rank is added to each of its matrices.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021: ``W + (alpha / rank) * B A`` with A
Gaussian and B zero, so that training starts at the encoder itself. Their paper does not give the variance of A; here it
is ``1 / (3 I)``, as in their code. Query, key and value, which are one stacked matrix here, have a change each.
Differences: all matrices of a layer are changed, not only those of the attention. The change is added to the weight and
is not a path beside it. So it has no dropout of its own, and training saves the optimizer's memory but hardly any time.

Dimension key: P matrices stacked in one, R rank, I inputs, O outputs of one matrix.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mtbert.model.encoder import Encoder
from mtbert.model.settings import Lora
from mtbert.seeds import torch_generator


class Change(nn.Module):
    """Adds the change ``(alpha / rank) * B A`` to each of the ``P`` matrices that are stacked in a weight."""

    def __init__(self, weight: Tensor, stacked: int, settings: Lora, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.scale = settings.alpha / settings.rank
        a_PRI = torch.empty(stacked, settings.rank, inputs)
        nn.init.normal_(a_PRI, std=1 / math.sqrt(3 * inputs), generator=generator)
        self.a = nn.Parameter(a_PRI.to(weight))
        self.b = nn.Parameter(weight.new_zeros(stacked, outputs // stacked, settings.rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Returns the changed weight, ``[P * O, I]``."""
        return weight + self.scale * (self.b @ self.a).flatten(0, 1)


def add(encoder: Encoder, settings: Lora, seed: int) -> None:
    """Freezes ``encoder`` and adds a trained change to every matrix of its layers.

    The initial weights of a change depend only on ``seed`` and the name of the matrix.
    """
    encoder.requires_grad_(False)
    for name, module, stacked in encoder.matrices():
        change = Change(module.weight, stacked, settings, torch_generator("lora", seed, name))
        parametrize.register_parametrization(module, "weight", change)


def merged(encoder: Encoder) -> Encoder:
    """Returns an encoder whose plain weights contain the changes; this is ``encoder`` itself if it has none.

    The weights of the returned copy are trainable.
    """
    if not any(parametrize.is_parametrized(module) for module in encoder.modules()):
        return encoder
    # Not a deep copy: it would share the classes in which torch keeps the changed weights, so removing the changes of
    # the copy would also remove those of the original.
    with torch.device("meta"):
        plain = Encoder(encoder.config)
    weights = {}
    for name in plain.state_dict():
        module, _, parameter = name.rpartition(".")
        weights[name] = getattr(encoder.get_submodule(module), parameter).detach().clone()
    plain.load_state_dict(weights, assign=True)
    return plain
