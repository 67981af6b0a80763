"""The command ``mtbert data check``."""

from typing import Annotated

import typer

from mtbert.cli.options import Overrides, RecipeName

data = typer.Typer(rich_markup_mode=None, help="Look at data before training.", no_args_is_help=True)


@data.command("check")
def check(
    recipe: RecipeName,
    set_: Overrides = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 2 also on a warning.")] = False,
) -> None:
    """Check the data of a recipe, and print what is in them.

    Prints sizes, labels, lengths, duplicates and leaks. Also prints how many times a run would go over the train data
    of each task. A leak is a text of dev that also occurs in train. The exit code is 2 if there is an error in the
    data.

    Examples:

      mtbert data check cs224n --set data.root=data

      mtbert data check my-tasks.yaml --strict
    """
    from mtbert import api

    found = api.check(recipe, changes=set_ or (), progress=True)
    if found.warnings and strict:
        raise typer.Exit(2)
