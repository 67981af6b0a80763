"""The command ``mtbert init``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mtbert.messages import plain_console


def init(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="csv, tsv, jsonl, parquet or conll files, or a folder of save_to_disk."),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing, and take every guess.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="NAME.yaml", help="The recipe to write. Default: named after the files.")
    ] = None,
) -> None:
    """Look at files of texts and labels, and write a recipe for them.

    Guesses texts, labels and types of answers. Asks about everything that the files do not show; Enter takes the guess.
    Dev and test files are known by their names, such as reviews-dev.csv. Several columns of labels become several
    tasks. The comments in the recipe give the reason for each guess, and the other possible values. Then the data are
    checked with the recipe.

    Examples:

      mtbert init reviews.csv

      mtbert init topics.csv topics-dev.csv pairs.jsonl --out mine.yaml

      mtbert init reviews.parquet --yes
    """
    from mtbert.drafting.draft import draft

    asked = None if yes or sys.stdin is None or not sys.stdin.isatty() else input
    draft(files, out, plain_console(), asked)
