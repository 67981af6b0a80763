"""The command ``mtbert doctor``."""

from typing import Annotated

import typer

from mtbert.messages import plain_console


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, and nothing else.")] = False,
) -> None:
    """Examine this machine and installation.

    Advises where something will be slow or fail. Runs a forward and backward pass of attention and of a small encoder
    on the CPU, and on the GPU if there is one. The exit code is 1 if one of them fails.

    Examples:

      mtbert doctor

      mtbert doctor --json > machine.json
    """
    from mtbert.doctor import report_health

    if not report_health(plain_console(), as_json=json):
        raise typer.Exit(1)
