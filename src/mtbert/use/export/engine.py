"""An engine for a server: it runs a model's graphs with onnxruntime, from token ids to raw predictions.

mtbert still tokenises the texts and decodes the answers; only the encoder and the heads run in onnxruntime.

Dimension key: B rows, C candidates, L length of padded sequences, K numbers of an answer, D width of the encoder.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtbert.batch import Dataset, Rows, Sequences
from mtbert.collate import Shared, share_rows
from mtbert.model.model import Model
from mtbert.use.export.graph import GRAPH_INPUTS, Arrays, Graph, at_words, graphs_of, write_graph
from mtbert.use.export.int8 import multiplies_bytes, quantize

PADDED_TOKENS = 512  # most tokens of a pass, padding included: the fewer, the more alike its lengths are


def make_engine(model: Model, *, int8: bool = False, threads: int | None = None) -> "GraphEngine":
    """Returns an engine for all tasks of a model, after writing and loading their graphs. This takes some seconds.

    Args:
        model: The model, on the CPU and in float32.
        int8: Whether the weights of the encoder are rounded to 8 bits.
        threads: The number of threads of a pass; None for as many as there are cores.
    """
    graphs = [graph for graph in graphs_of(model, list(model.tasks), together=True) if not graph.vectors_only]
    with tempfile.TemporaryDirectory() as folder:
        for graph in graphs:
            write_graph(model, graph, Path(folder) / graph.file)
            if int8:
                quantize(Path(folder) / graph.file, reduce_range=not multiplies_bytes())
        return GraphEngine(Path(folder), graphs, threads)


class GraphEngine:
    """Makes the raw predictions of a model with onnxruntime. Threads may share an engine.

    Args:
        folder: The folder with the files of the graphs. It may be deleted as soon as the engine exists.
        graphs: The graphs. The name of each output must begin with the name of a task, as in ``sst.prediction``.
        threads: The number of threads that compute a forward pass; None for as many as there are cores.
    """

    def __init__(self, folder: Path, graphs: Sequence[Graph], threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._run_options = onnxruntime.RunOptions()
        # A task with an adapter has a pass of its own in the graph. It runs only if somebody asks for its answer.
        self._run_options.only_execute_path_to_fetches = True
        self._sessions: dict[str, Any] = {}
        for graph in graphs:
            session = onnxruntime.InferenceSession(str(folder / graph.file), options)
            self._sessions |= dict.fromkeys(graph.tasks, session)

    def __call__(self, data: Sequence[Dataset], *, vectors: bool = False) -> dict[str, tuple[Tensor, ...]]:
        """Returns a dict from task name to a tuple of tensors, each in the order of the task's examples.

        The first tensor holds the raw predictions. If ``vectors`` is true and the task's head reads vectors, they
        follow as one tensor or, where the texts of an example are encoded separately, as one tensor for each text. If
        several tasks of one graph share a token sequence, the sequence is encoded once.
        """
        found: dict[str, tuple[Tensor, ...]] = {}
        for one in data:  # tasks that share tokens may still be in two graphs, one of which has candidates
            together = [other for other in data if self._sessions[other.task.name] is self._sessions[one.task.name]]
            if one.task.name not in found:
                for span in share_rows([(each, np.arange(len(each))) for each in together]):
                    found |= self._answers(span, vectors)
        return {one.task.name: found[one.task.name] for one in data}

    def _answers(self, span: Shared, vectors: bool) -> dict[str, tuple[Tensor, ...]]:
        """Returns a dict from task name to a tuple of tensors, as :meth:`__call__` returns it.

        ``span`` holds the rows to encode, and says which of these rows are examples of which task.
        """
        session = self._sessions[span.parts[0][0].task.name]
        kinds = ("prediction", "vector", "vector_2")[: 3 if vectors else 1]
        there = {each.name for each in session.get_outputs()}
        outputs = [f"{data.task.name}.{kind}" for data, _ in span.parts for kind in kinds]
        outputs = [name for name in outputs if name in there]
        taken = {each.name for each in session.get_inputs()}
        by_length = np.argsort(span.lengths(), kind="stable")
        rows: dict[str, list[Any]] = {name: [None] * len(by_length) for name in outputs}
        for chunk in _chunks_of(span.lengths()[by_length]):
            inputs = _inputs(span.parts[0][0], span.rows[by_length[chunk]])
            arrays = session.run(outputs, {key: ids for key, ids in inputs.items() if key in taken}, self._run_options)
            for name, array in zip(outputs, arrays, strict=True):
                for row, values in zip(by_length[chunk].tolist(), array, strict=True):
                    rows[name][row] = values
        found = {}
        for (data, examples), places in zip(span.parts, span.places, strict=True):
            words = data.words(examples)
            parts: list[Tensor] = []
            for name in (name for name in outputs if name.rpartition(".")[0] == data.task.name):
                own = [rows[name][i] for i in places.tolist()]
                values = torch.from_numpy(np.stack(own)) if words is None else at_words(own, words)
                parts += values.unbind(1) if name.endswith("vector_2") and values.dim() == 3 else [values]
            found[data.task.name] = tuple(parts)
        return found


def _chunks_of(lengths: Rows) -> Iterator[slice]:
    """Yields slices that divide rows into chunks. The slices cover all rows, in order.

    ``lengths`` holds the number of tokens of each row, in ascending order. A chunk of several rows has at most
    ``PADDED_TOKENS`` tokens, padding included.
    """
    first = 0
    for i in range(1, len(lengths) + 1):
        if i == len(lengths) or (i + 1 - first) * lengths[i] > PADDED_TOKENS:
            yield slice(first, i)
            first = i


def _inputs(data: Dataset, rows: Rows) -> Arrays:
    """Returns the inputs of a graph for some rows of a table: the tokens of their texts, padded."""
    first, *others = data.sequences
    longest = max((int(one.lengths[rows].max()) for one in others), default=0)
    each = [_padded(one, rows, longest) for one in others]
    found = _padded(first, rows, int(first.lengths[rows].max()))
    if not each:
        return found
    candidates = data.task.texts is None
    return found | {f"{n}_2": np.stack([one[n] for one in each], 1) if candidates else each[0][n] for n in GRAPH_INPUTS}


def _padded(sequences: Sequences, rows: Rows, length: int) -> Arrays:
    starts, lengths = sequences.offsets[rows], sequences.lengths[rows]
    within = np.arange(length)
    mask = within < lengths[:, None]
    at = np.where(mask, starts[:, None] + within, 0)
    ids, segments = (np.where(mask, flat[at], 0) for flat in (sequences.ids, sequences.segments))
    return dict(zip(GRAPH_INPUTS, (part.astype(np.int64) for part in (ids, mask, segments)), strict=True))
