"""Arguments and options that several commands share."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer


def shipped_names(incomplete: str) -> list[str]:
    """Returns the names of shipped recipes that begin with what has been typed so far, for shell completion."""
    from mtbert.recipe.files import shipped_recipes

    return [name for name in shipped_recipes() if name.startswith(incomplete)]


def task_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Returns the tasks whose names begin with what has been typed so far, for shell completion.

    They are tasks of the run that the command line names.
    """
    from mtbert.recipe.files import RECIPE_FILE
    from mtbert.yaml_text import read_yaml

    # An option without its value ends the parsing: arguments are then still in args.
    run = Path(ctx.params.get("run") or next(iter(ctx.args), ""))
    for folder in (run, run.resolve().parent):
        with suppress(ValueError, OSError):  # no run, or a damaged recipe: nothing is offered
            tasks = read_yaml(folder / RECIPE_FILE, "recipe", "tasks").get("tasks")
            return [name for name in tasks or () if str(name).startswith(incomplete)]
    return []


RecipeName = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped one.", autocompletion=shipped_names),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one setting of the recipe; may be repeated.")
]
RunOverrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change data.root, or a task's columns or files; may be repeated."),
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="The folder of a run, its best/ or last/, or USER/NAME on the Hub.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output file that exists.")]
