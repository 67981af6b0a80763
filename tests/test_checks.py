"""Checks across the fields of a recipe that need the encoder or the rows, and how early they are made."""

from pathlib import Path
from typing import Any

import pytest
import toy_run
from rich.console import Console
from tiny import model

from mtbert import prepare
from mtbert.model.settings import Pal
from mtbert.recipe.checks import check_config, check_recipe, check_with_encoder
from mtbert.recipe.files import load_recipe, merge
from mtbert.recipe.parts import ModelRecipe, TaskRecipe
from mtbert.recipe.settings import validate_recipe
from mtbert.recipe.train_settings import TrainRecipe
from mtbert.splits import TableSide
from mtbert.task import Task
from mtbert.training import assemble
from mtbert.training.start import start_run

SILENT = Console(quiet=True)
ONE = Task(name="t", type="regression", inputs="single")
folder = toy_run.folder


def test_more_layers_than_there_are_cannot_be_frozen():
    config = model(ONE, layers=3).encoder.config
    with pytest.raises(ValueError, match=r"model\.freeze: 4 is more than the encoder's 3 layers\. Use fewer, or all"):
        check_config(ModelRecipe(max_length=8, freeze=4), config)
    check_config(ModelRecipe(max_length=8, freeze=3), config)
    check_config(ModelRecipe(max_length=8, freeze="all"), config)


def test_texts_cannot_be_longer_than_the_encoder_has_positions():
    config = model(ONE).encoder.config
    with pytest.raises(
        ValueError, match=rf"model\.max_length: 600 is more than the {config.max_length} positions of x"
    ):
        check_config(ModelRecipe(path="x", max_length=600), config)
    check_config(ModelRecipe(max_length=config.max_length), config)


def test_the_encoder_is_checked_before_data_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(assemble, "prepare", lambda *_: pytest.fail("data were read"))
    for change in ("model.freeze=9", "model.max_length=9999"):
        with pytest.raises(ValueError, match=r"is more than the"):
            start_run(load_recipe(str(folder / "toy.yaml"), [change]), folder / "run", SILENT)


def test_a_batch_without_duplicates_must_fit_into_the_rows_which_is_checked_before_tokenising(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    tokenised: list[str] = []
    real = prepare.tokenized

    def tokenized(side: TableSide, *args: Any, **options: Any) -> Any:
        tokenised.extend(side.tasks)
        return real(side, *args, **options)

    monkeypatch.setattr(prepare, "tokenized", tokenized)
    change = {"tasks": {"quora": {"no_duplicates": True, "batch_size": 1000}}, "train": {"rounds": 1}}
    settings = validate_recipe(merge(toy_run.raw_recipe(folder), change), "toy")
    with pytest.raises(
        ValueError, match=r"task quora: no_duplicates cuts .* and 54 train rows are less than one of 1000\."
    ):
        start_run(settings, folder / "run", SILENT)
    assert tokenised == ["sst", "sst"]  # the task before, its train and its dev
    fits = merge(change, {"tasks": {"quora": {"batch_size": 54}}})
    start_run(validate_recipe(merge(toy_run.raw_recipe(folder, epochs=1), fits), "toy"), folder / "run", SILENT)


def test_dropout_in_a_head_reaches_only_losses_that_read_its_prediction():
    pairs = {"name": "t", "type": "binary", "inputs": "separate", "train": "t.csv", "columns": {"text": ("a", "b")}}
    task = TaskRecipe.model_validate(pairs | {"head": {"dropout": 0.25}, "losses": ("bce", "mnrl")})
    assert [task.head_dropout(loss) for loss in task.losses] == [0.25, 0.0]
    cosine = TaskRecipe.model_validate(pairs | {"head": {"kind": "cosine", "dropout": 0.25}})
    assert [cosine.head_dropout(loss) for loss in cosine.losses] == [0.0]


def test_dropout_in_an_adapter_is_dropout_too():
    raw = {"name": "t", "type": "binary", "inputs": "single", "train": "t.csv", "head": {"dropout": 0.0}}
    tasks = {"t": TaskRecipe.model_validate(raw | {"losses": ("bce", "rdrop")})}
    encoder, train = model(ONE, shape={"hidden_dropout": 0.0, "attention_dropout": 0.0}).encoder, TrainRecipe()
    adapted = ModelRecipe(max_length=8, dropout=0.0, pal=Pal())
    check_recipe(tasks, adapted, train)
    check_with_encoder(tasks, adapted, train, encoder)
    for other in (None, Pal(kind="low_rank"), Pal(dropout=0.0)):
        bare = adapted.model_copy(update={"pal": other})
        with pytest.raises(ValueError, match=r"tasks\.t: loss 'rdrop' .* found model\.dropout 0"):
            check_recipe(tasks, bare, train)
        with pytest.raises(ValueError, match=r"tasks\.t: loss 'rdrop' .* has none in its config"):
            check_with_encoder(tasks, bare, train, encoder)
    kept = ModelRecipe(max_length=8)
    dry = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    check_with_encoder(tasks, kept, train, model(ONE, shape=dry | {"embedding_dropout": 0.1}).encoder)
    with pytest.raises(ValueError, match="has none in its config"):
        check_with_encoder(tasks, kept, train, model(ONE, shape=dry | {"embedding_dropout": 0.0}).encoder)
