"""The model: one encoder that all tasks share, and one head per task. One forward pass serves all tasks of a batch.

Dimension key: N tokens, M tokens of a task, S sequences, D width, B examples, R rows of the last layer's output: one
for each token, or one for each sequence if only first tokens are needed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from mtbert.answers.fitting import FittedName
from mtbert.batch import Layout, Output, StepBatch, send
from mtbert.collate import only
from mtbert.model import heads, pal
from mtbert.model.attention import Groups, take
from mtbert.model.encoder import Encoder, Top
from mtbert.model.relative import ByDistance, Distances
from mtbert.model.settings import Pal
from mtbert.profiling import timed
from mtbert.task import Pooling, Reads, Task

SpanSlices = Mapping[int, Mapping[str, slice]]
"""Which rows of the input of an encoder module belong to each :class:`~mtbert.batch.Span` of the batch.

Some modules read a row for each token, and some read a row for each sequence. The outer key is the number of rows in
the input. The inner key is the name of a span.
"""
Watch = Callable[[SpanSlices], None]
"""A function that is called before modules of the encoder run, and told which rows of their input each span has."""


class Model(nn.Module):
    """A model with one head per task on a shared encoder.

    Args:
        encoder: The shared encoder.
        tasks: The tasks by name. The class labels or the score range of each task must be filled in.
        pooling: The pooling for tasks that do not choose their own.
        max_length: The maximum length of a sequence in tokens; longer texts are truncated.
        seed: The seed of the initial weights of heads and adapters. If it is None, these weights have no values until
            saved ones are loaded.
        adapters: The settings of the projected attention layers (PAL) of the tasks; None for no such layers.
        fitted: For each task, the names of the fitted numbers in its head, such as ``threshold``, or ``scale`` for
            calibration. A task that is not in this mapping has only ``threshold``, or no fitted number if the task has
            no threshold to fit.
        unshare: How many top layers are not shared. Each task has its own copy of these layers, of the final norm and
            of the pooler. The copies start with the weights of the encoder, whose own top layers are then not trained.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: Mapping[str, Task],
        *,
        pooling: Pooling,
        max_length: int,
        seed: int | None,
        adapters: Pal | None = None,
        fitted: Mapping[str, Sequence[FittedName]] = {},
        unshare: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.tasks = dict(tasks)
        self.pooling: Pooling = pooling
        self.max_length = max_length
        self.pal = adapters
        self.compute = torch.float32  # the dtype of matrix products; weights and sums are float32 also with bfloat16
        # The prefix is needed because nn.ModuleDict refuses keys such as 'type', which are names of its own attributes.
        self.heads = nn.ModuleDict()
        for name, task in tasks.items():
            native = heads.native_head(task, encoder.config)
            self.heads[f"for_{name}"] = heads.build_head(task, encoder.config.width, seed, native, fitted.get(name))
        self.adapters = nn.ModuleDict()
        if adapters is not None:
            for name in filter(adapters.adapts, tasks):
                self.adapters[f"for_{name}"] = pal.build_adapter(adapters, encoder.config, name, seed)
        self.unshare = unshare
        self.tops = nn.ModuleDict()
        if unshare:
            for name in tasks:
                self.tops[f"for_{name}"] = encoder.top(self.shared_layers, filled=seed is not None)
            for parameter, depth in encoder.depths().items():
                if depth > self.shared_layers:
                    parameter.requires_grad_(False)

    def forward(self, batch: StepBatch, generator: torch.Generator | None = None) -> dict[str, Output]:
        """Makes a whole forward pass and returns the output for each task, by name.

        ``generator`` draws the dropout masks; None means no dropout (evaluation).
        """
        return self.finish(batch, self.embed(batch, generator), generator)

    def embed(
        self, batch: StepBatch, generator: torch.Generator | None = None, *, watch: Watch | None = None
    ) -> Tensor:
        """Returns the output of the embedding layer, ``[N, D]``.

        ``generator`` draws the dropout masks; None means no dropout. If the function ``watch`` is given, it is
        called before the layer runs; for its argument, see :data:`Watch`.
        """
        if watch is not None:
            watch(_rows(batch.layout))
        with self._precision(), timed("encoder"):
            return self.encoder.embed(batch.ids_N, batch.segments_N, batch.positions_N, generator)

    def finish(
        self,
        batch: StepBatch,
        x_ND: Tensor,
        generator: torch.Generator | None = None,
        *,
        exact: bool = False,
        watch: Watch | None = None,
    ) -> dict[str, Output]:
        """Runs the second part of a forward pass, after :meth:`embed`. Returns a dict with the output for each task.

        Args:
            batch: The batch. If :meth:`apart` is true for a task, no other task may read the same sequences of the
                batch.
            x_ND: The output of :meth:`embed`, or a perturbed copy of it.
            generator: Draws the dropout masks; None for no dropout.
            exact: Whether to compute everything in float32.
            watch: A function that is called once with a :data:`SpanSlices`, before the layers run; or None.
        """
        layout = batch.layout
        # Kernels of bfloat16 are compiled once for each shape, so shapes are rounded to make few of them.
        rounded = self.compute == torch.bfloat16 and not exact
        groups = Groups(layout, x_ND.device, rounded)
        adapters = {name: self.adapters[f"for_{name}"] for name in layout.spans if self.adapted(name)}
        first_only = not self.unshare and self.first_only(batch.places)
        between = self.encoder.distances(groups, apart=watch is not None)
        if watch is not None:
            watch(_rows(layout, groups.dummies, between))
        with self._precision(exact):
            with timed("encoder"):
                adapter = pal.adapter(adapters, layout, generator, rounded=rounded)
                distant = self.encoder.by_distance(between)
                if self.unshare:
                    lower = self.shared_layers
                    hidden_RD = self.encoder.encode_lower(x_ND, groups, generator, adapter, distant, lower)
                else:
                    hidden_RD = self.encoder.encode(x_ND, groups, generator, adapter, distant, first_only=first_only)
            tokens = [span.stop - span.start for span in layout.spans.values()]
            rows = [span.last - span.first for span in layout.spans.values()] if first_only else tokens
            parts = zip(layout.spans, torch.split(x_ND, tokens), torch.split(hidden_RD, rows), strict=True)
            with timed("heads"):
                if self.unshare:
                    return {
                        task: self._from_top(
                            task, batch, x_MD, hidden_RD, distant and distant.only(name), generator, rounded
                        )
                        for name, x_MD, hidden_RD in parts
                        for task in batch.readers[name]
                    }
                return {
                    task: output
                    for name, x_MD, hidden_RD in parts
                    for task, output in self._outputs(
                        self.encoder, batch, name, x_MD, hidden_RD, first_only, generator, watch
                    )
                }

    def first_only(self, names: Iterable[str]) -> bool:
        """Returns whether every task in ``names`` reads only the first token of each sequence.

        If so, the last layer can skip all other tokens.
        """
        return all(self.pooling_of(self.tasks[name]) == "cls" for name in names)

    @property
    def multiplied(self) -> int:
        """How many parameters of the encoder are applied to every token of a batch. Embeddings do not count.

        If each task has its own top layers, the number is the mean over the tasks.
        """
        if not self.unshare:
            return self.encoder.multiplied(first_only=self.first_only(self.tasks))
        own = [self.top(name).multiplied(first_only=self.first_only([name])) for name in self.tasks]
        return self.encoder.multiplied_lower(self.shared_layers) + sum(own) // len(own)

    @property
    def shared_layers(self) -> int:
        """The number of the encoder's layers that all tasks share, counted from the lowest."""
        return self.encoder.config.layers - self.unshare

    def head(self, name: str) -> heads.AnyHead:
        """Returns the head of the task called ``name``."""
        head = self.heads[f"for_{name}"]
        assert isinstance(head, heads.AnyHead)
        return head

    def fitted(self, name: str) -> dict[FittedName, Tensor]:
        """Returns a dict with the fitted numbers of the task called ``name``. A key is, for example, ``threshold``.

        The values are the tensors of the task's head, not copies of these tensors.
        """
        return heads.fitted_numbers(self.head(name))

    def adapted(self, name: str) -> bool:
        """Returns whether the task called ``name`` has an adapter."""
        return f"for_{name}" in self.adapters

    def apart(self, name: str) -> bool:
        """Returns whether the encoder's layers treat the task called ``name`` differently from other tasks.

        A task that is treated differently cannot share its sequences in a batch with other tasks.
        """
        return self.adapted(name)

    def random(self, name: str) -> bool:
        """Returns whether a training pass of the task called ``name`` uses any dropout after the embedding layer."""
        c, adapter = self.encoder.config, 0.0 if self.pal is None else self.pal.dropout_of(name)
        return any((c.hidden_dropout, c.attention_dropout, self.tasks[name].dropout, adapter))

    def pooling_of(self, task: Task) -> Reads:
        """Returns the pooling of ``task``: its own, or that of the model if it chooses none."""
        return task.pooled(self.pooling)

    def depths(self) -> dict[nn.Parameter, int]:
        """Returns the depth of each parameter of the encoder and of the tasks' copies of its layers.

        The depth says how far a layer is above the embeddings, see :meth:`Encoder.depths`. A copy has the depth of the
        original.
        """
        found = self.encoder.depths()
        for name in self.tops:
            found |= self.top(name.removeprefix("for_")).depths()
        return found

    def top(self, name: str) -> Top:
        """Returns the copies of the encoder's top layers that only the task called ``name`` uses.

        Tasks have copies of their own only if the recipe sets ``model.unshare``.
        """
        top = self.tops[f"for_{name}"]
        assert isinstance(top, Top)
        return top

    def _from_top(
        self,
        name: str,
        batch: StepBatch,
        x_MD: Tensor,
        hidden_MD: Tensor,
        distant: ByDistance | None,
        generator: torch.Generator | None,
        rounded: bool,
    ) -> Output:
        """Returns the output of the task called ``name``, which has its own copies of the encoder's top layers.

        ``hidden_MD`` is the input of these copies: the output of the shared layers for all tokens of the
        task's :class:`~mtbert.batch.Span`. ``distant`` holds, for each distance between two tokens of the span, a row
        of the encoder's table of relative positions. ``distant`` is None if there is no such table.
        """
        part = only(batch, name)
        tokens_M = batch.places[name].tokens_M
        if tokens_M is not None:
            x_MD, hidden_MD = take(x_MD, tokens_M), take(hidden_MD, tokens_M)
        first_only = self.first_only([name])
        adapters = {name: self.adapters[f"for_{name}"]} if self.adapted(name) else {}
        with timed("encoder"):
            groups = Groups(part.layout, x_MD.device, rounded)
            adapter = pal.adapter(adapters, part.layout, generator, rounded=rounded)
            hidden_RD = self.top(name).encode(hidden_MD, groups, generator, adapter, distant, first_only=first_only)
        ((_, output),) = self._outputs(self.top(name), part, name, x_MD, hidden_RD, first_only, generator, None)
        return output

    def _outputs(
        self,
        top: Encoder | Top,
        batch: StepBatch,
        name: str,
        x_MD: Tensor,
        hidden_RD: Tensor,
        first_only: bool,
        generator: torch.Generator | None,
        watch: Watch | None,
    ) -> Iterator[tuple[str, Output]]:
        """Yields a pair (task, output) for every task in ``batch`` that reads the span ``name``.

        A span is the part of a batch with the rows of one data table. ``x_MD`` has the embeddings of the span's tokens.
        ``hidden_RD`` is the last layer's output for these tokens or, if ``first_only`` is true, for the first token of
        each sequence. ``top`` is the module that contains this last layer.
        """
        layout, span = batch.layout, batch.layout.spans[name]
        first_SD = hidden_RD
        if not first_only:
            offsets_S = send(torch.tensor(layout.offsets[span.first : span.last + 1]) - span.start, x_MD.device)
            first_SD = take(hidden_RD, offsets_S[:-1])
        pooled: dict[tuple[Reads, bool], Tensor] = {}
        taken: dict[tuple[tuple[Reads, bool], int], Tensor] = {}
        for reader in batch.readers[name]:
            task, place = self.tasks[reader], batch.places[reader]
            pooling = self.pooling_of(task), heads.reads_pooler(task, self.pooling, self.encoder.config)
            if pooling not in pooled and place.words is None:
                if pooling[0] == "mean":
                    pooled[pooling] = mean_pool(hidden_RD, offsets_S)
                elif pooling[1]:
                    if watch is not None:
                        watch({len(first_SD): {name: slice(None)}})
                    pooled[pooling] = top.pooled(first_SD)
                else:
                    pooled[pooling] = first_SD
            of_place = pooling, id(place.order_S)
            if place.words is not None:
                # No take: two words may have one token.
                vectors: tuple[Tensor, ...] = (hidden_RD.index_select(0, place.words.at_W),)
            else:
                if of_place not in taken:
                    taken[of_place] = take(pooled[pooling], place.order_S)
                vectors = torch.split(taken[of_place], len(batch.example_ids[reader]))
            yield (
                reader,
                Output(
                    embeddings_MD=x_MD if place.tokens_M is None else take(x_MD, place.tokens_M),
                    first_SD=take(first_SD, place.order_S),
                    vectors=vectors,
                    prediction=_at_least_float32(self.head(reader)(vectors, generator)),
                ),
            )

    def _precision(self, exact: bool = False) -> torch.autocast:
        device = next(self.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.compute == torch.bfloat16 and not exact)


def _rows(layout: Layout, dummies: int = 0, between: Distances | None = None) -> SpanSlices:
    tokens = {name: slice(span.start, span.stop) for name, span in layout.spans.items()}
    sequences = {name: slice(span.first, span.last) for name, span in layout.spans.items()}
    found = {layout.offsets[-1] + dummies: tokens, len(layout.offsets) - 1: sequences}
    return found if between is None else found | {len(between.values_R): between.spans}


def mean_pool(hidden_ND: Tensor, offsets_S: Tensor) -> Tensor:
    """Returns the mean of the token vectors of each sequence, special tokens included: ``[S, D]``, in float32.

    Sequence ``i`` consists of the rows ``hidden_ND[offsets_S[i] : offsets_S[i + 1]]``.
    """
    mean: Tensor = torch.segment_reduce(_at_least_float32(hidden_ND), "mean", offsets=offsets_S, unsafe=True)
    return mean


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
