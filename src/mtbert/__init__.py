"""Fine-tunes one BERT-family encoder on several sentence tasks at once.

    result = mtbert.train("mine.yaml")
    result.scores, result.path
    mtbert.load("runs/mine")(["one text", "another"])

The package imports its names on first use, so that ``import mtbert`` alone does not load torch.
"""

import importlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtbert.api import Trained, check, evaluate, review, train
    from mtbert.api_studies import Studied, study, tune
    from mtbert.data.check import DataReport
    from mtbert.messages import MtbertWarning
    from mtbert.pushing import push
    from mtbert.recipe.settings import Recipe
    from mtbert.scores import Scores
    from mtbert.use.export.exporting import export
    from mtbert.use.predictor import Predictor, load

    __version__: str

__all__ = [
    "DataReport",
    "MtbertWarning",
    "Predictor",
    "Recipe",
    "Scores",
    "Studied",
    "Trained",
    "__version__",
    "check",
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
    "DataReport": "mtbert.data.check",
    "MtbertWarning": "mtbert.messages",
    "Predictor": "mtbert.use.predictor",
    "Recipe": "mtbert.recipe.settings",
    "Scores": "mtbert.scores",
    "Studied": "mtbert.api_studies",
    "export": "mtbert.use.export.exporting",
    "load": "mtbert.use.predictor",
    "push": "mtbert.pushing",
    "study": "mtbert.api_studies",
    "tune": "mtbert.api_studies",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("mtbert")
    if name not in __all__:
        raise AttributeError(f"module 'mtbert' has no attribute '{name}'")
    with _interrupts_held():
        module = importlib.import_module(_MODULES.get(name, "mtbert.api"))
    return getattr(module, name)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A context manager in which an interrupt (Ctrl-C) has to wait until the end.

    A torch that was interrupted while it was imported cannot be imported again in the same process.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is None or threading.current_thread() is not threading.main_thread():  # only that one gets interrupts
        yield
        return
    arrived: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if arrived:
            signal.raise_signal(signal.SIGINT)


def __dir__() -> list[str]:
    return __all__
