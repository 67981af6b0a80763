"""Both sides of the benchmark compute the same, from the same weights, on the same rows."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from toy_run import set_up

sys.path.insert(0, str(Path(__file__).parent.parent))
from one_step import backward

from benchmarks import plain, scores
from benchmarks.plain import Done, Plain, PlainLoop
from benchmarks.rows_growth import random_words
from benchmarks.rows_training import SameNoise
from benchmarks.sides import TASKS, Settings, check
from mtbert.collate import collate
from mtbert.model.weights import encoder_state
from mtbert.recipe.files import load_recipe
from mtbert.training.assemble import assemble
from mtbert.training.run import Run

QUIET = Console(quiet=True)

STILL = ["model.dropout=0", "tasks.sst.losses=[ce]"] + [f"tasks.{t}.head={{dropout: 0}}" for t in TASKS]
CONSTANT = ["train.schedule=constant", "train.warmup=0"]
WEIGHTS = ["tasks.sts.weight=3", "tasks.sts.losses=[{kind: mse, weight: 25}]"]


@pytest.fixture
def start(tmp_path: Path):
    path = set_up(tmp_path)

    def build(*changes: str) -> Run:
        settings = load_recipe(str(path), [*STILL, *CONSTANT, *WEIGHTS, *changes])
        made = assemble(settings)
        with torch.no_grad():  # new weights are so small that differences would not show in losses and gradients
            for part, factor in ((made.model.encoder, 2), (made.model.heads, 10)):
                for parameter in part.parameters():
                    parameter.mul_(factor)
        return made.run()

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
        tally = backward(run.objective, [(data.train, chosen)])
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
def test_the_plain_loop_takes_the_same_steps_as_a_run(mode: str, start):
    run = start(f"train.mode={mode}", "train.clip=0.5")
    other = PlainLoop.of(run)
    check(run, other, steps=6)
    theirs = other.model.encoder.state_dict()
    for name, tensor in encoder_state(run.model.encoder).items():
        if not name.endswith("key.bias"):  # softmax cancels it: its gradient is only rounding, which Adam magnifies
            torch.testing.assert_close(theirs[name], tensor, rtol=1e-3, atol=2e-4)


def test_the_plain_model_starts_from_the_current_weights_and_trains_with_the_same_dropout(start):
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


def test_scores_that_exist_are_not_trained_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start):
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
    theirs = SameNoise(run, plain.SmartLoop.of(run))
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
    run = random_words(settings, tokens=90, length=16, tasks=3)
    assert [len(d.train) for d in run.data.values()] == [s.batch_size for s in run.streams]
    assert run.step().tokens == run.step().tokens == 90
    batch = collate([(d.train, np.arange(len(d.train))) for d in run.data.values()], run.device)
    lengths = np.diff(batch.layout.offsets)
    assert lengths.max() <= 16
    assert sorted(lengths)[3:] >= [8] * (len(lengths) - 3)  # except the last one of each task
