"""Low-rank adaptation (LoRA): the encoder stays as it is, and its matrices get trained changes of low rank.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021: ``W + (alpha / rank) * B A`` with A
Gaussian and B zero, so that training starts at the encoder itself. The paper gives A no variance; here it is that
of the authors' code, ``1 / (3 I)``. Query, key and value, one stacked matrix here, have a change each.
Differences: every matrix of a layer is changed, not those of the attention alone; and the sum is one weight, not
a path beside it, so that path has no dropout, and a step saves the optimizer's memory but hardly any time.

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
    """A matrix of ``P`` stacked ones plus its change, ``(alpha / rank) * B A`` for each of them."""

    def __init__(self, weight: Tensor, stacked: int, settings: Lora, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.scale = settings.alpha / settings.rank
        a_PRI = torch.empty(stacked, settings.rank, inputs)
        nn.init.normal_(a_PRI, std=1 / math.sqrt(3 * inputs), generator=generator)
        self.a = nn.Parameter(a_PRI.to(weight))
        self.b = nn.Parameter(weight.new_zeros(stacked, outputs // stacked, settings.rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Returns ``[P * O, I]``."""
        return weight + self.scale * (self.b @ self.a).flatten(0, 1)


def add(encoder: Encoder, settings: Lora, seed: int) -> None:
    """Freezes ``encoder`` and gives every matrix of its layers a trained change.

    The first weights of a change depend on ``seed`` and the matrix's name alone.
    """
    encoder.requires_grad_(False)
    for name, module, stacked in encoder.matrices():
        change = Change(module.weight, stacked, settings, torch_generator("lora", seed, name))
        parametrize.register_parametrization(module, "weight", change)


def merged(encoder: Encoder) -> Encoder:
    """``encoder`` itself where it has no changes, else a copy of it whose plain, trainable weights contain them."""
    if not any(parametrize.is_parametrized(module) for module in encoder.modules()):
        return encoder
    # A new one: a deep copy shares the classes on which torch keeps the changed weights, and to undo the changes
    # of the copy would undo those of the original.
    with torch.device("meta"):
        plain = Encoder(encoder.config)
    weights = {}
    for name in plain.state_dict():
        module, _, parameter = name.rpartition(".")
        weights[name] = getattr(encoder.get_submodule(module), parameter).detach().clone()
    plain.load_state_dict(weights, assign=True)
    return plain
