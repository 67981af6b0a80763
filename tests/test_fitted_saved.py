"""Numbers fitted on held-out rows are saved with the heads, checked when they are loaded, and used for answers."""

import json
import re
import shutil
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
from rich.console import Console
from safetensors.torch import load_file, save_file
from test_held_out_rows import raw
from torch.nn.functional import binary_cross_entropy_with_logits

from mtbert import load, scoring
from mtbert.recipe.files import load_recipe, load_run_recipe
from mtbert.splits import read_split
from mtbert.storage.predictions import load_predictions
from mtbert.training.assemble import assemble
from mtbert.training.resume import resume_run
from mtbert.training.start import start_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that calibrates yes/no by an isotonic function, ordered classes, and sets."""
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
    # What calibration has changed on dev, which it was not fitted on.
    raw_B = load_predictions(trained / "run/best")["quora"].prediction.double()
    yes_B = torch.from_numpy(read_split(load_run_recipe(trained / "run/recipe.yaml"), "quora").dev.labels)
    before = binary_cross_entropy_with_logits(raw_B, yes_B).item()
    assert best["quora"]["uncalibrated"]["nll"] == pytest.approx(before, abs=1e-6) != best["quora"]["metrics"]["nll"]
    assert {task: list(found["uncalibrated"]) for task, found in best.items()} == {
        "sst": ["nll", "ece"],
        "quora": ["nll", "ece"],
        "sets": ["nll", "ece"],
    }


def test_a_prediction_needs_no_scikit_learn(trained: Path):
    script = (
        "import sys, mtbert\n"
        f"answers = mtbert.load({str(trained / 'run')!r}).predict('quora', [('good film', 'bad film')])\n"
        "assert answers[0]['p(1)'] > 0 and 'sklearn' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_resumed_run_fits_the_same_numbers_bit_for_bit(trained: Path, tmp_path: Path):

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
        (lambda t: t | {"for_sst.scale": torch.tensor(-1.0)}, "for_sst.scale must be 0.01 to 100, found -1."),
        (lambda t: t | {"for_sst.scale": torch.tensor(3e38)}, "for_sst.scale must be 0.01 to 100, found 3e+38. Train"),
        (lambda t: t | {"for_sst.scale": torch.ones(2)}, "the head of task sst must have"),
        (lambda t: t | {"for_sst.bias": torch.tensor(1.0)}, "the head of task sst must have"),
        (lambda t: {k: v for k, v in t.items() if k != "for_quora.knots"}, "the head of task quora must have"),
        (lambda t: t | {"for_quora.knots": t["for_quora.knots"].flip(1)}, "for_quora.knots must rise"),
        (lambda t: t | {"for_sets.threshold": torch.full((2,), torch.nan)}, "for_sets.threshold"),
    ],
)
def test_fitted_numbers_that_were_changed_are_refused(trained: Path, tmp_path: Path, change: Any, said: str):

    best = Path(shutil.copytree(trained / "run/best", tmp_path / "best"))
    file = best / "heads.safetensors"
    save_file({k: v.clone().contiguous() for k, v in change(load_file(file)).items()}, file)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        load(best)
    assert str(error.value).startswith(str(file))


def test_a_card_with_numbers_that_a_task_cannot_have_is_refused(trained: Path, tmp_path: Path):

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

    file = trained / "older.yaml"
    recipe = raw(trained)
    file.write_text(yaml.safe_dump(recipe))
    assert load_run_recipe(file).train.held_out == 0
    assert load_recipe(str(file)).train.held_out == 0.1
