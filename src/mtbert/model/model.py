"""One encoder, one head per task, one pass for everything in a batch.

Dimension key: N tokens, S sequences, D width, B examples.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtbert.batch import Layout, Output, StepBatch
from mtbert.model import heads
from mtbert.model.attention import Groups
from mtbert.model.encoder import Encoder
from mtbert.task import Pooling, Task


class Model(nn.Module):
    """An encoder shared by the heads of all ``tasks``.

    Args:
        encoder: The shared encoder.
        tasks: By name; labels and ranges filled in.
        pooling: Of every task that does not choose its own.
        max_length: The longest sequence in tokens; longer texts are cut.
        seed: Of the heads' initial weights.
    """

    def __init__(
        self, encoder: Encoder, tasks: Mapping[str, Task], *, pooling: Pooling, max_length: int, seed: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.tasks = dict(tasks)
        self.pooling: Pooling = pooling
        self.max_length = max_length
        width = encoder.config.width
        self.compute = torch.float32  # bfloat16: products in it, weights and sums stay float32
        # Prefixed because nn.ModuleDict refuses keys such as 'type' that are names of its own.
        self.heads = nn.ModuleDict({f"for_{name}": heads.build(task, width, seed) for name, task in tasks.items()})

    def forward(self, batch: StepBatch, generator: torch.Generator | None = None) -> dict[str, Output]:
        """Outputs by task; ``generator`` draws the dropout, ``None`` means none (evaluation)."""
        return self.finish(batch, self.embed(batch, generator), generator)

    def embed(self, batch: StepBatch, generator: torch.Generator | None = None) -> Tensor:
        """The embedding layer's output, ``[N, D]``."""
        with self._precision():
            return self.encoder.embed(batch.ids_N, batch.segments_N, batch.positions_N, generator)

    def finish(self, batch: StepBatch, x_ND: Tensor, generator: torch.Generator | None = None) -> dict[str, Output]:
        """The rest of the pass, from the embedding layer's output on."""
        groups = Groups.of(batch.layout, x_ND.device)
        with self._precision():
            hidden_ND = self.encoder.encode(x_ND, groups, generator)
            return {name: self._output(name, batch.layout, x_ND, hidden_ND, generator) for name in batch.layout.spans}

    def head(self, name: str) -> nn.Module:
        """The head of the task called ``name``."""
        return self.heads[f"for_{name}"]

    def pooling_of(self, task: Task) -> Pooling:
        """How the vectors of ``task`` are made."""
        return task.pooled(self.pooling)

    def _output(
        self, name: str, layout: Layout, x_ND: Tensor, hidden_ND: Tensor, generator: torch.Generator | None
    ) -> Output:
        vectors_SD = self._pool(hidden_ND, layout, name)[layout.spans[name].order_S]
        vectors = vectors_SD.chunk(self.tasks[name].sequences)
        prediction = _at_least_float32(self.head(name)(vectors, generator))
        return Output(embeddings_ND=x_ND, vectors=vectors, prediction=prediction)

    def _precision(self) -> torch.autocast:
        device = next(self.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.compute == torch.bfloat16)

    def _pool(self, hidden_ND: Tensor, layout: Layout, name: str) -> Tensor:
        span = layout.spans[name]
        offsets_S = torch.tensor(layout.offsets[span.first : span.last + 1], device=hidden_ND.device)
        if self.pooling_of(self.tasks[name]) == "mean":
            return mean_pool(hidden_ND[span.start : span.stop], offsets_S - span.start)
        cls_SD = hidden_ND[offsets_S[:-1]]
        return self.encoder.pooled(cls_SD) if self.encoder.config.pooler else cls_SD


def mean_pool(hidden_ND: Tensor, offsets_S: Tensor) -> Tensor:
    """The mean over each sequence's tokens, special ones included, in float32, ``[S, D]``."""
    mean: Tensor = torch.segment_reduce(_at_least_float32(hidden_ND), "mean", offsets=offsets_S, unsafe=True)
    return mean


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
