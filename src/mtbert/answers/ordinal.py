"""The answer type for ordered classes, such as 1 to 5 stars: one logit per class.

The size of an error is the difference between the class indices of answer and label.
"""

from mtbert.answers import AnswerType
from mtbert.answers.class_labels import ClassLabels
from mtbert.answers.classification import Logits
from mtbert.answers.heads import OUTPUTS
from mtbert.answers.measures import ACCURACY, MACRO_F1
from mtbert.answers.probabilities import METRICS_OF_CLASSES
from mtbert.answers.seen import SeenColumn, Suits
from mtbert.answers.soft import SoftLabels, with_soft


def _suits(column: SeenColumn) -> Suits | None:
    if len(column.classes) < 3:
        return None
    if column.dense:
        return Suits(0.5 if column.codes else 0.8, column.told(), "if the numbers are an order")
    if column.numbers:
        return Suits(0.2, column.told(), "if an answer is one of these numbers")
    return Suits(0.2, column.told(), "if they have an order (then give labels: [LOWEST, ..., HIGHEST])")


_LABELS = ClassLabels(ordered=True, figures=("confusion", "distances"), suits_column=_suits)
ORDINAL = with_soft(
    AnswerType(
        "ordinal",
        _LABELS,
        (ACCURACY, MACRO_F1, *METRICS_OF_CLASSES),
        {OUTPUTS: Logits(feeds=("logits", "ordered logits"), ordered=True)},
    ),
    SoftLabels(_LABELS),
)
