"""Fine-tunes one BERT-family encoder on several sentence tasks at once.

    result = mtbert.train("mine.yaml")
    result.scores, result.path
    mtbert.load("runs/mine")(["one text", "another"])

The package imports its names on first use, so that ``import mtbert`` alone does not load torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtbert.api import Studied, Trained, evaluate, review, study, train, tune
    from mtbert.pushing import push
    from mtbert.recipe.settings import Recipe
    from mtbert.scores import Scores
    from mtbert.use.export.exporting import export
    from mtbert.use.predictor import Predictor, load

    __version__: str

__all__ = [
    "Predictor",
    "Recipe",
    "Scores",
    "Studied",
    "Trained",
    "__version__",
    "evaluate",
    "export",
    "load",
    "push",
    "review",
    "study",
    "train",
    "tune",
]

_MODULES = {
    "Predictor": "mtbert.use.predictor",
    "Recipe": "mtbert.recipe.settings",
    "Scores": "mtbert.scores",
    "export": "mtbert.use.export.exporting",
    "load": "mtbert.use.predictor",
    "push": "mtbert.pushing",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("mtbert")
    if name not in __all__:
        raise AttributeError(f"module 'mtbert' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES.get(name, "mtbert.api")), name)


def __dir__() -> list[str]:
    return __all__
