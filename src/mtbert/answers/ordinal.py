"""The answer type for ordered classes, such as stars: one logit per class; errors are counted in classes."""

from mtbert.answers import AnswerType
from mtbert.answers.class_labels import ClassLabels
from mtbert.answers.classification import Logits
from mtbert.answers.heads import OUTPUTS
from mtbert.answers.measures import ACCURACY, MACRO_F1

ORDINAL = AnswerType(
    "ordinal",
    ClassLabels(ordered=True, figures=("confusion", "distances")),
    (ACCURACY, MACRO_F1),
    {OUTPUTS: Logits(feeds=("logits", "ordered logits"))},
)
