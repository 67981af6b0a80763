"""``mtbert init``: from files to a recipe that can be trained."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from mtbert import files
from mtbert.advice import command_line
from mtbert.data.cells import readable
from mtbert.dev_rows import NoDevRow
from mtbert.drafting.by_name import groups
from mtbert.drafting.guessing import TableGuess, guess
from mtbert.drafting.looking import given_files, look
from mtbert.drafting.questions import Questions
from mtbert.drafting.writing import MULTILINGUAL, all_english, recipe_text
from mtbert.messages import count, few, tell_end, warn
from mtbert.progress_bar import followed
from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import Recipe
from mtbert.splits import split_table
from mtbert.training.assemble import check_data
from mtbert.training.signals import Stopped

RESERVED = ("overall", "mean")  # no task has these names
MOST_NAMED = 3  # most tables that the name of a recipe names


def draft(given: Sequence[str], out: Path | None, console: Console, read: Callable[[], str] | None) -> Path:
    """Looks at data files, writes a recipe for them, and checks the data with it. Returns the path of the recipe.

    Args:
        given: The files.
        out: The recipe to write; by default a file in the working folder that is named after the data.
        console: The console that shows guesses, questions and the report on the data.
        read: A function that returns the user's answer to a question; None if nobody can be asked.

    Raises:
        FileNotFoundError, ValueError: If the files cannot be read or hold nothing to train on, or if the recipe exists.
        Stopped: If Ctrl-C is pressed after the recipe was written.
    """
    if out is not None:
        _check_new(out)
    found = groups([look(place) for place in given_files(given)])
    names = [group.name for group in found if group.name]
    out = out or Path(f"{'-'.join(names[:MOST_NAMED]) or 'mine'}.yaml")
    _check_new(out)
    questions, taken = Questions(console, read), set(RESERVED)
    tables = [guess(group, questions, taken) for group in found]
    for table in tables:
        _tell(table, console)
    if not all_english(tables):
        warn(
            console,
            "the texts do not look English, and the recipe has an English encoder. Set model.path to one for their "
            f"language, such as {MULTILINGUAL}.",
        )
    files.write_new(out, recipe_text(tables, out))
    name = readable(str(out))
    console.print(f"wrote {name}", soft_wrap=True)
    again = command_line("data", "check", out)
    try:
        seeds = _better_seeds(load_recipe(str(out)))
        if seeds:
            files.write_text(out, recipe_text(tables, out, seeds))
        with followed(console):
            report = check_data(load_recipe(str(out)))
        report.show(console)
    except ValueError as error:
        raise ValueError(f"{error} {name} is written; mend the data or the recipe, then: {again}") from None
    except KeyboardInterrupt:
        raise Stopped(f"stopped. {name} is written, but its data are not checked. Check them with: {again}") from None
    tell_end(console, f"the recipe is {name}; look at its guesses", command_line("train", out))
    return out


def _better_seeds(recipe: Recipe) -> dict[str, int]:
    """Returns a dict from table name to a ``dev_seed`` that is better than the seed in ``recipe``.

    A better seed divides the classes more evenly between train and dev. A table is left out if the seed in ``recipe``
    already divides its classes evenly, or if no better seed was found.
    """
    found = {}
    for name in recipe.tasks_by_table():
        try:
            found[name] = split_table(recipe, name).better_seed
        except NoDevRow as error:
            found[name] = error.better_seed
    return {name: seed for name, seed in found.items() if seed is not None}


def _check_new(out: Path) -> None:
    if out.suffix not in (".yaml", ".yml"):
        raise ValueError(f"{readable(str(out))}: a recipe must be a .yaml file. Give --out NAME.yaml.")
    files.check_target(out, "Give --out NAME.yaml.")
    if os.path.lexists(out):  # a broken link, too
        raise ValueError(f"{readable(str(out))}: there is such a file, which stays as it is. Give --out NAME.yaml.")


def _tell(table: TableGuess, console: Console) -> None:
    """Prints what was guessed about a table."""
    names = few([readable(file.place.name) for file in table.group.train], 3)
    whole = all(file.whole for file in table.group.train)
    looked = count(table.rows, "row") if whole else f"looked at the first {count(table.rows, 'row')}"
    console.print(f"{names}: {looked}, texts in {few([text.name for text in table.texts])}", soft_wrap=True)
    for task in table.tasks:
        console.print(f"  task {task.name}: {task.type} ({task.because})", soft_wrap=True)
    for remark in table.remarks:
        warn(console, remark)
