"""Resuming a run from its last checkpoint. On a CPU, the result is exactly the same as without an interruption.

Three things make this possible. First, all random draws of a step, except dropout and noise, are pure functions of the
seed and of counters: see :mod:`mtbert.sampling` and :meth:`mtbert.training.run.Run.step`. Second, a checkpoint contains
these counters, the state of the dropout generator, the optimizer and all weights: see :mod:`mtbert.training.snapshot`,
and :mod:`mtbert.storage.run_state` for the files. Third, nothing else may have changed: this module first checks the
recipe, the data, the number of threads and every saved file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from tokenizers import Tokenizer

from mtbert import environment, files, locks, splits, yaml_text
from mtbert.advice import call, see
from mtbert.environment import ENVIRONMENT_FILE, RunRecord
from mtbert.json_files import read_settings, write_settings
from mtbert.messages import Note, few, tell
from mtbert.processes import ALONE, Processes
from mtbert.progress_bar import followed
from mtbert.recipe.files import RECIPE_FILE, change_run_recipe, load_run_recipe
from mtbert.recipe.identity import digest_with_epochs, identity, recipe_digest
from mtbert.recipe.older import check_resumable
from mtbert.recipe.settings import Recipe
from mtbert.scores import Scores
from mtbert.storage import run_state
from mtbert.training import history, session, trackers
from mtbert.training.assemble import assemble
from mtbert.training.join import call_others, share_state
from mtbert.training.optim import learning_rate
from mtbert.training.rounds import RoundPlan
from mtbert.training.run import Run
from mtbert.training.snapshot import restore, snapshot
from mtbert.training.trackers import Tracker


def resume_run(
    out: Path,
    console: Console,
    overrides: Sequence[str] = (),
    epochs: int | None = None,
    profile: bool = False,
    track: Tracker | None = None,
    processes: Processes = ALONE,
) -> Scores:
    """Resumes the run in ``out`` from its last checkpoint, and returns the scores of its best model on dev.

    On a CPU, the result is exactly the same as that of an uninterrupted run.

    Args:
        out: The folder of the run.
        console: Shows progress and scores.
        overrides: Changes of the recipe. Only ``data.root=FOLDER`` is allowed, for data that were moved. The change is
            also written into ``recipe.yaml``.
        epochs: A new total number of epochs, also written into ``recipe.yaml``; None keeps the old number. The new
            number must be larger than the old number or, if ``train.patience`` ended the run, than the number of
            epochs that were made. With a new number, a run that has already ended goes on. The learning rate and the
            sampler follow the new schedule, and ``train.patience`` counts evaluations from 0 again.
        profile: Whether to print how the time of a step is spent.
        track: A tracker that also receives all logged numbers; None for no tracker.
        processes: The processes that train the run together. Only the first of them calls this function. A run may be
            resumed with another number of processes.

    Raises:
        ValueError, FileNotFoundError: If ``overrides`` change any setting but ``data.root``, if ``out`` holds no run,
            if another process trains this run, or if its data or files have changed or are damaged.
    """
    for override in overrides:
        if override.partition("=")[0] != "data.root":
            raise ValueError(f"{few([override])}: of a run that is resumed, only data.root may change. Leave it out.")
    found = locks.find_held(out)
    if found is None or not (found / RECIPE_FILE).is_file():
        raise FileNotFoundError(
            f"{out}: no run here (no {RECIPE_FILE}). Start one with: {call('train', 'RECIPE', out=out)}"
        )
    with locks.alone(out, "train"):
        for name in ("best", "last", RECIPE_FILE, ENVIRONMENT_FILE, trackers.IDENTITY):
            files.settle(out / name)
        with followed(console):
            run, tokenizer, notes = _restored(out, overrides, epochs, processes)
        tell(console, notes)
        at = f"at step {run.done} of {run.plan.steps}"
        how = "ended early" if run.stopped_early else "ended"
        console.print(
            f"the run had {how} {at}; its scores are below"
            if run.over and run.evaluated == run.done
            else f"going on {at}"
        )
        return session.lead(run, tokenizer, out, console, profile, track, notes)


def _restored(
    out: Path, overrides: Sequence[str], epochs: int | None, processes: Processes
) -> tuple[Run, Tokenizer, list[Note]]:
    """Restores the run in the folder ``out`` from its last checkpoint.

    Returns three things: the run, the tokenizer of the run, and notes to print. Also removes the lines of the log that
    were written after the checkpoint.
    """
    check_resumable(_kept(out), out)
    begun = load_run_recipe(out / RECIPE_FILE, overrides)
    record = environment.read_record(out / ENVIRONMENT_FILE)
    if processes.restarted and record.launch == processes.launch and epochs == begun.train.epochs:
        epochs = None  # these processes made it longer before they were restarted
    last = files.find_folder(out / "last")
    recipe = begun if epochs is None else _longer(begun, epochs, last)
    notes = _check_origin(out, last, record, begun)
    torch.set_num_threads(record.threads)
    # Checked before the data are read: a changed file may give a task other labels, or not be readable at all.
    _check_data(out, record, splits.file_digests(recipe))
    call_others(recipe, out, processes)
    made = assemble(recipe, last, processes)
    notes += made.notes
    if record.data.keys() != made.digests.keys():
        raise ValueError(
            f"{out / ENVIRONMENT_FILE}: names other data than {RECIPE_FILE}: {few(record.data)}. "
            f"{run_state.STATE_REPAIR}"
        )
    _check_data(out, record, made.digests)
    now = environment.make_record(made.device, {}, record.recipe)
    for key, before, today in (
        *((key, getattr(record, key), getattr(now, key)) for key in ("cpu", "device", "threads")),
        ("torch", record.packages.get("torch"), now.packages["torch"]),
    ):
        if before != today:
            notes.append(Note(f"{key} was {before}, now {today}: the last bits may differ.", warning=True))
    run = made.run(processes)
    if last is not None:
        state = run_state.load_state(last)
        try:
            restore(run, state)
        except ValueError as error:
            raise ValueError(f"{last}/{error}. {run_state.STATE_REPAIR}") from None
        if epochs is not None and run.done >= run.plan.steps:
            raise ValueError(
                f"epochs {epochs}: these are {run.plan.steps} steps, and the run has made {run.done}. Give more."
            )
    elif _saved_before(out / history.METRICS):
        raise FileNotFoundError(
            f"{out / 'last'}: not there, although this run had saved it. Put it back, or start again."
        )
    else:
        state = snapshot(run)
    history.cut(out, state.values, recipe)
    if epochs is not None:
        if run.best.since:  # patience is counted anew, even if the process is killed before the next checkpoint
            run.best.since = 0
            run_state.replace_values(out / "last", state.values.model_copy(update={"stale": 0}), identity(recipe))
        notes.append(_new_rate(run, begun))
    share_state(run, made.digests)
    if overrides or epochs is not None:
        _rewrite(recipe, record.model_copy(update={"launch": processes.launch}), out, bool(overrides))
    return run, made.tokenizer, notes


def _check_data(out: Path, record: RunRecord, digests: Mapping[str, str]) -> None:
    """Raises ValueError if the digest of a data source differs from that in the record of the run in ``out``."""
    for name, digest in digests.items():
        if record.data.get(name, digest) != digest:
            raise ValueError(
                f"{name}: changed since the run in {out} began. Put the old file back, or start a new run. "
                f"{see('resume')}"
            )


def _check_origin(out: Path, last: Path | None, record: RunRecord, begun: Recipe) -> list[Note]:
    """Checks that a run's recipe, its record of the environment and its checkpoint belong together and are unchanged.

    Returns notes for the user. If one of the files is wrong, raises an error that names it.
    """
    notes = []
    sealed = None if last is None else run_state.check_seal(last)
    if last is not None and sealed is None:
        if record.sealed:
            raise FileNotFoundError(f"{last / run_state.SEAL}: not there. {run_state.STATE_REPAIR}")
        line = f"{last / run_state.SEAL}: not there, as in older runs: a changed weight would not be noticed."
        notes.append(Note(line, warning=True))
    ours = identity(begun)
    kept = _kept(out)
    if record.recipe not in (recipe_digest(kept), digest_with_epochs(kept)):
        if sealed is None:
            wrong = (
                f"{out / RECIPE_FILE}: changed since the run began, or {ENVIRONMENT_FILE} beside it is of another run"
            )
        else:
            wrong = f"{out / (ENVIRONMENT_FILE if sealed == ours else RECIPE_FILE)}: changed since the run began"
        raise ValueError(f"{wrong}. Undo that, or start a new run. {see('resume')}")
    if last is not None and sealed not in (None, ours):
        raise ValueError(f"{last / run_state.SEAL}: of another run than {RECIPE_FILE}. {run_state.STATE_REPAIR}")
    return notes


def _kept(out: Path) -> dict[str, Any]:
    """Returns the recipe in ``out`` without validating it: an older version of mtbert may have written it."""
    return yaml_text.read_yaml(out / RECIPE_FILE, "recipe", "tasks")


def _longer(recipe: Recipe, epochs: int, last: Path | None) -> Recipe:
    """Returns a copy of ``recipe`` in which the number of epochs is ``epochs``.

    ``last`` is the folder of the run's last checkpoint; None if there is no checkpoint.

    Raises:
        ValueError: If ``epochs`` is not larger than the number in ``recipe``. After an early stop, any number is
            allowed.
    """
    if epochs <= recipe.train.epochs and not stopped_early(recipe, last):
        raise ValueError(f"epochs {epochs}: the run is planned for {recipe.train.epochs}. Give more, or leave it out.")
    train = recipe.train.model_copy(update={"epochs": epochs})
    return recipe.model_copy(update={"train": train})


def stopped_early(recipe: Recipe, last: Path | None) -> bool:
    """Returns whether a run was stopped early by ``train.patience``.

    ``last`` is the folder of the run's last checkpoint. If ``last`` is None, returns False.
    """
    if recipe.train.patience is None or last is None:
        return False
    values = read_settings(last / run_state.VALUES, run_state.Values, run_state.STATE_REPAIR)
    return values.stale >= recipe.train.patience


def _new_rate(run: Run, begun: Recipe) -> Note:
    """Returns a note for the user that says how the new number of epochs changes the learning rate."""
    settings = run.recipe.train
    before = RoundPlan.of(begun, run.sizes)
    lr, then = (
        settings.lr
        * learning_rate(min(run.done, plan.steps), steps=plan.steps, warmup=settings.warmup, schedule=settings.schedule)
        for plan in (run.plan, before)
    )
    return Note(
        f"{settings.epochs} epochs in place of {begun.train.epochs}: the learning rate follows the {settings.schedule} "
        f"schedule of {run.plan.steps} steps, so here it is {lr:.2g}, where it was {then:.2g}"
    )


def _rewrite(recipe: Recipe, record: RunRecord, out: Path, moved: bool) -> None:
    """Changes the recipe file of the run: writes the number of epochs and, if ``moved`` is true, also ``data.root``."""
    kept = _kept(out)
    # Written first, because this digest fits both the old and the new recipe file: a run that is killed between the two
    # writes can still be resumed.
    write_settings(out / ENVIRONMENT_FILE, record.model_copy(update={"recipe": recipe_digest(kept)}))
    now: dict[str, Any] = {"train": {"epochs": recipe.train.epochs}}
    if moved:  # otherwise a root that is written relative to this file stays relative
        now["data"] = {"root": recipe.data.root}
    change_run_recipe(out / RECIPE_FILE, now)


def _saved_before(metrics: Path) -> bool:
    """Returns whether the log proves that the run has saved a checkpoint.

    A run saves a checkpoint after each evaluation, before it goes on. Any line after the first evaluation is proof.
    """
    lines = metrics.read_bytes().splitlines() if metrics.is_file() else []
    evaluated = (i for i, line in enumerate(lines) if b'"evaluation"' in line)
    return next(evaluated, len(lines)) < len(lines) - 1
