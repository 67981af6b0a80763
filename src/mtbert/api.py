"""Python functions that check data, train, score and choose rows to label.

Each function does the same as the command of the same name. The argument ``progress`` decides whether a function
shows progress and prints: True for yes, False for no, and None for only in a notebook. Warnings that are not printed go
through :mod:`warnings`, as :class:`~mtbert.MtbertWarning`. A user's mistake raises ValueError, FileNotFoundError or
TypeError with the message that the command would print.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from mtbert import files
from mtbert.advice import call
from mtbert.data.check import DataReport
from mtbert.messages import caller_console, recorded_html, recorder, tell_end, warn
from mtbert.processes import connect
from mtbert.progress_bar import followed
from mtbert.recipe.files import shipped_recipes
from mtbert.recipe.given import Changes, folder_name, overrides_of, path_of
from mtbert.recipe.given_data import RecipeLike, rooted_at, with_rows
from mtbert.scores import Scores
from mtbert.training import trackers
from mtbert.training.assemble import check_data
from mtbert.training.heartbeat import heartbeats
from mtbert.training.join import continues, join_run
from mtbert.training.resume import resume_run
from mtbert.training.start import start_run
from mtbert.use.evaluate import score_run
from mtbert.use.predictor import Predictor, load


@dataclass(frozen=True, repr=False)
class Trained:
    """The result of :func:`train`: ``path`` is the run's folder; ``scores`` are the dev scores of its best model.

    A notebook displays the object as the paths of the run and of its report, without the scores.
    """

    path: Path
    scores: Scores

    @property
    def report(self) -> Path:
        """The path of the report, an HTML page. The file does not exist if :func:`train` got ``report=False``."""
        from mtbert.studying.report import REPORT_FILE

        return self.path / REPORT_FILE

    @cached_property
    def predictor(self) -> Predictor:
        """The best model of the run, loaded on first use."""
        return load(self.path)

    def __repr__(self) -> str:
        return f"{self.path}\n{self.scores}"

    def _repr_html_(self) -> str:
        console = recorder()
        console.print(
            f"run: {self.path}", *([f"report: {self.report}"] if self.report.exists() else []), sep="\n", soft_wrap=True
        )
        return recorded_html(console)


def check(
    recipe: RecipeLike,
    data: Mapping[str, Any] | None = None,
    *,
    changes: Changes = (),
    progress: bool | None = None,
) -> DataReport:
    """Reads the data of a recipe, and returns sizes, labels, lengths, duplicates and leaks. Nothing is trained.

    Args:
        recipe: The recipe, in one of the forms that :func:`train` takes.
        data: A dict of rows, in the form that :func:`train` takes.
        changes: Settings to change, in the form that :func:`train` takes.
        progress: Whether to show a progress bar, and then the report. None: only in a notebook.

    Returns:
        The report of ``mtbert data check``. ``print(report)`` prints all of the report, and ``report.warnings`` holds
        the warnings.

    Raises:
        ValueError, FileNotFoundError, TypeError: If the recipe or the data cannot be used, as in :func:`train`.

    >>> mtbert.check("mine.yaml").warnings  # doctest: +SKIP
    ("topic, dev: no example of class 'wish'.",)
    """
    overrides = overrides_of(changes)
    console = caller_console(progress)
    with tempfile.TemporaryDirectory(prefix="mtbert-check-") as folder, followed(console):
        place = Path(folder) / "run"
        settings, rows = with_rows(recipe, overrides, {} if data is None else data, place)
        with rows.written(place) as written, rows.named():
            found = check_data(settings if written is None else rooted_at(settings, str(written)))
    found = found.renamed(rows.renamed)
    if not console.quiet:
        found.show(console)
    return found


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
    report: bool = True,
    progress: bool | None = None,
) -> Trained:
    """Trains one model on the tasks of a recipe, and returns the run.

    Args:
        recipe: A recipe file, the name of a shipped recipe, the content of a recipe file as a dict, or a
            :class:`~mtbert.Recipe`.
        data: A dict that maps the name of a table, or of a task with data of its own, to its rows. The recipe need
            not name train files for a table or task in this dict. The rows are a pandas or polars DataFrame, a
            ``datasets.Dataset``, a pyarrow Table or a list of dicts. To give rows for several splits, use a dict with
            the keys ``train``, ``dev`` and ``test``, each with rows in one of these forms. The rows need the columns
            that the recipe names, by default ``text`` and ``label``. They are copied into the folder of the run, so
            that the run can be resumed, scored and moved.
        out: The folder of the run. The default is ``runs/mine`` for a recipe file ``mine.yaml``, ``runs/demo`` for the
            shipped recipe ``demo``, and ``runs/run`` for a dict or a :class:`~mtbert.Recipe`.
        changes: Settings to change, as a dict such as ``{"train.lr": 2e-5}`` or a list such as ``["train.lr=2e-5"]``.
        overwrite: Whether to replace an existing run.
        resume: The folder of a run to resume, given instead of ``recipe``. Then ``changes`` may change only
            ``data.root``.
        epochs: The new total number of epochs, only with ``resume``. This can extend a run that has already ended.
        profile: Whether to print how the time of a step is spent. This prints nothing without progress.
        track: A tracker that also receives all logged numbers: ``tensorboard``, ``wandb``, ``mlflow`` or ``trackio``.
        report: Whether to write ``report.html`` into the folder of the run at its end. If that fails, there is a
            warning, and the run still counts as ended.
        progress: Whether to show a progress bar and print what the command prints, warnings too. None: only in a
            notebook. Without progress, a warning about the data or the run is an :class:`MtbertWarning`.

    Returns:
        The run. ``path`` is its folder, ``report`` is the path of its report, and ``predictor`` is its best model.
        ``scores["task"]["metric"]`` and ``scores.overall`` are the scores of that model on dev. ``scores.warnings``
        lists reasons to doubt the scores, including the reasons that the report gives.

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
    console = caller_console(progress)
    if (recipe is None) == (resume is None) or (resume and (out is not None or overwrite or data is not None)):
        raise ValueError("train: give a recipe, or resume=RUN without recipe, data, out and overwrite.")
    if epochs is not None and resume is None:
        raise ValueError("train: epochs is for resume. For a new run change train.epochs.")
    with heartbeats(connect()) as together:
        if not together.first:
            return Trained(*join_run(together))
        tracker = None if track is None else trackers.tracker(track, console)
        if recipe is not None:
            place = Path("runs") / folder_name(recipe, shipped_recipes()) if out is None else path_of("out", out)
            path = files.check_out(place)
            settings, rows = with_rows(recipe, overrides_of(changes), {} if data is None else data, path)
            if not continues(path, settings, together):
                scores = start_run(settings, path, console, overwrite, profile, tracker, rows, together)
                return _ended(Trained(path, scores), report, console)
            changes = ()
        else:
            path = path_of("resume", resume)
        scores = resume_run(path, console, overrides_of(changes), epochs, profile, tracker, together)
        return _ended(Trained(path, scores), report, console)


