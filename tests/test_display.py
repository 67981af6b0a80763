"""The display of a run in progress, at common widths of terminals."""

import io
import time
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from mtbert import progress_bar
from mtbert.display import Display, losses_line
from mtbert.recipe.files import load_recipe
from mtbert.scoring import Evaluation

LOSSES = {"sentiment.ce": 1.2345, "paraphrase.bce": 0.4321, "similarity.mse": 0.0321}


def shown(width: int, tasks: int, conflicting: float | None = None) -> list[str]:
    """Returns the live lines in the middle of a run. ``tasks`` is the number of its tasks, whose names are ordinary."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    one = Display(console)
    one.begin(
        12_345,
        0,
        epoch=1,
        epochs=10,
        evaluations=[12_345],
        dev=4000,
        dev_tokens=80_000,
        may_end_early=conflicting is not None,
    )
    losses = {f"{'sentiment paraphrase similarity quality topics urgent'.split()[i]}.ce": 1.2345 for i in range(tasks)}
    one.warm, one.training = True, 100.0
    one.step(3, 6789, losses, 123_456, conflicting)
    console.print(one._frame())
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("tasks", [1, 3, 4, 6])
def test_step_bar_time_and_losses_fit_in_two_lines(width: int, tasks: int, clock: Callable[[float], None]):
    lines = shown(width, tasks)
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("epoch 3/10  ━")
    assert "step 6789/12345" in lines[0]
    # One step of 100 s was timed, 5,556 are to come, and a third of what 80,000 tokens take.
    assert "  154:20:22 left" in lines[0]
    assert lines[1].startswith("se")
    assert lines[1].count("1.23") == {(60, 6): 4, (80, 6): 5}.get((width, tasks), tasks)


def test_names_are_cut_before_losses_are_left_out():
    assert losses_line(LOSSES, 120) == "sentiment.ce 1.234  paraphrase.bce 0.432  similarity.mse 0.032"
    assert losses_line(LOSSES, 60) == "sentiment.ce 1.234  paraphra….bce 0.432  similari….mse 0.032"
    assert losses_line(LOSSES, 45) == "sen….ce 1.234  par….bce 0.432  sim….mse 0.032"
    assert losses_line(LOSSES, 40) == "se….ce 1.234  pa….bce 0.432  +1"
    assert losses_line(LOSSES, 3) == "+3"
    assert losses_line({}, 40) == ""


def test_the_share_of_conflicts_stands_beside_the_losses(clock: Callable[[float], None]):
    for width in (60, 80, 120):
        lines = shown(width, 3, conflicting=0.25)
        assert lines[1].endswith("25% in conflict")
        assert len(lines[1]) <= width


def test_a_run_that_may_end_early_has_at_most_the_time_left(clock: Callable[[float], None]):
    for width in (60, 80, 120):
        line = shown(width, 3, conflicting=0.25)[0]
        assert "  at most 154:20:22 left" in line
        assert len(line) <= width


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]) -> Iterator[tuple[Display, io.StringIO]]:
    """The display of a run of ten steps, and the file to which it prints all its lines."""
    file = io.StringIO()
    monkeypatch.setattr(progress_bar, "SECONDS_BEFORE_LINE", 0.5)
    monkeypatch.setattr(progress_bar, "SECONDS_BETWEEN_LINES", 0.0)
    with Display(Console(file=file, width=60)) as one:
        one.begin(10, 0, epoch=1, epochs=2, evaluations=[5, 10], dev=100, dev_tokens=3000, may_end_early=False)
        yield one, file


def test_a_log_has_a_line_now_and_then_for_steps_and_for_scoring(
    logged: tuple[Display, io.StringIO], clock: Callable[[float], None]
):
    one, file = logged
    one.warm = True
    clock(2.0)
    one.step(1, 1, {"a.ce": 1.0}, 200)
    # 9 steps of 2 s, and two evaluations of 3,000 tokens at a third of 10 ms each: 18 + 20.
    assert file.getvalue() == "epoch 1  step 1/10  a.ce 1.000  100 tokens/s  0:38 left\n"
    for step in range(2, 6):
        clock(2.0)
        one.step(1, step, {"a.ce": 1.0}, 200)
    # After these steps dev is scored, which the display knows at once.
    assert file.getvalue().splitlines()[-1] == "scoring dev  0/100 rows  0:10 left  (whole run: 0:30 left)"
    one.evaluating()
    clock(4.0)
    one.tick(25)
    # Three quarters of this evaluation; and 5 steps, and one more evaluation.
    assert file.getvalue().splitlines()[-1] == "scoring dev  25/100 rows  0:08 left  (whole run: 0:28 left)"


def test_while_dev_is_scored_the_bar_is_that_of_its_rows(
    logged: tuple[Display, io.StringIO], clock: Callable[[float], None]
):
    one, _ = logged
    one.warm = one.may_end_early = True
    clock(2.0)
    one.step(1, 5, {"a.ce": 1.0}, 200)
    one.tick(50)
    for width, more in ((60, ""), (100, "  whole run: at most 0:25 left")):
        one.console.width = width
        file = io.StringIO()
        Console(file=file, width=width).print(one._frame())
        line, losses = file.getvalue().splitlines()
        assert line.startswith("scoring dev  ━")
        assert line.rstrip().endswith(f"  50/100 rows  0:05 left{more}")
        assert losses.rstrip() == "a.ce 1.000"


def test_an_evaluation_that_was_timed_says_how_long_the_next_takes(
    logged: tuple[Display, io.StringIO], clock: Callable[[float], None]
):
    one, file = logged
    one.warm = True
    clock(1.0)
    one.step(1, 5, {"a.ce": 1.0}, 200)
    one.evaluating()
    clock(60.0)
    one.scoring, one.last_scoring, one.now = None, 60.0, time.monotonic()
    clock(1.0)
    one.step(2, 6, {"a.ce": 1.0}, 200)
    assert (
        file.getvalue().splitlines()[-1].endswith("200 tokens/s  1:04 left")
    )  # the minute does not count in the speed


def test_saving_is_shown_and_its_time_counts_as_that_of_scoring(
    logged: tuple[Display, io.StringIO], clock: Callable[[float], None]
):
    one, file = logged
    one.warm = True
    clock(2.0)
    one.step(1, 5, {"a.ce": 1.0}, 200)
    one.evaluating()
    clock(6.0)
    one.evaluated(5, {}, load_recipe("demo"), {"overall": 0.5}, best=True, tied=False)
    with one.saving():
        clock(4.0)
        one.bar.moved()
    # 5 steps of 2 s, and one more evaluation of 6 s, and then 10 s.
    assert file.getvalue().splitlines()[-1] == "saving  step 5/10  0:16 left"
    clock(2.0)
    one.step(1, 6, {"a.ce": 1.0}, 200)
    assert file.getvalue().splitlines()[-1].endswith("100 tokens/s  0:18 left")


def test_a_save_between_evaluations_counts_as_part_of_its_step(
    logged: tuple[Display, io.StringIO], clock: Callable[[float], None]
):
    one, file = logged
    one.warm, one.last_scoring = True, 0.0
    clock(1.0)
    one.step(1, 1, {"a.ce": 1.0}, 200)
    with one.saving():
        clock(2.0)
    clock(1.0)
    one.step(1, 2, {"a.ce": 1.0}, 200)
    assert file.getvalue().splitlines()[-1].endswith("100 tokens/s  0:16 left")  # 8 steps of 2 s


def test_the_first_step_shows_no_time_left(logged: tuple[Display, io.StringIO], clock: Callable[[float], None]):
    one, file = logged
    clock(14.0)  # memory is reserved, kernels are compiled
    one.may_end_early = True
    one.bar.moved()
    assert file.getvalue().startswith("epoch 1  step 0/10  ")
    assert file.getvalue().endswith("  -:-- left\n")
    one.step(1, 1, {"a.ce": 1.0}, 200)
    assert one.left is None
    clock(2.0)
    one.step(1, 2, {"a.ce": 1.0}, 200)
    # 8 steps of 2 s, and two evaluations of 3,000 tokens at a third of 10 ms each.
    assert file.getvalue().splitlines()[-1].endswith("100 tokens/s  at most 0:36 left")


@pytest.mark.parametrize(
    ("best", "tied", "said"),
    [
        (True, False, "  best so far"),
        (True, True, "  equal to the best so far; the newer model is kept"),
        (False, True, "  equal to the best so far"),
        (False, False, ""),
    ],
)
def test_a_line_of_scores_says_whether_they_are_the_best_or_equal_to_it(best: bool, tied: bool, said: str):
    file = io.StringIO()
    scores = {"sst": Evaluation({"accuracy": 0.75}, {"accuracy": 0.5}, collapsed=False, examples=30)}
    Display(Console(file=file)).evaluated(7, scores, load_recipe("demo"), {"overall": 0.5}, best=best, tied=tied)
    assert file.getvalue() == f"step 7  dev: sst 0.7500  overall 0.5000{said}\n"
