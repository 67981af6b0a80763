"""The tables of losses, samplers and balancing methods, and what a loss may need beside a pass."""

import copy
import importlib
from pathlib import Path
from typing import Any

import pytest
import toy_run
from one_step import backward
from toy_passes import TASKS, batch_of, examples, loud, passed

import mtbert
from mtbert.balance.known import BALANCING
from mtbert.kinds import Kinds
from mtbert.losses import Averaged, Own, WholeBatch
from mtbert.losses.classification import BinaryCrossEntropy, CrossEntropy
from mtbert.losses.known import LOSSES
from mtbert.losses.simcse import UnsupervisedSimCSE
from mtbert.recipe.files import load_recipe
from mtbert.sampling.known import SAMPLERS
from mtbert.settings import Settings
from mtbert.training.assemble import assemble
from mtbert.training.objective import Objective


def defined(package: str) -> set[str]:
    """Returns the names of all settings with a kind that the files of a package define."""
    names = [f"mtbert.{package}.{file.stem}" for file in (Path(mtbert.__file__).parent / package).glob("*.py")]
    there = [vars(importlib.import_module(name)).values() for name in names]
    kinds = [kind for values in there for kind in values if isinstance(kind, type) and kind.__module__ in names]
    return {kind.__name__ for kind in kinds if issubclass(kind, Settings) and "kind" in kind.model_fields}


@pytest.mark.parametrize(("package", "table"), [("losses", LOSSES), ("balance", BALANCING), ("sampling", SAMPLERS)])
def test_a_table_holds_every_technique_of_its_package_under_its_kind(package: str, table: Kinds):
    for kind, settings in table.classes.items():
        assert settings.model_fields["kind"].default == kind
    assert {settings.__name__ for settings in table.classes.values()} == defined(package)
    assert len(table.classes) == len(table.names)


def needing(protocol: Any) -> set[str]:
    return {kind for kind, settings in LOSSES.classes.items() if isinstance(settings(), protocol)}


def test_every_loss_is_called_or_becomes_one_that_is():
    assert needing(Own) == {"simcse-unsup"}
    assert needing(Averaged) == {"bregman"}
    assert {kind for kind, loss in LOSSES.classes.items() if not callable(loss())} == needing(Own) | needing(Averaged)
    assert needing(WholeBatch) == {"cosent", "mnrl", "simcse"}
    assert isinstance(UnsupervisedSimCSE().with_own(None), WholeBatch)


def test_a_loss_that_reads_averaged_weights_is_refused_where_there_are_none(tmp_path: Path):
    toy_run.set_up(tmp_path)
    recipe = load_recipe(
        str(tmp_path / "toy.yaml"), ["tasks.sst.losses=[ce, bregman]", "train.ema={decay: 0.9, predicts: false}"]
    )
    model = assemble(recipe).model
    with pytest.raises(
        ValueError, match=r"tasks\.sst: loss 'bregman' compares with averaged weights, found no train\.e"
    ):
        Objective(recipe, model, None, None)
    Objective(recipe, model, None, copy.deepcopy(model))


def test_the_own_weights_of_a_loss_are_trained(tmp_path: Path):
    toy_run.set_up(tmp_path)
    run, _ = toy_run.build(tmp_path, {"tasks": {"sst": {"losses": ["ce", "simcse-unsup"]}}, "model": {"dropout": 0.1}})
    backward(run.objective, run._draw()[0])
    own = run.objective.own["sst:simcse-unsup"]
    assert all(parameter in run.trained and bool(parameter.grad.any()) for parameter in own.parameters())


@pytest.mark.parametrize("loss", [CrossEntropy(class_weights="balanced"), BinaryCrossEntropy(class_weights="balanced")])
def test_balanced_weights_are_asked_for_before_the_loss_is_called(loss: Any):
    task = TASKS["ordinal" if loss.kind == "ce" else "binary"]
    with pytest.raises(ValueError, match="class_weights: balanced is no list of numbers yet"):
        loss(passed(loud(task), batch_of(examples(task))))
