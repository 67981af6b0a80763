"""One encoder, one head per task, one pass for everything in a batch.

Dimension key: N tokens, M tokens of a task, S sequences, R tokens or sequences, D width, B examples.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from mtbert.batch import Layout, Output, StepBatch, send
from mtbert.model import heads, pal
from mtbert.model.attention import Groups, take
from mtbert.model.encoder import Encoder
from mtbert.model.settings import Pal
from mtbert.profiling import timed
from mtbert.task import Pooling, Task

TaskSlices = Mapping[int, Mapping[str, slice]]
"""The rows of each task in what a module of the encoder reads, by the number of all rows: tokens or sequences."""
Watch = Callable[[TaskSlices], None]
"""Hears, before modules of the encoder run, which rows they will read."""


class Model(nn.Module):
    """An encoder shared by the heads of all ``tasks``.

    Args:
        encoder: The shared encoder.
        tasks: By name; labels and ranges filled in.
        pooling: Of every task that does not choose its own.
        max_length: The longest sequence in tokens; longer texts are cut.
        seed: Of the initial weights of heads and adapters; ``None`` leaves them without numbers, to be loaded.
        adapters: Settings of the tasks' projected attention layers; ``None`` for none.
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
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.tasks = dict(tasks)
        self.pooling: Pooling = pooling
        self.max_length = max_length
        self.pal = adapters
        width = encoder.config.width
        self.compute = torch.float32  # bfloat16: products in it, weights and sums stay float32
        # Prefixed because nn.ModuleDict refuses keys such as 'type' that are names of its own.
        self.heads = nn.ModuleDict({f"for_{name}": heads.build_head(task, width, seed) for name, task in tasks.items()})
        self.adapters = nn.ModuleDict()
        if adapters is not None:
            for name in filter(adapters.adapts, tasks):
                self.adapters[f"for_{name}"] = pal.build_adapter(adapters, encoder.config, name, seed)

    def forward(self, batch: StepBatch, generator: torch.Generator | None = None) -> dict[str, Output]:
        """Outputs by task; ``generator`` draws the dropout, ``None`` means none (evaluation)."""
        return self.finish(batch, self.embed(batch, generator), generator)

    def embed(
        self, batch: StepBatch, generator: torch.Generator | None = None, *, watch: Watch | None = None
    ) -> Tensor:
        """The embedding layer's output, ``[N, D]``."""
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
        """The rest of the pass, from the embedding layer's output on; ``exact``: all of it in float32."""
        layout = batch.layout
        # Kernels of bfloat16 are compiled for each shape, and a second time that shape costs nothing.
        groups = Groups(layout, x_ND.device, rounded=self.compute == torch.bfloat16 and not exact)
        adapters = {name: self.adapters[f"for_{name}"] for name in layout.spans if f"for_{name}" in self.adapters}
        first_only = self.first_only(layout.spans)
        if watch is not None:
            watch(_rows(layout, groups.dummies))
        with self._precision(exact):
            with timed("encoder"):
                adapter = pal.adapter(adapters, layout, generator, rounded=groups.rounded)
                hidden_RD = self.encoder.encode(x_ND, groups, generator, adapter, first_only=first_only)
            tokens = [span.stop - span.start for span in layout.spans.values()]
            rows = [span.last - span.first for span in layout.spans.values()] if first_only else tokens
            parts = zip(layout.spans, torch.split(x_ND, tokens), torch.split(hidden_RD, rows), strict=True)
            with timed("heads"):
                return {
                    name: self._output(name, layout, x_MD, hidden_RD, first_only, generator, watch)
                    for name, x_MD, hidden_RD in parts
                }

    def first_only(self, names: Iterable[str]) -> bool:
        """Returns whether every given task pools only first tokens, so that the last layer can skip all others."""
        return all(self.pooling_of(self.tasks[name]) == "cls" for name in names)

    @property
    def multiplied(self) -> int:
        """The number of parameters in the encoder's layers that multiply every token of a batch with all tasks."""
        return self.encoder.multiplied(first_only=self.first_only(self.tasks))

    def head(self, name: str) -> nn.Module:
        """The head of the task called ``name``."""
        return self.heads[f"for_{name}"]

    def random(self, name: str) -> bool:
        """Whether a training pass of the task called ``name`` draws dropout behind the embedding layer."""
        c, adapter = self.encoder.config, 0.0 if self.pal is None else self.pal.dropout_of(name)
        return any((c.hidden_dropout, c.attention_dropout, self.tasks[name].dropout, adapter))

    def pooling_of(self, task: Task) -> Pooling:
        """How the vectors of ``task`` are made."""
        return task.pooled(self.pooling)

    def _output(
        self,
        name: str,
        layout: Layout,
        x_MD: Tensor,
        hidden_RD: Tensor,
        first_only: bool,
        generator: torch.Generator | None,
        watch: Watch | None,
    ) -> Output:
        """``hidden_RD``: the last layer's output for the task's tokens, or for the first ones of its sequences."""
        span = layout.spans[name]
        first_SD = hidden_RD
        if not first_only:
            offsets_S = send(torch.tensor(layout.offsets[span.first : span.last + 1]) - span.start, x_MD.device)
            first_SD = take(hidden_RD, offsets_S[:-1])
        if self.pooling_of(self.tasks[name]) == "mean":
            pooled_SD = mean_pool(hidden_RD, offsets_S)
        elif self.encoder.config.pooler:
            if watch is not None:
                watch({len(first_SD): {name: slice(None)}})
            pooled_SD = self.encoder.pooled(first_SD)
        else:
            pooled_SD = first_SD
        vectors = take(pooled_SD, span.order_S).chunk(self.tasks[name].sequences)
        prediction = _at_least_float32(self.head(name)(vectors, generator))
        return Output(embeddings_MD=x_MD, first_SD=take(first_SD, span.order_S), vectors=vectors, prediction=prediction)

    def _precision(self, exact: bool = False) -> torch.autocast:
        device = next(self.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.compute == torch.bfloat16 and not exact)


def _rows(layout: Layout, dummies: int = 0) -> dict[int, dict[str, slice]]:
    tokens = {name: slice(span.start, span.stop) for name, span in layout.spans.items()}
    sequences = {name: slice(span.first, span.last) for name, span in layout.spans.items()}
    return {layout.offsets[-1] + dummies: tokens, len(layout.offsets) - 1: sequences}


def mean_pool(hidden_ND: Tensor, offsets_S: Tensor) -> Tensor:
    """The mean over each sequence's tokens, special ones included, in float32, ``[S, D]``."""
    mean: Tensor = torch.segment_reduce(_at_least_float32(hidden_ND), "mean", offsets=offsets_S, unsafe=True)
    return mean


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
