"""The interface of exporters, which write a trained model in a form that other libraries load.

An exporter is one file with a class that has the members of :class:`Exporter`, and a line in ``export/known.py``. The
class says which tasks its format can hold, and writes a folder. :mod:`mtbert.use.export.check` compares the answers of
the exported model with ours. :mod:`mtbert.use.export.exporting` reads the rows to compare, and makes sure that the
folder appears whole or not at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor

from mtbert.batch import Dataset
from mtbert.messages import clean, count, few
from mtbert.model.download import Origin
from mtbert.model.model import Model
from mtbert.task import Task
from mtbert.use.predictor import Predictor

OptionName = Literal["together", "int8"]

Answering = Callable[[Dataset], Mapping[str, Tensor]]
"""A function that asks the exported model about the examples of a data set, and returns its answers as tensors.

The function reads the texts of the examples, so that the exported tokenizer is compared too. The names, shapes and
meanings of the tensors are those of :meth:`mtbert.answers.PredictionKind.as_tensors`. Tensors with whole numbers, such
as the index of a label, may be left out if the format does not hold them. There are two forms:

- With a further tensor ``prediction``, the raw numbers of the head. These are compared with ours; the others, with
  scores clamped, must follow from them.
- Without it, all other tensors are compared with ours. Scores are not clamped, and an isotonic map is not applied.

Two further tensors, if they are there, are compared too. ``vectors``, ``[B, T, D]``, holds the vectors that the head
reads. ``T`` is the number of texts in an example if they are encoded separately, otherwise 1. ``single_vectors`` has
the same form, and comes from the part of the export that takes one text alone.
"""


@dataclass(frozen=True)
class Wanted:
    """A request to an exporter.

    Attributes:
        predictor: The model, on the CPU and in float32.
        tasks: The names of the tasks to export. Tasks that the exporter refuses are already left out.
        options: The options that the user switched on. The exporter knows all of them.
        tell: A function that shows the user what is being done, as one short line such as ``sst.onnx``.
        origin: The encoder that the model was fine-tuned from; None if it is unknown.
    """

    predictor: Predictor
    tasks: Sequence[str]
    options: frozenset[OptionName] = frozenset()
    tell: Callable[[str], None] = lambda line: None
    origin: Origin | None = None


class Exporter(Protocol):
    """A format in which trained models can be exported."""

    @property
    def name(self) -> str:
        """The name of the format, as in ``mtbert export --to NAME``."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that exporting needs in addition to those that mtbert always needs."""
        ...

    @property
    def install(self) -> str:
        """The argument of ``pip install`` that installs what exporting needs, such as ``mtbert[export]``."""
        ...

    @property
    def options(self) -> frozenset[OptionName]:
        """The names of the options that the format has."""
        ...

    def refusal(self, model: Model, task: Task) -> str | None:
        """Returns None if the format can hold ``task``, otherwise one line that says why it cannot, and what to do."""
        ...

    def lost(self, model: Model, task: Task) -> tuple[str, ...]:
        """Returns notes that say how the exported model's answers differ from mtbert's answers, one line each.

        A note is, for example, ``Scores are not clamped: clamp them to 0 and 5.``
        """
        ...

    def facts(self, wanted: Wanted) -> Mapping[str, Mapping[str, object]]:
        """Returns for each task the entries of ``export.json`` that depend on the format, as JSON values."""
        ...

    def usage(self, wanted: Wanted) -> str:
        """Returns, in Markdown, the part of ``README.md`` that shows how to use the exported folder."""
        ...

    def write(self, wanted: Wanted, folder: Path) -> Mapping[str, Answering]:
        """Writes the exported model into ``folder``, which is empty.

        Returns for each task a function that gets answers from the exported model. The caller compares these answers
        with those of the original, and then moves the folder to its final place.
        """
        ...


class Differs(FloatingPointError):
    """The error for an exported model whose answers differ too much from those of the original."""


@dataclass(frozen=True)
class Compared:
    """How far an exported model's answers differ from the answers of the original model, for one task.

    Attributes:
        answers: The number of examples whose answers were compared.
        largest: The largest difference between numbers in the answers, such as probabilities. If the task predicts
            numbers in a range, the difference is divided by the width of the range.
        scores: If weights were rounded to 8 bits, the values of ``metric`` for the original model and for the exported
            model. None if no weights were rounded.
        metric: The name of a metric, such as ``accuracy``; empty if ``scores`` is None.
    """

    answers: int
    largest: float
    scores: tuple[float, float] | None = None
    metric: str = ""

    def __str__(self) -> str:
        what = f"{count(self.answers, 'answer')} compared, largest difference {self.largest:.1e}"
        if self.scores is None:
            return what
        return f"{what}, {self.metric} {self.scores[0]:.4f} becomes {self.scores[1]:.4f}"


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        path: The folder that the export was written into.
        files: The names of the files in this folder.
        compared: For each exported task, how far the answers of the exported model differ from the answers of the
            original model.
        notes: For each exported task, notes on the parts of an answer that the format cannot hold.
        left_out: For each task that the format cannot hold, one line that says why, and what to do.
    """

    path: Path
    files: tuple[str, ...]
    compared: Mapping[str, Compared]
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        """The largest difference between an answer of the exported model and an answer of the original."""
        return max(one.largest for one in self.compared.values())

    def __repr__(self) -> str:
        return f"{clean(str(self.path))}: {few(self.compared)}, largest difference {self.largest:.1e}"
