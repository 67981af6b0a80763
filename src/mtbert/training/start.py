"""Starts a run in a new folder."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from mtbert import environment, locks
from mtbert.advice import call, option, see
from mtbert.data.memory import FOLDER, NO_ROWS, MemoryRows
from mtbert.environment import ENVIRONMENT_FILE
from mtbert.files import resolved
from mtbert.json_files import write_settings
from mtbert.messages import Note, tell
from mtbert.processes import ALONE, Processes
from mtbert.progress_bar import followed
from mtbert.recipe.files import RECIPE_FILE, dump_recipe
from mtbert.recipe.given_data import rooted_at
from mtbert.recipe.identity import recipe_digest
from mtbert.recipe.settings import Recipe, as_plain
from mtbert.scores import Scores
from mtbert.training import session
from mtbert.training.assemble import assemble
from mtbert.training.join import call_others, share_state
from mtbert.training.trackers import Tracker


def start_run(
    recipe: Recipe,
    out: Path,
    console: Console,
    overwrite: bool = False,
    profile: bool = False,
    track: Tracker | None = None,
    rows: MemoryRows = NO_ROWS,
    processes: Processes = ALONE,
) -> Scores:
    """Trains ``recipe`` in the new folder ``out``, and returns the scores of the best model on dev.

    The folder is locked, so that no other process can train in it at the same time. An existing run is overwritten only
    after the whole recipe and all data have been checked. If the start fails, no new folder remains.

    Args:
        recipe: The recipe. Its ``data.root`` must be ``out`` if ``rows`` are given.
        out: The folder of the run.
        console: Shows progress and scores.
        overwrite: Whether to replace an existing run.
        profile: Whether to print how the time of a step is spent.
        track: A tracker that also receives all logged numbers; None for no tracker.
        rows: Data in memory, which are saved in the folder. The recipe that is written there has no ``data.root``, so
            that the folder can be moved.
        processes: The processes that train the run together. Only the first of them calls this function.

    Raises:
        ValueError, FileNotFoundError: If the recipe, the data or the encoder cannot be used, if ``out`` holds a run and
            ``overwrite`` is false, if ``out`` holds anything else, or if another process trains in ``out``.
    """
    _check_place(out, overwrite=True)  # before a lock is put into a folder of something else
    with locks.alone(out, "train") as held, rows.written(held.folder) as place:
        _check_place(out, overwrite)
        if not locks.is_free(out):
            _check_reads(recipe, held.folder, rows)
        with rows.named(), followed(console):
            rooted = recipe if place is None else rooted_at(recipe, str(place))
            call_others(rooted, held.folder, processes)
            made = assemble(rooted, processes=processes)
        made = replace(made, recipe=recipe)
        with followed(console):
            found = [*made.notes, *made.data_notes]
        notes = [Note(rows.renamed(note.text), note.warning) for note in found]
        tell(console, notes)
        run = made.run(processes)
        share_state(run, made.digests)
        record = environment.make_record(
            made.device, made.digests, recipe_digest(as_plain(recipe)), made.leaked, processes.launch
        )

        def write(folder: Path) -> None:
            write_settings(folder / ENVIRONMENT_FILE, record)
            kept = recipe
            if place is not None:
                (place / FOLDER).rename(folder / FOLDER)
                kept = rooted_at(recipe, None)
            (folder / RECIPE_FILE).write_text(dump_recipe(kept), encoding="utf-8")

        held.replace(write)
        return session.lead(run, made.tokenizer, out, console, profile, track, notes)


def _check_reads(recipe: Recipe, out: Path, rows: MemoryRows) -> None:
    """Raises a ValueError if the recipe reads files in ``out``, because overwriting ``out`` would delete them."""
    sources = (source for task in recipe.tasks.values() for source in (task.train, task.dev, task.test))
    files_read = (file for source in sources if source is not None for file in source.files if file not in rows.tables)
    for path in (*(resolved(recipe.root() / file) for file in files_read), Path(recipe.model.path)):
        if path.is_absolute() and resolved(path).is_relative_to(out):  # others are names: demo, or an id of the hub
            raise ValueError(f"{out}: the recipe reads {path}, which overwriting would remove. Give another folder.")


def _check_place(out: Path, overwrite: bool) -> None:
    """Raises a ValueError unless ``out`` is free, or holds a run and ``overwrite`` is true."""
    found = locks.find_held(out)
    if found is None or locks.is_free(out):
        return
    if not all((found / name).is_file() for name in (RECIPE_FILE, ENVIRONMENT_FILE)):
        raise ValueError(f"{out}: exists. It is no run, so give another folder.")
    if not overwrite:
        raise ValueError(
            f"{out}: exists. Go on with: {call('train', resume=out)}; or give another folder with {option('out')}, or "
            f"replace the run with {option('overwrite', True)}. {see('resume')}"
        )
