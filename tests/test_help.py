"""The help of each command, and the list of commands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from mtbert import cli


def test_every_file_of_a_command_is_listed_once():
    files = {file.stem for file in Path(cli.__file__).parent.glob("*.py")} - {"__init__", "options", "exit_codes"}
    assert sorted(cli.COMMANDS) == sorted(files)


def test_the_help_lists_the_commands_in_the_order_of_the_list():
    listed = CliRunner().invoke(cli.app, ["--help"]).output.partition("Commands:")[2]
    assert tuple(line.split()[0] for line in listed.strip().splitlines()) == cli.COMMANDS


@pytest.mark.parametrize("group", ["", "data", "recipe"])
def test_a_list_of_commands_cuts_no_description_and_no_command(group: str):
    shown = CliRunner().invoke(cli.app, [*group.split(), "--help"]).output
    listed = shown.partition("Commands:")[2].strip("\n").splitlines()
    wanted = sum(f"{name} ".startswith(f"{group} ") for name in all_commands()) if group else len(cli.COMMANDS)
    assert len(listed) == wanted  # a line for each
    # A terminal of 80 columns has two columns less for the list than the runner.
    assert all(len(line) <= 76 and line.endswith(".") and not line.endswith("...") for line in listed), listed
    assert group or "  Try it on generated data (three minutes): mtbert train demo --out runs/demo\n" in shown


def test_help_needs_no_torch():
    code = (
        "import sys, mtbert.cli\nsys.argv = ['mtbert', '--help']\ntry: mtbert.cli.main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'datasets', 'numpy', 'pydantic'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mtbert train demo" in done.stdout
    assert done.stderr.strip() == "[]"


def all_commands() -> list[str]:
    """Returns the names of all commands, such as ``recipe show``."""
    top = typer.main.get_command(cli.app)
    return [
        f"{name} {inner}".strip()
        for name, command in top.commands.items()
        for inner in getattr(command, "commands", {"": None})
    ]


@pytest.mark.parametrize("command", all_commands())
def test_the_help_of_a_command_has_an_example(command: str):
    done = CliRunner().invoke(cli.app, [*command.split(), "--help"])
    assert re.search(r"^ *Examples?:$", done.output, re.MULTILINE)
    assert re.search(rf"^ *(\S+ \S+ \| )?mtbert {command}", done.output, re.MULTILINE)


OLD_RUN = Path(__file__).parent / "old_model/run"

# Completion --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("mtbert doct", {"doctor"}),
        ("mtbert train dem", {"demo"}),
        ("mtbert recipe show paper/su", {"paper/surgery"}),
        ("mtbert recipe show demo --diff paper/su", {"paper/surgery"}),
        ("mtbert evaluate run --spl", {"--split"}),
        *(
            (f"mtbert {command} {OLD_RUN}{part} --task s", {"same"})
            for command in ("predict", "evaluate", "review", "export", "push")
            for part in ("", "/best")
        ),
        ("mtbert predict nowhere --task s", set()),
    ],
)
def test_a_shell_completes_commands_options_and_shipped_recipes(words: str, offered: set[str], monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["mtbert"])
    monkeypatch.setenv("_MTBERT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert set(capfd.readouterr().out.split()) == offered


def test_the_help_of_tune_names_the_extra_that_it_needs():
    assert "'mtbert[tune]'" in CliRunner().invoke(cli.app, ["tune", "--help"]).output
