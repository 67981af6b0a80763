"""The command ``mtbert evaluate``."""

from typing import Annotated

import typer

from mtbert.cli.options import RunFolder, RunOverrides, task_names
from mtbert.messages import plain_console


def evaluate(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="dev, test, or a labelled file (then with --task).")] = "dev",
    task: Annotated[
        str | None, typer.Option(help="Score only this task. Default: all tasks.", autocompletion=task_names)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, and nothing else.")] = False,
    set_: RunOverrides = None,
) -> None:
    """Score a trained model on dev, test or another labelled file.

    Dev and test are those of the recipe that the model was trained with.

    Examples:

      mtbert evaluate runs/demo

      mtbert evaluate runs/mine --task reviews --split held-out.csv

      mtbert evaluate runs/mine --task reviews --split other.csv --set tasks.reviews.columns.label=stars

      mtbert evaluate runs/mine --set data.root=/new/place --json > scores.json
    """
    from mtbert.use.evaluate import evaluate_run

    evaluate_run(run, split, task, plain_console(), plain_console(stderr=True), overrides=set_ or (), as_json=json)
