"""The commands of the command line: what they write, and the one line that a mistake prints."""

import json
import shutil
from pathlib import Path

import pytest
from commands import with_own_data

from mtbert import locks
from mtbert.recipe.files import load_recipe, shipped_recipes
from mtbert.recipe.settings import Recipe

# Training and evaluation -------------------------------------------------------------------------


def test_a_run_leaves_its_recipe_its_models_and_its_log(toy):
    run = toy / "run"
    assert load_recipe(str(run / "recipe.yaml")) == load_recipe(str(toy / "toy.yaml"))
    assert {p.name for p in run.iterdir()} >= {"best", "last", "recipe.yaml", "environment.json", "metrics.jsonl"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2]
    assert set(lines[0]["losses"]) == {"sst.ce", "sst.oll", "quora.bce", "sts.mse"}
    assert set(lines[-1]["evaluation"]) == {"sst", "quora", "sts"}


# Recipes and data --------------------------------------------------------------------------------


def test_recipe_show_prints_a_recipe_that_loads_to_the_same(mtbert, tmp_path):
    done = mtbert("recipe", "show", "demo", "--set", "train.epochs=9")
    (tmp_path / "shown.yaml").write_text(done.out)
    assert load_recipe(str(tmp_path / "shown.yaml")) == load_recipe("demo", ["train.epochs=9"])


def test_recipe_show_prints_only_what_differs_from_another_recipe(mtbert):
    changes = ("--set", "train.epochs=9", "--set", "model.freeze=1", "--set", "tasks.sts=")
    lines = mtbert("recipe", "show", "demo", *changes, "--diff", "demo").out.splitlines()
    assert "train.epochs: 1 -> 9" in lines
    assert "model.freeze: null -> 1" in lines
    assert 'tasks.sts.type: "regression" -> absent' in lines
    assert all(line.startswith(("tasks.sts.", "train.epochs", "model.freeze")) for line in lines)
    assert mtbert("recipe", "show", "demo", "--diff", "demo").out == "every setting is as in demo\n"
    assert mtbert("recipe", "show", "demo", "--diff", "dmeo").mistake.startswith("recipe dmeo: no such file")


def test_recipe_list_and_schema(mtbert):
    assert [line.split()[0] for line in mtbert("recipe", "list").out.splitlines()] == shipped_recipes()
    assert set(json.loads(mtbert("recipe", "schema").out)["properties"]) == {"extends", *Recipe.model_fields}


def test_data_check_exits_with_2_on_an_error_and_on_a_warning_only_with_strict(toy, mtbert):
    # sts has the same file for train and dev.
    done = mtbert("data", "check", toy / "toy.yaml")
    assert (done.code, done.err) == (0, "")
    assert mtbert("data", "check", toy / "toy.yaml", "--strict").code == 2
    clean = ("--set", "tasks.sts=", "--set", "tasks.quora=")
    assert mtbert("data", "check", toy / "toy.yaml", *clean).code == 0
    assert "gone.csv" in mtbert("data", "check", toy / "toy.yaml", "--set", "tasks.sst.train=gone.csv").mistake
    assert "model.freeze: 9" in mtbert("data", "check", toy / "toy.yaml", "--set", "model.freeze=9").mistake


# Mistakes ----------------------------------------------------------------------------------------