def evaluate(
    run: str | Path,
    split: str | Path = "dev",
    *,
    task: str | None = None,
    data: Mapping[str, Any] | None = None,
    changes: Changes = (),
    progress: bool | None = None,
) -> Scores:
    """Returns the scores of a trained model on the dev or test data of its recipe, on a labelled file, or on rows.

    Args:
        run: The folder of a run, or its subfolder ``best/`` or ``last/``.
        split: ``dev``, ``test``, or the path of a labelled file for ``task``.
        task: The name of the only task to score. By default, every task that was trained to predict labels is scored.
        data: Labelled rows to score, in place of ``split``: a dict that maps the name of a task or table to its rows,
            in one of the forms that :func:`train` takes. The tasks that read these rows are scored.
        changes: New values of ``data.root`` or of the columns and files of tasks, in the form that :func:`train` takes.
        progress: Whether to show a progress bar and print warnings. None: only in a notebook. Without progress, a
            warning is an :class:`MtbertWarning`.

    Returns:
        The scores. ``scores["task"]["metric"]`` is one score, and ``scores.overall`` is the mean over tasks.
        ``scores.constant`` has the metrics of the best constant answer, for comparison. ``scores.warnings`` lists
        reasons to doubt the scores.

    Raises:
        ValueError, FileNotFoundError: If the model or the data cannot be read, or if the task does not exist.
        TypeError: If ``data`` holds rows of a type that :func:`train` does not take.

    >>> mtbert.evaluate("runs/mine", "held-out.csv", task="reviews")["reviews"]["accuracy"]  # doctest: +SKIP
    0.93
    """
    if not isinstance(split, str | Path):
        found = type(split).__name__
        raise TypeError(
            f"split: must be 'dev', 'test' or the path of a labelled file, found {found}. Give rows as "
            "data={TASK: rows}."
        )
    if data is not None and split != "dev":
        raise ValueError("evaluate: give split or data, not both.")
    console = caller_console(progress)
    with followed(console):
        found = score_run(path_of("run", run), str(split), task, overrides=overrides_of(changes), rows=data).scores
    for line in found.warnings:
        warn(console, line)
    return found


