"""The benchmark itself: alternating pairs, correct judgement of goals, and no loss of rows when one fails."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import report, rows
from benchmarks.bench import measure
from benchmarks.report import Goal, Row, alone, compared
from benchmarks.sides import Settings
from benchmarks.timing import Limits, Paired, paired, timed

QUIET = Console(quiet=True)

# Timing --------------------------------------------------------------------------------------------


def test_sides_take_turns_and_the_first_pairs_are_thrown_away():
    turns: list[str] = []

    def side(name: str, values: list[float]):
        given = iter(values)

        def measured() -> float:
            turns.append(name)
            return next(given)

        return measured

    found = paired(side("ours", [99.0, 1.0, 2.0]), side("theirs", [99.0, 3.0, 4.0]), pairs=2, warmup=1)
    assert turns == ["ours", "theirs"] * 3
    assert found == Paired((1.0, 2.0), (3.0, 4.0))


def test_a_ratio_is_the_median_of_those_within_pairs():
    # Ratios 2, 2, 2, 4, 8; the ratio of the medians would be 3.
    pairs = Paired((1.0, 10.0, 3.0, 1.0, 1.0), (2.0, 20.0, 6.0, 4.0, 8.0))
    assert pairs.gain() == (2.0, 2.0)
    assert pairs.cost() == (0.5, 0.25)


def test_a_measurement_is_the_time_between_two_readings_of_the_clock():
    clock = iter([5.0, 7.5])
    done = []
    assert timed(lambda: done.append(1), lambda: next(clock))() == 2.5
    assert done == [1]


def test_a_step_is_bound_by_products_or_by_the_optimizer():
    machine = Limits(flops=1e9, bandwidth=1e6)
    assert machine.step(multiplied=1000, tokens=2_000_000, trained=1) == pytest.approx(12.0)
    assert machine.step(multiplied=1000, tokens=1, trained=1_000_000) == pytest.approx(28.0)


# Goals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        ("<= 1.3x", 1.3, True),
        ("<= 1.3x", 1.31, False),
        (">= 2.5x", 2.5, True),
        (">= 2.5x", 2.49, False),
        ("<= 10 s", 9.0, True),
        (">= 45 %", 44.0, False),
    ],
)
def test_a_goal_is_reached_on_its_own_side_of_the_bound(goal: str, value: float, met: bool):
    assert Goal.parse(goal).met(value) is met


def test_a_goal_in_another_notation_is_refused():
    with pytest.raises(ValueError, match="'about 3x'"):
        Goal.parse("about 3x")


@pytest.mark.parametrize("goal", rows.GOALS.values())
def test_every_goal_can_be_read(goal: str):
    Goal.parse(goal)


def test_every_group_has_rows_and_every_row_a_group():
    assert [row for group in rows.GROUPS for row in rows.rows_of(group)] == list(rows.GOALS)
    assert all(rows.rows_of(group) for group in rows.GROUPS)


def test_a_gain_divides_their_value_by_ours_and_a_cost_ours_by_theirs():
    pairs = Paired((1.0,) * 5, (3.0,) * 5)
    faster, cheaper = compared("a", ">= 4x", pairs), compared("b", "<= 0.4x", pairs)
    assert (faster.ratio, faster.reached, faster.ours, faster.theirs) == (3.0, False, 1000.0, 3000.0)
    assert (cheaper.ratio, cheaper.reached) == (pytest.approx(1 / 3), True)
    assert alone("c", "<= 0.5 s", 0.6).reached is False


def test_no_goal_is_judged_from_fewer_than_five_pairs():
    four = compared("a", ">= 2x", Paired((1.0,) * 4, (3.0,) * 4))
    assert (four.ratio, four.reached) == (3.0, None)
    assert compared("a", ">= 2x", Paired((1.0,) * 5, (3.0,) * 5)).reached is True


# Results -------------------------------------------------------------------------------------------


def good(settings: Settings) -> Iterator[Row]:
    yield Row(name="good", ours=1.0, reached=True)


def bad(settings: Settings) -> Iterator[Row]:
    yield Row(name="memory", ours=1.0, reached=True)
    raise RuntimeError("no such luck")


def test_each_row_is_written_at_once_and_a_failing_one_does_not_end_the_run(tmp_path: Path):
    file, seen = tmp_path / "results" / "latest.json", []

    def looks(settings: Settings) -> Iterator[Row]:
        seen.append({row["name"]: row["failed"] for row in json.loads(file.read_text())["rows"]})
        yield Row(name="looks")

    groups = {"good": good, "pal": failing, "looks": looks}
    found = measure(groups, Settings(work=tmp_path), file, {"machine": "m"}, QUIET)
    assert seen == [{"good": False, "pal": True}]
    assert found["pal"].note == "RuntimeError: no such luck"
    assert found["pal"].reach == "<= 1.25x"
    assert found["pal"].reached is None
    written = json.loads(file.read_text())
    assert written["machine"] == "m"
    assert {row["name"] for row in written["rows"]} == {"good", "pal", "looks"}


def failing(settings: Settings) -> Iterator[Row]:
    raise RuntimeError("no such luck")
    yield


def test_what_a_group_measured_before_it_failed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "GOALS", {"memory": "<= 1x", "memory/more": "<= 1x"})
    found = measure({"memory": bad}, Settings(work=tmp_path), tmp_path / "r.json", {}, QUIET)
    assert (found["memory"].failed, found["memory/more"].failed) == (False, True)


def test_rows_of_the_same_machine_stay_and_are_measured_again_unless_kept(tmp_path: Path):
    file, calls, settings = tmp_path / "r.json", [], Settings(work=tmp_path)

    def counted(settings: Settings) -> Iterator[Row]:
        calls.append(1)
        yield Row(name="counted")

    def go(machine: str, groups, **options) -> set[str]:
        return set(measure(groups, settings, file, {"machine": machine, "limits": len(calls)}, QUIET, **options))

    same = {"same": ["machine"]}
    assert go("m", {"good": good}, **same) == {"good"}
    assert go("m", {"counted": counted}, **same) == {"good", "counted"}
    go("m", {"counted": counted}, keep=True, **same)
    assert len(calls) == 1
    go("m", {"counted": counted}, **same)
    assert len(calls) == 2
    assert go("other", {"counted": counted}, keep=True, **same) == {"counted"}
    assert len(calls) == 3


def test_a_failed_row_is_not_kept(tmp_path: Path):
    file, settings = tmp_path / "r.json", Settings(work=tmp_path)
    measure({"pal": failing}, settings, file, {}, QUIET)

    def mended(settings: Settings) -> Iterator[Row]:
        yield Row(name="pal", ours=1.0)

    assert not measure({"pal": mended}, settings, file, {}, QUIET, keep=True)["pal"].failed


def test_a_row_is_printed_in_one_line():
    assert report.line(Row(name="pal", ratio=1.5, spread=0.25, reach="<= 1.25x")) == "pal: 1.5x ± 0.25 (goal <= 1.25x)"
    assert report.line(Row(name="help", ours=0.4, unit="s", reach="<= 0.5 s")) == "help: 0.4 s (goal <= 0.5 s)"