DISTILBERT = {"model_type": "distilbert", "vocab_size": 30, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
DISTILBERT |= {"max_position_embeddings": 32}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.epoch=3"], "recipe {toy}/toy.yaml, train: unknown key 'epoch'. Did you mean 'epochs'?"),
        (["lr"], "--set lr: give a.b=value, as in --set train.lr=2e-5."),
        (["tasks.sts.head=cosine"], "tasks.sts: head 'cosine' compares two vectors, so inputs must be 'separate'"),
        (["tasks.sst.train=sts_.csv"], "sts_.csv: there is no such file. Did you mean 'sts.csv'? Relative paths start"),
        (["tasks.sst.train=bad.csv"], "bad.csv, line 3, column 'sentiment': 'good' is not one of the classes '0', '1'"),
        (["tasks.sts.range=[0, 4]"], "sts.csv, line 11, column 'similarity': 4.5 is outside the task's range."),
        (["model.max_length=33"], "model.max_length: 33 is more than the 32 positions of {toy}/encoder."),
        (["model.path={toy}/data"], "{toy}/data/config.json: not there. Give the folder of a model"),
        (["model.path={toy}/gone"], "{toy}/gone: must be a folder, a hub id (org/name) or 'demo', found nothing."),
        (["model.path={toy}/other"], "{toy}/other: 32 weights of a distilbert encoder are missing: transformer"),
        (["train.device=tpu"], "train.device: must be 'auto', 'cpu', 'cuda' or 'mps', found \"tpu\"."),
    ],
)  # fmt: skip
def test_a_mistake_in_a_recipe_is_one_line_before_anything_is_written(toy, mtbert, tmp_path, settings, said):
    (toy / "data" / "bad.csv").write_text("id,sentence,sentiment\na,dog,0\nb,cat,good\n")
    (toy / "other").mkdir(exist_ok=True)
    (toy / "other" / "config.json").write_text(json.dumps(DISTILBERT))
    shutil.copy(toy / "encoder" / "model.safetensors", toy / "other")
    labels = "tasks.sst.labels=['0', '1', '2', '3', '4']"
    options = [part for s in (labels, *settings) for part in ("--set", s.format(toy=toy))]
    done = mtbert("train", toy / "toy.yaml", "--out", tmp_path / "run", *options)
    assert said.format(toy=toy) in done.mistake
    assert not (tmp_path / "run").exists()


def test_several_mistakes_in_a_recipe_are_a_line_each(toy, mtbert):
    done = mtbert("recipe", "show", toy / "toy.yaml", "--set", "train.lr=x", "--set", "model.max_length=2")
    assert done.code == 2
    assert [line.split(", ")[1] for line in done.err.splitlines()] == [
        "model.max_length: must be greater than or equal to 8",
        "train.lr: must be a valid number",
    ]


def test_a_value_of_an_option_that_is_no_number_is_named_in_plain_words(mtbert):
    given = ("review", "run", "--task", "a", "--input", "b", "--output", "c", "--top", "ten")
    wanted = "Invalid value for '--top': must be a valid integer, found \"ten\". See: mtbert review --help"
    assert mtbert(*given).mistake == wanted
    assert "'--trials': must be greater than or equal to 1, found \"0\"." in mtbert("tune", "x", "--trials", 0).mistake


def test_train_needs_a_recipe_or_a_run_to_resume(toy, mtbert, tmp_path):
    wanted = "give a RECIPE, or --resume RUN without one. See: mtbert train --help"
    assert mtbert("train").mistake == wanted
    assert mtbert("train", "demo", "--resume", toy / "run").mistake == wanted
    for option in (("--overwrite",), ("--out", tmp_path / "out")):
        assert mtbert("train", "--resume", toy / "run", *option).mistake == (
            "--resume goes on in the run's own folder, so give neither --out nor --overwrite with it."
        )
    assert mtbert("train", "--resume", toy / "run", "--set", "a=b").mistake == (
        "a=b: of a run that is resumed, only data.root may change. Leave it out."
    )
    assert mtbert("train", "gone.yaml").mistake.startswith("recipe gone.yaml: no such file and no such shipped recipe.")
    run = toy / "run"
    assert mtbert("train", toy / "toy.yaml", "--out", run).mistake == (
        f"{run}: exists. Go on with: mtbert train --resume {run}; or give another folder with --out, or replace "
        "the run with --overwrite. (mtbert docs resume)"
    )
    assert mtbert("train", "--resume", tmp_path).mistake == (
        f"{tmp_path}: no run here (no recipe.yaml). Start one with: mtbert train RECIPE --out {tmp_path}"
    )


