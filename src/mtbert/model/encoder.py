"""A transformer encoder without padding. It has embeddings and layers, and in some families also a pooler.

Dimension key: N tokens of a batch, S sequences of a batch, D width.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtbert.model.attention import Groups
from mtbert.model.dropout import dropout
from mtbert.model.layer import EncoderLayer
from mtbert.model.native import NativeHead
from mtbert.model.relative import ByDistance, Distances, RelativeBias, RelativeEmbedding, distances_in

Adapter = Callable[[int, Tensor], Tensor]
"""A function ``(layer, x_ND) -> [N, D]`` that is called in each layer of the encoder.

The function gets the index of the layer and the input of the layer's attention. Its result is added to the last
residual sum of the layer. If the layer has a norm after that sum, the norm is applied to the new sum.
"""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The architecture of an encoder: its sizes, its activation, its dropout rates, and how its layers are built.

    ``source`` is the content of the ``config.json`` from which these settings were read.
    """

    family: str
    layer: Callable[["EncoderConfig", int], EncoderLayer] = field(
        repr=False, compare=False
    )  # builds the layer with a given number
    vocab_size: int
    width: int
    embedding_width: int
    layers: int
    heads: int
    intermediate: int
    activation: str
    layer_norm_eps: float
    norm_bias: bool = True
    final_norm: bool = False  # whether there is a norm after the last layer
    max_length: int  # most tokens in a sequence: 512 for RoBERTa, which has 514 positions
    position_offset: int | None  # the row of the first position in the table of positions; None if there is no table
    relative: Callable[["EncoderConfig"], RelativeBias | RelativeEmbedding] | None = field(
        default=None, repr=False, compare=False
    )  # builds the part for relative positions; None if there are none
    segment_types: int  # 0 if there are no segment embeddings
    pooler: bool
    hidden_dropout: float
    attention_dropout: float
    embedding_dropout: float | None = None  # None: the same rate as hidden_dropout
    native: NativeHead | None = None  # the family's own head; None if it has none here
    source: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def norm(self, width: int) -> nn.LayerNorm:
        """Returns a new LayerNorm over vectors of ``width`` numbers."""
        return nn.LayerNorm(width, self.layer_norm_eps, bias=self.norm_bias)


