"""ONNX graphs of tasks: chooses the graphs of an export with their inputs and outputs, and writes them.

Dimension key: B examples, C candidates of an example, L length of padded sequences, K numbers of an answer, D width.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mtbert.model.model import Model
from mtbert.ragged import Ragged
from mtbert.task import Task
from mtbert.use.export.check import answer_tensors
from mtbert.use.export.padded import PaddedModel, PaddedText

Arrays = dict[str, npt.NDArray[Any]]

OPSET = 18
GRAPH_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Examples, candidates and tokens of the example input. Sizes of 0 and 1 would become constants of the graph.
EXAMPLE_SIZES = (2, 3, 5)


@dataclass(frozen=True)
class Graph:
    """A graph of one or several tasks that take the same inputs.

    Attributes:
        name: The name of the graph's file without the ending ``.onnx``.
        tasks: The names of the tasks.
        together: Whether the names of outputs begin with ``TASK.``.
        vectors_only: Whether the graph gives vectors of single texts instead of answers. Only tasks whose two texts are
            encoded separately have such a graph.
    """

    name: str
    tasks: tuple[str, ...]
    together: bool = False
    vectors_only: bool = False

    @property
    def file(self) -> str:
        """The name of the graph's file."""
        return f"{self.name}.onnx"

    def prefix(self, task: str) -> str:
        """Returns the prefix of the names of a task's outputs: the name of the task and a dot, or ``""``.

        The prefix is ``""`` if each task of the export has a graph of its own (``self.together`` is false).
        """
        return f"{task}." if self.together else ""


def graphs_of(model: Model, tasks: Sequence[str], *, together: bool) -> list[Graph]:
    """Returns the graphs that an export of the given tasks consists of.

    If ``together`` is false, each task has a graph of its own. If it is true, all tasks whose inputs have the same form
    share one graph. If the tasks of a graph encode their two texts separately, a second graph comes after this graph.
    The second graph gives the vector of a single text. The name of the second graph is the name of the first graph plus
    ``.vector``. The names of tasks have no dot, so no task has the name of a second graph.
    """
    forms: dict[str, list[str]] = {}
    for name in tasks:
        forms.setdefault(_form(model, model.tasks[name]) if together else name, []).append(name)
    found = []
    for name, members in forms.items():
        found.append(Graph(name, tuple(members), together))
        if model.tasks[members[0]].inputs == "separate":
            found.append(Graph(f"{name}.vector", tuple(members), together, vectors_only=True))
    return found


def _form(model: Model, task: Task) -> str:
    """Returns a name for the form of a task's inputs. Tasks can be in one graph if their inputs have the same form."""
    parts: list[str] = [task.inputs]
    parts += ["candidates"] if task.texts is None else []
    parts += ["joined"] if task.splitter == "unicode-joined" else []
    parts += [] if task.segments or not _has_segments(model) else ["plain"]
    return "-".join(parts)


def _has_segments(model: Model) -> bool:
    return model.encoder.segment_embedding is not None


