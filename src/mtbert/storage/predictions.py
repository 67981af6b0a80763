"""A model's predictions for the dev examples, saved beside its weights.

Dimension key: B examples, K numbers per prediction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import Tensor

from mtbert.answers import Metric
from mtbert.storage.tensors import COPY_AGAIN, read_tensors, save_tensors

PREDICTIONS = "predictions.safetensors"


@dataclass(frozen=True)
class Predicted:
    """A model's predictions for one data set, in the order of its examples.

    ``prediction`` holds the raw numbers of the head, ``[B]`` or ``[B, K]``, float32. ``decision`` holds the decisions
    that follow from these numbers, ``[B]`` or ``[B, K]``: class indices as int64, or scores on a scale from 0 to 1 as
    float64. ``calibrated`` holds the calibrated predictions; None if the run does not calibrate the task.
    """

    prediction: Tensor
    decision: Tensor
    calibrated: Tensor | None = None
    offsets: Tensor | None = None  # where the words of each example begin, [B + 1], if labels are those of words

    @property
    def shown(self) -> Tensor:
        """The predictions from which answers are made: the calibrated ones if there are any, or else the raw ones."""
        return self.prediction if self.calibrated is None else self.calibrated

    def read_by(self, metric: Metric) -> npt.NDArray[Any]:
        """Returns what ``metric`` compares with the labels: raw predictions, calibrated predictions, or decisions."""
        if metric.probabilities:
            return self.shown.numpy()
        return (self.prediction if metric.ranks else self.decision).numpy()


def save_predictions(predicted: Mapping[str, Predicted], folder: Path) -> None:
    """Writes each task's predictions on dev into ``folder``."""
    # The first two names are those of the first version, whose runs stay readable.
    tensors = {f"{name}.raw": p.prediction for name, p in predicted.items()}
    tensors |= {f"{name}.decided": p.decision for name, p in predicted.items()}
    tensors |= {f"{name}.calibrated": p.calibrated for name, p in predicted.items() if p.calibrated is not None}
    tensors |= {f"{name}.offsets": p.offsets for name, p in predicted.items() if p.offsets is not None}
    save_tensors(tensors, folder / PREDICTIONS)


def load_predictions(folder: Path) -> dict[str, Predicted]:
    """Returns each task's predictions on dev, read from a file in ``folder``.

    Raises:
        FileNotFoundError: If the folder has no predictions.
        ValueError: If the file is damaged. The message names the file.
    """
    tensors = read_tensors(folder / PREDICTIONS)
    names = dict.fromkeys(key.rpartition(".")[0] for key in tensors)
    try:
        return {
            name: Predicted(
                tensors[f"{name}.raw"],
                tensors[f"{name}.decided"],
                calibrated=tensors.get(f"{name}.calibrated"),
                offsets=tensors.get(f"{name}.offsets"),
            )
            for name in names
        }
    except KeyError as error:
        raise ValueError(f"{folder / PREDICTIONS}: has no {error}. {COPY_AGAIN}") from None