class Encoder(nn.Module):
    """The encoder: embeddings, transformer layers, and, depending on the family, a final norm and a pooler.

    Every parameter belongs to a Linear, LayerNorm or Embedding. A forward pass consists of two calls, :meth:`embed` and
    :meth:`encode`, so that adversarial losses can perturb the embeddings in between.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        c = self.config = config
        positions = None if c.position_offset is None else c.max_length + c.position_offset
        self.word_embedding = nn.Embedding(c.vocab_size, c.embedding_width)
        self.position_embedding = None if positions is None else nn.Embedding(positions, c.embedding_width)
        self.segment_embedding = nn.Embedding(c.segment_types, c.embedding_width) if c.segment_types else None
        self.embedding_norm = c.norm(c.embedding_width)
        self.embedding_projection = nn.Linear(c.embedding_width, c.width) if c.embedding_width != c.width else None
        self.relative = None if c.relative is None else c.relative(c)
        self.layers = nn.ModuleList(c.layer(c, i) for i in range(c.layers))
        self.final_norm = c.norm(c.width) if c.final_norm else None
        self.pooler = nn.Linear(c.width, c.width) if c.pooler else None

    def embed(
        self, ids_N: Tensor, segments_N: Tensor, positions_N: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Returns the input of the first layer, ``[N, D]``.

        ``positions_N`` holds the position of each token in its sequence, counted from 0. ``generator`` draws the
        dropout mask; None means no dropout.
        """
        x = self.word_embedding(ids_N)
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions_N + (self.config.position_offset or 0))
        if self.segment_embedding is not None:
            # A checkpoint with a single segment type uses it for the second text of a pair too.
            x = x + self.segment_embedding(segments_N.clamp(max=self.config.segment_types - 1))
        rate = self.config.embedding_dropout
        x = dropout(self.embedding_norm(x), self.config.hidden_dropout if rate is None else rate, generator)
        return x if self.embedding_projection is None else self.embedding_projection(x)

    def encode(
        self,
        x_ND: Tensor,
        groups: Groups,
        generator: torch.Generator | None,
        adapter: Adapter | None = None,
        rows: ByDistance | None = None,
        *,
        first_only: bool = False,
    ) -> Tensor:
        """Returns the output of the last layer for all tokens, ``[N, D]``.

        Args:
            x_ND: The output of :meth:`embed`, or a perturbed copy of it.
            groups: The sequences of the batch, in groups for attention.
            generator: Draws the dropout masks; None for no dropout.
            adapter: A function whose result is added in each layer, see :data:`Adapter`. If it is None, nothing is
                added.
            rows: The result of :meth:`by_distance`; None to compute it here.
            first_only: Whether to return the output only for the first token of each sequence, ``[S, D]``.
        """
        rows = rows or self.by_distance(self.distances(groups))
        return _run(self.layers, x_ND, groups, generator, adapter, rows, norm=self.final_norm, first_only=first_only)

    def encode_lower(
        self,
        x_ND: Tensor,
        groups: Groups,
        generator: torch.Generator | None,
        adapter: Adapter | None,
        rows: ByDistance | None,
        layers: int,
    ) -> Tensor:
        """Returns the output of the lowest ``layers`` layers of the encoder for all tokens, ``[N, D]``.

        A :class:`Top` continues from this output. ``rows`` is the result of :meth:`by_distance`. For all other
        arguments, see :meth:`encode`.
        """
        return _run(self.layers[:layers], x_ND, groups, generator, adapter, rows)

    def distances(self, groups: Groups, *, apart: bool = False) -> Distances | None:
        """Returns the distances between tokens of a batch; None if the encoder has no relative positions.

        If ``apart`` is true, the result has a separate list of distances for each span. A span is the part of the batch
        that holds the rows of one data table. See :func:`~mtbert.model.relative.distances_in`.
        """
        return None if self.relative is None else distances_in(groups, apart=apart)

    def by_distance(self, between: Distances | None) -> ByDistance | None:
        """Returns, for each distance in ``between``, the row of the table of relative positions, which all layers read.

        Returns None if the encoder has no such table, or if ``between`` is None.
        """
        if self.relative is None or between is None:
            return None
        return self.relative.rows(between)

    def top(self, first: int, *, filled: bool) -> "Top":
        """Returns a copy of the upper layers, from index ``first`` on, and of the final norm and the pooler.

        If ``filled`` is false, the weights of the copy have shapes but no values (device "meta").
        """
        with torch.device("meta"):
            made = Top(self.config, first)
        if filled:
            parts = self.layers[first:], self.final_norm, self.pooler
            made.layers, made.final_norm, made.pooler = copy.deepcopy(parts)
        return made

    def pooled(self, cls_SD: Tensor) -> Tensor:
        """Returns the output of the checkpoint's pooler, ``[S, D]``.

        ``cls_SD`` is the output of the last layer for the first token of each sequence.

        Raises:
            ValueError: If the checkpoint has no pooler.
        """
        return _pooled(self.pooler, self.config, cls_SD)

    # Questions about the parameters; no other module uses their names -----------------------------------------

    def depths(self) -> dict[nn.Parameter, int]:
        """Returns the depth of each parameter in the encoder.

        Embeddings have depth 0. The layers have depths 1 to ``config.layers``, from the lowest to the highest.
        Everything after the layers, such as the pooler, has depth ``config.layers + 1``.
        """
        embeddings: list[nn.Module | None] = [
            self.word_embedding,
            self.position_embedding,
            self.segment_embedding,
            self.embedding_norm,
            self.embedding_projection,
            self.relative,
        ]
        behind: list[nn.Module | None] = [self.final_norm, self.pooler]
        floors: list[Iterable[nn.Module | None]] = [embeddings, *([layer] for layer in self._layers()), behind]
        return _by_depth(enumerate(floors))

    def behind(self, *, pooled: bool) -> list[nn.Parameter]:
        """Returns the parameters on which the encoder's output depends.

        The parameters of the pooler are included only if ``pooled`` is true.
        """
        of_pooler = set() if pooled or self.pooler is None else set(self.pooler.parameters())
        return [parameter for parameter in self.parameters() if parameter not in of_pooler]

    def matrices(self) -> Iterator[tuple[str, nn.Linear, int]]:
        """Yields a tuple ``(name, module, stacked)`` for each linear module that LoRA can change.

        ``name`` is the index of a layer and the name of a module in it, such as ``0.qkv``. ``stacked`` is the number of
        matrices in the module's weight, such as 3 for ``qkv``.
        """
        for i, layer in enumerate(self._layers()):
            for name, (module, stacked) in layer.matrices().items():
                yield f"{i}.{name}", module, stacked

    def multiplied(self, *, first_only: bool) -> int:
        """Returns how many parameters of the transformer layers are applied to every token.

        If ``first_only`` is true, the last layer computes outputs for first tokens of sequences only. The parameters
        that it then applies to first tokens only are not counted.
        """
        return _multiplied(self.layers, first_only=first_only)

    def multiplied_lower(self, layers: int) -> int:
        """Returns the number of parameters in the lowest transformer layers. ``layers`` is the number of these layers.

        Each of these parameters is applied to every token.
        """
        return _multiplied(self.layers[:layers], first_only=False)

    def _layers(self) -> Iterator[EncoderLayer]:
        yield from map(_checked, self.layers)


