"""Engines run the encoder and the heads of a model. Everything else about an answer is the same for all engines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, Protocol

import torch
from torch import Tensor

from mtbert import environment, scoring
from mtbert.batch import Dataset
from mtbert.messages import few
from mtbert.model.model import Model
from mtbert.use.export import Differs
from mtbert.use.export.check import LARGEST_DIFFERENCE, largest_difference
from mtbert.use.predictor import Predictor

ROUNDED_DIFFERENCE = 0.1  # of a probability or a score's share of the range
TOY_TEXTS = (
    "A good film.",
    "I would not watch it again, not even for money.",
    "Where is the next station?",
    "the weather in Lisbon is fine today",
    "1 + 1 = 2",
    "He paid 12.50 for two tickets & a drink!",
    "yes",
    'She said: "never", and left the house without a coat, although it had rained since the early morning.',
    "Une phrase en français, et une autre.",
    "???",
    "cat dog cat dog cat dog cat dog cat dog cat dog cat dog cat dog cat dog cat dog cat dog cat dog cat dog cat dog",
    "It is neither very good nor very bad; most people who have seen it say so.",
)
EngineName = Literal["torch", "onnx", "onnx-int8"]


class Engine(Protocol):
    """Runs a model on one data set per task, for one or more tasks. Each task's answer type decodes the predictions."""

    def __call__(self, data: Sequence[Dataset], *, vectors: bool = False) -> Mapping[str, tuple[Tensor, ...]]:
        """Returns a dict from task name to a tuple: the raw predictions and, if ``vectors`` is true, vectors.

        The vectors are those that the task's head reads. They are in one tensor or, if the texts of an example are
        encoded separately, in one tensor for each text. All tensors are in the order of the examples. Texts that
        several data sets share are encoded only once.
        """
        ...


@dataclass(frozen=True)
class TorchEngine:
    """Runs the model with PyTorch, without padding."""

    model: Model

    def __call__(self, data: Sequence[Dataset], *, vectors: bool = False) -> Mapping[str, tuple[Tensor, ...]]:
        if vectors:
            return scoring.predict_with_vectors(self.model, data)
        return {name: (found,) for name, found in scoring.predict_together(self.model, data).items()}


def engine_named(name: EngineName, model: Model, precision: str) -> Engine:
    """Returns the engine called ``name`` for ``model``. ``precision`` is ``fp32``, ``bf16`` or ``auto``.

    The engines ``onnx`` and ``onnx-int8`` run the model on the CPU. Making such an engine takes some seconds.

    Raises:
        ValueError: If a package is missing, or if the engine does not have this precision.
    """
    if name == "torch":
        model.compute = environment.precision(precision, next(model.parameters()).device)
        return TorchEngine(model)
    if precision != "fp32":
        raise ValueError(f"--engine {name} has no --precision {precision}. Leave --precision out.")
    missing = [package for package in ("onnx", "onnxruntime", "onnxscript") if find_spec(package) is None]
    if missing:
        raise ValueError(f'--engine {name}: {few(missing)} is not installed. Run: pip install "mtbert[export,serve]"')
    from mtbert.use.export.engine import make_engine

    model.compute = torch.float32
    return make_engine(model.to("cpu"), int8=name == "onnx-int8", threads=torch.get_num_threads())


def difference(predictor: Predictor, engine: Engine) -> float:
    """Returns the largest difference between an answer of ``engine`` and PyTorch's answer to the same toy text.

    A difference between scores is divided by the width of the task's range.
    """
    found = 0.0
    for name, task in predictor.tasks.items():
        columns = [TOY_TEXTS[i:] + TOY_TEXTS[:i] for i in range(task.texts or 3)]
        data = predictor.read(name, list(zip(*columns, strict=True)) if len(columns) > 1 else TOY_TEXTS)
        ours, theirs = (one([data])[name][0] for one in (TorchEngine(predictor.model), engine))
        found = max(found, largest_difference(predictor.model, task, ours, theirs))
    return found


def odd_answers(name: EngineName, apart: float) -> tuple[str, ...]:
    """Returns a tuple: one warning if ``name`` is ``onnx-int8`` and ``apart`` is above 0.1, otherwise nothing.

    Args:
        name: The name of the engine.
        apart: The largest difference between the engine's answers and those of PyTorch.

    Raises:
        Differs: If ``name`` is any other engine and ``apart`` is above 0.0001.
    """
    said = f"--engine {name}: answers to toy texts differ from those of PyTorch by up to {apart:.1e}"
    if name == "onnx-int8":
        return () if apart <= ROUNDED_DIFFERENCE else (f"{said}. mtbert export --int8 tells what that costs.",)
    if not apart <= LARGEST_DIFFERENCE:  # nan is a difference too
        raise Differs(f"{said}; at most {LARGEST_DIFFERENCE:g} is allowed. Use --engine torch.")
    return ()
