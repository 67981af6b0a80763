"""Exports tasks as ONNX graphs, in a folder that needs only the packages onnxruntime, tokenizers and numpy.

Dimension key: B examples, L length of padded sequences, W words, K numbers of an answer.
"""

import errno
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from mtbert.batch import Dataset
from mtbert.data.words import as_read
from mtbert.model.model import Model
from mtbert.task import Task
from mtbert.use.export import Answering, OptionName, Wanted
from mtbert.use.export.check import READ_VECTORS, SINGLE_VECTORS
from mtbert.use.export.graph import Graph, at_words, graphs_of, write_graph
from mtbert.use.export.int8 import quantize

SCRIPT = "predict.py"


@dataclass(frozen=True)
class OnnxExporter:
    """Writes one ONNX graph for each task.

    With the option ``together``, it writes one graph for all tasks that take the same inputs.
    """

    name: str = "onnx"
    packages: tuple[str, ...] = ("onnx", "onnxscript", "onnxruntime")
    install: str = "mtbert[export]"
    options: frozenset[OptionName] = frozenset(("together", "int8"))

    def refusal(self, model: Model, task: Task) -> str | None:
        return None

    def lost(self, model: Model, task: Task) -> tuple[str, ...]:
        return ()

    def facts(self, wanted: Wanted) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = {}
        for graph in _graphs(wanted):
            for task in graph.tasks:
                entry = found.setdefault(task, {})
                entry["vector_graph" if graph.vectors_only else "graph"] = graph.file
                entry["prefix"] = graph.prefix(task)
        return found

    def usage(self, wanted: Wanted) -> str:
        name = wanted.tasks[0]
        pair = "" if wanted.predictor.task(name).inputs == "single" else ' --text-pair "Another text."'
        return _USAGE.format(name=name, pair=pair, graph=_graphs(wanted)[0].file)

    def write(self, wanted: Wanted, folder: Path) -> Mapping[str, Answering]:
        from mtbert.use.export import predict_folder  # imports onnxruntime

        model = wanted.predictor.model
        for graph in _graphs(wanted):
            start, file = time.monotonic(), folder / graph.file
            wanted.tell(f"writing {graph.file}")
            if file.exists():  # two tasks are called A and a, and the file system ignores case
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))
            write_graph(model, graph, file)
            if "int8" in wanted.options:
                quantize(file)
            wanted.tell(f"{graph.file}: {file.stat().st_size / 1e6:.1f} MB in {time.monotonic() - start:.1f} s")
        tokenizer = cutting_and_padding(wanted.predictor.tokenizer, model)
        (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
        shutil.copyfile(predict_folder.__file__, folder / SCRIPT)
        return {name: lambda data: folder_answers(folder, data) for name in wanted.tasks}


def _graphs(wanted: Wanted) -> list[Graph]:
    return graphs_of(wanted.predictor.model, wanted.tasks, together="together" in wanted.options)


def cutting_and_padding(tokenizer: Tokenizer, model: Model) -> Tokenizer:
    """Returns a copy of the tokenizer that cuts long texts as the model does, and pads short ones."""
    made = Tokenizer.from_str(tokenizer.to_str())
    made.enable_truncation(model.max_length, strategy="longest_first")
    made.enable_padding()
    return made


def folder_answers(folder: Path, data: Dataset) -> dict[str, Tensor]:
    """Returns the answers that the script ``predict.py`` in an exported folder gives for ``data``, as tensors."""
    from mtbert.use.export import predict_folder

    columns = as_read(data.examples.texts, data.task.splitter)
    script, task = predict_folder.Folder(folder), data.task.name
    found = script.tensors(task, list(zip(*columns, strict=True)))
    words = data.words(np.arange(len(data)))
    tensors = {}
    for name, rows in found.items():
        if not name.startswith("vector"):
            tensors[name] = torch.from_numpy(np.stack(rows)) if words is None else at_words(rows, words)
    if "vector" in found:
        each = [np.stack(found[name]) for name in ("vector", "vector_2") if name in found]
        by_text = [x if x.ndim == 3 else x[:, None] for x in each]  # those of candidates are [B, C, D]
        tensors[READ_VECTORS] = torch.from_numpy(np.concatenate(by_text, 1))
    if data.task.inputs == "separate":
        tensors[SINGLE_VECTORS] = torch.from_numpy(np.stack([script.vectors(task, column) for column in columns], 1))
    return tensors


_USAGE = """
## Use

```
pip install onnxruntime tokenizers numpy
python predict.py --task {name} --text "A text."{pair}
```

`predict.py` prints the answer as JSON, with the keys of `mtbert predict`. It can be imported too:
`Folder(path).answers("{name}", rows)`. Other programs load `{graph}` with any ONNX runtime; `export.json` and the
metadata of a graph name its tasks, labels and ranges. The outputs are the following; in a graph of several tasks, the
name of the task and a dot precede each of them:

- `label`: the index of the chosen class; `labels`: 1 for each chosen label of a set; `tag`: a tag for each token
- `probabilities`: of all classes, labels or tags, calibrated if the model is
- `score`: in the task's own unit, within its range; `cosine`, or `cosines` of candidates
- `prediction`: the raw numbers of the head, before calibration
- `vector`, and `vector_2` where the second text is encoded by itself: what the head reads
"""

ONNX = OnnxExporter()
