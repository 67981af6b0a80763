"""Runs of older versions stay usable: the one in ``old_model/`` predicts, is scored, and trains on.

``old_model/README.md`` says how it was made. Its weights must load bit for bit. Its answers may differ in the last
bits, because processors multiply in different orders.
"""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
import toy_run
from commands import Mtbert
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtbert import scoring
from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import validate_recipe
from mtbert.storage import run_state
from mtbert.storage.model_folder import load_model, save_model
from mtbert.training.assemble import assemble
from mtbert.training.resume import resume_run
from mtbert.training.start import start_run
from mtbert.use.predictor import Predictor
from mtbert.yaml_files import merge

OLD = Path(__file__).with_name("old_model")
EXPECTED = json.loads((OLD / "expected.json").read_text())
TASKS = ("topic", "same", "likeness")
ROOT = f"data.root={OLD / 'data'}"
OLD_THRESHOLD = {"for_sts.threshold": torch.tensor(0.5)}  # every cosine head had one


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the old run, whose recipe names a folder of data that no longer exists."""
    return Path(shutil.copytree(OLD / "run", tmp_path / "run"))


@pytest.fixture
def found(run: Path) -> Path:
    """A copy of the old run whose recipe names the present folder of the data."""
    file = run / "recipe.yaml"
    text = file.read_text()
    assert text.count("root: /tmp/toy/data\n") == 1
    file.write_text(text.replace("/tmp/toy/data", json.dumps(str(OLD / "data"))))
    return run


def predictor(folder: Path) -> Predictor:
    loaded = load_model(folder)
    return Predictor(loaded.model, loaded.tokenizer)


def tensors(folder: Path) -> dict[str, Tensor]:
    """Returns all tensors in a model folder."""
    parts = [load_file(folder / f"{part}.safetensors") for part in ("model", "heads", "adapters")]
    return {name: tensor for part in parts for name, tensor in part.items()}


def digests(folder: Path) -> list[str]:
    """Returns the SHA-256 of each tensor in a model folder; a newer version may store them under other names."""
    return sorted(hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for tensor in tensors(folder).values())


# Answers -----------------------------------------------------------------------------------------------------


def test_every_weight_arrives_bit_for_bit(tmp_path: Path):
    loaded = load_model(OLD / "run")
    save_model(loaded.model, loaded.tokenizer, tmp_path)
    assert digests(tmp_path) == sorted(EXPECTED["tensors"].values())


@pytest.mark.parametrize("task", TASKS)
def test_it_answers_as_the_older_version_did(task: str):
    old = predictor(OLD / "run")
    raw = scoring.predict_examples(old.model, old.read(task, EXPECTED["texts"][task]))
    torch.testing.assert_close(raw, torch.tensor(EXPECTED["raw"][task]), rtol=0, atol=1e-6)


def test_its_fitted_threshold_decides():
    answers = predictor(OLD / "run").predict("same", EXPECTED["texts"]["same"])
    assert [answer["label"] for answer in answers] == ["yes", "no", "yes"]


def test_its_own_scores_come_out_again(mtbert: Mtbert, run: Path):
    done = mtbert("evaluate", run, "--json", "--set", ROOT)
    assert done.code == 0, done
    scores = json.loads(done.out)["tasks"]
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]["evaluation"]
    for task in TASKS:
        for name, score in logged[task]["metrics"].items():
            assert scores[task]["metrics"][name] == pytest.approx(score, abs=1e-6), (task, name)


def test_its_report_shows_what_it_scored(mtbert: Mtbert, found: Path):
    done = mtbert("report", found)
    assert done.code == 0, done
    assert "0.6667" in (found / "report.html").read_text()


# Training on -------------------------------------------------------------------------------------------------


def test_a_new_run_starts_from_its_encoder_heads_and_adapters(found: Path):
    made = assemble(load_recipe(str(found / "recipe.yaml"), [f"model.path={found}"]))
    assert [note.text.partition(": ")[2] for note in made.notes] == ["heads going on: topic, same, likeness; new: none"]
    model = made.model
    saved = tensors(found / "best")
    ours = model.heads.state_dict() | model.adapters.state_dict()
    ours["embeddings.word_embeddings.weight"] = model.encoder.word_embedding.weight.detach()
    for name, tensor in ours.items():
        assert torch.equal(tensor, saved[name]), name


def test_it_resumes_for_more_epochs_with_its_data_at_a_new_place(mtbert: Mtbert, run: Path):
    done = mtbert("train", "--resume", run, "--epochs", 3, "--set", ROOT)
    assert done.code == 0, done
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 12
    assert (run / "metrics.jsonl").read_bytes().startswith((OLD / "run/metrics.jsonl").read_bytes())
    assert digests(run / "last") != digests(OLD / "run/last")


def test_without_its_data_one_line_says_which_folder_is_missing(mtbert: Mtbert, run: Path):
    done = mtbert("train", "--resume", run)
    assert done.code == 2, done
    (line,) = done.err.splitlines()
    assert line.startswith("mtbert: topic.csv: there is no folder '/tmp/toy/data'. ")


def test_it_is_as_small_as_a_test_file():
    assert sum(file.stat().st_size for file in OLD.rglob("*") if file.is_file()) < 200_000


# Thresholds that no answer depends on --------------------------------------------------------------------------


@pytest.mark.parametrize("fitted", [None, {"quora": ["threshold"], "sts": ["threshold"]}])
def test_a_threshold_that_an_early_version_saved_with_a_cosine_for_scores_is_not_read(tmp_path: Path, fitted: object):
    toy_run.set_up(tmp_path)
    cosine = {"inputs": "separate", "head": "cosine", "losses": ["mse"]}
    tasks = {"quora": cosine, "sts": cosine, "sst": None}
    recipe = merge(toy_run.raw_recipe(tmp_path, epochs=1, ema={"decay": 0.9}), {"tasks": tasks})
    quiet = Console(quiet=True)
    start_run(validate_recipe(recipe, "toy"), tmp_path / "run", quiet)
    card = json.loads((tmp_path / "run/best/mtbert.json").read_text())
    assert card["fitted"] == {"quora": ["threshold"], "sts": []}
    expected = load_model(tmp_path / "run").model.state_dict()
    for name in ("best", "last"):  # as the early versions wrote them
        folder = tmp_path / "run" / name
        save_file(load_file(folder / "heads.safetensors") | OLD_THRESHOLD, folder / "heads.safetensors")
        (folder / "mtbert.json").write_text(json.dumps(card | {"fitted": fitted}))
    old = {f"{model}.heads.{k}": n.clone() for model in ("average", "model") for k, n in OLD_THRESHOLD.items()}
    state = json.loads((folder / "state.json").read_text())
    save_file(load_file(folder / "training.safetensors") | old, folder / "training.safetensors")
    (folder / "state.json").write_text(json.dumps(state | {"tensors": state["tensors"] + len(old)}))
    seal = json.loads((folder / "digest.json").read_text())["run"]
    (folder / "digest.json").unlink()
    run_state.seal(folder, seal)
    found = load_model(tmp_path / "run").model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    resume_run(tmp_path / "run", quiet, epochs=2)
    saved = load_file(tmp_path / "run/last/heads.safetensors")
    assert list(saved) == ["for_quora.threshold"]
