"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer


def shipped_names(incomplete: str) -> list[str]:
    """Returns the shipped recipes whose names begin with ``incomplete``, for shell completion."""
    from mtbert.recipe.files import shipped_recipes

    return [name for name in shipped_recipes() if name.startswith(incomplete)]


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
