"""The subcommands of ``mtbert recipe``. They print recipes and the schema of recipe files."""

from typing import Annotated

import typer

from mtbert.cli.options import Overrides, RecipeName, shipped_names

recipe = typer.Typer(rich_markup_mode=None, help="Look at recipes.", no_args_is_help=True)


@recipe.command("show")
def show(
    recipe: RecipeName,
    set_: Overrides = None,
    diff: Annotated[
        str | None,
        typer.Option(
            metavar="OTHER", help="Print only the settings that differ from this recipe.", autocompletion=shipped_names
        ),
    ] = None,
) -> None:
    """Print a recipe in full, with all defaults.

    The printed recipe includes the settings of recipes that RECIPE extends, and the changes made by --set.

    With --diff OTHER, print only a line for each setting that differs: the value in OTHER, then the value in RECIPE.

    Examples:

      mtbert recipe show demo --set train.epochs=1

      mtbert recipe show paper/surgery --diff paper/base
    """
    from mtbert.recipe.difference import different_settings
    from mtbert.recipe.files import dump_recipe, load_recipe

    shown = load_recipe(recipe, set_ or ())
    if diff is None:
        typer.echo(dump_recipe(shown), nl=False)
        return
    for line in different_settings(load_recipe(diff), shown) or [f"every setting is as in {diff}"]:
        typer.echo(line)


@recipe.command("list")
def list_() -> None:
    """Print the names and descriptions of the shipped recipes.

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
