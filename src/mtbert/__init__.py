"""One BERT-family encoder fine-tuned on several sentence tasks at once.

``load`` is imported on first use, because it needs torch and ``mtbert --help`` does not.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtbert.use import Predictor, load

__all__ = ["Predictor", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mtbert' has no attribute '{name}'")
    from mtbert import use

    return getattr(use, name)
