"""The commands ``mtbert recipe``, which show recipes."""

import typer

from mtbert.cli.options import Overrides, RecipeName

recipe = typer.Typer(rich_markup_mode=None, help="Look at recipes.", no_args_is_help=True)


@recipe.command("show")
def show(recipe: RecipeName, set_: Overrides = None) -> None:
    """Print a recipe in full: with the recipes that it extends, all defaults, and the changes made by --set.

    Example:

      mtbert recipe show demo --set train.epochs=1
    """
    from mtbert.recipe.files import dump_recipe, load_recipe

    typer.echo(dump_recipe(load_recipe(recipe, set_ or ())), nl=False)


@recipe.command("list")
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


@recipe.command("schema")
def schema() -> None:
    """Print the JSON Schema of recipe files. An editor can use it to complete and check recipes.

    Example:

      mtbert recipe schema > recipe.schema.json
    """
    import json

    from mtbert.recipe.schema import recipe_schema

    typer.echo(json.dumps(recipe_schema(), indent=2))