class Top(nn.Module):
    """The upper layers of an encoder, from index ``first`` on, with the encoder's final norm and pooler, if any.

    If each task has a top of its own (``model.unshare``), only the lower layers of the encoder are shared.
    """

    def __init__(self, config: EncoderConfig, first: int) -> None:
        super().__init__()
        self.config, self.first = config, first
        self.layers = nn.ModuleList(config.layer(config, i) for i in range(first, config.layers))
        self.final_norm = config.norm(config.width) if config.final_norm else None
        self.pooler = nn.Linear(config.width, config.width) if config.pooler else None

    def encode(
        self,
        x_ND: Tensor,
        groups: Groups,
        generator: torch.Generator | None,
        adapter: Adapter | None = None,
        rows: ByDistance | None = None,
        *,
        first_only: bool = False,
    ) -> Tensor:
        """Returns the output of the last layer for all tokens, ``[N, D]``.

        ``x_ND`` is the output of the layer below this part of the encoder. ``adapter`` is called for each layer of
        this part; it gets the index of the layer, counted from the bottom of the whole encoder. ``rows`` is the result
        of :meth:`Encoder.by_distance`. For all other arguments, see :meth:`Encoder.encode`.
        """
        return _run(
            self.layers, x_ND, groups, generator, adapter, rows, self.first, norm=self.final_norm, first_only=first_only
        )

    def pooled(self, cls_SD: Tensor) -> Tensor:
        """Returns the output of the pooler, ``[S, D]``. Arguments and errors are those of :meth:`Encoder.pooled`."""
        return _pooled(self.pooler, self.config, cls_SD)

    def depths(self) -> dict[nn.Parameter, int]:
        """Returns the depth of each parameter of this part within the whole encoder (see :meth:`Encoder.depths`)."""
        floors: list[Iterable[nn.Module | None]] = [*([layer] for layer in self.layers), [self.final_norm, self.pooler]]
        return _by_depth(enumerate(floors, self.first + 1))

    def multiplied(self, *, first_only: bool) -> int:
        """Returns how many parameters of the layers in ``self`` are applied to every token.

        If ``first_only`` is true, some parameters of the last layer are applied only to the first token of each
        sequence. These parameters are not counted.
        """
        return _multiplied(self.layers, first_only=first_only)


def _run(
    layers: nn.ModuleList,
    x_ND: Tensor,
    groups: Groups,
    generator: torch.Generator | None,
    adapter: Adapter | None,
    rows: ByDistance | None,
    first: int = 0,
    *,
    norm: nn.Module | None = None,
    first_only: bool = False,
) -> Tensor:
    """Applies ``layers`` one after the other and then ``norm``, and returns the output.

    ``first`` is the index of the lowest of these layers, counted in the whole encoder.
    """
    tokens, last = x_ND.shape[0], first + len(layers) - 1
    x_ND = F.pad(x_ND, (0, 0, 0, groups.dummies)) if groups.dummies else x_ND
    for i, layer in enumerate(layers, first):
        adapted = None if adapter is None else partial(adapter, i)
        x_ND = layer(x_ND, groups, generator, adapted, rows, first_only=first_only and i == last)
    if norm is not None:
        x_ND = norm(x_ND)
    return x_ND[:tokens] if groups.dummies and not first_only else x_ND


def _pooled(pooler: nn.Linear | None, config: EncoderConfig, cls_SD: Tensor) -> Tensor:
    if pooler is None:
        raise ValueError(f"this {config.family} encoder has no pooler. Use the vector of the first token.")
    return torch.tanh(pooler(cls_SD))


def _multiplied(layers: Iterable[nn.Module], *, first_only: bool) -> int:
    found = [list(layer.parameters()) for layer in layers]
    if first_only:
        found[-1] = _checked([*layers][-1]).for_every_token()
    return sum(p.numel() for parameters in found for p in parameters)


def _checked(layer: nn.Module) -> EncoderLayer:
    assert isinstance(layer, EncoderLayer)
    return layer


def _by_depth(floors: Iterable[tuple[int, Iterable[nn.Module | None]]]) -> dict[nn.Parameter, int]:
    return {
        parameter: depth
        for depth, modules in floors
        for module in modules
        if module is not None
        for parameter in module.parameters()
    }