class GraphModule(nn.Module):
    """A PyTorch module with the inputs and outputs of an ONNX graph. The graph is made by exporting the module."""

    def __init__(self, model: Model, graph: Graph) -> None:
        super().__init__()
        self.twin, self.graph = PaddedModel(model, graph.tasks), graph
        task = model.tasks[graph.tasks[0]]
        self.kinds = GRAPH_INPUTS if task.segments and _has_segments(model) else GRAPH_INPUTS[:2]
        self.texts = 2 if task.inputs == "separate" and not graph.vectors_only else 1
        self.candidates = task.texts is None and not graph.vectors_only

    @property
    def inputs(self) -> list[str]:
        """The names of the graph's inputs, in order."""
        return [kind + suffix for suffix in ("", "_2")[: self.texts] for kind in self.kinds]

    def example(self) -> tuple[Tensor, ...]:
        """Returns example inputs, with which PyTorch's exporter traces the graph."""
        rows, candidates, length = EXAMPLE_SIZES
        shapes = [(rows, length), (rows, candidates, length + 1) if self.candidates else (rows, length + 1)]
        return tuple(torch.ones(shape, dtype=torch.int64) for shape in shapes[: self.texts] for _ in self.kinds)

    def dimensions(self, max_length: int) -> tuple[dict[int, torch.export.Dim], ...]:
        """Returns a dict for each input of the graph. The dict maps each axis of variable size to a named size.

        An example of such a dict is ``{0: batch, 1: length}``. Axes with the same named size are equally long.
        """
        batch, candidates = torch.export.Dim("batch"), torch.export.Dim("candidates")
        first, second = (torch.export.Dim(name, max=max_length) for name in ("length", "length_2"))
        of_second = {0: batch, 1: candidates, 2: second} if self.candidates else {0: batch, 1: second}
        return tuple(shape for shape in ({0: batch, 1: first}, of_second)[: self.texts] for _ in self.kinds)

    def forward(self, *tensors: Tensor) -> dict[str, Tensor]:
        """Returns all outputs of the graph by name."""
        model, size = self.twin.model, len(self.kinds)
        texts: list[PaddedText] = []
        for first in range(0, len(tensors), size):
            ids, mask, *segments = tensors[first : first + size]
            texts.append((ids, mask, segments[0] if segments else None))
        found: dict[str, Tensor] = {}
        if self.graph.vectors_only:
            return {f"{self.graph.prefix(name)}vector": x_BD for name, x_BD in self.twin.vectors(*texts[0]).items()}
        for name, (prediction, vectors) in self.twin(*texts).items():
            of_task = answer_tensors(model.tasks[name], prediction, model.fitted(name), clamped=True)
            of_task["prediction"] = prediction.clone()
            of_task |= {("vector", "vector_2")[i]: x_BD.clone() for i, x_BD in enumerate(vectors)}
            found |= {self.graph.prefix(name) + key: tensor for key, tensor in of_task.items()}
        return found


def write_graph(model: Model, graph: Graph, file: Path) -> None:
    """Writes a graph to ``file``.

    The weights of a graph of more than 2 GB go to a second file, named ``file`` plus ``.data``.
    """
    module = GraphModule(model, graph).eval()
    example = module.example()
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=module.inputs,
            output_names=list(module(*example)),
            dynamic_shapes=(module.dimensions(model.max_length),),
        )
        assert program is not None
        program.model.metadata_props.update(_metadata(model, graph))
        program.save(file)


def at_words(rows: Sequence[npt.NDArray[Any]], words: Ragged) -> Tensor:
    """Returns the values at the first token of each word, ``[W]`` or ``[W, K]``.

    A word without a token gets ``nan``, or 0 if the values are whole numbers. ``rows`` holds an array for each text,
    with the values at its tokens. ``words`` holds the index of each word's first token, or -1 if it has no token.
    """
    found = []
    for row, (first, stop) in zip(rows, pairwise(words.offsets.tolist()), strict=True):
        at_W = words.values[first:stop]
        known_W = (at_W >= 0).reshape(-1, *[1] * (row.ndim - 1))
        found.append(np.where(known_W, row[at_W], np.nan if np.issubdtype(row.dtype, np.floating) else 0))
    return torch.from_numpy(np.concatenate(found).astype(rows[0].dtype))


def _metadata(model: Model, graph: Graph) -> dict[str, str]:
    """Returns what the graph says about itself: versions, the longest input, and facts about each task.

    The facts are the type, inputs, labels and range of the task, its threshold, and the numbers of its calibration.
    """
    tasks = {}
    for name in graph.tasks:
        task = model.tasks[name]
        fitted = {key: number.tolist() for key, number in model.fitted(name).items()}
        tasks[name] = task.model_dump(mode="json", include={"type", "inputs", "labels", "range"}) | {"fitted": fitted}
    return {
        "mtbert": version("mtbert"),
        "opset": str(OPSET),
        "max_length": str(model.max_length),
        "tasks": json.dumps(tasks, ensure_ascii=False),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the warnings of PyTorch's exporter, none of which concern a user."""
    log = logging.getLogger("torch.onnx._internal.exporter")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
