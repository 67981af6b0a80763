"""Heads: the small networks that compute the predictions of a task from the vectors of its examples.

Dimension key: B examples, C candidates, D encoder width, F features, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from mtbert.answers import Labels
from mtbert.answers.fitting import FittedName, start
from mtbert.answers.heads import COSINE, OUTPUTS
from mtbert.model.dropout import dropout
from mtbert.model.encoder import EncoderConfig
from mtbert.model.native import NativeHead
from mtbert.seeds import torch_generator
from mtbert.task import Pooling, Task

INIT_STD = 0.02  # standard deviation of BERT's initial weights


class LinearHead(nn.Module):
    """A head with one linear layer, or with two linear layers and an activation between them.

    The head kind ``mlp`` has two layers and a ReLU. The head kind ``native`` is built like the classification head that
    transformers has for the encoder's family. Only this kind needs the argument ``native``.
    """

    def __init__(
        self,
        task: Task,
        width: int,
        generator: torch.Generator | None,
        fitted: Sequence[FittedName],
        native: NativeHead | None = None,
    ) -> None:
        super().__init__()
        if native is None:
            hidden = [task.head.hidden or width] * (task.head_kind.layers == 2)
            native = NativeHead(names=(), activation=torch.relu)
        else:
            hidden = [width] * (len(native.names) - 1)
        self.activation, self.drops_input = native.activation, native.drops_input
        self.features = task.head.features if task.inputs == "separate" else None
        self.p = task.head.dropout
        self.shape = task.predicts.shape(task)
        sizes = [width * _FEATURES[self.features], *hidden, prod(self.shape)]
        biased = [*(native.bias for _ in hidden), True]
        layers = [linear(*size, generator, bias=bias) for size, bias in zip(pairwise(sizes), biased, strict=True)]
        nn.init.constant_(layers[-1].bias, task.predicts.start)
        self.layers = nn.ModuleList(layers)
        self.norm: nn.LayerNorm | None = None
        if native.norm is not None:
            device = None if generator is not None else "meta"
            self.norm = nn.LayerNorm(width, native.norm.eps, bias=native.norm.bias, device=device)
        _add_fitted(self, start(fitted, self.shape))

    def forward(self, vectors: tuple[Tensor, ...], generator: torch.Generator | None) -> Tensor:
        """Returns the predictions: ``[B, K]``, or ``[B]`` if a prediction is a single number.

        ``vectors`` holds one tensor ``[B, D]``, or two for pairs of texts. ``generator`` draws the dropout masks; None
        means no dropout.
        """
        x_BF: Tensor = pair_features(vectors, self.features)
        *hidden, last = self.layers
        for layer in hidden:
            x_BF = self.activation(layer(dropout(x_BF, self.p if self.drops_input else 0.0, generator)))
            x_BF = x_BF if self.norm is None else self.norm(x_BF)
        x_BF = last(dropout(x_BF, self.p, generator))
        return x_BF.reshape(x_BF.shape[0], *self.shape)


class CosineHead(nn.Module):
    """A head without weights, whose predictions are cosine similarities in float32.

    For a pair, the prediction is the cosine of its two vectors. If ``several`` is true, the prediction holds the cosine
    of the first vector (the query) with each of the other vectors (the candidates). Cosines are not clamped at 0,
    because clamped values have no gradient. The ``threshold`` of a binary task is 0.5 until it is fitted.
    """

    def __init__(self, fitted: Sequence[FittedName], *, several: bool = False) -> None:
        super().__init__()
        self.several = several
        self.shape: tuple[int, ...] = ()  # of a fitted number: one for all candidates
        halfway: Mapping[FittedName, Labels] = {"threshold": np.array(0.5)}
        _add_fitted(self, {name: halfway.get(name, number) for name, number in start(fitted, ()).items()})

    def forward(self, vectors: tuple[Tensor, ...], generator: torch.Generator | None) -> Tensor:
        """Returns the cosine similarities, from -1 to 1: ``[B]`` for pairs, ``[B, C]`` for candidates."""
        first_BD, *others = (vector_BD.float() for vector_BD in vectors)
        cosines = [cosine_similarity(first_BD, other_BD) for other_BD in others]
        return torch.stack(cosines, 1) if self.several else cosines[0]


AnyHead = LinearHead | CosineHead


def build_head(
    task: Task,
    width: int,
    seed: int | None,
    native: NativeHead | None = None,
    fitted: Sequence[FittedName] | None = None,
) -> AnyHead:
    """Returns a new head for ``task``.

    Args:
        task: The task.
        width: The width of the vectors that the head reads.
        seed: The seed of the initial weights, used with the name of the task. None gives weights without values (device
            "meta").
        native: The result of :func:`native_head`.
        fitted: The names of the numbers that are fitted on held-out rows and saved with the head, such as ``threshold``
            or ``scale``. By default, ``threshold`` if the task has a threshold that can be fitted, otherwise none.
    """
    generator = None if seed is None else torch_generator("head", seed, task.name)
    return _BUILDERS[task.head_kind.gives](task, width, generator, task.fitted() if fitted is None else fitted, native)


_BUILDERS: Mapping[
    str, Callable[[Task, int, torch.Generator | None, Sequence[FittedName], NativeHead | None], AnyHead]
] = {
    OUTPUTS: LinearHead,
    COSINE: lambda task, width, generator, fitted, native: CosineHead(fitted, several=task.predicts.shape(task) != ()),
}


def _add_fitted(head: nn.Module, values: Mapping[FittedName, Labels]) -> None:
    for name, value in values.items():
        head.register_buffer(name, torch.tensor(value, dtype=torch.float32))


def fitted_numbers(head: nn.Module) -> dict[FittedName, Tensor]:
    """Returns all buffers of ``head``, by name. Each holds a number that is fitted on held-out rows."""
    return {cast(FittedName, name): number for name, number in head.named_buffers()}


def native_head(task: Task, config: EncoderConfig) -> NativeHead | None:
    """Returns the head that the encoder's family has in transformers, if ``task`` has ``head: native``; None otherwise.

    Raises:
        ValueError: If ``task`` has ``head: native``, but this head is not known for the encoder's family, needs a
            pooler that the encoder lacks, or cannot read vectors that are pooled as the task says.
    """
    if not task.head_kind.native:
        return None
    if config.native is None:
        raise ValueError(
            f"tasks.{task.name}: head '{task.head.kind}' is not known for a {config.family} encoder. Use head: mlp."
        )
    if config.native.pooler and not config.pooler:
        raise ValueError(
            f"tasks.{task.name}: head '{task.head.kind}' of a {config.family} encoder reads its pooler, and this "
            "encoder has none. Use head: mlp."
        )
    pooling = task.pooled("cls")
    if not config.native.reads(pooling):
        reasons = {
            "words": f"and type '{task.type}' reads a state for each word. Use head: linear.",
            "mean": f"found pooling '{task.pooling}'. Use pooling: cls.",
        }
        raise ValueError(
            f"tasks.{task.name}: head '{task.head.kind}' of a {config.family} encoder reads first tokens, "
            f"{reasons[pooling]}"
        )
    return config.native


def reads_pooler(task: Task, pooling: Pooling, config: EncoderConfig) -> bool:
    """Returns whether the vectors of ``task`` come from the pooler; ``pooling`` is the pooling of the model."""
    native = native_head(task, config)
    return config.pooler and task.pooled(pooling) == "cls" and (native is None or native.pooler)


_FEATURES = {None: 1, "concat": 2, "concat_diff": 3, "concat_diff_product": 4}


def pair_features(vectors: tuple[Tensor, ...], kind: str | None) -> Tensor:
    """Returns what a head reads for each example, ``[B, F]``.

    If ``kind`` is None, ``vectors`` holds a single tensor, which is returned unchanged. Otherwise, it holds two tensors
    u and v, which are concatenated. ``concat_diff`` also appends |u - v|. ``concat_diff_product`` also appends |u - v|
    and u * v.
    """
    if kind is None:
        return vectors[0]
    u_BD, v_BD = vectors
    parts = [u_BD, v_BD, (u_BD - v_BD).abs(), u_BD * v_BD]
    return torch.cat(parts[: _FEATURES[kind]], dim=-1)


def linear(into: int, out: int, generator: torch.Generator | None, *, bias: bool = True) -> nn.Linear:
    """Returns a new linear layer, with or without a bias, initialised as in BERT.

    If ``generator`` is None, the weights have shapes but no values (device "meta").
    """
    # On "meta", so that no global random number is drawn for weights that are replaced.
    layer = nn.Linear(into, out, bias=bias, device="meta")
    if generator is None:
        return layer
    layer.to_empty(device="cpu")
    nn.init.normal_(layer.weight, std=INIT_STD, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
