"""The command ``mtbert study``."""

from pathlib import Path
from typing import Annotated

import typer

from mtbert.cli.options import Overrides


def study(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a shipped one.")],
    out: Annotated[Path | None, typer.Option(help="The study's folder. Default: studies/STUDY.")] = None,
    set_: Overrides = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at the same time; fewer if memory is short.")] = 1,
) -> None:
    """Run every recipe of a study with every seed, and report which techniques help, how much, and how certain this is.

    Run the same command again to resume a study that was stopped. You can also add recipes or seeds to the study file,
    and run the same command again. Runs that have ended are not repeated.

    Shipped studies: demo (generated data, nine runs, about 20 minutes on two busy cores), paper (the recipes called
    paper/...), quick (the same techniques with MiniLM and shorter runs), best (all recipes of quick, and the recipe
    best), best-parts (the recipe best, each time without one of its parts), six (seven tasks from six data sets: one
    model for all tasks, and one model for each task).

    Examples:

      mtbert study demo --out studies/demo

      mtbert study quick --set data.root=data --workers 2

      mtbert study my-study.yaml --out studies/mine
    """
    from mtbert import api

    if api.study(study, out, changes=set_ or (), workers=workers, progress=True).failed:
        raise typer.Exit(1)
