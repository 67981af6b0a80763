"""Failures of a command: its exit code, and the line that it prints."""

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
