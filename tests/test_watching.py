"""Watching a run or a study in the terminal: what is shown, when it ends, and that nothing changes."""

import io
import json
import os
import shutil
from pathlib import Path

import pytest
import toy_study
from rich.console import Console
from typer.testing import CliRunner

from mtbert import cli
from mtbert.json_files import write_settings
from mtbert.locks import alone
from mtbert.studying import watching
from mtbert.studying.runs import FailRecord
from mtbert.studying.watching import BARS, PLAIN_BARS, Tail, WatchedRun, run_lines, sparkline, watch_folder
from mtbert.training import history

ended = toy_study.ended


def console(**options: object) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=100, markup=False, highlight=False, **options), file


def lines_of(run: Path, keep: int) -> None:
    """Cuts both logs of a run to their first ``keep`` lines, as if it had just come so far."""
    for name in ("metrics.jsonl", "timings.jsonl"):
        text = (run / name).read_text().splitlines(keepends=True)
        (run / name).write_text("".join(text[:keep]))


@pytest.fixture
def run(ended: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ended / "out/cells/sum-0/run", tmp_path / "run"))


def test_a_run_that_has_ended_is_shown_once_and_not_changed(run: Path):
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.rglob("*")}
    shown, file = console(force_terminal=True)
    watch_folder(run, shown)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.rglob("*")} == before
    steps = [line for line in history.read_log(run / "metrics.jsonl") if "evaluation" not in line]
    text = file.getvalue()
    assert f"step {len(steps)} of {len(steps)} (100%), ended" in text
    for name in ("sst.ce", "sst.oll", "quora.bce", "sts.mse", "sst accuracy", "sts pearson", "overall"):
        assert f"\n {name} " in text
    last = history.last(history.read_log(run / "metrics.jsonl"))
    assert last is not None
    assert f"{last['aggregates']['overall']:9.4f}" in next(line for line in text.splitlines() if " overall" in line)


