"""The benchmark's own claims: fair sides, alternated pairs, goals judged right, and nothing lost when a row fails."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from toy_run import set_up

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import plain, report, rows, scores
from benchmarks.bench import measure
from benchmarks.plain import Done, Plain, PlainLoop
from benchmarks.report import Goal, Row, alone, compared
from benchmarks.rows import Settings, check
from benchmarks.timing import Limits, Paired, paired, timed
from mtbert import launch, recipe
from mtbert.batch import collate
from mtbert.model.weights import encoder_state
from mtbert.objective import Tally
from mtbert.train import Run

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


def test_a_measure_is_the_time_between_two_looks_at_the_clock():
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


def test_a_goal_written_otherwise_is_refused():
    with pytest.raises(ValueError, match="'about 3x'"):
        Goal.parse("about 3x")


@pytest.mark.parametrize("goal", rows.GOALS.values())
def test_every_goal_can_be_read(goal: str):
    Goal.parse(goal)


def test_every_group_has_rows_and_every_row_a_group():
    assert [row for group in rows.GROUPS for row in rows.rows_of(group)] == list(rows.GOALS)
    assert all(rows.rows_of(group) for group in rows.GROUPS)


def test_a_gain_is_theirs_over_ours_and_a_cost_ours_over_theirs():
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


def test_a_row_is_told_in_one_line():
    assert report.line(Row(name="pal", ratio=1.5, spread=0.25, reach="<= 1.25x")) == "pal: 1.5x ± 0.25 (goal <= 1.25x)"
    assert report.line(Row(name="help", ours=0.4, unit="s", reach="<= 0.5 s")) == "help: 0.4 s (goal <= 0.5 s)"


# Fairness ------------------------------------------------------------------------------------------

STILL = ["model.dropout=0", "tasks.sst.losses=[ce]"] + [f"tasks.{t}.head={{dropout: 0}}" for t in rows.TASKS]
CONSTANT = ["train.schedule=constant", "train.warmup=0"]
WEIGHTS = ["tasks.sts.weight=3", "tasks.sts.losses=[{kind: mse, weight: 25}]"]


@pytest.fixture
def start(tmp_path: Path):
    path = set_up(tmp_path)

    def build(*changes: str) -> Run:
        settings = recipe.load(str(path), [*STILL, *CONSTANT, *WEIGHTS, *changes])
        device, _, data, model = launch.build(settings, QUIET)
        with torch.no_grad():  # at the size of fresh weights little reaches a loss, and nothing shows in a gradient
            for part, factor in ((model.encoder, 2), (model.heads, 10)):
                for parameter in part.parameters():
                    parameter.mul_(factor)
        return Run(settings, model, data, device)

    return build


def test_the_plain_model_has_our_loss_and_our_gradients(start):
    run = start()
    other = PlainLoop.of(run)
    theirs = other.model.encoder
    for name, data in run.data.items():
        for side in (run.model, other.model):
            side.zero_grad()
        chosen = np.array([3, 0, 5, 1])
        found = other.backward(name, chosen.tolist())
        run.objective.backward([(data.train, chosen)], tally := Tally())
        assert {key: float(value) for key, value in found.items()} == pytest.approx(tally.losses, rel=1e-5)
        ours, gradients = dict(run.model.encoder.named_parameters()), dict(theirs.named_parameters())
        for our, their in (
            ("layers.0.intermediate.weight", "encoder.layer.0.intermediate.dense.weight"),
            ("word_embedding.weight", "embeddings.word_embeddings.weight"),
        ):
            most = float(gradients[their].grad.abs().max())
            assert most > 1e-3
            torch.testing.assert_close(ours[our].grad.to_dense(), gradients[their].grad, rtol=0, atol=1e-5 * most)


@pytest.mark.parametrize("mode", ["alternate", "joint"])
def test_the_plain_loop_goes_the_same_way_as_a_run(mode: str, start):
    run = start(f"train.mode={mode}", "train.clip=0.5")
    other = PlainLoop.of(run)
    check(run, other, steps=6)
    theirs = other.model.encoder.state_dict()
    for name, tensor in encoder_state(run.model.encoder).items():
        if not name.endswith("key.bias"):  # softmax takes it out: its gradient is rounding, which Adam makes large
            torch.testing.assert_close(theirs[name], tensor, rtol=1e-3, atol=2e-4)


def test_the_plain_model_starts_from_the_weights_of_now_and_trains_with_the_same_dropout(start):
    run = start("model.dropout=0.25", "tasks.quora.head={dropout: 0.5}")
    run.step()
    made = Plain.of(run)
    for name, tensor in encoder_state(run.model.encoder).items():
        assert torch.equal(made.encoder.state_dict()[name], tensor)
    rates = {module.p for module in made.encoder.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.25}
    assert made.encoder.config.attention_probs_dropout_prob == 0.25
    assert [m.p for m in made.heads["for_quora"] if isinstance(m, torch.nn.Dropout)] == [0.5, 0.5]


def test_the_plain_loops_weights_come_back_into_a_run(start):
    run = start("train.mode=joint")
    loop = PlainLoop.of(run)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    for _ in range(3):
        loop.step()
    scores.put(loop, run)
    assert all(not torch.equal(t, before[n]) for n, t in run.model.state_dict().items() if n.endswith("output.weight"))
    for name, tensor in encoder_state(run.model.encoder).items():
        assert torch.equal(loop.model.encoder.state_dict()[name], tensor)
    for name in run.data:
        linears = [m for m in loop.model.heads[f"for_{name}"] if isinstance(m, torch.nn.Linear)]
        assert len(linears) == (2 if name == "quora" else 1)
        for ours, theirs in zip(run.model.head(name).layers, linears, strict=True):
            assert torch.equal(ours.weight, theirs.weight)


def test_scores_that_are_there_are_not_trained_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start):
    turns = []
    monkeypatch.setattr(scores, "start", lambda changes: start("train.mode=joint", changes[-1]))
    monkeypatch.setattr(scores, "trained", lambda run, side: turns.append((side, run.recipe.train.seed)))
    out = tmp_path / "scores.jsonl"
    found = scores.cells(out, 2, ["train.lr=1"])
    assert turns == [("ours", 0), ("plain", 0), ("ours", 1), ("plain", 1)]
    assert scores.cells(out, 2, ["train.lr=1"]) == found
    assert list(scores.cells(out, 1, ["train.lr=1"])) == [("ours", 0), ("plain", 0)]
    assert len(turns) == 4
    scores.cells(out, 1, ["train.lr=2"])
    assert turns[4:] == [("ours", 0), ("plain", 0)]
    assert {"sst accuracy", "quora accuracy", "sts pearson", "overall"} <= found["ours", 0].keys()


def test_scores_are_compared_within_seeds(capsys: pytest.CaptureFixture[str]):
    found = {("ours", 0): {"x": 1.0}, ("plain", 0): {"x": 0.5}, ("ours", 1): {"x": 3.0}, ("plain", 1): {"x": 2.5}}
    Console(width=100).print(scores.table(found))
    assert "2.0000 ± 1.4142 │ 1.5000 ± 1.4142 │ 0.5000 ± 0.0000" in capsys.readouterr().out


def test_padding_does_not_reach_the_loss(start):
    run = start()
    other = PlainLoop.of(run)
    rows_of_one = [float(other.backward("sst", [i])["sst.ce"]) for i in range(5)]
    assert float(other.backward("sst", list(range(5)))["sst.ce"]) == pytest.approx(np.mean(rows_of_one), rel=1e-5)


def test_smart_pytorch_computes_our_smart_for_the_same_noise(start):
    smart = "{kind: smart, step_size: 0.5, noise_std: 0.1, weight: 2}"
    run = start(
        "train.mode=alternate",
        *(f"tasks.{t}.losses=[{main}, {smart}]" for t, main in (("sst", "ce"), ("quora", "bce"), ("sts", "mse"))),
    )
    theirs = rows._SameNoise(run, plain.SmartLoop.of(run))
    check(run, theirs, steps=3)


def test_torchjd_adds_our_gradients(start):
    from torchjd.aggregation import Sum

    for chunk in (None, 1):
        check(start("train.mode=joint"), plain.TorchJDLoop(start("train.mode=joint"), Sum(), chunk))


class Fixed:
    def __init__(self, norm: float = 1.0, **losses: float) -> None:
        self.done = Done(losses, norm)

    def step(self) -> Done:
        return self.done


def test_sides_that_differ_are_not_compared():
    check(Fixed(a=1.0, b=2.0), Fixed(a=1.0))
    with pytest.raises(ValueError, match=r"step 1: a is 1 on our side and 1\.01 on theirs"):
        check(Fixed(a=1.0), Fixed(a=1.01))
    with pytest.raises(ValueError, match="gradient norm is 1 on our side and 2 on theirs"):
        check(Fixed(a=1.0), Fixed(2.0, a=1.0))
    check(Fixed(a=1.0), Fixed(2.0, a=1.0), norms=False)
    with pytest.raises(ValueError, match="no common loss"):
        check(Fixed(a=1.0), Fixed(b=1.0))


def test_random_words_have_exactly_the_tokens_asked_for(tmp_path: Path):
    set_up(tmp_path / "toy")
    settings = Settings(work=tmp_path, encoder=str(tmp_path / "toy" / "encoder"))
    run = rows.random_words(settings, tokens=90, length=16, tasks=3)
    assert [len(d.train) for d in run.data.values()] == [s.batch_size for s in run.streams]
    assert run.step().tokens == run.step().tokens == 90
    batch = collate([(d.train, np.arange(len(d.train))) for d in run.data.values()], run.device)
    lengths = np.diff(batch.layout.offsets)
    assert lengths.max() <= 16
    assert sorted(lengths)[3:] >= [8] * (len(lengths) - 3)  # but for each task's last
