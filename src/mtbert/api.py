"""Python functions for training, scoring, studies and tuning.

Each function does the same as the command of the same name, but it prints nothing unless ``progress`` is true. A user's
mistake raises ValueError, FileNotFoundError or TypeError with the message that the command would print. Packages that
only studies need, such as matplotlib, are imported when a study starts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from mtbert import files
from mtbert.messages import command_line, plain_console, shown, tell_end
from mtbert.part_share import share_of
from mtbert.processes import connect
from mtbert.recipe.files import shipped_recipes
from mtbert.recipe.given import plain
from mtbert.recipe.given_data import with_rows
from mtbert.recipe.settings import Recipe
from mtbert.scores import Scores
from mtbert.training import trackers
from mtbert.training.heartbeat import heartbeats
from mtbert.training.join import continues, join_run
from mtbert.training.resume import resume_run
from mtbert.training.start import start_run
from mtbert.use.evaluate import score_run
from mtbert.use.predictor import Predictor, load

RecipeLike = str | Path | Mapping[str, Any] | Recipe
Changes = Mapping[str, Any] | Sequence[str]


@dataclass(frozen=True, repr=False)
class Trained:
    """The result of :func:`train`: ``path`` is the run's folder; ``scores`` are the dev scores of its best model."""

    path: Path
    scores: Scores

    @cached_property
    def predictor(self) -> Predictor:
        """The best model of the run, loaded on first use."""
        return load(self.path)

    def __repr__(self) -> str:
        return f"{self.path}\n{self.scores}"

    def _repr_html_(self) -> str:
        return self.scores._repr_html_()


@dataclass(frozen=True)
class Studied:
    """The result of :func:`study`.

    Attributes:
        path: The folder of the study.
        failed: A dict from the name of each failed run to the reason for its failure.
    """

    path: Path
    failed: Mapping[str, str]

    @property
    def report(self) -> Path:
        """The path of the report, an HTML page with tables, figures and examples of wrong answers.

        The file exists if at least one run of the study has ended.
        """
        from mtbert.studying.report import REPORT_FILE

        return self.path / REPORT_FILE


def train(
    recipe: RecipeLike | None = None,
    data: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    *,
    changes: Changes = (),
    overwrite: bool = False,
    resume: str | Path | None = None,
    epochs: int | None = None,
    profile: bool = False,
    track: str | None = None,
    report: bool = False,
    progress: bool = False,
) -> Trained:
    """Trains one model on the tasks of a recipe, and returns the run.

    Args:
        recipe: A recipe file, the name of a shipped recipe, the content of a recipe file as a dict, or a
            :class:`~mtbert.Recipe`.
        data: A dict that maps the name of a table, or of a task with data of its own, to its rows. For a table or task
            in this dict, the recipe needs no ``train``. The rows are a pandas or polars DataFrame, a
            ``datasets.Dataset``, a pyarrow Table or a list of dicts. To give rows for several splits, use a dict with
            the keys ``train``, ``dev`` and ``test``, each with rows in one of these forms. The rows need the columns
            that the recipe names, by default ``text`` and ``label``. They are copied into the folder of the run, so
            that the run can be resumed, scored and moved.
        out: The folder of the run. The default is ``runs/NAME``, or ``runs/run`` for a recipe that is not a file.
        changes: Settings to change, as a dict such as ``{"train.lr": 2e-5}`` or a list such as ``["train.lr=2e-5"]``.
        overwrite: Whether to replace an existing run.
        resume: The folder of a run to resume, given instead of ``recipe``. Then ``changes`` may change only
            ``data.root``.
        epochs: The new total number of epochs, only with ``resume``. This can extend a run that has already ended.
        profile: Whether to print how the time of a step is spent. This prints nothing unless ``progress`` is true.
        track: A tracker that also receives all logged numbers: ``tensorboard``, ``wandb``, ``mlflow`` or ``trackio``.
        report: Whether to write ``report.html`` into the folder of the run at its end, as the command does. If that
            fails, a warning is printed, and the run still counts as ended.
        progress: Whether to show a progress bar and print what the command prints.

    Returns:
        The run. ``path`` is its folder, and ``predictor`` is its best model. ``scores["task"]["metric"]`` and
        ``scores.overall`` are the scores of that model on dev. ``scores.warnings`` lists reasons to doubt the scores.

    Raises:
        ValueError: If the recipe or the data cannot be used, or if ``out`` exists and ``overwrite`` is false.
        FileNotFoundError: If a file does not exist.
        TypeError: If ``data`` holds rows of a type that is not listed above.
        FloatingPointError: If a loss is not finite.

    >>> import mtbert
    >>> recipe = {"tasks": {"mood": {"type": "classification", "inputs": "single"}}}
    >>> rows = [{"text": f"{word} film", "label": word} for word in ("good", "bad") for _ in range(20)]
    >>> mtbert.train(recipe, data={"mood": {"train": rows, "dev": rows}}, out="runs/mood")  # doctest: +SKIP
    """
    console = _console(progress)
    if (recipe is None) == (resume is None) or (resume and (out is not None or overwrite or data is not None)):
        raise ValueError("train: give a recipe, or resume=RUN without recipe, data, out and overwrite.")
    if epochs is not None and resume is None:
        raise ValueError("train: epochs is for resume. For a new run change train.epochs.")
    with heartbeats(connect()) as together:
        if not together.first:
            return Trained(*join_run(together))
        tracker = None if track is None else trackers.tracker(track, console)
        if recipe is not None:
            place = Path("runs") / _name(recipe, shipped_recipes()) if out is None else _path("out", out)
            path = files.check_out(place)
            settings, rows = with_rows(recipe, _overrides(changes), {} if data is None else data, path)
            if not continues(path, settings, together):
                scores = start_run(settings, path, console, overwrite, profile, tracker, rows, together)
                return _ended(Trained(path, scores), report, console)
            changes = ()
        else:
            path = _path("resume", resume)
        scores = resume_run(path, console, _overrides(changes), epochs, profile, tracker, together)
        return _ended(Trained(path, scores), report, console)


