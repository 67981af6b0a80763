"""The rows that are held out of train for thresholds and calibration: which they are, what is fitted, what is saved."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run
import yaml
from commands import Mtbert
from safetensors.torch import load_file, save_file

from mtbert import load, scoring, splits
from mtbert.prepare import Prepared
from mtbert.recipe.files import load_recipe
from mtbert.recipe.identity import identity
from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble
from mtbert.training.run import Run

folder = toy_run.shared_folder


def raw(folder: Path, names: tuple[str, ...] = ("sst", "quora"), **train: Any) -> dict[str, Any]:
    recipe = toy_run.raw_recipe(folder, **({"lr": 0.01} | train))
    recipe["tasks"] = {name: recipe["tasks"][name] for name in names}
    return recipe


def run_of(recipe: dict[str, Any]) -> Run:
    return assemble(validate_recipe(recipe, "toy")).run()


def texts(data: Any) -> set[str]:
    return {text for column in data.examples.texts for text in column}


def numbers(run: Run, name: str) -> dict[str, torch.Tensor]:
    return {key: number.clone() for key, number in run.predictor.fitted(name).items()}


def ids(one: Prepared) -> list[list[str]]:
    assert one.held_out is not None
    return [list(data.examples.ids) for data in (one.train, one.held_out, one.dev)]


# Which rows ---------------------------------------------------------------------------------------------------


def test_held_out_rows_are_a_tenth_of_train_and_share_no_text_with_the_rest(folder: Path):
    run = run_of(raw(folder, calibrate=True))
    for name, rows in (("sst", 40), ("quora", 60)):
        one = run.data[name]
        assert one.held_out is not None
        train, held_out, dev = ids(one)
        assert sorted(train + held_out + dev) == sorted(set(train + held_out + dev))
        assert len(train + held_out + dev) == rows
        assert len(held_out) == pytest.approx(0.1 * len(train + held_out), abs=1)
        assert not texts(one.held_out) & (texts(one.train) | texts(one.dev))
        assert all(stream.size == len(run.data[stream.name].train) for stream in run.streams)


def test_at_most_so_many_rows_are_held_out(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(splits, "MOST_HELD_OUT", 3)
    one = run_of(raw(folder, ("sst",), calibrate=True, held_out=0.5)).data["sst"]
    assert one.held_out is not None
    assert len(one.held_out) == 3


def test_the_seed_of_dev_draws_them_and_the_seed_of_training_does_not(folder: Path):
    first = ids(run_of(raw(folder, ("sst",), calibrate=True, seed=0)).data["sst"])
    assert ids(run_of(raw(folder, ("sst",), calibrate=True, seed=1)).data["sst"]) == first
    recipe = raw(folder, ("sst",), calibrate=True) | {}
    recipe["tasks"]["sst"] |= {"dev": "sst.csv", "dev_seed": 0}
    a = ids(run_of(recipe).data["sst"])
    recipe["tasks"]["sst"]["dev_seed"] = 1
    assert ids(run_of(recipe).data["sst"])[1] != a[1]


def test_nothing_is_held_out_of_a_source_that_fits_nothing(folder: Path):
    plain = run_of(raw(folder))
    assert all(one.held_out is None for one in plain.data.values())
    cosine = raw(folder)
    cosine["tasks"]["quora"] |= {"inputs": "separate", "head": "cosine", "losses": ["mse"]}
    made = run_of(cosine)
    assert made.data["sst"].held_out is None
    assert list(made.data["sst"].train.examples.ids) == list(plain.data["sst"].train.examples.ids)
    assert made.data["quora"].held_out is not None
    assert run_of(cosine | {"train": cosine["train"] | {"held_out": 0}}).data["quora"].held_out is None


def test_all_tasks_of_a_table_hold_the_same_rows_out(folder: Path):
    recipe = raw(folder, ("sst",), calibrate=True)
    settings = recipe["tasks"].pop("sst")
    recipe["tables"] = {"films": {"train": "sst.csv", "columns": {"id": "id", "text": "sentence"}}}
    task = {"table": "films", "inputs": "single", "label": "sentiment"}
    recipe["tasks"] = {
        "stars": task | {"type": settings["type"]},
        "score": task | {"type": "regression"},
        "kind": task | {"type": "classification"},
    }
    data = run_of(recipe).data
    assert ids(data["stars"]) == ids(data["kind"])
    assert data["score"].held_out is None
    assert list(data["score"].train.examples.ids) == list(data["stars"].train.examples.ids)
    assert data["stars"].held_out is not None
    assert data["kind"].held_out is not None
    assert data["stars"].held_out.sequences is data["kind"].held_out.sequences


def test_rows_that_all_share_texts_cannot_be_held_out(folder: Path):
    lines = ["id,sentence,sentiment", *(f"x{i},good film,{i % 5}" for i in range(20))]
    (folder / "data/same.csv").write_text("\n".join(lines) + "\n")
    recipe = raw(folder, ("sst",), calibrate=True)
    recipe["tasks"]["sst"] |= {"train": "same.csv", "dev": "sst.csv"}
    said = "same.csv: no rows can be held out of train for thresholds or calibration, because all 20 rows share texts."
    with pytest.raises(ValueError, match=re.escape(said)):
        run_of(recipe)


# Fitting ------------------------------------------------------------------------------------------------------


def test_dev_is_never_read_by_what_is_fitted(folder: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[tuple[str, ...]] = []
    fit = scoring.fit_answers
    monkeypatch.setattr(
        scoring, "fit_answers", lambda model, data: (read.extend(tuple(d.examples.ids) for d in data), fit(model, data))
    )
    run = run_of(raw(folder, calibrate=True, held_out=0.4))
    for _ in range(3):
        run.step()
    run.evaluate(lambda _: None)
    before = {name: numbers(run, name) for name in run.data}
    assert sorted(read) == sorted(tuple(ids(one)[1]) for one in run.data.values())
    for one in run.data.values():  # other labels of dev change nothing
        one.dev.examples.labels[:] = one.dev.examples.labels[::-1].copy()
    run.evaluate(lambda _: None)
    for name, fitted in before.items():
        assert {key: x.tolist() for key, x in numbers(run, name).items()} == {k: x.tolist() for k, x in fitted.items()}
    held_out = run.data["sst"].held_out  # other labels of held-out rows do
    assert held_out is not None
    held_out.examples.labels[:] = scoring.predict_examples(run.predictor, held_out).argmax(1)
    run.evaluate(lambda _: None)
    assert numbers(run, "sst")["scale"] > 2 * before["sst"]["scale"]


@pytest.mark.parametrize("predicts", [True, False])
def test_what_is_fitted_belongs_to_the_weights_that_are_scored(folder: Path, predicts: bool):
    recipe = raw(folder, ("sst",), calibrate=True, ema={"decay": 0.9, "predicts": predicts})
    recipe["tasks"]["sst"]["losses"] = ["ce", "bregman"]
    run = run_of(recipe)
    for _ in range(4):
        run.step()
    run.evaluate(lambda _: None)
    assert run.ema is not None
    scored, other = (run.ema, run.model) if predicts else (run.model, run.ema)
    assert scored.fitted("sst")["scale"] != 1
    assert other.fitted("sst")["scale"] == 1
    held_out = run.data["sst"].held_out
    assert held_out is not None
    scale = scored.fitted("sst")["scale"].clone()
    scoring.fit_answers(scored, [held_out])
    assert scored.fitted("sst")["scale"] == scale


def test_a_temperature_changes_no_answer_and_lowers_the_loss_on_held_out_rows(folder: Path):
    found = []
    for calibrate in (False, True):
        run = run_of(raw(folder, ("sst",), calibrate=calibrate, held_out=0.5))
        for _ in range(3):
            run.step()
        run.evaluate(lambda _: None)
        found.append(run)
    run = found[1]
    predicted = run.predicted["sst"]
    assert predicted.calibrated is not None
    assert predicted.decision.tolist() == predicted.prediction.argmax(1).tolist()
    scale = run.predictor.fitted("sst")["scale"]
    assert torch.equal(predicted.calibrated, predicted.prediction * scale)
    assert abs(float(scale) - 1) > 0.01
    assert found[0].predicted["sst"].calibrated is None


# Recipes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "train", "said"),
    [
        ({}, {"calibrate": True, "held_out": 0}, "train.calibrate needs held-out rows, found train.held_out 0."),
        ({}, {"calibrate": "isotonic"}, "train.calibrate: 'isotonic' is for yes/no tasks, found none."),
        ({"type": "regression"}, {"calibrate": True}, "train.calibrate: no task gives probabilities"),
        ({}, {"calibrate": "platt"}, "train.calibrate: must be false, true or 'isotonic', found \"platt\""),
        ({}, {"held_out": 1}, "train.held_out"),
    ],
)
def test_a_recipe_that_cannot_be_calibrated_is_refused(folder: Path, tasks: Any, train: Any, said: str):
    recipe = raw(folder, ("sst",), **train)
    recipe["tasks"]["sst"] |= tasks | ({"losses": ["mse"]} if tasks else {})
    with pytest.raises(ValueError, match=re.escape(said)):
        validate_recipe(recipe, "toy")


def test_the_digest_of_a_recipe_names_the_held_out_share_only_where_rows_are_held_out(folder: Path):
    def digest(*tasks: str, **train: Any) -> str:
        return identity(validate_recipe(raw(folder, tasks, **train), "toy"))

    assert digest("sst") == digest("sst", held_out=0) == digest("sst", held_out=0.3)
    assert len({digest("sst", calibrate=True), digest("sst", calibrate=True, held_out=0.3), digest("sst")}) == 3


# Saved --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that calibrates yes/no by an isotonic function, ordered classes, and sets."""
    from rich.console import Console

    from mtbert.training.start import start_run

    place = tmp_path_factory.mktemp("fitted")
    toy_run.set_up(place)
    recipe = raw(place, calibrate="isotonic", held_out=0.4, epochs=2, evaluate_every=3)
    rows = [
        f"{' '.join(toy_run.WORDS[i % 9 : i % 9 + 3])} {i},{'a;b' if i % 2 else 'b' if i % 3 else '[]'}"
        for i in range(60)
    ]
    (place / "data/sets.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    recipe["tasks"]["sets"] = {"type": "multilabel", "inputs": "single", "train": "sets.csv", "batch_size": 4}
    (place / "mine.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    start_run(load_recipe(str(place / "mine.yaml")), place / "run", Console(quiet=True))
    return place


def test_what_is_fitted_is_saved_with_the_heads_and_used_by_the_predictor(trained: Path, mtbert: Mtbert):
    saved = load_file(trained / "run/best/heads.safetensors")
    assert saved["for_quora.knots"].shape == (2, 256)
    assert saved["for_sets.threshold"].shape == (2,)
    assert saved["for_sets.scale"].shape == saved["for_sst.scale"].shape == ()
    predictor = load(trained / "run")
    (answer,) = predictor.predict("sst", ["good film"])
    raw_K = scoring.predict_examples(predictor.model, predictor.read("sst", ["good film"]))[0]
    expected = (raw_K * saved["for_sst.scale"]).softmax(0)
    assert [answer[f"p({i})"] for i in range(5)] == pytest.approx(expected.tolist(), abs=1e-6)
    (answer,) = predictor.predict("quora", [("good film", "bad film")])
    raw_1 = scoring.predict_examples(predictor.model, predictor.read("quora", [("good film", "bad film")]))
    knots = saved["for_quora.knots"].double().numpy()
    assert answer["p(1)"] == pytest.approx(float(np.interp(raw_1.item(), *knots)), abs=1e-6)
    assert answer["label"] == str(int(answer["p(1)"] > 0.5))
    done = mtbert("evaluate", trained / "run", "--json")
    logged = [json.loads(line) for line in (trained / "run/metrics.jsonl").read_text().splitlines()]
    best = next(
        line["evaluation"] for line in logged if line["step"] == json.loads(done.out)["step"] and "evaluation" in line
    )
    for task, scores in json.loads(done.out)["tasks"].items():
        assert scores["metrics"] == pytest.approx(best[task]["metrics"], abs=1e-6), task


def test_a_prediction_needs_no_scikit_learn(trained: Path):
    script = (
        "import sys, mtbert\n"
        f"answers = mtbert.load({str(trained / 'run')!r}).predict('quora', [('good film', 'bad film')])\n"
        "assert answers[0]['p(1)'] > 0 and 'sklearn' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_resumed_run_fits_the_same_numbers_bit_for_bit(trained: Path, tmp_path: Path):
    from rich.console import Console

    from mtbert.training.resume import resume_run
    from mtbert.training.start import start_run

    recipe = load_recipe(str(trained / "mine.yaml"), ["train.epochs=1"])
    start_run(recipe, tmp_path / "run", Console(quiet=True))
    whole = load_recipe(str(trained / "mine.yaml"), ["train.schedule=constant", "train.warmup=0"])
    one = load_recipe(str(trained / "mine.yaml"), ["train.schedule=constant", "train.warmup=0", "train.epochs=1"])
    start_run(whole, tmp_path / "whole", Console(quiet=True))
    start_run(one, tmp_path / "parts", Console(quiet=True))
    resume_run(tmp_path / "parts", Console(quiet=True), epochs=2)
    for file in ("last/heads.safetensors", "best/heads.safetensors", "last/predictions.safetensors", "metrics.jsonl"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t | {"for_sst.scale": torch.tensor(-1.0)}, "for_sst.scale must be above 0, found -1."),
        (lambda t: t | {"for_sst.scale": torch.ones(2)}, "the head of task sst must have"),
        (lambda t: t | {"for_sst.bias": torch.tensor(1.0)}, "the head of task sst must have"),
        (lambda t: {k: v for k, v in t.items() if k != "for_quora.knots"}, "the head of task quora must have"),
        (lambda t: t | {"for_quora.knots": t["for_quora.knots"].flip(1)}, "for_quora.knots must rise"),
        (lambda t: t | {"for_sets.threshold": torch.full((2,), torch.nan)}, "for_sets.threshold"),
    ],
)
def test_fitted_numbers_that_were_changed_are_refused(trained: Path, tmp_path: Path, change: Any, said: str):
    import shutil

    best = Path(shutil.copytree(trained / "run/best", tmp_path / "best"))
    file = best / "heads.safetensors"
    save_file({k: v.clone().contiguous() for k, v in change(load_file(file)).items()}, file)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        load(best)
    assert str(error.value).startswith(str(file))


def test_a_card_with_numbers_that_a_task_cannot_have_is_refused(trained: Path, tmp_path: Path):
    import shutil

    best = Path(shutil.copytree(trained / "run/best", tmp_path / "best"))
    card = json.loads((best / "mtbert.json").read_text())
    card["fitted"]["sst"] = ["threshold"]
    (best / "mtbert.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=re.escape("fitted: 'sst' cannot have threshold")):
        load(best)


def test_a_new_run_goes_on_with_heads_whatever_was_fitted_for_them(trained: Path):
    for calibrate in (False, True, "isotonic"):
        made = assemble(
            load_recipe(
                str(trained / "mine.yaml"),
                [f"model.path={trained / 'run'}", f"train.calibrate={json.dumps(calibrate)}"],
            )
        )
        assert "heads going on: sst, quora, sets" in made.notes[-1].text
        saved = load_file(trained / "run/best/heads.safetensors")
        assert torch.equal(made.model.head("sst").layers[0].weight, saved["for_sst.layers.0.weight"])
        assert (
            set(made.model.fitted("quora"))
            == ({False: set(), True: {"scale", "bias"}, "isotonic": {"knots"}}[calibrate])
        )


def test_the_rows_are_counted_wherever_train_is(trained: Path, mtbert: Mtbert):
    done = mtbert("data", "check", trained / "mine.yaml")
    held_out = [one.held_out for one in assemble(load_recipe(str(trained / "mine.yaml"))).data.values()]
    counts = [str(len(one or ())) for one in held_out]
    assert re.findall(r"held out of train +(\d+)", done.out) == counts
    assert mtbert("report", trained / "run").code == 0
    data = (trained / "run/tables/data.csv").read_text().splitlines()
    assert [line.split(",")[-2] for line in data[1:4]] == counts


def test_an_older_run_holds_nothing_out(trained: Path):
    from mtbert.recipe.files import load_run_recipe

    file = trained / "older.yaml"
    recipe = raw(trained)
    file.write_text(yaml.safe_dump(recipe))
    assert load_run_recipe(file).train.held_out == 0
    assert load_recipe(str(file)).train.held_out == 0.1
