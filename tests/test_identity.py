"""The digest of a run's settings: other settings change it, and settings that a later version adds do not."""

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import toy_run
from pydantic import Field

from mtbert.recipe.identity import identity
from mtbert.recipe.parts import TaskRecipe
from mtbert.recipe.settings import Recipe, validate_recipe
from mtbert.recipe.train_settings import TrainRecipe
from mtbert.yaml_files import merge

RAW = toy_run.raw_recipe(Path("/nowhere"))
ALTERNATE = {"mode": "alternate"}
DROPOUT = {"dropout": 0.1}


def task(**change: Any) -> dict[str, Any]:
    return {"tasks": {"sst": change}, "model": DROPOUT}


def identity_of(change: dict[str, Any]) -> str:
    return identity(validate_recipe(merge(RAW, change), "toy"))


@pytest.mark.parametrize(
    "changes",
    [
        [task(losses=losses) for losses in (["ce"], ["oll"], ["ce", "smart"], ["ce", "rdrop"], ["ce", "oll"])],
        [
            # proportional and square_root are temperatures by name, and the usual temperature is that of square_root
            {"train": ALTERNATE | {"sampler": {"kind": kind}}}
            for kind in ("round_robin", "proportional", "square_root", "annealed")
        ],
        [
            {"train": {"aggregation": aggregation}}
            for aggregation in ({"kind": "sum"}, {"kind": "pcgrad"}, {"kind": "torchjd", "method": "UPGrad"})
        ],
        [{}, *({"model": {"pal": {"kind": kind}}} for kind in ("attention", "low_rank"))],
        [task(head={"kind": kind}) for kind in ("linear", "mlp")],
        [{"train": {"lr": lr}} for lr in (1e-4, 1e-5)],
    ],
    ids=["loss", "sampler", "aggregation", "pal", "head", "rate"],
)
def test_any_two_kinds_at_a_seam_have_different_identities(changes: list[dict[str, Any]]):
    found = [identity_of(change) for change in changes]
    for (one, a), (other, b) in combinations(zip(changes, found, strict=True), 2):
        assert a != b, (one, other)


def test_the_place_of_the_data_and_the_epochs_do_not_count():
    assert identity_of({"data": {"root": "/elsewhere"}, "train": {"epochs": 9}}) == identity_of({})


def test_a_default_that_is_written_out_does_not_count():
    written = {"train": {"seed": 0, "sampler": {"kind": "round_robin"}, "ema": None, "aggregation": {"kind": "sum"}}}
    assert identity_of(written) == identity_of({})


def test_a_setting_that_a_later_version_adds_does_not_count_where_it_has_its_default():
    class LaterTrain(TrainRecipe):
        lanes: int = Field(default=4)

    class LaterTask(TaskRecipe):
        languages: tuple[str, ...] = ()

    now = validate_recipe(RAW, "toy")

    def later(**values: Any) -> Recipe:
        train = LaterTrain.model_construct(**dict(now.train) | values)
        tasks = {name: LaterTask.model_construct(**dict(one)) for name, one in now.tasks.items()}
        return now.model_copy(update={"train": train, "tasks": tasks})

    assert identity(later()) == identity(now)
    assert identity(later(lanes=2)) != identity(now)
