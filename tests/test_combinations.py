"""Combined techniques: all pairs that the rules of recipes allow, and two sets that are as large as possible."""

import copy
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import toy_run
from rich.console import Console

from mtbert import load
from mtbert.balance.known import BALANCING
from mtbert.losses.known import LOSSES
from mtbert.model.encoder import Encoder
from mtbert.model.settings import Pal
from mtbert.model.weights import LoadedEncoder, load_encoder
from mtbert.recipe.parts import ModelRecipe, TaskRecipe
from mtbert.recipe.settings import Recipe, validate_recipe
from mtbert.recipe.train_settings import TrainRecipe
from mtbert.sampling.known import SAMPLERS
from mtbert.training.assemble import assemble
from mtbert.training.resume import resume_run
from mtbert.training.run import Run
from mtbert.training.signals import Stopped
from mtbert.training.start import start_run
from mtbert.yaml_files import merge

folder = toy_run.shared_folder

SILENT = Console(quiet=True)
Raw = dict[str, Any]

# Every setting of a recipe is listed as a technique with values to try, or as no technique. New settings go here too.
TASK_VALUES: Raw = {"no_duplicates": [True]}
MODEL_VALUES: Raw = {
    "dropout": [0.0],
    "pal": get_args(Pal.model_fields["kind"].annotation),
    "lora": [{"rank": 2}],
    "freeze": [0, 1, "all"],
    "unshare": [1],
}
TRAIN_VALUES: Raw = {
    "sampler": list(SAMPLERS.classes),
    "aggregation": [
        {"kind": kind}
        | ({"method": get_args(part.model_fields["method"].annotation)[0]} if "method" in part.model_fields else {})
        for kind, part in BALANCING.classes.items()
    ],
    "conflicts": [True],
    "weighting": ["uncertainty"],
    "ema": [{"decay": 0.9}],
    "layer_decay": [0.8],
    "token_budget": [50],
    "shards": [2],
    "precision": ["bf16"],
    "clip": [None],
    "schedule": ["constant"],
}
PLAIN = {
    *("name type inputs head pooling segments labels codes range train dev test columns".split()),
    *("dev_fraction dev_seed dev_split".split()),
    *("losses weight batch_size metric path max_length mode rounds epochs lr betas eps weight_decay warmup".split()),
    *("table soft splitter held_out calibrate".split()),  # they change the data, and have tests of their own
    *("device threads seed evaluate_every checkpoint_every patience select".split()),
}


def test_every_setting_is_known_here():
    for part, values in ((TaskRecipe, TASK_VALUES), (ModelRecipe, MODEL_VALUES), (TrainRecipe, TRAIN_VALUES)):
        assert set(part.model_fields) - PLAIN - {"pooling"} == set(values), part


def template(folder: Path, mode: str) -> Raw:
    """Returns a recipe with one task of each combination of type, inputs and head."""
    raw = toy_run.raw_recipe(folder, mode=mode, rounds=3, epochs=2)
    sst, quora, sts = (raw["tasks"][name] for name in ("sst", "quora", "sts"))
    raw["tasks"] = {
        "ordinal": sst | {"losses": ["ce"]},
        "packed": quora | {"losses": ["bce"]},
        "native": quora | {"head": "native", "losses": ["bce"]},
        "pair": quora | {"inputs": "separate", "losses": ["bce"]},
        "sets": sst | {"type": "multilabel", "losses": ["bce"]},
        "score": sts | {"losses": ["mse"], "dev": None},
        "cosine": sts | {"inputs": "separate", "head": "cosine", "losses": ["mse"], "dev": None},
    }
    return raw


def valid(raw: Raw) -> Recipe | str:
    """Returns the recipe, or the reasons why it is refused."""
    try:
        return validate_recipe(raw, "r")
    except ValueError as error:
        return str(error)


Change = Callable[[Raw], Raw]


def setting(part: str, name: str, value: Any) -> Change:
    return lambda raw: merge(raw, {part: {name: value}})


def of_every_task(name: str, value: Any) -> Change:
    return lambda raw: merge(raw, {"tasks": {task: {name: value} for task in raw["tasks"]}})


def loss(kind: str) -> Change:
    """Returns a change that adds the loss to each task for which it is allowed."""

    def change(raw: Raw) -> Raw:
        for task, settings in raw["tasks"].items():
            if kind not in settings["losses"]:
                with_it = {"tasks": {task: {"losses": [*settings["losses"], kind]}}}
                alone = {"tasks": {task: settings}, "train": {"ema": {"decay": 0.9}}, "data": {"root": "."}}
                if not isinstance(valid(merge(alone, with_it)), str):
                    raw = merge(raw, with_it)
        return raw

    return change


CHANGES: dict[str, Change] = {
    **{f"loss {kind}": loss(kind) for kind in LOSSES.classes},
    **{f"tasks {name} {v}": of_every_task(name, v) for name, values in TASK_VALUES.items() for v in values},
    **{f"model {name} {v}": setting("model", name, v) for name, values in MODEL_VALUES.items() for v in values},
    **{f"train {name} {v}": setting("train", name, v) for name, values in TRAIN_VALUES.items() for v in values},
}


