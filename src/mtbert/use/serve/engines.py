"""Engines run the encoder and the heads of a model. Everything else about an answer is the same for all of them."""

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

EngineName = Literal["torch", "onnx", "onnx-int8"]


class Engine(Protocol):
    """Runs a model on data sets, one for each task. The task's answer type decodes the raw predictions."""

    def __call__(self, data: Sequence[Dataset], *, vectors: bool = False) -> Mapping[str, tuple[Tensor, ...]]:
        """Returns for each task its raw predictions and, if ``vectors`` is true, the vectors that its head reads.

        The values and their order are those of :func:`mtbert.scoring.predict_with_vectors`. Tokens that several
        data sets share are encoded only once.
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