def evaluate(run: str | Path, split: str | Path = "dev", *, task: str | None = None, changes: Changes = ()) -> Scores:
    """Returns the scores of a trained model on the dev or test data of its recipe, or on a labelled file.

    Args:
        run: The folder of a run, or its subfolder ``best/`` or ``last/``.
        split: ``dev``, ``test``, or the path of a labelled file for ``task``.
        task: The name of the only task to score. By default, every task that was trained to predict labels is scored.
        changes: New values of ``data.root`` or of the columns and files of tasks, in the form that :func:`train` takes.

    Returns:
        The scores. ``scores["task"]["metric"]`` is one score, and ``scores.overall`` is the mean over tasks.
        ``scores.constant`` has the metrics of the best constant answer, for comparison. ``scores.warnings`` lists
        reasons to doubt the scores.

    Raises:
        ValueError, FileNotFoundError: If the model or the data cannot be read, or if the task does not exist.

    >>> mtbert.evaluate("runs/mine", "held-out.csv", task="reviews")["reviews"]["accuracy"]  # doctest: +SKIP
    0.93
    """
    if not isinstance(split, str | Path):
        found = type(split).__name__
        raise TypeError(
            f"split: must be 'dev', 'test' or the path of a labelled file, found {found}. Write the rows to a file."
        )
    return score_run(_path("run", run), str(split), task, overrides=_overrides(changes)).scores


def review(
    run: str | Path,
    task: str,
    pool: str | Path,
    out: str | Path,
    *,
    top: int = 200,
    changes: Changes = (),
    overwrite: bool = False,
    progress: bool = False,
) -> int:
    """Writes the rows of a pool that a person should label next, and returns their number.

    Args:
        run: The folder of a run, or its subfolder ``best/`` or ``last/``.
        task: The task to label for.
        pool: A file with the text columns of the task.
        out: The file to write, which ends in ``.csv``, ``.tsv`` or ``.jsonl``. It has the columns that the recipe
            reads, with empty labels, and the model's answer and its probability. The least certain row comes first.
        top: The largest number of rows to write.
        changes: New values of ``data.root`` or of the columns and files of tasks, in the form that :func:`train` takes.
        overwrite: Whether to replace the file ``out`` if it exists.
        progress: Whether to print what the command prints.

    Raises:
        ValueError, FileNotFoundError: If the model or the pool cannot be read, if the task does not exist or gives no
            probability of an answer, or if ``out`` has another extension, cannot be written, is an input or exists.

    >>> mtbert.review("runs/mine", "topic", "pool.csv", "to-label.csv", top=100)  # doctest: +SKIP
    100
    """
    from mtbert.use.review import review_run

    place, target = str(_path("pool", pool)), str(_path("out", out))
    console, overrides = plain_console(stderr=True, quiet=not progress), _overrides(changes)
    return review_run(_path("run", run), task, place, top, target, console, overrides=overrides, overwrite=overwrite)