def test_a_run_does_not_resume_with_other_data(toy, mtbert, run_copy):
    data = with_own_data(toy, run_copy)
    (data / "sst.csv").write_text((data / "sst.csv").read_text().replace("s0,", "s00,"))
    said = f"sst.csv: changed since the run in {run_copy} began. Put the old file back, or start a new run."
    said += " (mtbert docs resume)"
    done = mtbert("train", "--resume", run_copy)
    assert (done.code, done.err) == (2, f"mtbert: {said}\n")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("best/heads.safetensors", None, "damaged or half-written"),
        ("best/model.safetensors", None, "model.safetensors"),
        ("best/mtbert.json", b"{", "mtbert.json"),
        ("best/mtbert.json", b"\xff", "mtbert.json"),
        ("best/mtbert.json", b"[]", "mtbert.json: damaged: "),
        ("best/mtbert.json", b'{"format": 1, "tasks": {}}', "mtbert.json: damaged: pooling: "),
        ("best/tokenizer.json", b"{", "tokenizer.json: not a tokenizer"),
        ("best/config.json", b"{", "config.json: not JSON"),
    ],
)
def test_a_damaged_model_is_named(mtbert, run_copy, file, content, said):
    path = run_copy / file
    path.write_bytes(path.read_bytes()[:-7] if content is None else content)
    mistake = mtbert("predict", run_copy, "--task", "sst", "--text", "a dog").mistake
    assert str(path) in mistake
    assert said in mistake


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("last/state.json", b"{"),
        ("last/training.safetensors", None),
        ("last/state.json", b"{}"),
        ("environment.json", b"{"),
        ("environment.json", b"{}"),
        ("environment.json", b"[1]"),
    ],
)
def test_a_damaged_state_is_named(mtbert, run_copy, file, content):
    path = run_copy / file
    path.write_bytes(path.read_bytes()[:-7] if content is None else content)
    done = mtbert("train", "--resume", run_copy)
    assert done.code == 2
    assert str(path) in done.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "toy", "--nope"], "No such option: --nope"),
        (["retrain"], "No such command 'retrain'."),
        (["predict"], "Missing argument 'RUN'."),
        (["predict", "run", "--task"], "Option '--task' requires an argument."),
        (["train"], "give a RECIPE, or --resume RUN without one."),
    ],
)
def test_a_mistake_in_the_options_is_one_line(mtbert, arguments, said):
    assert mtbert(*arguments).mistake.startswith(said)


def test_a_name_too_long_for_a_file_is_one_line(toy, mtbert):
    assert mtbert("train", toy / "toy.yaml", "--out", "a" * 300).mistake.endswith("File name too long. Check the path.")


def test_a_mistake_in_the_settings_leaves_the_run_that_would_be_overwritten_unchanged(toy, mtbert, run_copy):
    before = {p: p.read_bytes() for p in run_copy.rglob("*") if p.is_file()}
    for change in ("train.betas=[2, 0.9]", "tasks.sst.train=gone.csv", "model.max_length=4000"):
        assert mtbert("train", toy / "toy.yaml", "--out", run_copy, "--overwrite", "--set", change).mistake
    assert {p: p.read_bytes() for p in run_copy.rglob("*") if p.is_file()} == before


def test_a_run_that_another_process_trains_is_left_alone(toy, mtbert, run_copy):
    with locks.alone(run_copy, "train"):
        before = {p: p.read_bytes() for p in run_copy.rglob("*") if p.is_file()}
        for call in (("--resume", run_copy), (toy / "toy.yaml", "--out", run_copy, "--overwrite")):
            said = mtbert("train", *call).mistake
            assert said == f"{run_copy}: another mtbert train is at work there. Wait for it, or give another folder."
        assert {p: p.read_bytes() for p in run_copy.rglob("*") if p.is_file()} == before


def test_a_tokenizer_with_more_words_than_the_encoder_is_refused(toy, mtbert, tmp_path):
    other = Path(shutil.copytree(toy / "encoder", tmp_path / "encoder"))
    with (other / "vocab.txt").open("a") as file:
        file.write("zebra\n")
    done = mtbert("train", toy / "toy.yaml", "--out", tmp_path / "run", "--set", f"model.path={other}")
    assert f"{other}: the tokenizer gives ids up to 28, but the encoder has 28 embeddings." in done.mistake


@pytest.mark.parametrize(("recipe", "folder"), [("paper/base", "runs/paper/base"), ("my/own.yaml", "runs/own")])
def test_a_run_without_out_is_named_for_its_recipe(toy, mtbert, tmp_path, monkeypatch, recipe, folder):
    seen = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my").mkdir()
    shutil.copy(toy / "toy.yaml", tmp_path / "my/own.yaml")

    def start(settings, out, *_):
        seen.append(out)
        raise ValueError("enough")

    monkeypatch.setattr("mtbert.api.start_run", start)
    assert mtbert("train", recipe).mistake == "enough"
    assert seen == [Path(folder)]
