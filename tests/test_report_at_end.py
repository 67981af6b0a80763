"""The report that a run writes at its end: who writes it, and that its failure fails no run."""

import io
import shlex
from pathlib import Path

import pytest
import toy_run
from commands import Mtbert
from rich.console import Console
from typer.testing import CliRunner

import mtbert
from mtbert import cli, locks
from mtbert.scores import Scores
from mtbert.studying import report
from mtbert.studying.commands import report_at_end, report_on
from mtbert.studying.results import Results

folder = toy_run.shared_folder


def train(folder: Path, out: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["train", str(folder / "toy.yaml"), "--out", str(out), *options])
    return done.exit_code, done.output


def test_the_command_writes_a_report_and_no_other_files_of_it(folder: Path, tmp_path: Path):
    code, said = train(folder, tmp_path / "run")
    assert code == 0
    run = tmp_path / "run"
    assert said.splitlines()[-4].startswith("warning: Not clearly better than the best constant answer: ")
    assert said.splitlines()[-3:] == [
        f"done: the model is in {run}/best, its report is {run}/report.html",
        f"next: mtbert predict {run} --text 'some text'",
        f"or: mtbert train --resume {run} --epochs 4",
    ]
    page = (tmp_path / "run/report.html").read_text()
    assert "&#39;run&#39; scores " in page
    assert "Time and memory" in page
    assert not (tmp_path / "run/figures").exists()
    resumed = CliRunner().invoke(cli.app, ["train", "--resume", str(tmp_path / "run"), "--epochs", "3", "--no-report"])
    assert resumed.exit_code == 0
    assert (tmp_path / "run/report.html").read_text() == page


def test_no_report_is_written_if_it_is_not_wanted(folder: Path, tmp_path: Path):
    assert train(folder, tmp_path / "run", "--no-report")[0] == 0
    assert not (tmp_path / "run/report.html").exists()


def test_from_python_a_report_is_written_unless_it_is_not_wanted(folder: Path, tmp_path: Path):
    none = mtbert.train(folder / "toy.yaml", out=tmp_path / "none", report=False)
    assert not none.report.exists()
    assert "report:" not in none._repr_html_()
    made = mtbert.train(folder / "toy.yaml", out=tmp_path / "made")
    assert made.report == tmp_path / "made/report.html"
    assert made.report.exists()
    # What the report doubts is among the warnings of the scores too, in the same words.
    (doubt,) = (line for line in made.scores.warnings if line not in none.scores.warnings)
    assert doubt.startswith("Not clearly better than the best constant answer: ")
    assert f"<li>{doubt}</li>" in made.report.read_text()


@pytest.mark.parametrize(
    ("error", "why"),
    [(RuntimeError("no\nluck"), "no"), (KeyboardInterrupt(), "stopped"), (MemoryError(), "MemoryError")],
)
def test_a_failure_is_a_warning(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, why: str
):
    def fail(results: Results) -> None:
        raise error

    monkeypatch.setattr(report, "make_report", fail)
    code, said = train(folder, tmp_path / "run")
    assert code == 0
    assert said.splitlines()[-4] == (
        f"warning: no report was written ({why}). The run has ended; make its report with: mtbert "
        f"report {tmp_path / 'run'}"
    )
    assert said.splitlines()[-3] == f"done: the model is in {tmp_path / 'run/best'}"
    assert (tmp_path / "run/best").is_dir()


def test_a_run_that_cannot_be_read_is_a_warning(tmp_path: Path):
    file = io.StringIO()
    report_at_end(tmp_path / "nothing", Console(file=file, width=500))
    assert file.getvalue().startswith(f"warning: no report was written ({tmp_path / 'nothing'}")


@pytest.mark.parametrize("dropped", [(), ("sst",)])
def test_the_commands_at_the_end_can_be_pasted(
    folder: Path, tmp_path: Path, mtbert: Mtbert, dropped: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    drops = [word for task in dropped for word in ("--set", f"tasks.{task}=null")]
    said = mtbert("train", folder / "toy.yaml", "--out", "my run's", "--no-report", *drops).out.splitlines()
    for line, word in zip(said[-2:], ("next", "or"), strict=True):
        typed = shlex.split(line.removeprefix(f"{word}: mtbert "))
        assert "my run's" in typed
        assert mtbert(*typed).code == 0


def test_only_one_command_writes_the_report_of_a_run_and_none_while_it_is_trained(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train(folder, tmp_path / "run", "--no-report")
    with (
        locks.alone(tmp_path / "run", "train"),
        pytest.raises(
            ValueError,
            match=r"run: another mtbert train or report is at work there\. "
            rf"Its report can be written when that has ended\. Meanwhile: mtbert watch {tmp_path / 'run'}$",
        ),
    ):
        report_on(tmp_path / "run", Console(quiet=True))
    written = []

    def write_page(made: report.Report, out: Path) -> Path:
        written.append(locks.claim_folder(out))
        return out

    monkeypatch.setattr(report, "write_page", write_page)
    report_at_end(tmp_path / "run", Console(quiet=True))
    report_on(tmp_path / "run", Console(quiet=True))
    assert written == [None, None]  # another process could not lock the folder meanwhile


def test_a_folder_that_is_neither_run_nor_study_is_left_as_it_is(tmp_path: Path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(FileNotFoundError, match="no study here"):
        report_on(tmp_path, Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_more_epochs_are_advised_only_if_dev_can_get_better(folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Scores, "overall", property(lambda self: 1.0))
    code, said = train(folder, tmp_path / "run", "--no-report")
    assert code == 0
    assert said.splitlines()[-1] == f"next: mtbert predict {tmp_path / 'run'} --text 'some text'"
