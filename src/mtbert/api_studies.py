"""Python functions for studies and tuning. Each does the same as the command of the same name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtbert import files
from mtbert.messages import caller_console
from mtbert.part_share import share_of
from mtbert.recipe.files import shipped_recipes
from mtbert.recipe.given import Changes, folder_name, overrides_of, path_of
from mtbert.studying import commands, plan
from mtbert.studying.report import REPORT_FILE
from mtbert.studying.tunable import Tuning
from mtbert.studying.tuning import run_tuning


@dataclass(frozen=True, repr=False)
class Studied:
    """The result of :func:`study`. Printed, it is the answer of the study and the path of its report.

    Attributes:
        path: The folder of the study.
        failed: A dict from the name of each failed run to the reason for its failure.
        answer: What the study found, as in the first lines of its report. An empty text if this call did not write the
            report, for example because some runs have not ended yet.
    """

    path: Path
    failed: Mapping[str, str]
    answer: str = ""

    @property
    def report(self) -> Path:
        """The path of the report, an HTML page with tables, figures and examples of wrong answers.

        The file exists if at least one run of the study has ended.
        """
        return self.path / REPORT_FILE

    def __repr__(self) -> str:
        failed = [f"failed: {name}: {why}" for name, why in self.failed.items()]
        where = f"report: {self.report}" if self.answer else f"no report yet: {self.path}"
        return "\n".join([*([self.answer] if self.answer else []), *failed, where])


def study(
    study: str | Path | Mapping[str, Any],
    out: str | Path | None = None,
    *,
    changes: Changes = (),
    workers: int = 1,
    part: str | None = None,
    progress: bool | None = None,
) -> Studied:
    """Runs every recipe of a study with every seed, and writes a report.

    To resume a study that was stopped, call the function again with the same arguments. Several processes, on machines
    that share the disk, may call it to share the runs. The last of them writes the report.

    Args:
        study: A study file, the name of a shipped study, or the content of a study file as a dict. In a dict, a recipe
            may also be a dict or a :class:`~mtbert.Recipe`, as in :func:`train`.
        out: The folder of the study. The default is ``studies/NAME``, or ``studies/study`` for a dict.
        changes: Settings to change in all recipes, in the form that :func:`train` takes.
        workers: The largest number of runs at the same time, each in its own process. If memory is short, there are
            fewer.
        part: Train only a share of the runs. ``"2/8"`` is the second of eight equal shares.
        progress: Whether to show a progress bar and print the tables. None: only in a notebook.

    Returns:
        The study. ``path`` is its folder, ``report`` is the path of its report, and ``failed`` holds the reasons why
        runs failed.

    Raises:
        ValueError, FileNotFoundError: If the study cannot be used, or if ``out`` already holds something else.

    >>> mtbert.study("my-study.yaml", workers=2).report  # doctest: +SKIP
    PosixPath('studies/my-study/report.html')
    """
    if workers < 1:
        raise ValueError(f"study: workers must be at least 1, found {workers}.")
    name = study if isinstance(study, Mapping) else str(path_of("study", study))
    path = files.check_out(plan.study_folder(name) if out is None else path_of("out", out))
    share = share_of(part)
    found = plan.load_study(name, overrides_of(changes))
    ended = commands.run_study(found, path, workers, caller_console(progress), share=share)
    return Studied(path, ended.failed, ended.answer)


def tune(
    recipe: str | Path,
    trials: int = 20,
    out: str | Path | None = None,
    *,
    changes: Changes = (),
    on_dev: bool = False,
    storage: str | None = None,
    progress: bool | None = None,
) -> Path:
    """Searches the ranges of a recipe for good settings, and returns the path of a recipe file with the best settings.

    Args:
        recipe: A recipe file with a ``tune`` part, or the name of a shipped recipe.
        trials: The total number of trials, including those of earlier calls.
        out: The folder of the trials. The default is ``tuned/NAME``.
        changes: Settings of the recipe to change, in the form that :func:`train` takes.
        on_dev: Whether to score the trials on dev instead of a held-out part of train. Later scores on dev are then too
            optimistic.
        storage: The URL of a database for the trials, such as ``postgresql://USER@HOST/DATABASE``. Any number of
            processes that share the disk may then call this function together.
        progress: Whether to show a progress bar and print the best trials. None: only in a notebook.

    Raises:
        ValueError, FileNotFoundError: If the recipe cannot be used or has nothing to tune, or if ``out`` holds another
            hyperparameter search.

    >>> mtbert.train(mtbert.tune("mine.yaml", trials=30))  # doctest: +SKIP
    """
    if trials < 1:
        raise ValueError(f"tune: trials must be at least 1, found {trials}.")
    path = files.check_out(
        Path("tuned") / folder_name(recipe, shipped_recipes()) if out is None else path_of("out", out)
    )
    tuning = Tuning(str(path_of("recipe", recipe)), tuple(overrides_of(changes)), on_dev, path, storage)
    return run_tuning(tuning, trials, caller_console(progress))