def study(
    study: str | Path,
    out: str | Path | None = None,
    *,
    changes: Changes = (),
    workers: int = 1,
    part: str | None = None,
    progress: bool = False,
) -> Studied:
    """Runs every recipe of a study with every seed, and writes a report.

    To resume a study that was stopped, call the function again with the same arguments. Several processes, on machines
    that share the disk, may call it to share the runs. The last of them writes the report.

    Args:
        study: A study file, or the name of a shipped study.
        out: The folder of the study. The default is ``studies/NAME``.
        changes: Settings to change in all recipes, in the form that :func:`train` takes.
        workers: The largest number of runs at the same time, each in its own process. If memory is short, there are
            fewer.
        part: Train only a share of the runs. ``"2/8"`` is the second of eight equal shares.
        progress: Whether to show a progress bar and print the tables.

    Returns:
        The study. ``path`` is its folder, ``report`` is the path of its report, and ``failed`` holds the reasons why
        runs failed.

    Raises:
        ValueError, FileNotFoundError: If the study cannot be used, or if ``out`` already holds something else.

    >>> mtbert.study("my-study.yaml", workers=2).report  # doctest: +SKIP
    PosixPath('studies/my-study/report.html')
    """
    from mtbert.studying import commands, plan

    if workers < 1:
        raise ValueError(f"study: workers must be at least 1, found {workers}.")
    name = str(_path("study", study))
    path = files.check_out(plan.study_folder(name) if out is None else _path("out", out))
    share = share_of(part)
    found = plan.load_study(name, _overrides(changes))
    return Studied(path, commands.run_study(found, path, workers, _console(progress), share=share))


def tune(
    recipe: str | Path,
    trials: int = 20,
    out: str | Path | None = None,
    *,
    changes: Changes = (),
    on_dev: bool = False,
    storage: str | None = None,
    progress: bool = False,
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
        progress: Whether to show a progress bar and print the best trials.

    Raises:
        ValueError, FileNotFoundError: If the recipe cannot be used or has nothing to tune, or if ``out`` holds another
            hyperparameter search.

    >>> mtbert.train(mtbert.tune("mine.yaml", trials=30))  # doctest: +SKIP
    """
    from mtbert.studying.tunable import Tuning
    from mtbert.studying.tuning import run_tuning

    if trials < 1:
        raise ValueError(f"tune: trials must be at least 1, found {trials}.")
    path = files.check_out(Path("tuned") / _name(recipe, shipped_recipes()) if out is None else _path("out", out))
    tuning = Tuning(str(_path("recipe", recipe)), tuple(_overrides(changes)), on_dev, path, storage)
    return run_tuning(tuning, trials, _console(progress))


def _ended(run: Trained, report: bool, console: Console) -> Trained:
    """Writes the report of an ended run, if ``report`` is true. Says what to do next, and returns ``run``."""
    from mtbert.use.trained import ask_line

    page = None
    if report:
        from mtbert.studying.commands import report_at_end

        page = report_at_end(run.path, console)
    recipe = run.scores.recipe
    tell_end(
        console,
        f"the model is in {run.path / 'best'}" + (f", its report is {page}" if page is not None else ""),
        ask_line(run.path, recipe),
        command_line("train", "--resume", run.path, "--epochs", 2 * recipe.train.epochs),
    )
    return run


def _name(given: RecipeLike, shipped: Sequence[str]) -> str:
    """Returns a name for the folder of a run, a study or a hyperparameter search.

    This is the name of the file ``given`` without its ending, or ``run`` if ``given`` is not the name of a file.
    """
    if not isinstance(given, str | Path):
        return "run"
    return str(given) if str(given) in shipped else Path(given).stem


def _path(what: str, given: object) -> Path:
    if not isinstance(given, str | Path):
        raise TypeError(f"{what}: must be a path or a name, found {type(given).__name__}.")
    return Path(given)


def _overrides(changes: Changes) -> list[str]:
    if isinstance(changes, Mapping):
        return [f"{path}={json.dumps(plain(value, f'changes, {shown(path)}'))}" for path, value in changes.items()]
    listed = list(changes)
    if isinstance(changes, str) or not all(isinstance(change, str) for change in listed):
        said = 'must be a dict or a list of texts such as ["train.lr=1e-3"]'
        raise TypeError(f"changes: {said}, found {shown(changes)}.")
    return listed


def _console(progress: bool) -> Console:
    return plain_console(quiet=not progress)
