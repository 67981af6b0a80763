"""Advice in messages: what the user can do, as a command for a shell or as a call from Python."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtbert.messages import LONGEST_LINE, clean, shown


def command_line(*words: object) -> str:
    """Returns a command of mtbert as one line that can be pasted into a shell.

    >>> command_line("train", "--resume", "runs/my run")
    "mtbert train --resume 'runs/my run'"

    A path that begins with a dash would be read as an option, so it gets ``./`` before it.

    >>> command_line("train", Path("-x.yaml"))
    'mtbert train ./-x.yaml'
    """
    return shlex.join(["mtbert", *map(_word, words)])


_in_shell = False  # whether messages are read by somebody who types commands


@contextmanager
def worded_for_shell() -> Iterator[None]:
    """A context manager in which messages tell the user what to type in a shell.

    Inside, :func:`worded`, :func:`call` and :func:`option` return texts for a shell. Outside, these functions return
    texts for calls from Python.
    """
    global _in_shell
    before, _in_shell = _in_shell, True
    try:
        yield
    finally:
        _in_shell = before


def worded(shell: str, python: str) -> str:
    """Returns ``shell`` if it is called inside :func:`worded_for_shell`, and otherwise ``python``."""
    return shell if _in_shell else python


def call(command: str, *given: object, **options: object) -> str:
    """Returns the text of a call of an mtbert function or, for users of a shell, of the command that does the same.

    Words in capitals stand for any value.

    >>> call("train", "RECIPE", out=Path("runs/my run"))
    "mtbert.train(RECIPE, out='runs/my run')"
    >>> with worded_for_shell():
    ...     call("train", "RECIPE", out=Path("runs/my run"))
    "mtbert train RECIPE --out 'runs/my run'"
    """
    words = (word for name, value in options.items() for word in (_dashed(name), value))
    arguments = [*map(_literal, given), *(f"{name}={_literal(value)}" for name, value in options.items())]
    return worded(command_line(command, *given, *words), f"mtbert.{command}({', '.join(arguments)})")


def option(name: str, value: object = None) -> str:
    """Returns an option as Python code or, in a ``with worded_for_shell():`` block, as the user types it in a shell.

    Args:
        name: The option's name in the shell, such as ``on_dev``. Some options have another name in Python: ``set`` is
            ``changes``, for example.
        value: The value of the option; None to name the option alone, and True to switch it on.

    >>> option("overwrite", True), option("task"), option("set", "data.root=FOLDER")
    ('overwrite=True', 'task', "changes=['data.root=FOLDER']")
    >>> with worded_for_shell():
    ...     option("on_dev", True), option("task"), option("set", "data.root=FOLDER")
    ('--on-dev', '--task', '--set data.root=FOLDER')
    """
    shell = _dashed(name) if value is None or value is True else f"{_dashed(name)} {clean(str(value)[:LONGEST_LINE])}"
    called = _IN_PYTHON.get(name, name)
    if value is None:
        return worded(shell, called)
    return worded(shell, f"{called}={_literal([value] if name == 'set' else value)}")


def same_again() -> str:
    """Returns the advice to repeat a command or call that was stopped. Repeating it continues the work.

    >>> with worded_for_shell():
    ...     same_again()
    'Go on with the same command.'
    """
    return worded("Go on with the same command.", "Go on with the same call.")


_IN_PYTHON = {"set": "changes", "output": "out", "input": "pool"}  # options that have another name in Python


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _literal(value: object) -> str:
    """Returns ``value`` as Python code.

    A path becomes a string literal. A string in capitals, such as ``RECIPE``, gets no quotes.
    """
    if isinstance(value, str) and value.isidentifier() and value.isupper():
        return value
    if isinstance(value, dict):
        return f"{{{', '.join(f'{shown(key)}: {_literal(item)}' for key, item in value.items())}}}"
    return shown(str(value) if isinstance(value, Path) else value, LONGEST_LINE)


def see(topic: str) -> str:
    """Returns a hint for the end of an error message: the command that shows a page with more about the error.

    ``topic`` is what the user types after ``mtbert docs``.

    >>> see("recipes/the-dev-split")
    '(mtbert docs recipes/the-dev-split)'
    """
    return f"({command_line('docs', topic)})"


def _word(word: object) -> str:
    dashed = isinstance(word, Path) and str(word).startswith("-")
    return clean(f"./{word}" if dashed else str(word))
