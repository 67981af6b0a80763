"""Low-rank adaptation (LoRA): the encoder is frozen, and a trainable low-rank change is added to its weight matrices.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021. Each ``W`` becomes
``W + (alpha / rank) * B A``. A is drawn from a Gaussian and B is zero, so training starts at the unchanged encoder. The
paper does not give the variance of A. As in the authors' code, the variance is ``1 / (3 * n)``, where ``n`` is the
number of inputs of ``W``. Query, key and value share one stacked weight here, but each of the three has its own change.

Differences: all matrices of a layer are changed, not only those of the attention. The change is added to the weight
instead of being computed in a parallel path, so it has no dropout of its own, and each forward pass works with the full
weights. LoRA here saves the memory of the optimizer, but hardly any time.

Dimension key: P matrices stacked in one weight, R rank, I inputs and O outputs of one matrix.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mtbert.model.encoder import Encoder
from mtbert.model.settings import Lora
from mtbert.model.unfilled import unfilled
from mtbert.seeds import torch_generator


class Change(nn.Module):
    """A trainable low-rank change (LoRA) of a weight that consists of ``P`` stacked matrices.

    Each matrix has its own trained ``B`` and ``A``, and ``(alpha / rank) * B A`` is added to it.
    """

    def __init__(self, weight: Tensor, stacked: int, settings: Lora, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.scale = settings.alpha / settings.rank
        a_PRI = torch.empty(stacked, settings.rank, inputs)
        nn.init.normal_(a_PRI, std=1 / math.sqrt(3 * inputs), generator=generator)
        self.a = nn.Parameter(a_PRI.to(weight))
        self.b = nn.Parameter(weight.new_zeros(stacked, outputs // stacked, settings.rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Returns ``weight`` plus its low-rank change, ``[P * O, I]``.

        ``weight`` holds ``P`` matrices ``[O, I]``, one below the other, such as those for queries, keys and values.
        """
        return weight + self.scale * (self.b @ self.a).flatten(0, 1)


def add(encoder: Encoder, settings: Lora, seed: int) -> None:
    """Freezes ``encoder`` and adds a trainable low-rank change to every matrix of its layers.

    The initial weights of a change depend only on ``seed`` and the name of the matrix.
    """
    encoder.requires_grad_(False)
    for name, module, stacked in encoder.matrices():
        change = Change(module.weight, stacked, settings, torch_generator("lora", seed, name))
        parametrize.register_parametrization(module, "weight", change)


def merged(encoder: Encoder) -> Encoder:
    """Returns an encoder with plain weights, into which the low-rank changes have been merged.

    If ``encoder`` has no such changes, returns ``encoder`` itself. Otherwise, returns a copy in which all weights are
    trainable.
    """
    if not any(parametrize.is_parametrized(module) for module in encoder.modules()):
        return encoder
    # Not a deep copy: it would share the classes in which torch keeps the changed weights, so removing the changes of
    # the copy would also remove those of the original.
    plain = unfilled(encoder.config)
    weights = {}
    for name in plain.state_dict():
        module, _, parameter = name.rpartition(".")
        weights[name] = getattr(encoder.get_submodule(module), parameter).detach().clone()
    plain.load_state_dict(weights, assign=True)
    return plain
