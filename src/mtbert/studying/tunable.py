"""Makes the recipe of each trial of a hyperparameter search (``mtbert tune``)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtbert.advice import option
from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import Recipe


@dataclass(frozen=True)
class Tuning:
    """A recipe to tune, and the folder for its trials."""

    name: str  # the recipe: a file, or the name of a shipped one
    overrides: tuple[str, ...]  # changes of it, as a.b=c
    on_dev: bool  # trials are scored on dev, not on a slice of train
    out: Path
    storage: str | None = field(default=None, repr=False)  # the URL of a database; None: a file in out

    @property
    def best(self) -> Path:
        """Returns the path of the best trial's recipe: ``NAME-tuned.yaml``, where NAME is the recipe's name."""
        return self.out / f"{Path(self.name).stem}-tuned.yaml"

    def recipe(self, chosen: Mapping[str, Any]) -> Recipe:
        """Returns the recipe with the settings in ``chosen``, which maps the path of each setting to its value."""
        changes = [f"{path}={json.dumps(value)}" for path, value in chosen.items()]
        return load_recipe(self.name, [*self.overrides, *changes])

    def trial(self, chosen: Mapping[str, Any]) -> Recipe:
        """Returns the recipe of one trial. ``chosen`` maps the path of each tuned setting to its value.

        If the attribute ``on_dev`` of this object is true, the trial is scored on dev. Otherwise, the trial is scored
        on a held-out part of train.

        Raises:
            ValueError: If ``on_dev`` is false, and a task has no dev file. (Its dev would be that part of train.)
        """
        found = self.recipe(chosen)
        if self.on_dev:
            return found
        for task in found.tasks.values():
            if task.dev is None and task.scored:
                kind = "tasks" if task.table is None else "tables"
                raise ValueError(
                    f"recipe {self.name}, {kind}.{task.source_name}: has no dev file, so its dev is the part of train "
                    f"that trials would be scored on. Name a dev file, or give {option('on_dev', True)}."
                )
        return found.with_sources(lambda *_: {"dev": None})
