"""Failures of a command: its exit code, and the line that it prints."""

import errno
import os
import subprocess
import sys

import pytest
import torch

from mtbert import cli


def test_the_error_of_a_bug_is_not_hidden(monkeypatch):
    def bug(**_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(cli, "app", bug)
    with pytest.raises(KeyError):
        cli.main()


def test_too_little_memory_is_one_line(monkeypatch, capsys):
    def fail(**_: object) -> None:
        torch.empty(2**60)

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("mtbert: out of memory. Set train.token_budget,")


def test_control_c_says_what_is_kept_and_how_to_go_on(monkeypatch, capsys):
    import typer

    app = typer.Typer()

    @app.command()
    def work() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr("sys.argv", ["mtbert"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code, capsys.readouterr().err) == (
        130,
        "mtbert: stopped. What was finished is kept, and nothing is half written. Go on with the same command.\n",
    )


@pytest.mark.parametrize(
    ("error", "code"), [(ValueError("a"), 2), (PermissionError("a"), 2), (FloatingPointError("a"), 1), ("Stopped", 130)]
)
def test_exit_codes_distinguish_a_mistake_a_failure_and_a_stop(error, code, monkeypatch, capsys):
    from mtbert.training.signals import Stopped

    def fail(**_: object) -> None:
        raise Stopped("a") if error == "Stopped" else error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code, capsys.readouterr().err) == (code, "mtbert: a\n")


@pytest.mark.parametrize("number", [errno.ENOTDIR, errno.EACCES, errno.ENOENT, errno.EIO])
def test_an_error_of_the_disk_names_the_path_first(number, monkeypatch, capsys):
    def fail(**_: object) -> None:
        raise OSError(number, "why", "/file/out")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code, capsys.readouterr().err) == (2, "mtbert: /file/out: why. Check the path.\n")


@pytest.mark.parametrize(("arguments", "code"), [("--version", 0), ("recipe show nosuch", 2)])
def test_a_closed_output_changes_nothing_else(arguments, code):
    done = subprocess.run(
        f"exec {sys.executable} -m mtbert {arguments} >&-", shell=True, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("mtbert: recipe nosuch") == bool(code)


def test_characters_that_the_output_cannot_show_are_escaped():
    call = [sys.executable, "-m", "mtbert", "docs", "demo"]
    done = subprocess.run(call, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "latin-1"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u2501" in done.stdout
