"""The interfaces of answer types that give a label to each word of a text.

Dimension key: B texts, W words of all texts, K tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from mtbert.answers import Cells, TaskFacts

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class OfWords(Protocol):
    """The methods of an answer type that assigns a label to each word.

    Predictions are ``[W, K]``. If the model makes no prediction for a word, its numbers are ``nan``.
    """

    def decode_words(
        self, task: TaskFacts, prediction: Tensor, texts: Sequence[str], words: Sequence[npt.NDArray[np.int64]]
    ) -> list[dict[str, Any]]:
        """Returns one answer per text, for people to read.

        Args:
            task: The task.
            prediction: The predictions for the words of all texts, one after the other.
            texts: The texts.
            words: An array ``[words, 2]`` for each text: where each of its words begins and ends, in characters.
        """
        ...


@runtime_checkable
class Repairing(Protocol):
    """A label kind that repairs invalid BIO tags when it reads labels."""

    def repaired(self, task: TaskFacts, cells: Cells) -> npt.NDArray[np.int64]:
        """Returns the number of wrong tags that :meth:`LabelKind.read` repairs in each cell, ``[B]``."""
        ...
