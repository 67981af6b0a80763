"""The training of a prepared run, with its plan, progress and scores on the console."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from mtbert import environment
from mtbert.advice import call, worded
from mtbert.display import Display
from mtbert.losses import ClassWeighted
from mtbert.messages import Note, count, few, warn
from mtbert.numbers import often
from mtbert.recipe.settings import as_plain
from mtbert.scores import Scores, score_table
from mtbert.scoring import Evaluation
from mtbert.training import history, trackers
from mtbert.training.fit import fit
from mtbert.training.profile import Profile
from mtbert.training.run import Run
from mtbert.training.trackers import Tracker


def lead(
    run: Run,
    tokenizer: Tokenizer,
    out: Path,
    console: Console,
    profile: bool,
    track: Tracker | None,
    notes: Sequence[Note],
) -> Scores:
    """Trains ``run`` to its end, and returns the scores of its best model on dev.

    Args:
        run: The run, new or restored from a checkpoint.
        tokenizer: The tokenizer that is saved with the model.
        out: The folder of the run.
        console: Shows the plan, the progress and the scores.
        profile: Whether to print how the time of a step is spent.
        track: A tracker that also receives all logged numbers; None for no tracker.
        notes: Notes that have been printed already. The warnings among them are also returned, with the scores.
    """
    console.print(_plan_table(run))
    precision = str(run.model.compute).removeprefix("torch.")
    epochs, threads = count(len(run.plan.rounds), "epoch"), count(torch.get_num_threads(), "thread")
    at_work = f"with {threads}" if run.processes.size == 1 else f"in {run.processes.size} processes with {threads} each"
    console.print(
        f"{run.plan.steps} steps ({run.recipe.train.mode}), {epochs}, on {run.device.type} {at_work}, {precision}"
    )
    for line in () if run.over else _endings(run, out):
        console.print(line, soft_wrap=True)
    if run.device.type == "cpu" and (busy := environment.others_load()):
        warn(
            console,
            f"other programs want the cores too ({busy}), so training may be many times slower. {environment.WAIT}",
        )
    for line in _class_weights(run):
        console.print(line, soft_wrap=True)
    for what, parts in (("PAL", run.model.adapters), ("own top layers", run.model.tops)):
        if parts:
            tasks, encoder = len(parts), _size(run.model.encoder)
            each = _size(parts) // tasks
            more = (encoder + tasks * each) / encoder
            console.print(
                f"{what}: {each:,} parameters for each of {tasks} tasks; encoder and {what}: {more:.2f} times the "
                "encoder",
                soft_wrap=True,
            )
    trained, whole = sum(p.numel() for p in run.trained), _size(run.model) + _size(run.objective.own)
    if trained < whole:
        console.print(f"training {trained:,} of {whole:,} parameters")
    looking = Profile(console, run.model.multiplied, run.device, run.model.compute) if profile else None
    settings = trackers.settings(as_plain(run.recipe)) | {"steps": run.plan.steps}
    with track(out, settings) if track is not None else nullcontext() as log:
        try:
            warned = fit(run, tokenizer, out, Display(console), looking, log)
        except BaseException:
            run.processes.fail()  # before the tracker is closed, which may take long
            raise
    scores = run.processes.from_first(_finish(run, out, console) if run.processes.first else {})
    warnings = (*(note.text for note in notes if note.warning), *warned)
    return Scores(run.recipe, scores, f"dev: {out}", warnings)


def _finish(run: Run, out: Path, console: Console) -> dict[str, Evaluation]:
    """Prints how the run ended, and the dev scores of its best and last model. Returns the scores of the best model."""
    lines = history.read_log(out / history.METRICS)
    best, last = history.best(lines, run.recipe), history.last(lines)
    if best is None or last is None:
        raise ValueError(f"{out / history.METRICS}: has no evaluation, although the run has ended. Start it again.")
    if run.done < run.plan.steps:
        console.print(
            f"stopped early at step {run.done} of {run.plan.steps}: the last {count(run.best.since, 'evaluation')} "
            f"brought no higher score (train.patience: {run.recipe.train.patience})",
            soft_wrap=True,
        )
    scores = history.task_scores(best)
    title = f"dev: the model that predicts, best/, of step {best['step']}"
    other = None
    if best is not last:
        title += f" (best by {run.recipe.train.select})\nlast/, of step {last['step']}, is there to go on with training"
        other = ("last/", history.task_scores(last))
    console.print(score_table(run.recipe, scores, title, other))
    return scores


def _endings(run: Run, out: Path) -> Iterator[str]:
    """Yields a line for each way in which the run can end before its last step."""
    if run.plan.may_end_early(run.recipe):
        evaluations = count(run.recipe.train.patience or 0, "evaluation")
        yield f"ends early once {evaluations} in a row brought no higher score (train.patience)"
    stopping = worded("Ctrl-C", "An interrupt (Ctrl-C)")
    again = call("train", resume=out)
    yield f"{stopping} keeps the best model so far: you can evaluate or serve it, or go on with {again}"


def _size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _plan_table(run: Run) -> Table:
    """Returns a table with a row for each trained task. On a narrow terminal, long names of tasks or losses wrap."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in ("task", "type", "inputs", "losses"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("type", "inputs"))
    some = any(data.held_out is not None for data in run.data.values())
    for heading in ("train", *(["held out"] if some else []), "dev", "batch", "passes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, data in run.data.items():
        settings = run.recipe.tasks[name]
        losses = " + ".join(loss.kind for loss in settings.losses)
        table.add_row(
            name,
            settings.type,
            settings.inputs,
            losses,
            str(len(data.train)),
            *([str(len(data.held_out or ()))] if some else []),
            str(len(data.dev)),
            str(settings.batch_size),
            often(run.plan.passes[name]),
        )
    return table


def _class_weights(run: Run) -> Iterator[str]:
    """For each loss whose class weights were computed from the data, yields a line of text with these weights."""
    for name, task in run.objective.recipe.tasks.items():
        for loss, written in zip(task.losses, run.recipe.tasks[name].losses, strict=True):
            if isinstance(loss, ClassWeighted) and loss != written:
                pairs = zip(run.data[name].task.labels or (), loss.class_weights or (), strict=True)
                weights = few([f"{label} {weight:.4g}" for label, weight in pairs])
                yield f"task {name}, loss {loss.kind}: balanced class weights: {weights}"
