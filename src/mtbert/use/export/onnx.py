"""Exports tasks as ONNX graphs, in a folder that needs only the packages onnxruntime, tokenizers and numpy.

Dimension key: B examples, C candidates, L length of padded sequences, K numbers of an answer.
"""

import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from mtbert.batch import Dataset
from mtbert.model.model import Model
from mtbert.task import Task
from mtbert.use.export import Answering, OptionName, Wanted
from mtbert.use.export.check import answer_tensors
from mtbert.use.export.padded import PaddedModel, PaddedText

OPSET = 18
EXAMPLE = (2, 3, 5)  # examples, candidates and tokens of the example input; 0 and 1 would become constants of the graph
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Graph:
    """A graph to write: its name without an ending, and the names of its tasks, which take the same inputs."""

    name: str
    tasks: tuple[str, ...]
    together: bool  # whether the name of the task precedes the name of each output

    def prefix(self, task: str) -> str:
        """Returns the part of an output's name before the name of the tensor."""
        return f"{task}." if self.together else ""


class GraphModule(nn.Module):
    """A module with the inputs and outputs of a graph."""

    def __init__(self, model: Model, graph: Graph) -> None:
        super().__init__()
        self.twin, self.graph = PaddedModel(model, graph.tasks), graph
        self.segments = model.encoder.segment_embedding is not None and model.tasks[graph.tasks[0]].segments
        self.texts = 2 if model.tasks[graph.tasks[0]].inputs == "separate" else 1
        self.candidates = model.tasks[graph.tasks[0]].texts is None

    @property
    def inputs(self) -> list[str]:
        """The names of the graph's inputs, in order."""
        kinds = INPUTS if self.segments else INPUTS[:2]
        return [kind + suffix for suffix in ("", "_2")[: self.texts] for kind in kinds]

    def example(self) -> tuple[Tensor, ...]:
        """Returns an input of the smallest sizes that do not become constants of the graph."""
        rows, candidates, length = EXAMPLE
        found = []
        for suffix in range(self.texts):
            shape = (rows, candidates, length + 1) if suffix and self.candidates else (rows, length + suffix)
            found += [torch.ones(shape, dtype=torch.int64) for _ in range(3 if self.segments else 2)]
        return tuple(found)

    def shapes(self, max_length: int) -> tuple[dict[int, torch.export.Dim], ...]:
        """Returns the names of the dimensions of each input that are not fixed."""
        batch, candidates = torch.export.Dim("batch"), torch.export.Dim("candidates")
        found = []
        for suffix in ("", "_2")[: self.texts]:
            length = torch.export.Dim(f"length{suffix}", max=max_length)
            of_candidates = suffix and self.candidates
            shape = {0: batch, 1: candidates, 2: length} if of_candidates else {0: batch, 1: length}
            found += [shape] * (3 if self.segments else 2)
        return tuple(found)

    def forward(self, *tensors: Tensor) -> dict[str, Tensor]:
        """Returns all outputs of the graph by name."""
        each = 3 if self.segments else 2
        texts: list[PaddedText] = [
            (tensors[i], tensors[i + 1], tensors[i + 2] if self.segments else None)
            for i in range(0, len(tensors), each)
        ]
        found: dict[str, Tensor] = {}
        for name, (prediction, vectors) in self.twin(*texts).items():
            model, prefix = self.twin.model, self.graph.prefix(name)
            of_task = answer_tensors(model.tasks[name], prediction, model.fitted(name), clamped=True)
            if len(vectors) <= 2:
                of_task |= {("vector", "vector_2")[i]: vector for i, vector in enumerate(vectors)}
            found |= {prefix + key: tensor for key, tensor in (of_task | {"prediction": prediction}).items()}
        return found


@dataclass(frozen=True)
class OnnxExporter:
    """One graph for each task, or one for all tasks that take the same inputs."""

    name: str = "onnx"
    packages: tuple[str, ...] = ("onnx", "onnxscript", "onnxruntime")
    install: str = "mtbert[export]"
    options: frozenset[OptionName] = frozenset(("together", "int8"))

    def refusal(self, model: Model, task: Task) -> str | None:
        return None

    def lost(self, model: Model, task: Task) -> tuple[str, ...]:
        return ()

    def usage(self, wanted: Wanted) -> str:
        return "## Use\n\n```\npip install onnxruntime tokenizers numpy\npython predict.py --help\n```"

    def facts(self, wanted: Wanted) -> dict[str, dict[str, object]]:
        return {
            task: {"graph": f"{graph.name}.onnx", "prefix": graph.prefix(task)}
            for graph in graphs(wanted)
            for task in graph.tasks
        }

    def write(self, wanted: Wanted, folder: Path) -> Mapping[str, Answering]:
        from mtbert.use.export import predict_folder  # imports onnxruntime

        model = wanted.predictor.model
        for graph in graphs(wanted):
            wanted.tell(f"{graph.name}.onnx")
            write_graph(model, graph, folder / f"{graph.name}.onnx")
        write_tokenizer(wanted.predictor.tokenizer, model, folder / "tokenizer.json")
        shutil.copyfile(predict_folder.__file__, folder / "predict.py")
        return {name: _answering(folder) for name in wanted.tasks}


def graphs(wanted: Wanted) -> list[Graph]:
    """Returns the graphs that an export consists of."""
    return [Graph(name, (name,), together=False) for name in wanted.tasks]


def write_graph(model: Model, graph: Graph, file: Path) -> None:
    """Writes a graph to ``file``."""
    module = GraphModule(model, graph).eval()
    example = module.example()
    with torch.no_grad(), _quiet():
        names = list(module(*example))
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=module.inputs,
            output_names=names,
            dynamic_shapes=(module.shapes(model.max_length),),
        )
        assert program is not None
        program.save(file)


def write_tokenizer(tokenizer: Tokenizer, model: Model, file: Path) -> None:
    """Writes a tokenizer that cuts long texts and pads short ones, as the model's graphs need it."""
    made = Tokenizer.from_str(tokenizer.to_str())
    made.enable_truncation(model.max_length, strategy="longest_first")
    made.enable_padding()
    file.write_text(made.to_str(pretty=True), encoding="utf-8")


def _answering(folder: Path) -> Answering:
    from mtbert.use.export import predict_folder

    def answer(data: Dataset) -> dict[str, Tensor]:
        opened = predict_folder.Folder(folder)
        rows = list(zip(*data.examples.texts, strict=True))
        found = opened.tensors(data.task.name, rows)
        return {name: torch.from_numpy(np.stack(each)) for name, each in found.items() if not name.startswith("vector")}

    return answer


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


ONNX = OnnxExporter()
