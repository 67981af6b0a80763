"""The squared error of scores.

Dimension key: B examples, K scores of an example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from mtbert.losses import LossWeight, Needs, Pass
from mtbert.losses.missing import mean_of_known
from mtbert.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


class MeanSquaredError(Settings):
    """The mean squared difference between prediction and label, where labels are mapped to [0, 1].

    Labels are mapped from the task's range. For a range from 0 to 5, the label 4 becomes 0.8, and the loss is 1/25 of
    the squared error in the unit of the labels. If an example has several scores, its loss is the mean over its known
    scores.

    The prediction is neither mapped nor clamped. With the cosine head, the prediction is the cosine, from -1 to 1, as
    in Reimers and Gurevych, "Sentence-BERT", 2019.
    """

    needs: ClassVar = Needs(reads=("score", "cosine"), because="a score or a cosine", soft=True)
    kind: Literal["mse"] = "mse"
    weight: LossWeight = 1.0

    def __call__(self, p: Pass) -> Tensor:
        from torch.nn.functional import mse_loss

        prediction, labels = p.out.prediction, p.labels.to(p.out.prediction.dtype)
        if labels.dim() > 1:
            return p.mean(mean_of_known((prediction - labels.nan_to_num()).square(), labels))
        return p.mean(mse_loss(prediction, labels, reduction="none"))
