"""Descriptions of the heads that encoder families have in the transformers library."""

from dataclasses import dataclass

import torch

from mtbert.model.layer import Activation
from mtbert.task import Reads


@dataclass(frozen=True)
class HeadNorm:
    """A LayerNorm in a :class:`NativeHead`: its name in transformers, its epsilon, and whether it has a bias."""

    name: str
    eps: float
    bias: bool


@dataclass(frozen=True)
class NativeHead:
    """The head for sequence classification that an encoder family has in the transformers library.

    Attributes:
        names: The names of the head's linear layers in transformers, from the first to the last.
        pooler: Whether the head reads the output of the pooler. If not, the head reads the last layer's output.
        activation: The function that follows each linear layer except the last.
        drops_input: Whether there is dropout before the first linear layer. There is always dropout before the last
            linear layer.
        bias: Whether the linear layers before the last have a bias. The last linear layer always has a bias.
        norm: The norm that follows the activation of each linear layer except the last; None if there is none.
        pooling_key: The key of ``config.json`` that says what the head reads. The value ``cls`` means the output for
            the first token, and ``mean`` means the mean of the outputs for all tokens. If ``pooling_key`` is None, the
            head always reads the output for the first token.
        words: Whether the family's class for token classification has this head too. If not, the head of that class is
            a single linear layer.
    """

    names: tuple[str, ...]
    pooler: bool = False
    activation: Activation = torch.tanh
    drops_input: bool = True
    bias: bool = True
    norm: HeadNorm | None = None
    pooling_key: str | None = None
    words: bool = False

    def reads(self, pooling: Reads) -> bool:
        """Returns whether this head can read vectors that were made by the method ``pooling``."""
        return {"cls": True, "mean": self.pooling_key is not None, "words": self.words}[pooling]
