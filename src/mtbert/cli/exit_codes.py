"""Running a command: every expected failure becomes a one-line message and an exit code."""

import io
import os
import sys
from contextlib import suppress

import typer

from mtbert.advice import see
from mtbert.messages import clean
from mtbert.processes import speaks
from mtbert.training.signals import Stopped

STOPPED = 130  # exit code


def run_command(app: typer.Typer) -> None:
    """Runs the command that the user gave, and ends the process with an exit code.

    The exit code is 2 if the user made a mistake, 130 if the command was stopped, and 1 after any other expected
    failure. In each of these three cases, one line is printed. An unexpected error is raised unchanged.
    """
    _mend_streams()
    try:
        code = app(standalone_mode=False)
        if code == STOPPED:  # typer turns Ctrl-C into this code
            if sys.stderr.isatty():  # which shows ^C in the same line
                typer.echo(err=True)
            _fail("stopped. What was finished is kept, and nothing is half written. Go on with the same command.", code)
        sys.stdout.flush()  # here a full disk still raises an error that is handled below
    except typer.TyperException as error:
        said = _said(error)
        if said.startswith("Usage:"):  # no command was given, so the message is the help
            typer.echo(said)
        else:
            context = getattr(error, "ctx", None)  # errors outside of a command have none
            command = context.command_path if context is not None else "mtbert"
            _fail(f"{said.removesuffix('.')}. See: {command} --help", error.exit_code)
        sys.exit(error.exit_code)
    except Stopped as error:
        _fail(str(error), STOPPED)
    except typer.Abort:  # the input ended where a command asks
        _fail("stopped, because the input has ended.", STOPPED)
    except ValueError as error:
        _fail(str(error), 2)
    except FloatingPointError as error:
        _fail(str(error), 1)
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        _drop_output()
    except ConnectionError as error:  # the network or the Hub failed
        _fail(str(error), 1)
    except OSError as error:
        from mtbert.files import FULL

        if error.errno is None:  # the message is our own
            _fail(str(error), 2)
        if error.errno in FULL:
            _fail(f"{error.filename or 'standard output'}: {error.strerror}. Make room, and go on.", 1)
        _fail(f"{error.filename}: {error.strerror}. Check the path.", 2)
    except Exception as error:
        from mtbert import environment

        if environment.out_of_memory(error):
            _fail(
                f"out of memory. Set train.token_budget, or lower batch_size or model.max_length. {see('long-texts')}",
                1,
            )
        raise
    else:
        sys.exit(code)


def _mend_streams() -> None:
    """Makes printing possible where standard output or standard error is closed, or cannot show every character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _said(error: typer.TyperException) -> str:
    """Returns the message to print for ``error``. A message from pydantic is put into plain words."""
    from pydantic import ValidationError

    from mtbert.settings import explain

    said, cause = error.format_message(), error.__cause__
    return f"{said.partition(': ')[0]}: {explain(cause, {})[0]}" if isinstance(cause, ValidationError) else said


def _fail(message: str, code: int) -> None:
    if speaks():
        typer.echo(f"mtbert: {clean(message, lines=True)}", err=True)
    with suppress(OSError):
        sys.stdout.flush()
        sys.exit(code)
    _drop_output()
    sys.exit(code)


def _drop_output() -> None:
    """Redirects standard output to ``/dev/null``, so that flushing it when the interpreter exits cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
