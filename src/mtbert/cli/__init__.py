"""The command line. Each command has its own file in this package.

The file of a command defines the command's options and help text, and calls the code that does the work.

Each command imports what it needs when it runs, so that ``--help`` does not load torch.
"""

from importlib import import_module
from typing import Annotated

import typer

from mtbert.advice import worded_for_shell
from mtbert.cli.exit_codes import run_command

# In the order of the help. The file NAME.py has NAME: a function for a command, or a Typer for a group of commands.
COMMANDS = (
    "init",
    "train",
    "evaluate",
    "predict",
    "review",
    "tune",
    "study",
    "report",
    "watch",
    "recipe",
    "data",
    "export",
    "push",
    "serve",
    "doctor",
    "docs",
)

app = typer.Typer(
    help="One BERT-family encoder fine-tuned on several sentence tasks at once.\n\n"
    "Try it on generated data (three minutes): mtbert train demo --out runs/demo",
    no_args_is_help=True,
    rich_markup_mode=None,  # Rich would read the brackets of mtbert[tune] as markup
    pretty_exceptions_enable=False,
)


def _add(name: str) -> None:
    found = getattr(import_module(f"{__name__}.{name}"), name)
    if isinstance(found, typer.Typer):
        app.add_typer(found, name=name)
    else:
        alone = typer.Typer()  # a group without a name: Typer would list plain commands before all groups
        alone.command()(found)
        app.add_typer(alone)


for _name in COMMANDS:
    _add(_name)


def _print_version(wanted: bool) -> None:
    if wanted:
        import mtbert

        typer.echo(f"mtbert {mtbert.__version__}")
        raise typer.Exit


@app.callback()
def _before(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Handles the options that come before a command, such as ``--version``.

    Also sets a mode for the command that follows: its messages advise what to type on the command line, not what to
    write in Python.
    """
    ctx.with_resource(worded_for_shell())


def main() -> None:
    """Runs the command line; :func:`run_command` turns failures into messages and exit codes."""
    run_command(app)
