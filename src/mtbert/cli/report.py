"""The command ``mtbert report``."""

from pathlib import Path
from typing import Annotated

import typer

from mtbert.messages import plain_console


def report(
    path: Annotated[Path, typer.Argument(metavar="RUN_OR_STUDY", help="The folder of a run, or of a study.")],
    test: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=FILE", help="Score --row on this labelled file, once; give one file per task."),
    ] = None,
    row: Annotated[str | None, typer.Option(help="The row to score on the test files.")] = None,
) -> None:
    """Write report.html, a page about a run or a study.

    Its figures show which techniques help, how certain this is, and which answers are wrong. The page is one file that
    needs no network. While a study is running, it covers the runs that have ended. The report of a run that was stopped
    is about its best model so far.

    The options --row and --test use test files to score one row (recipe) of a study. Choose the row by its scores on
    dev: a study can be scored on test files only once, and its folder keeps a record of that.

    Examples:

      mtbert report runs/demo

      mtbert report studies/demo

      mtbert report studies/mine --row smart --test topic=test.csv --test quality=quality-test.csv
    """
    from mtbert.studying import commands

    files = {}
    for given in test or ():
        task, equals, file = given.partition("=")
        if not (task and equals and file) or task in files:
            raise ValueError(f"--test {given}: give TASK=FILE, once for each task.")
        files[task] = Path(file)
    commands.report_on(path, plain_console(), row, files)
