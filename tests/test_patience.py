"""Which evaluation is the best and when a run ends early; neither depends on where the run was stopped.

The scores are literals and nothing is written: only the decisions of the run are tested, so no weight matters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import toy_run
from rich.console import Console

from mtbert import files
from mtbert.display import STANDINGS, Display
from mtbert.recipe.settings import Recipe
from mtbert.scoring import Evaluation
from mtbert.training.best import standing
from mtbert.training.fit import fit
from mtbert.training.run import Run
from mtbert.training.signals import Stopped
from mtbert.training.snapshot import restore, snapshot

folder = toy_run.shared_folder

SILENT = Console(quiet=True)
BEST, EQUAL, KEPT = "best so far", "equal to the best so far", "equal to the best so far; the newer model is kept"


class Watched:
    """A run with one step per evaluation and given scores, and a record of what it did."""

    def __init__(
        self,
        folder: Path,
        patch: pytest.MonkeyPatch,
        scores: list[float],
        patience: int | None,
        sure: list[float] | None = None,
    ) -> None:
        self.folder, self.patience = folder, patience
        self.kept: list[int] = []  # the steps at which best/ was written
        self.saved: list[int] = []  # the steps at which last/ was written
        self.steps = len(scores)
        patch.setattr(Recipe, "aggregate", lambda _, __, ___: scores[self.run.done - 1])
        falling = sure or [-float(i) for i in range(len(scores))]  # then the first of equal scores is the best
        patch.setattr(
            "mtbert.training.run.standing", lambda _, __: (scores[self.run.done - 1], falling[self.run.done - 1])
        )
        patch.setattr(files, "write_folder", self._write)
        self.marks: list[str] = []  # what was said about each evaluation
        patch.setattr(Display, "evaluated", lambda *_, best, tied: self.marks.extend(STANDINGS[best, tied] or [""]))
        patch.setattr("mtbert.training.fit.signals", self._signals)
        self.stop_at: int | None = None
        self.run = self._new()

    def fit(self, stop_at: int | None = None) -> "Watched":
        """Trains to the end; if a signal comes at step ``stop_at``, a new run resumes from the state of the first."""
        self.stop_at = stop_at
        try:
            fit(self.run, self.tokenizer, self.folder, Display(SILENT))
        except Stopped as stopped:
            self.told = str(stopped)
            state = snapshot(self.run)
            self.run = self._new()
            restore(self.run, state)
            return self.fit()
        return self

    def _new(self) -> Run:
        settings = {"rounds": 1, "epochs": self.steps, "patience": self.patience, "checkpoint_every": 10**6}
        run, self.tokenizer = toy_run.build(self.folder, **settings)
        return run

    def _write(self, folder: Path, _: object) -> None:
        (self.kept if folder.name == "best" else self.saved).append(self.run.done)

    @contextmanager
    def _signals(self, once: bool) -> Iterator[object]:
        yield lambda: self.stop_at is not None and self.run.done >= self.stop_at


CASES = [
    # scores, patience, the steps at which best/ is written, the number of the last step
    ([0.1, 0.3, 0.2, 0.2, 0.9, 0.9], None, [1, 2, 5], 6),
    ([0.1, 0.3, 0.2, 0.2, 0.9, 0.9], 2, [1, 2], 4),
    ([0.1, 0.3, 0.2, 0.2, 0.9, 0.8], 3, [1, 2, 5], 6),
    ([0.5, 0.5, 0.5, 0.5], None, [1], 4),  # a tie with less sure answers is not better
    ([0.5, 0.5, 0.5, 0.5], 1, [1], 2),  # a plateau ends a run
    ([0.5, 0.4, 0.6, 0.5, 0.6, 0.7], 2, [1, 3], 5),  # a new best restarts the count, and a tie does not
    ([-2.0, -3.0, -1.0], 2, [1, 3], 3),
]


@pytest.mark.parametrize(("scores", "patience", "best", "last"), CASES)
def test_the_best_evaluation_is_kept_and_patience_counts_those_after_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, scores: list[float], patience: int | None, best: list[int], last: int
):
    found = Watched(folder, monkeypatch, scores, patience).fit()
    assert found.kept == best
    assert found.run.done == last
    assert found.saved == list(range(1, last + 1))
    assert found.run.best.score == max(scores[:last])


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
@pytest.mark.parametrize(("scores", "patience", "best", "last"), [CASES[1], CASES[2], CASES[4], CASES[5]])
def test_the_best_evaluation_and_patience_do_not_depend_on_where_a_run_was_stopped(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    scores: list[float],
    patience: int,
    best: list[int],
    last: int,
    stop: int,
):
    found = Watched(folder, monkeypatch, scores, patience).fit(stop_at=stop)
    assert found.kept == best
    assert found.run.done == last


@pytest.mark.parametrize(
    ("scores", "sure", "said"),
    [
        ([0.1, 0.3, 0.2, 0.3], [-1, -3, 0, -4], [BEST, BEST, "", EQUAL]),
        ([0.5, 0.5, 0.5, 0.5], [-3, -2, -4, -2], [BEST, KEPT, EQUAL, KEPT]),
    ],
)
def test_each_evaluation_is_called_what_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, scores: list[float], sure: list[float], said: list[str]
):
    assert Watched(folder, monkeypatch, scores, None, sure).fit().marks == said


@pytest.mark.parametrize("stop", [1, 2])
def test_a_stopped_run_names_its_report_once_it_has_a_best_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stop: int
):
    found = Watched(folder, monkeypatch, [0.1, 0.2, 0.3], None).fit(stop_at=stop)
    said = f"stopped at step {stop}, and saved. Go on with: mtbert.train(resume='{folder}')"
    best = f"\nThe best model so far is ready: mtbert.load('{folder}')"
    assert found.told == said + best * (stop == 2)  # the first signal comes before dev was scored


TIES = [
    # scores, sure, patience, the steps at which best/ is written, the number of the last step
    ([0.5, 0.5, 0.5, 0.5], [-3, -2, -4, -1], None, [1, 2, 4], 4),  # surer answers win
    ([0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0], None, [1, 2, 3, 4], 4),  # of equally sure ones the later
    ([1.0, 1.0, 1.0, 1.0], [-3, -2, -1, 0], 2, [1, 2, 3], 3),  # and yet a plateau ends the run
    ([0.4, 0.5, 0.5, 0.6], [-1, -3, -2, -9], None, [1, 2, 3, 4], 4),  # a higher score wins, however sure
    ([0.5, 0.4, 0.5, 0.5], [-2, 0, -3, -2], 9, [1, 4], 4),
]


@pytest.mark.parametrize("stop", [None, 1, 2, 3])
@pytest.mark.parametrize(("scores", "sure", "patience", "best", "last"), TIES)
def test_of_equal_scores_the_surer_or_later_is_kept_wherever_the_run_was_stopped(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    scores: list[float],
    sure: list[float],
    patience: int | None,
    best: list[int],
    last: int,
    stop: int | None,
):
    found = Watched(folder, monkeypatch, scores, patience, sure).fit(stop_at=stop)
    assert found.kept == best
    assert found.run.done == last


def test_answers_are_as_sure_as_the_mean_nll_of_the_tasks_that_the_score_counts(folder: Path):
    run, _ = toy_run.build(folder)
    made = {
        "sst": Evaluation({"accuracy": 1.0, "nll": 0.5}, {}, False, 9),
        "quora": Evaluation({"accuracy": 0.5, "cross_entropy": 0.75}, {}, False, 9),
        "sts": Evaluation({"pearson": 0.0, "spearman": 0.0}, {}, False, 9),
    }
    recipe = run.recipe
    assert standing(made, recipe) == (pytest.approx(2 / 3), -0.625)

    def select(name: str) -> Recipe:
        return recipe.model_copy(update={"train": recipe.train.model_copy(update={"select": name})})

    assert standing(made, select("sst")) == (1.0, -0.5)
    assert standing(made, select("sts"))[1] == 0.0


def test_a_run_that_gave_up_and_is_resumed_makes_no_further_step_or_evaluation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    found = Watched(folder, monkeypatch, [0.5, 0.4, 0.3, 0.2], 2).fit()
    state, found.run = snapshot(found.run), found._new()
    restore(found.run, state)
    assert found.fit().run.done == 3
    assert found.kept == [1]
    assert found.run.best.since == 2  # nor another evaluation
    assert found.saved == [1, 2, 3]


@pytest.mark.parametrize(("mode", "steps"), [("joint", 1), ("alternate", 3)])
def test_rounds_without_an_evaluation_are_saved_and_cost_no_patience(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mode: str, steps: int
):
    found = Watched(folder, monkeypatch, [-float(i) for i in range(18)], 2)
    settings = {"mode": mode, "rounds": 3, "epochs": 2, "patience": 2, "checkpoint_every": 2}
    found.run, found.tokenizer = toy_run.build(folder, **settings)
    found.fit()
    assert found.run.done == 6 * steps
    assert found.kept == [3 * steps]
    assert found.saved == [2 * steps, 3 * steps, 4 * steps, 6 * steps]
