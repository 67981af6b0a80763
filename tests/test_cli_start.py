"""What the command line says before any work begins: help without a command."""

import sys

import pytest

from mtbert import cli


@pytest.mark.parametrize("command", [[], ["recipe"], ["data"]])
def test_without_a_command_the_help_is_all_that_is_said(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["mtbert", *command])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capfd.readouterr()
    assert end.value.code == 2
    assert "Usage:" in said.out
    assert said.err == ""


def test_a_wrong_option_still_has_its_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["mtbert", "train", "--lr", "3"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    said = capfd.readouterr().err
    assert said.startswith("mtbert: No such option: --lr")
    assert said.endswith("See: mtbert --help\n")
