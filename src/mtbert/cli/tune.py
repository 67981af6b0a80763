"""The command ``mtbert tune``."""

from pathlib import Path
from typing import Annotated

import typer

from mtbert.cli.options import Overrides, RecipeName


def tune(
    recipe: RecipeName,
    trials: Annotated[int, typer.Option(min=1, help="Number of trials, including those of earlier calls.")] = 20,
    out: Annotated[Path | None, typer.Option(help="The folder of the trials. Default: tuned/RECIPE.")] = None,
    set_: Overrides = None,
    on_dev: Annotated[
        bool, typer.Option("--on-dev", help="Score trials on dev; scores on dev are then no fair estimate any more.")
    ] = False,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A database for the trials, which several commands then share."),
    ] = None,
) -> None:
    """Search for good settings within the ranges of a recipe.

    The recipe lists the ranges under the key "tune:". The best settings are written to NAME-tuned.yaml. Trials are
    scored on a part of train (dev_fraction) that shares no text with the rest, so dev stays unseen. With --on-dev,
    trials are scored on dev instead, and later scores on dev are then too high. The score of a trial is its best
    evaluation. A trial that falls behind the others is stopped early. If this command is interrupted, run it again to
    go on. Tuning needs optional packages: pip install 'mtbert[tune]'.

    Examples:

      mtbert tune mine.yaml --trials 30 --out tuned/mine

      mtbert tune mine.yaml --trials 30 --storage postgresql://USER@HOST/DATABASE

      mtbert train tuned/mine/mine-tuned.yaml
    """
    from mtbert import api_studies

    api_studies.tune(recipe, trials, out, changes=set_ or (), on_dev=on_dev, storage=storage, progress=True)
