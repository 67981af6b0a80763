"""The commands ``mtbert recipe`` and ``mtbert data``, which show and check recipes and data without training."""

from typing import Annotated

import typer

from mtbert.cli_options import Overrides, RecipeName
from mtbert.messages import plain_console

recipes_app = typer.Typer(rich_markup_mode=None, help="Look at recipes.", no_args_is_help=True)
data_app = typer.Typer(rich_markup_mode=None, help="Look at data before training.", no_args_is_help=True)


@recipes_app.command("show")
def show(recipe: RecipeName, set_: Overrides = None) -> None:
    """Print a recipe in full: with the recipes that it extends, all defaults, and the changes made by --set.

    Example:

      mtbert recipe show demo --set train.epochs=1
    """
    from mtbert.recipe.files import dump_recipe, load_recipe

    typer.echo(dump_recipe(load_recipe(recipe, set_ or ())), nl=False)


@recipes_app.command("list")
def list_() -> None:
    """Print the recipes that come with mtbert, each with a description.

    Example:

      mtbert recipe list
    """
    from mtbert.recipe.files import describe, shipped_recipes

    names = shipped_recipes()
    width = max(map(len, names))
    for name in names:
        typer.echo(f"{name:{width}}  {describe(name)}")


@recipes_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of recipe files. An editor can use it to complete and check recipes.

    Example:

      mtbert recipe schema > recipe.schema.json
    """
    import json

    from mtbert.recipe.schema import recipe_schema

    typer.echo(json.dumps(recipe_schema(), indent=2))


@data_app.command("check")
def check(
    recipe: RecipeName,
    set_: Overrides = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 2 also on a warning.")] = False,
) -> None:
    """Read the data of a recipe, and print sizes, labels, lengths, duplicates and leaks.

    Also prints how many times a run would go over the train data of each task. A leak is a text of dev that also occurs
    in train. The exit code is 2 if there is an error in the data.

    Examples:

      mtbert data check cs224n --set data.root=data

      mtbert data check my-tasks.yaml --strict
    """
    from mtbert.recipe.files import load_recipe
    from mtbert.training.assemble import check_data

    warnings = check_data(load_recipe(recipe, set_ or ()), plain_console())
    if warnings and strict:
        raise typer.Exit(2)
