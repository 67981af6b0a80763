"""The page of all commands, generated from the command line itself."""

from itertools import groupby
from typing import Any

import typer.main

from mtbert import cli
from website.markdown import from_docstring, table

INTRODUCTION = """# Commands

Every command with its arguments and options. This page is generated from the command line; `mtbert COMMAND --help`
prints the same. [Recipes](recipes.md) has an example of each command.
"""


def page() -> str:
    """Returns the page as Markdown."""
    text = [INTRODUCTION]
    for name, command in found(typer.main.get_command(cli.app), "mtbert"):
        text += [f"## {name}\n", _command(name, command)]
    return "\n".join(text)


def found(command: Any, name: str) -> list[tuple[str, Any]]:
    """Returns all commands below ``command``, each with its full name, in the order of the help."""
    inner = getattr(command, "commands", None)
    if inner is None:
        return [(name, command)]
    shown = [(key, one) for key, one in inner.items() if not one.hidden]
    return [pair for key, one in shown for pair in found(one, f"{name} {key}")]


def _command(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            rows.append([f"`{record[0]}`", from_docstring(record[1])])
    return f"```text\n{usage}\n```\n\n{_help(command.help or '')}\n\n{table(['argument or option', 'meaning'], rows)}"


def _help(text: str) -> str:
    """Returns the help of a command as Markdown. Its indented lines, which are examples, become blocks."""
    paragraphs = [paragraph.strip("\n\b") for paragraph in text.split("\n\n")]
    result: list[str] = []
    for examples, group in groupby(paragraphs, lambda paragraph: paragraph.startswith("  ")):
        if examples:
            result.append("\n".join(["```sh", *[one.strip() for one in group], "```"]))
        else:
            result += [from_docstring(paragraph) for paragraph in group]
    return "\n\n".join(result)
