"""The answer type for ordered classes, such as 1 to 5 stars: one logit per class.

The size of an error is the difference between the class indices of answer and label.
"""

from mtbert.answers import AnswerType
from mtbert.answers.class_labels import ClassLabels
from mtbert.answers.classification import Logits
from mtbert.answers.heads import OUTPUTS
from mtbert.answers.measures import ACCURACY, MACRO_F1
from mtbert.answers.probabilities import METRICS_OF_CLASSES
from mtbert.answers.soft import SoftLabels, with_soft

_LABELS = ClassLabels(ordered=True, figures=("confusion", "distances"))
ORDINAL = with_soft(
    AnswerType(
        "ordinal",
        _LABELS,
        (ACCURACY, MACRO_F1, *METRICS_OF_CLASSES),
        {OUTPUTS: Logits(feeds=("logits", "ordered logits"), ordered=True)},
    ),
    SoftLabels(_LABELS),
)
