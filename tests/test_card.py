"""The values of mtbert.json: each is compared with the saved weights before it can cost time or memory."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import toy_run
from foreign import refused

from mtbert.data.tokenizer import load_tokenizer
from mtbert.model.model import Model
from mtbert.model.settings import Pal
from mtbert.model.weights import load_encoder
from mtbert.storage.model_folder import load_model, save_model
from mtbert.task import Head, Task

TASKS = {
    "sst": Task(name="sst", type="ordinal", inputs="single", head=Head(kind="mlp"), labels=("bad", "fair", "good")),
    "twins": Task(name="twins", type="binary", inputs="separate", head=Head(kind="cosine"), labels=("no", "yes")),
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_run.encoder_folder(tmp_path_factory.mktemp("toy") / "encoder")


@pytest.fixture
def saved(encoder: Path, tmp_path: Path) -> Path:
    """A model folder with adapters."""
    adapters = Pal(width=4, heads=2)
    model = Model(load_encoder(str(encoder)).encoder, TASKS, pooling="mean", max_length=20, seed=3, adapters=adapters)
    save_model(model, load_tokenizer(encoder), tmp_path)
    return tmp_path


def change(folder: Path, *keys: str, to: Any) -> None:
    """Puts ``to`` at the path ``keys`` of mtbert.json."""
    card = json.loads((folder / "mtbert.json").read_text())
    inner = card
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    (folder / "mtbert.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("tasks", "sst", "name"), "other", "tasks: 'sst' has the name 'other'"),
        (("tasks", "a.b"), TASKS["sst"].model_dump(), "tasks: 'a.b' has the name 'sst'"),
        (("tasks", "\x1b[2J\n"), TASKS["sst"].model_dump(), r"tasks: '\x1b[2J\n' has the name 'sst'"),
        (("tasks", "\x1f"), 0, r"tasks.\x1f: must be a mapping, found 0. "),
        (("tasks", "sst", "name"), "a.b", "tasks.sst.name: "),
        (("tasks", "sst", "name"), "a\n", "tasks.sst.name: "),
        (("tasks", "sst", "name"), "x" * 10_000, "tasks.sst.name: "),
        (("tasks", "sst", "labels"), None, "tasks: 'sst' has no labels. Train or copy the run again."),
        (
            ("tasks", "sst", "splitter"),
            "spaces",
            "tasks.sst.splitter: ",
        ),
        (("tasks", "sst", "head", "hidden"), 10**12, "tasks.sst.head.hidden: "),
        (("tasks",), {}, "tasks: must name one or more, found none. Train"),
        (("tasks",), [], "tasks: "),
        (("pal", "heads"), 10**12, "pal.heads: "),
        (("pal", "width"), 10**12, "pal.width: "),
        (("pal", "tasks"), ["\x1b[2J"], r"pal.tasks: there is no task '\x1b[2J'"),
        (("max_length",), 0, "max_length: must be greater than or equal to 1, found 0. Train or copy the run again."),
        (("max_length",), 10**30, "max_length: "),
        (("pooling",), None, "pooling: "),
    ],
)
def test_a_value_that_no_card_can_hold_is_named(saved: Path, keys: tuple[str, ...], value: Any, said: str):
    change(saved, *keys, to=value)
    refused(ValueError, saved, f"{saved}/mtbert.json: damaged: {said}", load=load_model)


@pytest.mark.parametrize(("keys", "value"), [(("tasks", "sst", "type"), "tokens"), (("pal", "tasks"), ["other"])])
def test_a_message_about_a_damaged_card_has_one_full_stop_between_sentences(saved: Path, keys: Any, value: Any):
    change(saved, *keys, to=value)
    with pytest.raises(
        ValueError, match=r"[^.]\. Train or copy the run again\. If a newer mtbert wrote it, use that one\.$"
    ):
        load_model(saved)


def test_a_card_with_more_positions_than_its_encoder_is_refused(saved: Path):
    change(saved, "max_length", to=33)
    said = "mtbert.json: max_length must be at most 32 for this encoder, found 33. Train or copy the run again."
    refused(ValueError, saved, said, load=load_model)


def test_a_card_that_may_be_of_a_newer_version_says_so(saved: Path):
    change(saved, "tasks", "sst", "newest", to=1)
    repair = "Train or copy the run again. If a newer mtbert wrote it, use that one."
    refused(ValueError, saved, "damaged: tasks.sst: unknown key 'newest'. Known keys: ", f". {repair}", load=load_model)


def test_a_task_that_was_not_saved_is_named(saved: Path):
    task = TASKS["sst"].model_copy(update={"name": "other"}).model_dump()
    change(saved, "tasks", "other", to=task)
    said = "heads.safetensors: the head of task other must have layers.0.weight [16, 16]", "found nothing."
    refused(ValueError, saved, *said, load=load_model)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        # 17 GB of adapters, 8 GB of heads: far more than is in the files.
        (("pal",), {"width": 2**13, "heads": 2**10}, "the adapter of task sst must have down.0.weight [8192, 16]"),
        (
            ("tasks",),
            {
                name: {"name": name, "type": "binary", "inputs": "single", "head": {"kind": "mlp", "hidden": 2**16}}
                | {"labels": ["a", "b"]}
                for name in map("t{}".format, range(1000))
            },
            "the head of task t0 must have layers.0.weight [65536, 16]",
        ),
    ],
)
def test_heads_and_adapters_are_compared_before_they_take_memory(
    saved: Path, keys: tuple[str, ...], value: Any, said: str
):
    if keys == ("tasks",):
        change(saved, "pal", to=None)
    change(saved, *keys, to=value)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(ValueError, saved, said, load=load_model)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