def review(
    run: str | Path,
    task: str,
    pool: str | Path,
    out: str | Path,
    *,
    top: int = 200,
    changes: Changes = (),
    overwrite: bool = False,
    progress: bool | None = None,
) -> int:
    """Writes the rows of a pool that a person should label next, and returns their number.

    Args:
        run: The folder of a run, or its subfolder ``best/`` or ``last/``.
        task: The task to label for.
        pool: A file with the text columns of the task. If the task reads one text, and the file lacks its column, the
            only column of texts in the file is read instead.
        out: The file to write, which ends in ``.csv``, ``.tsv`` or ``.jsonl``. It has the columns that the recipe
            reads, with empty labels, and the model's answer and its probability. The least certain row comes first.
        top: The largest number of rows to write.
        changes: New values of ``data.root`` or of the columns and files of tasks, in the form that :func:`train` takes.
        overwrite: Whether to replace the file ``out`` if it exists.
        progress: Whether to print what the command prints. None: only in a notebook.

    Raises:
        ValueError, FileNotFoundError: If the model or the pool cannot be read, if the task does not exist or gives no
            probability of an answer, or if ``out`` has another extension, cannot be written, is an input or exists.

    >>> mtbert.review("runs/mine", "topic", "pool.csv", "to-label.csv", top=100)  # doctest: +SKIP
    100
    """
    from mtbert.use.review import review_run

    place, target = str(path_of("pool", pool)), str(path_of("out", out))
    console, overrides = caller_console(progress, stderr=True), overrides_of(changes)
    return review_run(path_of("run", run), task, place, top, target, console, overrides=overrides, overwrite=overwrite)


def _ended(run: Trained, report: bool, console: Console) -> Trained:
    """Writes the report of an ended run, if ``report`` is true. Says what to do next, and returns ``run``."""
    from mtbert.training.resume import stopped_early
    from mtbert.use.trained import ask_line

    made = None
    if report:
        from mtbert.studying.commands import report_at_end

        made = report_at_end(run.path, console)
    if made is not None:
        doubts = made.conclusion.doubts
        for line in doubts:
            warn(console, line)
        run = replace(run, scores=replace(run.scores, warnings=(*run.scores.warnings, *doubts)))
    recipe = run.scores.recipe
    at_best = (run.scores and run.scores.overall == 1) or stopped_early(recipe, run.path / "last")
    longer = () if at_best else (2 * recipe.train.epochs,)
    tell_end(
        console,
        f"the model is in {run.path / 'best'}" + (f", its report is {run.report}" if made is not None else ""),
        ask_line(run.path, recipe),
        *(call("train", resume=run.path, epochs=epochs) for epochs in longer),
    )
    return run
