"""The command ``mtbert watch``."""

from pathlib import Path
from typing import Annotated

import typer

from mtbert.messages import plain_console


def watch(
    path: Annotated[Path, typer.Argument(metavar="RUN_OR_STUDY", help="The folder of a run, or of a study.")],
) -> None:
    """Show in the terminal how far a run or a study is.

    Shows losses, dev scores, and the time left. It reads the logs every two seconds and changes nothing, so it may run
    beside training, in another terminal or on another machine that sees the folder. It ends with the run, or with
    Ctrl-C. Without a terminal, it prints the present state once.

    Examples:

      mtbert watch runs/demo

      mtbert watch studies/demo

      mtbert watch runs/demo > state.txt
    """
    from mtbert.studying.watching import watch_folder

    watch_folder(path, plain_console())