def test_a_run_that_goes_on_says_how_much_is_left(run: Path):
    lines_of(run, 4)
    timings = [json.loads(line) for line in (run / "timings.jsonl").read_text().splitlines()]
    for i, line in enumerate(timings):
        line |= {"of": 10, "at": 1000.0 + 3 * i, "memory": 2**31, "seconds": 2.0}
    (run / "timings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in timings))
    watched = WatchedRun(run)
    watched.look()
    now = (run / "metrics.jsonl").stat().st_mtime
    name, first, second = run_lines(watched, 100, BARS, now)[:3]
    assert name == str(run)
    assert first == "step 4 of 10 (40%), about 0:18 left"  # 6 steps of 3 seconds by the clock
    tokens = sum(line["tokens"] for line in watched.steps)
    assert second.endswith(f"{tokens / 8:,.0f} tokens/s  2.00 GiB")
    assert not watched.ended
    assert run_lines(watched, 100, BARS, now + 185)[1].endswith(
        f"about 0:18 left, no new line for 3:05: stopped; go on: mtbert.train(resume='{run}')"
    )
    with alone(run, "train"):
        later = run_lines(watched, 100, BARS, now + 185)[1]
    assert later.endswith("no new line for 3:05: busy, perhaps with dev")
    train = watched.recipe.train.model_copy(update={"patience": 9})
    watched.recipe = watched.recipe.model_copy(update={"train": train})
    assert run_lines(watched, 100, BARS, now)[1] == "step 4 of 10 (40%), at most about 0:18 left"


def test_a_pause_does_not_count_as_time_of_steps(run: Path):
    lines_of(run, 4)
    at = [0.0, 1.0, 5000.0, 5002.0]
    lines = [{"step": i + 1, "seconds": 1.0, "of": 10, "at": x} for i, x in enumerate(at)]
    (run / "timings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    watched = WatchedRun(run)
    watched.look()
    assert watched.left == 12.0


def test_a_run_that_patience_stopped_has_ended(run: Path):
    watched = WatchedRun(run)
    watched.look()
    last = watched.evaluations[-1]
    watched.timings = [line.model_copy(update={"of": 1000}) for line in watched.timings]
    assert not watched.ended
    train = watched.recipe.train.model_copy(update={"patience": 2})
    watched.recipe = watched.recipe.model_copy(update={"train": train})
    watched.evaluations = [last, last, last]
    assert watched.ended
    watched.evaluations = [last, last]
    assert not watched.ended


def test_a_tail_reads_whole_lines_alone_and_starts_again_where_a_file_was_cut(tmp_path: Path):
    file = tmp_path / "log"
    tail = Tail(file, int)
    assert tail.look() == []
    file.write_text("1\n2\nx\n3")
    assert tail.look() == [1, 2]
    with file.open("a") as more:
        more.write("4\n")
    assert tail.look() == [1, 2, 34]
    os.truncate(file, 2)
    assert tail.look() == [1]


def test_a_run_that_takes_the_place_of_another_is_read_from_its_beginning(run: Path, tmp_path: Path):
    watched = WatchedRun(run)
    watched.look()
    recipe, log = (run / "recipe.yaml").read_text(), (run / "metrics.jsonl").read_text()
    run.rename(tmp_path / "older")
    watched.look()
    assert run_lines(watched, 100, BARS, 0.0) == [f"{run}: no step yet"]
    run.mkdir()
    (run / "recipe.yaml").write_text(recipe.replace("sst", "renamed"))
    (run / "metrics.jsonl").write_text(log.replace("sst", "renamed"))
    watched.look()
    shown = "\n".join(run_lines(watched, 100, BARS, 0.0))
    assert "renamed accuracy" in shown
    assert "sst" not in shown


def test_a_terminal_is_shown_the_run_until_it_ends(run: Path, monkeypatch: pytest.MonkeyPatch):
    whole = {name: (run / name).read_bytes() for name in ("metrics.jsonl", "timings.jsonl")}
    lines_of(run, 3)
    slept = []

    def go_on(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            for name, content in whole.items():
                (run / name).write_bytes(content)

    monkeypatch.setattr(watching.time, "sleep", go_on)
    shown, file = console(force_terminal=True)
    watch_folder(run, shown)
    assert slept == [2.0, 2.0]
    assert ", ended" in file.getvalue()


def test_ctrl_c_ends_the_watch_without_an_error(run: Path, monkeypatch: pytest.MonkeyPatch):
    lines_of(run, 3)

    def press(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching.time, "sleep", press)
    shown, file = console(force_terminal=True)
    watch_folder(run, shown)
    assert "step 3 of" in file.getvalue()


def test_a_file_gets_the_present_state_once(run: Path):
    lines_of(run, 3)
    shown, file = console()
    watch_folder(run, shown)
    assert file.getvalue().count("step 3 of") == 1
    assert "\x1b" not in file.getvalue()


def test_a_study_is_shown_run_by_run(ended: Path, tmp_path: Path):
    out = Path(shutil.copytree(ended / "out", tmp_path / "out"))
    shutil.rmtree(out / "cells/pcgrad-1/run")
    (out / "cells/pcgrad-1/ended.json").unlink()
    (out / "cells/sum-1/ended.json").unlink()
    lines_of(out / "cells/sum-1/run", 3)
    done = CliRunner().invoke(cli.app, ["watch", str(out)])
    first, *runs = done.output.splitlines()
    assert first == f"{out}: 2 of 4 runs have ended"
    assert [line.split(", seed ")[0].strip() for line in runs] == ["sum", "sum", "pcgrad", "pcgrad"]
    assert "ended  overall 0." in runs[0]
    assert "  stopped " in runs[1]
    assert "%  overall 0." in runs[1] or runs[1].endswith("%")
    assert runs[3].endswith("  waiting")
    write_settings(out / "cells/pcgrad-1/failed.json", FailRecord(why="the loss\x1b is not finite"))
    done = CliRunner().invoke(cli.app, ["watch", str(out)])
    assert done.output.splitlines()[4].endswith(r"failed: the loss\x1b is not finite")


def test_a_folder_that_is_neither_is_a_mistake(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no study here"):
        watch_folder(tmp_path, console()[0])
    # A tuning and the folder of a study's run have a recipe too, but they are no runs.
    (tmp_path / "recipe.yaml").write_text("tasks: {}")
    with pytest.raises(FileNotFoundError, match="no study here"):
        watch_folder(tmp_path, console()[0])


def test_names_with_control_characters_are_escaped_and_lines_fit(run: Path):
    watched = WatchedRun(run)
    watched.look()
    watched.steps = [dict(watched.steps[0]) | {"losses": {"a\x1b[2Jb.ce": 1.0, "x" * 200 + ".ce": 2.0}}]
    lines = run_lines(watched, 60, PLAIN_BARS, 0.0)
    assert any(r"a\x1b[2Jb.ce" in line for line in lines)
    assert max(map(len, lines[3:])) <= 60


def test_a_plot_shows_equal_values_in_its_middle_and_nothing_without_room():
    assert sparkline([2.0, 2.0], 10, "_-#") == "--"
    assert sparkline([], 10) == sparkline([1.0], 0) == ""
    assert sparkline([1, 2, 3, 4, 5, 6], 3, "abc") == "abc"


@pytest.mark.parametrize(("encoding", "bars"), [("utf-8", BARS), ("ascii", PLAIN_BARS)])
def test_a_terminal_without_unicode_gets_plain_plots(encoding: str, bars: str):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert watching.bars_for(Console(file=file)) == bars
