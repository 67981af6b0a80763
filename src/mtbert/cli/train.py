"""The command ``mtbert train``."""

from pathlib import Path
from typing import Annotated

import typer

from mtbert.cli.options import shipped_names


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="A recipe file, or the name of a shipped one.", autocompletion=shipped_names
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/RECIPE.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="A.B=C",
            help="Change one setting of the recipe; may be repeated. With --resume: only data.root.",
        ),
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Resume a run that was stopped.")] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="With --resume: train for N epochs in all, even if the run has ended.", metavar="N"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="After 25 steps, print where the time of a step goes; training goes on.")
    ] = False,
    track: Annotated[
        str | None,
        typer.Option(metavar="TRACKER", help="Also send all numbers to tensorboard, wandb, mlflow or trackio."),
    ] = None,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.html at the end.")] = False,
) -> None:
    """Train one model on the tasks of a recipe.

    The folder of the run also gets report.html, a page about it.

    Examples:

      mtbert train demo --out runs/demo

      mtbert train cs224n --set data.root=data --set train.seed=1 --out runs/seed1

      mtbert train my-tasks.yaml --set train.lr=2e-5

      mtbert train cs224n --set data.root=data --profile --out runs/profiled

      mtbert train demo --track tensorboard --out runs/tracked

      mtbert train --resume runs/seed1

      mtbert train --resume runs/seed1 --epochs 5

      mtbert train --resume runs/seed1 --set data.root=/new/place
    """
    if resume is not None and recipe is None and (out or overwrite):
        raise ValueError("--resume goes on in the run's own folder, so give neither --out nor --overwrite with it.")
    if (recipe is None) == (resume is None):
        raise ValueError("give a RECIPE, or --resume RUN without one. See: mtbert train --help")
    if epochs is not None and resume is None:
        raise ValueError("--epochs is for --resume. For a new run give --set train.epochs=N.")
    from mtbert import api

    api.train(
        recipe,
        out=out,
        changes=set_ or (),
        overwrite=overwrite,
        resume=resume,
        epochs=epochs,
        profile=profile,
        track=track,
        report=not no_report,
        progress=True,
    )
