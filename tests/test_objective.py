"""The objective of a step: one pass or many give the same gradient, even for losses over the whole batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
import toy_run
from one_step import backward
from rich.console import Console

from mtbert.losses.ranking import MultipleNegatives, multiple_negatives
from mtbert.losses.rdrop import RDrop
from mtbert.losses.simcse import SimCSE, TwoPasses
from mtbert.losses.uncertainty import uncertainty_weighted
from mtbert.recipe.settings import validate_recipe
from mtbert.training import objective
from mtbert.training.assemble import assemble
from mtbert.training.inert import inert_losses
from mtbert.training.run import Run
from mtbert.yaml_files import merge

folder = toy_run.folder

SILENT = Console(quiet=True)


def run_of(folder: Path, change: dict[str, Any], *, dropout: float = 0.0) -> Run:
    """Returns a toy run in float64 whose pairs are encoded separately."""
    raw = toy_run.raw_recipe(folder, clip=None)
    raw["model"]["dropout"] = dropout
    for name in ("quora", "sts"):
        raw["tasks"][name]["inputs"] = "separate"
    for task in raw["tasks"].values():
        task["head"] = {"kind": "linear", "dropout": 0.0}
    settings = validate_recipe(merge(raw, change), "toy")
    made = assemble(settings)
    made.model.double()
    return made.run()


def gradients(run: Run) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    parts, _ = run._draw()
    tally = backward(run.objective, parts)
    named = [*run.model.named_parameters(), *run.objective.own.named_parameters()]
    return {n: p.grad.to_dense().clone() for n, p in named if p.grad is not None}, tally.losses


CONTRASTIVE = {
    "tasks": {
        "sst": {
            "labels": ["0", "1", "2", "3", "4"],
            "losses": [{"kind": "ce", "class_weights": [1.0, 5.0, 0.5, 2.0, 9.0]}, "oll"],
        },
        "quora": {"losses": ["bce", {"kind": "mnrl", "weight": 0.5}, "simcse"], "batch_size": 24},
        "sts": {"head": {"kind": "cosine"}, "losses": ["mse", "cosent"], "batch_size": 12},
    }
}


@pytest.mark.parametrize("split", [{"token_budget": 60}, {"token_budget": 1}])
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_losses_over_the_whole_batch_do_not_depend_on_its_passes(folder: Path, split: dict[str, int], weighting: str):
    change = merge(CONTRASTIVE, {"train": {"weighting": weighting}})
    whole, told = gradients(run_of(folder, change))
    found, told_in_parts = gradients(run_of(folder, merge(change, {"train": split})))
    assert found.keys() == whole.keys()
    assert told_in_parts == pytest.approx(told, rel=1e-6)  # cosines are computed in float32
    for name, gradient in whole.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_without_gathering_each_pass_would_be_compared_with_itself(folder: Path, monkeypatch: pytest.MonkeyPatch):
    # The control of the test above: without the cache, splitting does change the loss.
    _, told = gradients(run_of(folder, CONTRASTIVE))
    monkeypatch.setattr(objective.Objective, "_whole", lambda self, names: [])
    _, found = gradients(run_of(folder, merge(CONTRASTIVE, {"train": {"token_budget": 60}})))
    assert found["quora.mnrl"] < 0.9 * told["quora.mnrl"]


def test_the_second_run_of_a_pass_repeats_its_dropout(folder: Path, monkeypatch: pytest.MonkeyPatch):
    gathered: list[torch.Tensor] = []
    for kind in (MultipleNegatives, SimCSE, TwoPasses):
        real = kind.gather
        monkeypatch.setattr(kind, "gather", lambda loss, p, real=real: gathered.append(real(loss, p)) or gathered[-1])
    change = {
        "tasks": {"sst": {"losses": ["ce", "rdrop", "simcse-unsup"], "batch_size": 12}},
        "train": {"token_budget": 40},
    }
    run = run_of(folder, merge(CONTRASTIVE, change), dropout=0.3)
    gradients(run)
    half = len(gathered) // 2
    assert half > 4
    # All passes run first without a graph and then with one; both times they draw the same numbers.
    for first, second in zip(gathered[:half], gathered[half:], strict=True):
        assert not first[0].requires_grad
        assert second[0].requires_grad
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert len({float(first[0].sum()) for first in gathered[:half]}) > half / 2


def test_no_random_number_serves_two_passes(folder: Path, monkeypatch: pytest.MonkeyPatch):
    begun: set[bytes] = set()
    drawn: list[bytes] = []
    run = run_of(
        folder,
        merge(CONTRASTIVE, {"tasks": {"quora": {"losses": ["mnrl", "rdrop"]}}, "train": {"token_budget": 60}}),
        dropout=0.3,
    )
    passes, rdrop = objective.Objective._passes, RDrop.__call__

    def state() -> bytes:
        return bytes(run.generator.get_state().tolist())

    monkeypatch.setattr(objective.Objective, "_passes", lambda self, *given: begun.add(state()) or passes(self, *given))
    monkeypatch.setattr(RDrop, "__call__", lambda self, p: drawn.append(state()) or rdrop(self, p))
    gradients(run)
    assert len(drawn) > 3
    assert len(set(drawn)) == len(drawn)
    assert begun.isdisjoint(drawn)


def test_passes_with_their_graph_hold_no_more_tokens_than_the_budget(folder: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[bool, int]] = []
    run = run_of(folder, merge(CONTRASTIVE, {"train": {"token_budget": 60}}))
    real = run.model.embed
    monkeypatch.setattr(
        run.model,
        "embed",
        lambda b, *given, **named: seen.append((torch.is_grad_enabled(), len(b.ids_N))) or real(b, *given, **named),
    )
    gradients(run)
    assert max(tokens for _, tokens in seen) <= 60
    assert sum(tokens for graph, tokens in seen if graph) == sum(tokens for graph, tokens in seen if not graph) > 300


def test_a_batch_without_a_positive_pair_costs_nothing(folder: Path):
    (folder / "data/quora.csv").write_text(
        "id,sentence1,sentence2,is_duplicate\n" + "".join(f"q{i},the dog,a film,{int(i > 78)}\n" for i in range(80))
    )
    run = run_of(folder, {"tasks": {"quora": {"dev": "quora.csv", "losses": ["bce", "mnrl"], "batch_size": 3}}})
    assert run.step().losses["quora.mnrl"] == 0.0


def test_repeated_questions_are_not_each_others_negatives(folder: Path):
    rows = ["the dog,a dog", "the dog,old dog", "the film,a film", "a film,old film", "the cat,a cat"]
    (folder / "data/quora.csv").write_text(
        "id,sentence1,sentence2,is_duplicate\n" + "".join(f"q{i},{row},1\n" for i, row in enumerate(rows)) + "x,a,b,0\n"
    )
    change = {
        "tasks": {"quora": {"dev": "quora.csv", "losses": ["bce", "mnrl"], "batch_size": 6}, "sst": None, "sts": None}
    }
    run = run_of(folder, change)
    (data, order), *_ = run._draw()[0]
    made = run.objective._passes(objective.collate([(data, order)], torch.device("cpu")))["quora"]
    found = MultipleNegatives()(made)
    u, v = (x[made.labels == 1] for x in made.out.vectors)
    cluster = [{"q0": 0, "q1": 0, "q2": 1, "q3": 1, "q4": 2}[i] for i in made.batch.example_ids["quora"] if i != "x"]
    torch.testing.assert_close(found, multiple_negatives(u, v, torch.tensor(cluster), 20.0, False))
    assert found < multiple_negatives(u, v, torch.arange(5), 20.0, False)


# Learned weights -----------------------------------------------------------------------------------


def test_uncertainty_weights_a_loss_as_the_formula_says():
    s = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    loss = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    for gaussian, half in ((False, 1.0), (True, 0.5)):
        found = uncertainty_weighted(loss, s, 1.0, gaussian=gaussian)
        torch.testing.assert_close(found, half * torch.exp(-s) * loss + s / 2)
    # The minimum over s is at exp(s) = 2 * loss for classes.
    best = torch.tensor(6.0).double().log().requires_grad_()
    (slope,) = torch.autograd.grad(uncertainty_weighted(loss, best, 1.0, gaussian=False), best)
    assert slope.item() == pytest.approx(0, abs=1e-12)


def test_learned_weights_start_at_one_and_move_against_the_loss(folder: Path):
    run = run_of(
        folder, {"tasks": {"sts": {"weight": 3.0}}, "train": {"weighting": "uncertainty", "warmup": 0, "lr": 1e-5}}
    )
    _, told = gradients(run)
    slopes = {name: float(run.objective.log_variance[f"for_{name}"].grad) for name in ("sst", "quora", "sts")}
    assert slopes["sst"] == pytest.approx(0.5 - told["sst.ce"] - told["sst.oll"])
    assert slopes["quora"] == pytest.approx(0.5 - told["quora.bce"])
    assert slopes["sts"] == pytest.approx(3 * (0.5 - 0.5 * told["sts.mse"]))
    first = run.step().diagnostics
    assert set(first) == {"sigma2(sst)", "sigma2(quora)", "sigma2(sts)"}
    for _ in range(5):
        last = run.step()
    assert last.diagnostics["sigma2(sst)"] > 1.02  # its losses are above 1/2, so it counts less
    assert last.diagnostics["sigma2(sts)"] < 0.98


# Losses that do nothing ----------------------------------------------------------------------------


def test_a_loss_that_hardly_moves_the_encoder_is_pointed_out_and_nothing_is_changed(folder: Path):
    change = {"tasks": {"sst": {"losses": ["ce", {"kind": "smart", "mode": "paper"}]}}}
    run = run_of(folder, change, dropout=0.1)
    before = run.generator.get_state()
    (line,) = inert_losses(run)
    assert line.startswith("task sst: loss smart has ")
    assert "does next to nothing" in line
    assert torch.equal(run.generator.get_state(), before)
    assert all(p.grad is None for p in run.model.parameters())
    assert inert_losses(run) == [line]
    assert inert_losses(run_of(folder, {"tasks": {"sst": {"losses": ["ce", "oll"]}}})) == []


def test_a_loss_that_was_always_0_is_pointed_out(folder: Path):
    change = {"tasks": {"quora": {"losses": ["bce", "mnrl"], "batch_size": 1}}}
    run = run_of(folder, change)
    for _ in range(3):
        run.step()
    assert [line[:39] for line in inert_losses(run)] == ["loss quora.mnrl was 0 in every step: its"[:39]]
