"""One BERT-family encoder fine-tuned on several sentence tasks at once.

Names are imported on first use: ``load`` needs torch, and ``mtbert --help`` does not.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtbert.use.predictor import Predictor, load

    __version__: str

__all__ = ["Predictor", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("mtbert")
    if name not in __all__:
        raise AttributeError(f"module 'mtbert' has no attribute '{name}'")
    from mtbert.use import predictor

    return getattr(predictor, name)
