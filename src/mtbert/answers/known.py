"""The table of all answer types that a recipe can name. It contains one line for each type."""

from importlib import import_module
from typing import TYPE_CHECKING, Literal

from mtbert.answers import AnswerType

_PLACES = (  # ``module.NAME`` inside this package
    "classification.CLASSIFICATION",
    "ordinal.ORDINAL",
    "binary.BINARY",
    "regression.REGRESSION",
    "multilabel.MULTILABEL",
    "ranking.RANKING",
    "tokens.WORD_TAGS",
)


def _loaded(place: str) -> AnswerType:
    module, _, name = place.rpartition(".")
    found: AnswerType = getattr(import_module(f"mtbert.answers.{module}"), name)
    return found


ANSWER_TYPES = {answer.name: answer for answer in map(_loaded, _PLACES)}

if TYPE_CHECKING:
    TypeName = str
else:  # pydantic names the known ones
    TypeName = Literal[tuple(ANSWER_TYPES)]
