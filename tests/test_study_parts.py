"""The parts of a study that need no training: its order, its threads, its logs, and its number of workers."""

import io
from pathlib import Path

import pytest
import toy_run
from rich.console import Console

from mtbert.recipe.files import load_recipe
from mtbert.studying import plan
from mtbert.studying.run_processes import _Shown, run_all
from mtbert.studying.runs import RunPlace, lay_out, run_recipes

STUDY = "rows: {sum: toy.yaml, slow: {recipe: toy.yaml, set: [train.lr=1e-6]}}\nseeds: [3, 5]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    toy_run.set_up(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def test_all_rows_of_a_seed_come_before_the_next_and_the_first_row_is_the_reference(folder: Path):
    found = plan.load_study(str(folder / "study.yaml"))
    assert found.runs == [("sum", 3), ("slow", 3), ("sum", 5), ("slow", 5)]
    assert found.reference == "sum"
    assert [found.rows["slow"].seeded(seed).train.seed for seed in (3, 5)] == [3, 5]


@pytest.mark.parametrize(
    "change",
    ["tasks.sst.columns.text=id", "tasks.quora.type=classification", "tasks.sts.range=[0, 6]", "data.root=other"],
)
def test_rows_that_would_be_scored_on_other_answers_are_refused(folder: Path, change: str):
    (folder / "study.yaml").write_text(f"rows: {{a: toy.yaml, b: {{recipe: toy.yaml, set: ['{change}']}}}}")
    with pytest.raises(ValueError, match=r"rows\.b: task \w+ has other dev examples than in row a"):
        plan.load_study(str(folder / "study.yaml"))


def test_runs_whose_recipe_names_no_threads_share_those_of_the_machine(folder: Path):
    text = (folder / "toy.yaml").read_text()
    (folder / "free.yaml").write_text(text.replace("threads: 1", "threads: null"))
    (folder / "study.yaml").write_text("rows: {one: toy.yaml, free: free.yaml}\nseeds: [0]")
    found = run_recipes(plan.load_study(str(folder / "study.yaml")), folder / "out", 7)
    assert {cell.folder.name: r.train.threads for cell, r in found.items()} == {"one-0": 1, "free-0": 7}


def test_a_log_shows_how_far_its_run_is_and_its_last_lines(tmp_path: Path):
    cell = RunPlace(tmp_path)
    assert (cell.share, cell.last_words) == (0.0, "it printed nothing")
    cell.log.write_text("starts\nepoch 1  step 5/40  ce 1.0\nepoch 2  step 30/40  ce 0.5\nValueError: no\n\n  \n")
    assert (cell.share, cell.last_words) == (0.75, "ValueError: no")
    cell.log.write_text("epoch 2  step 40/40  ce 0.5\n")
    assert cell.share == 0.99  # it has not ended before its model is saved


class Process:
    """A process that has ended when it is polled for the third time."""

    running = most = 0

    def __init__(self, cell: RunPlace, held: object) -> None:
        self.cell, self.looks, self.pid, self.stdin = cell, 0, 1, None
        Process.running += 1
        Process.most = max(Process.most, Process.running)

    def poll(self) -> int | None:
        self.looks += 1
        if self.looks < 3:
            return None
        self.cell.ended.write_text('{"seconds": 1.0}')
        Process.running -= 1
        return 0

    def wait(self) -> None: ...

    def terminate(self) -> None: ...


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_as_many_workers_run_at_a_time_as_were_asked_for(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mtbert.studying.run_processes.LOOK", 0.0)
    monkeypatch.setattr("mtbert.studying.run_processes._room", lambda running: True)
    monkeypatch.setattr("mtbert.studying.run_processes._start", Process)
    Process.running = Process.most = 0
    made = {f"r{i}": RunPlace(tmp_path / f"r{i}") for i in range(5)}
    for cell in made.values():
        cell.folder.mkdir()
    assert run_all(made, workers, Console(quiet=True)) == {}
    assert Process.most == workers


def test_the_time_left_is_estimated_from_the_work_done_since_the_start(tmp_path: Path):
    said = io.StringIO()
    made = {name: RunPlace(tmp_path / name) for name in ("before", "half", "new", "more")}
    # One had ended before, one was half done: half a run in 10 minutes, and two are left.
    with _Shown(Console(file=said, width=80), made, {"half": 0.5, "new": 0.0, "more": 0.0}) as shown:
        shown.since -= 600
        shown.ended("half", None)
    assert "half: ended  (2 of 4, about 40 min left)" in said.getvalue()


def test_the_last_run_to_go_on_is_timed_by_its_own_speed(tmp_path: Path):
    made = {name: RunPlace(tmp_path / name) for name in ("quick", "last")}
    shown = _Shown(Console(file=io.StringIO()), made, {"quick": 0.0, "last": 0.5})
    shown.started("last")
    shown.started_at["last"] -= 28
    shown.since -= 40
    shown.done |= {"quick": 1.0, "last": 0.75}
    assert shown._line() == "about 30 s left"  # a quarter took 28 seconds, and a quarter is left
    shown.done["last"] = 0.53  # too little to tell its speed: 1.03 runs took 40 seconds, and 0.47 are left
    assert shown._line() == "about 20 s left"
    shown.done["quick"] = 0.4
    assert shown._line() == "about 2 min left"  # 0.43 runs took 40 seconds, and 1.07 are left
    shown.done |= {"quick": 0.99, "last": 1.0}
    shown.started("quick")
    assert shown._line() == "about 10 s left"  # never 0


def test_nothing_is_said_of_the_time_left_before_it_can_be_estimated(tmp_path: Path):
    said = io.StringIO()
    made = {name: RunPlace(tmp_path / name) for name in ("one", "two")}
    shown = _Shown(Console(file=said), made, {"one": 0.0, "two": 0.99})
    shown.started("one")
    shown.running, shown.done["one"] = ["one"], 0.02
    assert shown._line() == "one 2%"
    shown.ended("two", "broke")
    assert said.getvalue().splitlines()[-1] == "two: failed: broke  (1 of 2)"


def test_recipes_of_a_study_may_be_dumped_and_read_again(folder: Path):
    found = plan.load_study(str(folder / "study.yaml"))
    recipes = run_recipes(found, folder / "out", 1)
    lay_out(recipes)
    assert all(load_recipe(str(cell.recipe)) == settings for cell, settings in recipes.items())


def test_the_last_run_to_end_leaves_no_time(tmp_path: Path):
    said = io.StringIO()
    with _Shown(Console(file=said, width=80), {"one": RunPlace(tmp_path / "one")}, {"one": 0.0}) as shown:
        shown.ended("one", None)
    assert "one: ended  (1 of 1, all ended)" in said.getvalue()
