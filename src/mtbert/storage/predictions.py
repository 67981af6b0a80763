"""A model's predictions on dev, saved beside its weights.

Dimension key: B examples, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import Tensor

from mtbert import metrics
from mtbert.storage.tensors import COPY_AGAIN, read_tensors, save_tensors

PREDICTIONS = "predictions.safetensors"


@dataclass(frozen=True)
class Predicted:
    """A model's predictions for one data set, in the order of its examples.

    ``raw`` is ``[B, K]`` logits, or ``[B]``: one logit, score or cosine, float32. ``decided`` is ``[B]``: class indices
    as int64, or scores mapped to 0..1, as float64.
    """

    raw: Tensor
    decided: Tensor

    def read_by(self, metric: str) -> npt.NDArray[Any]:
        """Returns the values that ``metric`` reads, ``[B]``: ``raw`` if it ranks examples, else ``decided``."""
        return (self.raw if metric in metrics.OF_RANKS else self.decided).numpy()


def save_predictions(predicted: Mapping[str, Predicted], folder: Path) -> None:
    """Writes each task's predictions on dev into ``folder``."""
    tensors = {f"{name}.raw": p.raw for name, p in predicted.items()}
    save_tensors(tensors | {f"{name}.decided": p.decided for name, p in predicted.items()}, folder / PREDICTIONS)


def load_predictions(folder: Path) -> dict[str, Predicted]:
    """Returns each task's predictions on dev, as :func:`save_predictions` wrote them.

    Raises:
        FileNotFoundError: If the folder has no predictions.
        ValueError: If they are damaged; the message names the file.
    """
    tensors = read_tensors(folder / PREDICTIONS)
    names = dict.fromkeys(key.rpartition(".")[0] for key in tensors)
    try:
        return {name: Predicted(tensors[f"{name}.raw"], tensors[f"{name}.decided"]) for name in names}
    except KeyError as error:
        raise ValueError(f"{folder / PREDICTIONS}: has no {error}. {COPY_AGAIN}") from None
