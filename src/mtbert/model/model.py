"""One encoder, one head per task, one pass for everything in a batch.

Dimension key: N tokens, M tokens of a task, S sequences, D width, B examples.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtbert.batch import Layout, Output, StepBatch
from mtbert.model import heads, pal
from mtbert.model.attention import Groups
from mtbert.model.encoder import Encoder
from mtbert.model.pal import Pal
from mtbert.profiling import part
from mtbert.task import Pooling, Task


class Model(nn.Module):
    """An encoder shared by the heads of all ``tasks``.

    Args:
        encoder: The shared encoder.
        tasks: By name; labels and ranges filled in.
        pooling: Of every task that does not choose its own.
        max_length: The longest sequence in tokens; longer texts are cut.
        seed: Of the initial weights of heads and adapters.
        adapters: Settings of the tasks' projected attention layers; ``None`` for none.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: Mapping[str, Task],
        *,
        pooling: Pooling,
        max_length: int,
        seed: int,
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
        self.rows: Mapping[str, slice] = {}  # of each task, in what the encoder's modules are reading
        # Prefixed because nn.ModuleDict refuses keys such as 'type' that are names of its own.
        self.heads = nn.ModuleDict({f"for_{name}": heads.build(task, width, seed) for name, task in tasks.items()})
        adapted = [name for name in tasks if adapters is not None and name in (adapters.tasks or tasks)]
        self.adapters = nn.ModuleDict(
            {f"for_{name}": pal.build(adapters, encoder.config, name, seed) for name in adapted if adapters is not None}
        )

    def forward(self, batch: StepBatch, generator: torch.Generator | None = None) -> dict[str, Output]:
        """Outputs by task; ``generator`` draws the dropout, ``None`` means none (evaluation)."""
        return self.finish(batch, self.embed(batch, generator), generator)

    def embed(self, batch: StepBatch, generator: torch.Generator | None = None) -> Tensor:
        """The embedding layer's output, ``[N, D]``."""
        self.rows = _tokens(batch.layout)
        with self._precision(), part("encoder"):
            return self.encoder.embed(batch.ids_N, batch.segments_N, batch.positions_N, generator)

    def finish(
        self, batch: StepBatch, x_ND: Tensor, generator: torch.Generator | None = None, *, exact: bool = False
    ) -> dict[str, Output]:
        """The rest of the pass, from the embedding layer's output on; ``exact``: all of it in float32."""
        layout = batch.layout
        # Kernels of bfloat16 are compiled for each shape, and a second time that shape costs nothing.
        groups = Groups.of(layout, x_ND.device, rounded=self.compute == torch.bfloat16 and not exact)
        adapters = {name: self.adapters[f"for_{name}"] for name in layout.spans if f"for_{name}" in self.adapters}
        with self._precision(exact):
            self.rows = _tokens(layout)
            with part("encoder"):
                hidden_ND = self.encoder.encode(x_ND, groups, generator, pal.adapter(adapters, layout, generator))
            sizes = [span.stop - span.start for span in layout.spans.values()]
            parts = zip(layout.spans, torch.split(x_ND, sizes), torch.split(hidden_ND, sizes), strict=True)
            with part("heads"):
                return {name: self._output(name, layout, x_MD, hidden_MD, generator) for name, x_MD, hidden_MD in parts}

    def head(self, name: str) -> nn.Module:
        """The head of the task called ``name``."""
        return self.heads[f"for_{name}"]

    def random(self, name: str) -> bool:
        """Whether a training pass of the task called ``name`` draws dropout behind the embedding layer."""
        c, adapted = self.encoder.config, f"for_{name}" in self.adapters
        rates = [c.hidden_dropout, c.attention_dropout, self.tasks[name].head.dropout]
        return any(rates) or (
            adapted and self.pal is not None and self.pal.kind == "attention" and self.pal.dropout > 0
        )

    def pooling_of(self, task: Task) -> Pooling:
        """How the vectors of ``task`` are made."""
        return task.pooled(self.pooling)

    def _output(
        self, name: str, layout: Layout, x_MD: Tensor, hidden_MD: Tensor, generator: torch.Generator | None
    ) -> Output:
        vectors = self._pool(hidden_MD, layout, name)[layout.spans[name].order_S].chunk(self.tasks[name].sequences)
        prediction = _at_least_float32(self.head(name)(vectors, generator))
        return Output(embeddings_MD=x_MD, hidden_MD=hidden_MD, vectors=vectors, prediction=prediction)

    def _precision(self, exact: bool = False) -> torch.autocast:
        device = next(self.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.compute == torch.bfloat16 and not exact)

    def _pool(self, hidden_MD: Tensor, layout: Layout, name: str) -> Tensor:
        span = layout.spans[name]
        offsets_S = torch.tensor(layout.offsets[span.first : span.last + 1], device=hidden_MD.device) - span.start
        if self.pooling_of(self.tasks[name]) == "mean":
            return mean_pool(hidden_MD, offsets_S)
        cls_SD = hidden_MD[offsets_S[:-1]]
        self.rows = {name: slice(None)}
        return self.encoder.pooled(cls_SD) if self.encoder.config.pooler else cls_SD


def _tokens(layout: Layout) -> dict[str, slice]:
    return {name: slice(span.start, span.stop) for name, span in layout.spans.items()}


def mean_pool(hidden_ND: Tensor, offsets_S: Tensor) -> Tensor:
    """The mean over each sequence's tokens, special ones included, in float32, ``[S, D]``."""
    mean: Tensor = torch.segment_reduce(_at_least_float32(hidden_ND), "mean", offsets=offsets_S, unsafe=True)
    return mean


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
