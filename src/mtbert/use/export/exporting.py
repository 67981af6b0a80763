"""The export of a trained model, and the check that the exported model gives the same answers."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.console import Console

from mtbert import files, locks
from mtbert.advice import option, see
from mtbert.batch import Dataset
from mtbert.messages import Note, as_warnings, caller_console, few, near, shown, tell, warn
from mtbert.model.download import origin
from mtbert.model.model import Model
from mtbert.progress_bar import followed, progress_of
from mtbert.recipe.settings import Recipe
from mtbert.use.evaluate import dev_sets
from mtbert.use.export import Compared, Exported, Exporter, OptionName, Wanted
from mtbert.use.export.card import write_about, write_card
from mtbert.use.export.check import COMPARED_ROWS, SCORED_ROWS, compare, compare_scores, some_rows
from mtbert.use.export.known import EXPORTERS
from mtbert.use.hub_runs import EXPORT_FILE, find_run
from mtbert.use.inputs import labelled, unlabelled
from mtbert.use.predictor import Predictor, load
from mtbert.use.trained import early_model, recipe_of, trained_files


def export(
    run: str | Path | Predictor,
    to: str,
    out: str | Path,
    tasks: Sequence[str] | None = None,
    *,
    rows: str | Path | None = None,
    together: bool = False,
    int8: bool = False,
    tolerance: float = 0.005,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Exported:
    """Writes a trained model in a form that other programs load, and checks that it gives the same answers.

    Args:
        run: The folder of a run, or its subfolder ``best/`` or ``last/``; or a predictor that was loaded from one.
        to: The format: ``onnx``, ``transformers`` or ``sentence-transformers``.
        out: The folder to write.
        tasks: The names of the tasks to export. The default is all tasks that the format can hold.
        rows: A file with rows on which answers are compared. The default is 256 rows of dev.
        together: For ``onnx``: whether one graph holds all tasks that take the same inputs.
        int8: For ``onnx``: whether to quantise the weights to 8-bit integers. The model is then smaller and faster,
            and its answers differ a little.
        tolerance: The largest drop in dev score that ``int8`` may cause.
        overwrite: Whether to replace an earlier export.
        progress: Whether to print progress and results, as ``mtbert export`` does. None: only in a notebook.

    Returns:
        The export. ``path`` is the folder. ``largest`` is the largest difference between an answer of the exported
        model and the answer of the original. ``notes`` says for each task what the format cannot hold.

    Raises:
        ValueError, FileNotFoundError: If the model or the rows cannot be read, if the format cannot hold a task that is
            named in ``tasks``, if ``out`` holds an export and ``overwrite`` is false, or if ``out`` holds anything
            else.
        FloatingPointError: If the answers of the exported model differ too much from the answers of the original. In
            this case, nothing is written.

    >>> mtbert.export("runs/mine", "onnx", "mine-onnx", ["topic"]).largest  # doctest: +SKIP
    2.4e-07
    """
    chosen: dict[OptionName, bool] = {"together": together, "int8": int8}
    order = _Order(
        to=to,
        out=files.check_out(Path(out)),
        tasks=tuple(tasks or ()),
        source=None if rows is None else str(rows),
        options=frozenset(name for name, on in chosen.items() if on),
        tolerance=tolerance,
        overwrite=overwrite,
    )
    consoles = caller_console(progress), caller_console(progress, stderr=True)
    with followed(consoles[1]):
        return _export_as(run if isinstance(run, Predictor) else Path(run), order, *consoles)


@dataclass(frozen=True)
class _Order:
    """The arguments of :func:`export`, except the model."""

    to: str
    out: Path
    tasks: tuple[str, ...]
    source: str | None
    options: frozenset[OptionName]
    tolerance: float
    overwrite: bool


def _export_as(model: Path | Predictor, order: _Order, console: Console, warnings: Console) -> Exported:
    exporter = _exporter(order)
    _check_place(order)
    path = find_run(model) if isinstance(model, Path) else model.folder
    if path is None:
        raise ValueError("a model in memory has no dev rows to compare answers on. Give the folder of its run.")
    predictor = load(path) if isinstance(model, Path) else model
    for line in early_model(predictor, path):
        warn(warnings, line)
    predictor = replace(predictor, model=_exact(predictor.model))
    recipe = recipe_of(path, ())
    tasks, left_out = _tasks(exporter, predictor, recipe, order)
    for name, why in left_out.items():
        warn(warnings, f"{name} is left out: {why}")
    rounds = "int8" in order.options
    most = SCORED_ROWS if rounds else COMPARED_ROWS
    found, read = _rows(predictor, recipe, path, tasks, order)
    tell(warnings, read)
    rows = {name: some_rows(data, most) for name, data in found.items()}
    wanted = Wanted(
        predictor, tasks, order.options, lambda line: console.print(line, soft_wrap=True), origin(recipe.model.path)
    )
    if apart := _apart(exporter, wanted):
        share = f"With {option('together', True)}, tasks that take the same inputs share a graph, and one pass."
        wanted.tell(f"{few(apart)}: a graph each, with the whole encoder in each. {share}")
    compared: dict[str, Compared] = {}

    def fill(folder: Path) -> None:
        with progress_of(f"writing {order.to}"):
            answering = exporter.write(wanted, folder)
        write_about(exporter, wanted, compared, folder)
        for name in tasks:
            with progress_of(f"comparing the answers of {name}"):
                if rounds:
                    metric = recipe.tasks[name].metric
                    one = compare_scores(predictor.model, rows[name], metric, answering[name], order.tolerance)
                else:
                    one = compare(predictor.model, rows[name], answering[name])
            compared[name] = one
            wanted.tell(f"{name}: {one}")
        write_about(exporter, wanted, compared, folder)
        write_card(exporter, wanted, compared, folder)

    with locks.alone(order.out, "export", lasting=False) as held:
        _check_place(order)
        held.replace(fill)
    written = (str(file.relative_to(order.out)) for file in sorted(order.out.rglob("*")) if file.is_file())
    notes = {name: exporter.lost(predictor.model, predictor.task(name)) for name in tasks}
    return Exported(order.out, tuple(written), compared, notes, left_out)


def _apart(exporter: Exporter, wanted: Wanted) -> tuple[str, ...]:
    """Returns the tasks that would share a graph if the user had given the option ``together``.

    If the user has given this option, or if the export format lacks the option, the tuple is empty.
    """
    if "together" in wanted.options or "together" not in exporter.options:
        return ()
    by_graph: dict[object, list[str]] = {}
    for task, facts in exporter.facts(replace(wanted, options=wanted.options | {"together"})).items():
        by_graph.setdefault(facts["graph"], []).append(task)
    return tuple(task for tasks in by_graph.values() if len(tasks) > 1 for task in tasks)


def _exporter(order: _Order) -> Exporter:
    if order.to not in EXPORTERS:
        raise ValueError(
            f"{option('to')} {shown(order.to)}: no such format.{near(order.to, EXPORTERS)} There are {few(EXPORTERS)}."
        )
    exporter = EXPORTERS[order.to]
    lacking = [name for name in exporter.packages if find_spec(name) is None]
    if lacking:
        raise ValueError(
            f'{option("to", order.to)}: {few(lacking)} not installed. Run: pip install "{exporter.install}" '
            f"{see('install')}"
        )
    for extra in sorted(order.options - exporter.options):
        able = [name for name, other in EXPORTERS.items() if extra in other.options]
        raise ValueError(
            f"{option(extra)}: is not for {option('to', order.to)}. Use {option('to')} {few(able)}, or drop "
            f"{option(extra)}."
        )
    return exporter


def _exact(model: Model) -> Model:
    """Returns the model on the CPU, with all computation in float32."""
    exact = copy.deepcopy(model).to("cpu")
    exact.compute = torch.float32
    return exact


def _tasks(exporter: Exporter, predictor: Predictor, recipe: Recipe, order: _Order) -> tuple[list[str], dict[str, str]]:
    """Returns a pair: the tasks to export, and the reasons why others are left out.

    Raises:
        ValueError: If a task that the user named cannot be exported, or if no task can be exported.
    """
    wanted = list(dict.fromkeys(order.tasks or predictor.tasks))
    reasons = {}
    for name in wanted:
        task = predictor.task(name)
        untrained = name in recipe.tasks and not recipe.tasks[name].scored
        why = "no loss trains its answers. Export another task." if untrained else None
        why = why or exporter.refusal(predictor.model, task)
        if why is not None:
            reasons[name] = why
    for name, why in reasons.items():
        if order.tasks or len(reasons) == len(wanted):
            raise ValueError(f"task {name}, --to {order.to}: {why}")
    return [name for name in wanted if name not in reasons], reasons


def _rows(
    predictor: Predictor, recipe: Recipe, path: Path, tasks: Sequence[str], order: _Order
) -> tuple[dict[str, Dataset], list[Note]]:
    """Returns a pair: the rows on which the export of each task is checked, and the notes from reading them.

    The check of an int8 export compares scores, so it uses only rows with labels.
    """
    found: dict[str, Dataset] = {}
    notes: list[Note] = []
    if order.source is None:
        found = dev_sets(predictor, recipe, tasks)[0]
    elif "int8" in order.options:
        for name in tasks:
            trained = trained_files(path, name)
            found[name], said = labelled(predictor, recipe, name, order.source, trained, settable=False)
            notes += as_warnings(said)
    else:
        data, _, notes = unlabelled(predictor, recipe, tasks, order.source, settable=False)
        found = {one.task.name: one for one in data}
    for name in tasks:
        if name not in found or not len(found[name]):
            raise ValueError(f"task {name}: there is no row to compare answers on. Give --input FILE with some.")
    return found, list(dict.fromkeys(notes))


def _check_place(order: _Order) -> None:
    found = locks.find_held(order.out)
    if found is None or locks.is_free(order.out):
        return
    if not (found / EXPORT_FILE).is_file():
        raise ValueError(f"{order.out}: exists, and is no export. Give another folder.")
    if not order.overwrite:
        raise ValueError(f"{order.out}: exists. Give another folder, or replace it ({option('overwrite', True)}).")
