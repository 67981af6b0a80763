"""Runs commands of the command line in this process; fixtures with a finished run for them."""

import io
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import toy_run
import yaml
from typer.testing import CliRunner

from mtbert import cli


@dataclass(frozen=True)
class Done:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """Returns the one line that a user's mistake prints."""
        assert self.code == 2, self
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("mtbert: ")
        return line.removeprefix("mtbert: ")


Mtbert = Callable[..., Done]


@pytest.fixture
def mtbert(monkeypatch, capfd) -> Mtbert:
    """Runs one command in this process and returns its result."""

    def run(*arguments: object, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "argv", ["mtbert", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capfd.readouterr()
        code: object = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        captured = capfd.readouterr()
        assert isinstance(code, int)
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture
def said(mtbert: Mtbert) -> Callable[..., str]:
    """Runs a command that must end well and returns what it prints."""

    def run(*arguments: object) -> str:
        done = mtbert(*arguments)
        assert done.code == 0, done
        return done.out

    return run


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """A folder with an encoder, data, toy.yaml and a finished run; tests must only read it."""
    folder = tmp_path_factory.mktemp("toy")
    recipe = toy_run.set_up(folder, epochs=1, rounds=2)
    done = CliRunner().invoke(cli.app, ["train", str(recipe), "--out", str(folder / "run")])
    assert done.exit_code == 0, done
    return folder


@pytest.fixture
def run_copy(toy, tmp_path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(toy / "run", tmp_path / "broken"))


def with_own_data(toy: Path, run: Path) -> Path:
    """Copies the data beside a copied run, and returns their folder."""
    data = Path(shutil.copytree(toy / "data", run.parent / "data"))
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["data"]["root"] = str(data)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return data
