"""The command line before any work begins: help without a command, and places it cannot write to."""

import sys
from pathlib import Path

import pytest
import toy_run

from mtbert import cli


@pytest.mark.parametrize("command", [[], ["recipe"], ["data"]])
def test_without_a_command_only_the_help_is_printed(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["mtbert", *command])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capfd.readouterr()
    assert end.value.code == 2
    assert "Usage:" in said.out
    assert said.err == ""


def test_a_wrong_option_is_still_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["mtbert", "train", "--lr", "3"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    said = capfd.readouterr().err
    assert said.startswith("mtbert: No such option: --lr")
    assert said.endswith("See: mtbert train --help\n")


@pytest.mark.parametrize("command", ["train", "tune", "study"])
@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("circle", "circle: a link to a place that does not exist. Remove it, or give another folder."),
        ("broken", "broken: a link to a place that does not exist. Remove it, or give another folder."),
        ("\udcff\n", r"'\udcff\n': has characters that cannot be shown. Give another folder."),
    ],
)
def test_a_place_where_nothing_can_be_written_is_one_line(
    command: str,
    out: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    toy_run.set_up(tmp_path)
    Path("study.yaml").write_text("rows: {a: toy.yaml}\n")
    Path("circle").symlink_to("circle")
    Path("broken").symlink_to("nowhere")
    before = sorted(path.name for path in tmp_path.iterdir())
    name = "study.yaml" if command == "study" else "toy.yaml"
    monkeypatch.setattr(sys, "argv", ["mtbert", command, name, "--out", out])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert capfd.readouterr().err == f"mtbert: {said}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == before
