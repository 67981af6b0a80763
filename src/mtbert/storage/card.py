"""``mtbert.json``: everything that a model needs besides its encoder and its saved weights."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from mtbert import json_files
from mtbert.answers.fitting import NOTHING_FITTED, FittedName
from mtbert.messages import few, shown
from mtbert.model.model import Model
from mtbert.model.settings import Pal
from mtbert.settings import Settings
from mtbert.storage.tensors import COPY_AGAIN
from mtbert.task import Pooling, Task

FORMAT = 1  # version of mtbert.json; a file with another number is refused
NEWER = f"{COPY_AGAIN} If a newer mtbert wrote it, use that one."


class Card(Settings):
    """The content of ``mtbert.json``: everything that a model needs besides its encoder and its saved weights."""

    format: int
    pooling: Pooling
    max_length: int = Field(ge=1, le=2**20)
    tasks: dict[str, Task] = Field(max_length=1000)
    pal: Pal | None = None
    # The names of the fitted numbers in each task's head; null in older files, whose runs held no rows out.
    fitted: dict[str, tuple[FittedName, ...]] | None = None
    unshare: int = Field(default=0, ge=0)
    step: int | None = Field(default=None, ge=0)  # optimizer steps that the model was trained for; null in older files

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        if not self.tasks and self.format == FORMAT:
            raise ValueError("tasks: must name one or more, found none.")
        for name, task in self.tasks.items():
            if task.name != name:
                raise ValueError(f"tasks: {shown(name)} has the name {shown(task.name)}; the two must agree.")
            missing = task.answer.labels.missing(task)
            if missing is not None:
                raise ValueError(f"tasks: {shown(name)} has no {missing}.")
        unknown = set((self.pal and self.pal.tasks) or ()) - set(self.tasks)
        if unknown:
            raise ValueError(f"pal.tasks: there is no task {shown(min(unknown))}.")
        for name, task in self.tasks.items():
            known = {task.fitted(c, held_out=h) for c in (False, True, "isotonic") for h in (False, True)}
            if self.saved_numbers[name] not in {*known, _once_saved(task)}:
                raise ValueError(f"fitted: {shown(name)} cannot have {few(self.saved_numbers[name])}.")
        return self

    @property
    def saved_numbers(self) -> dict[str, tuple[FittedName, ...]]:
        """For each task, the names of the fitted numbers, such as ``threshold``, that are saved with its head."""
        return {name: (self.fitted or {}).get(name, _once_saved(task)) for name, task in self.tasks.items()}

    @property
    def fitted_numbers(self) -> dict[str, tuple[FittedName, ...]]:
        """For each task, the names of the fitted numbers, such as ``threshold``, that the task's answers depend on.

        A fitted number is not a trained weight. It is computed from predictions and labels. The names are those in
        :attr:`saved_numbers`, without the useless thresholds that early versions of mtbert saved.
        """
        return {
            name: () if self.tasks[name].predicts.fits == NOTHING_FITTED else saved
            for name, saved in self.saved_numbers.items()
        }


def _once_saved(task: Task) -> tuple[FittedName, ...]:
    """Returns the names of the fitted numbers that early versions of mtbert saved for ``task``.

    These versions gave every cosine head a threshold, even if its answers are scores, which depend on no threshold.
    """
    return ("threshold",) if task.head_kind.gives_cosine else ()


def read_card(folder: Path) -> Card:
    """Returns the validated content of ``mtbert.json`` in a model folder.

    Raises:
        FileNotFoundError: If the folder has no such file.
        ValueError: If the file is damaged or has another format version. The message names the file.
    """
    file = folder / "mtbert.json"
    card = json_files.read_settings(file, Card, NEWER)
    if card.format != FORMAT:
        raise ValueError(f"{file}: format {card.format}; this version reads {FORMAT}. Use the mtbert that wrote it.")
    return card


def check_card(model: Model, folder: Path) -> Card:
    """Checks that ``mtbert.json`` in ``folder`` describes ``model``, and returns its content.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If the file is damaged or describes another model. The message names the file.
    """
    card = read_card(folder)
    for name in ("pooling", "max_length", "tasks", "pal", "unshare"):
        if getattr(card, name) != getattr(model, name):
            raise ValueError(
                f"{folder / 'mtbert.json'}: belongs to another run, which has another {name}. {COPY_AGAIN}"
            )
    return card
