"""The command line, one file per command. Each imports its modules when it runs, so that ``--help`` loads no torch."""

from typing import Annotated

import typer

from mtbert.cli import evaluate, export, predict, push, report, review, serve, study, train, tune
from mtbert.cli.data import data_app
from mtbert.cli.exit_codes import run_command
from mtbert.cli.recipe import recipes_app

app = typer.Typer(
    help="One BERT-family encoder fine-tuned on several sentence tasks at once.\n\n"
    "Try it on generated data, in about three minutes: mtbert train demo --out runs/demo",
    no_args_is_help=True,
    rich_markup_mode=None,  # Rich would read the brackets of mtbert[tune] as markup
    add_completion=False,
    pretty_exceptions_enable=False,
)
# In the order of the help.
for _command in (
    train.train,
    evaluate.evaluate,
    predict.predict,
    review.review,
    tune.tune,
    study.study,
    report.report,
    export.export,
    push.push,
    serve.serve,
):
    app.command()(_command)
app.add_typer(recipes_app, name="recipe")
app.add_typer(data_app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        import mtbert

        typer.echo(f"mtbert {mtbert.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Handles the options that come before a command, such as ``--version``."""


def main() -> None:
    """Runs the command line; :func:`mtbert.cli.exit_codes.run_command` turns failures into messages and exit codes."""
    run_command(app)
