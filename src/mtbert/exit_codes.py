"""Running a command: every failure becomes one line and an exit code."""

import os
import sys
from contextlib import suppress

import typer

from mtbert.messages import clean


def run_command(app: typer.Typer) -> None:
    """Runs a command. A user's mistake is one line and exit code 2; a run that failed on its own ends with 1."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()  # here, where a full disk is still an error of ours
    except typer.TyperException as error:
        said = error.format_message()
        if said:  # without a command, the help was all there is to say
            context = getattr(error, "ctx", None)  # errors outside of a command have none
            command = context.command_path if context is not None else "mtbert"
            _fail(f"{said.removesuffix('.')}. See: {command} --help", error.exit_code)
        sys.exit(error.exit_code)
    except typer.Abort:
        _fail("stopped", 130)
    except (ValueError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        _fail(str(error), 2)
    except FloatingPointError as error:
        _fail(str(error), 1)
    except BrokenPipeError:  # the reader of our output, such as head, is done
        _drop_output()
    except OSError as error:
        from mtbert.files import FULL

        if error.errno in FULL:
            _fail(f"{error.filename or 'standard output'}: {error.strerror}. Make room, and go on.", 1)
        _fail(f"{error.filename}: {error.strerror}. Check the path.", 2)
    except Exception as error:
        if type(error).__name__ == "Stopped":  # by name, because importing it would import torch
            _fail(str(error), 130)
        from mtbert import environment

        if environment.out_of_memory(error):
            _fail("out of memory. Set train.token_budget, or lower batch_size or model.max_length.", 1)
        raise
    else:
        sys.exit(code)


def _fail(message: str, code: int) -> None:
    typer.echo(f"mtbert: {clean(message, lines=True)}", err=True)
    with suppress(OSError):
        sys.stdout.flush()
        sys.exit(code)
    _drop_output()
    sys.exit(code)


def _drop_output() -> None:
    """Sends what standard output still holds nowhere, so that the interpreter does not fail on it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