@pytest.fixture(scope="module")
def run_of(folder: Path) -> Callable[[Recipe], Run]:
    """Makes runs of recipes based on :func:`template`; texts and weights are read once for all of them."""
    every = validate_recipe(of_every_task("no_duplicates", True)(template(folder, "joint")), "r")  # finds all clusters
    data = assemble(every).data
    loaded = load_encoder(str(folder / "encoder"))

    def read(path: str, *, dropout: float | None) -> LoadedEncoder:
        encoder = copy.deepcopy(loaded.encoder)
        if dropout is not None:
            changed = replace(encoder.config, hidden_dropout=dropout, attention_dropout=dropout)
            weights = encoder.state_dict()
            with torch.device("meta"):
                encoder = Encoder(changed)
            encoder.load_state_dict(weights, assign=True)
        return replace(loaded, encoder=encoder)

    def run(settings: Recipe) -> Run:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("mtbert.training.assemble.load_encoder", read)
            patched.setattr(
                "mtbert.training.assemble.prepare",
                lambda recipe, tokenizer: {name: data[name] for name in recipe.tasks},
            )
            return assemble(settings).run()

    return run


def variants(folder: Path, *changes: Change) -> list[Recipe | str]:
    """Returns the changed template's refusals in several variants, and last the first variant that is allowed, if any.

    The variants have both modes, with and without the task whose head has no weights.
    """
    found = []
    for mode in ("joint", "alternate"):
        for dropped in ((), ("cosine",)):
            raw = template(folder, mode)
            raw["tasks"] = {name: task for name, task in raw["tasks"].items() if name not in dropped}
            for change in changes:
                raw = change(raw)
            needs_average = any("bregman" in task["losses"] for task in raw["tasks"].values())
            found.append(valid(with_ema(raw) if needs_average else raw))
            if isinstance(found[-1], Recipe):
                return found
    return found


def with_ema(raw: Raw) -> Raw:
    return merge({"train": {"ema": {"decay": 0.9, "predicts": False}}}, raw)


@pytest.mark.parametrize("first", CHANGES)
def test_every_allowed_pair_trains(first: str, folder: Path, run_of: Callable[[Recipe], Run]):
    assert isinstance(variants(folder, CHANGES[first])[-1], Recipe)
    for second in list(CHANGES)[list(CHANGES).index(first) + 1 :]:
        *refusals, settings = variants(folder, CHANGES[first], CHANGES[second])
        if isinstance(settings, str):
            refusals.append(settings)
        for reason in refusals:  # a reason and a repair in one line for each mistake
            assert all(re.match(r"recipe r, .*[.:] .*\.$", line) for line in reason.splitlines()), reason
        if isinstance(settings, Recipe):
            run = run_of(settings)
            before = [p.detach().clone() for p in run.trained]
            steps = [run.step() for _ in range(1 if settings.train.mode == "joint" else 5)]
            assert any(not torch.equal(p, old) for p, old in zip(run.trained, before, strict=True)), second
            if settings.train.mode == "joint" or settings.train.sampler.kind == "round_robin":
                told = {task for step in steps for task in step.losses}
                assert told == {f"{n}.{x.kind}" for n, t in settings.tasks.items() for x in t.losses}, second


def maximal(folder: Path, mode: str, first: str, names: list[str]) -> Raw:
    """Returns a recipe with the technique ``first``, and then each of ``names`` that the rules still allow."""
    average = setting("train", "ema", {"decay": 0.9, "predicts": mode == "joint"})
    raw = CHANGES[first](loss("bregman")(average(template(folder, mode))))
    assert isinstance(valid(raw), Recipe)
    taken = {first.rsplit(" ", 1)[0]}
    for name in names:
        setting_name = name if name.startswith("loss") else " ".join(name.split()[:2])
        larger = CHANGES[name](raw)
        left_out = setting_name in taken or "precision" in name or "dropout" in name or larger == raw
        if not left_out and isinstance(valid(larger), Recipe):
            raw = larger
            taken.add(setting_name)
    return raw


@pytest.mark.parametrize(
    ("mode", "first", "backwards"),
    [("joint", "train aggregation {'kind': 'pcgrad'}", False), ("alternate", "train sampler annealed", True)],
)
def test_a_maximal_set_saves_resumes_bitwise_and_predicts(
    mode: str, first: str, backwards: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = list(CHANGES)[::-1] if backwards else list(CHANGES)
    raw = maximal(folder, mode, first, names)
    losses = {kind for task in raw["tasks"].values() for kind in task["losses"]}
    assert losses == set(LOSSES.classes)
    assert raw["model"].get("pal") in ("attention", "low_rank")
    assert ("lora" in raw["model"]) != ("freeze" in raw["model"])
    settings = validate_recipe(raw, "r")
    start_run(settings, tmp_path / "whole", SILENT)

    real = Run.step

    def step(self: Run) -> Any:
        if self.done == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            monkeypatch.setattr(Run, "step", real)
        return real(self)

    monkeypatch.setattr(Run, "step", step)
    with pytest.raises(Stopped):
        start_run(settings, tmp_path / "stopped", SILENT)
    resume_run(tmp_path / "stopped", SILENT)
    files = {f.relative_to(tmp_path / "whole") for f in (tmp_path / "whole").rglob("*") if f.is_file()}
    for file in sorted(files, key=str):
        if file.name not in ("timings.jsonl", "environment.json"):
            assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "stopped" / file).read_bytes(), file
    predictor = load(tmp_path / "whole" / "last")
    shutil.rmtree(tmp_path / "whole")  # a loaded model needs no other files
    assert predictor.predict("ordinal", ["the film is good"])[0].keys() >= {"label", "p(0)"}
    assert 0 <= predictor.predict("cosine", [("the dog", "a dog")])[0]["score"] <= 5
