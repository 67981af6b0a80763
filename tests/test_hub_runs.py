"""Models on the Hub: they are found by their names, fetched once, and answer as the runs that were pushed."""

import shutil
from pathlib import Path

import pytest
from commands import Mtbert
from toy_hub import Repository, ToyHub

import mtbert


def test_a_pushed_model_answers_as_its_run_does(toy: Path, hub: ToyHub):
    commit = mtbert.push(toy / "run", "me/toy").commit
    found, ours = mtbert.load("me/toy"), mtbert.load(toy / "run")
    assert found.predict("sst", "A text.") == ours.predict("sst", "A text.")
    assert found.name == f"me/toy@{commit[:12]}, step 2"


def test_only_files_of_the_model_are_fetched_and_each_of_them_once(toy: Path, hub: ToyHub):
    mtbert.push(toy / "run", "me/toy")
    hub.repositories["me/toy"].files["pytorch_model.bin"] = b"a pickle"
    mtbert.load("me/toy")
    fetched = sorted({path.rpartition("/")[2] for path in hub.asked_for("/resolve/")})
    assert fetched == [
        "config.json",
        "heads.safetensors",
        "model.safetensors",
        "mtbert.json",
        "recipe.yaml",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    before = len(hub.asked_for("/resolve/"))
    mtbert.load("me/toy")
    assert len(hub.asked_for("/resolve/")) == before


def test_commands_take_the_name_of_a_model(toy: Path, hub: ToyHub, mtbert: Mtbert, tmp_path: Path):
    mtbert("push", toy / "run", "me/toy")
    asked = ("--task", "sst", "--text", "A text.")
    assert mtbert("predict", "me/toy", *asked).out == mtbert("predict", toy / "run", *asked).out
    done = mtbert("evaluate", "me/toy", "--set", f"data.root={toy / 'data'}", "--json")
    assert (done.code, '"sst"' in done.out) == (0, True)
    rows = ("--task", "sst", "--input", toy / "data/sst.csv")
    assert mtbert("predict", "me/toy", *rows).out == mtbert("predict", toy / "run", *rows).out != ""
    exported = mtbert("export", "me/toy", "--to", "transformers", *rows, "--out", "out")
    assert (exported.code, (tmp_path / "out/export.json").is_file()) == (0, True)


def test_an_earlier_commit_can_be_loaded(toy: Path, hub: ToyHub):
    first = mtbert.push(toy / "run", "me/toy").commit
    hub.repositories["me/toy"].commits.append({"README.md": b"nothing else any more"})
    assert mtbert.load(f"me/toy@{first}").name == f"me/toy@{first[:12]}, step 2"
    with pytest.raises(
        FileNotFoundError, match=r"^me/toy@main: no model of mtbert on the Hub\. It has no mtbert\.json"
    ):
        mtbert.load("me/toy@main")
    with pytest.raises(FileNotFoundError, match=r"^me/toy@v9: no folder here, and on the Hub: there is no such reposi"):
        mtbert.load("me/toy@v9")


def test_a_local_folder_wins_and_the_hub_is_not_asked(toy: Path, hub: ToyHub, tmp_path: Path):
    shutil.copytree(toy / "run/best", tmp_path / "me/toy")
    shutil.copytree(toy / "run/best", tmp_path / "me/toy@v1")
    assert mtbert.load("me/toy").name == "me/toy, step 2"
    assert mtbert.load("me/toy@v1").name == "me/toy@v1, step 2"
    with pytest.raises(FileNotFoundError, match=r"^me/other: no trained model here"):
        mtbert.load("me/other")
    assert hub.requests == []


@pytest.mark.parametrize("folder", ["runs", "studies", "tuned"])
def test_a_run_that_is_missing_in_its_usual_folder_is_not_looked_for_on_the_hub(folder: str, hub: ToyHub):
    hub.repositories[f"{folder}/demo"] = Repository(False)
    with pytest.raises(FileNotFoundError, match=rf"^{folder}/demo: no trained model here"):
        mtbert.load(f"{folder}/demo")
    assert hub.requests == []


def test_a_push_while_a_model_is_fetched_does_not_mix_two_models(toy: Path, hub: ToyHub):
    commit = mtbert.push(toy / "run", "me/toy").commit
    hub.after["/resolve/"] = lambda: hub.repositories["me/toy"].commits.append({"mtbert.json": b"{}"})
    assert mtbert.load("me/toy").name == f"me/toy@{commit[:12]}, step 2"


def test_a_fetched_model_is_loaded_without_a_network(toy: Path, hub: ToyHub, monkeypatch: pytest.MonkeyPatch):
    mtbert.push(toy / "run", "me/toy")
    answer = mtbert.load("me/toy").predict("sst", "A text.")
    hub.requests.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert mtbert.load("me/toy").predict("sst", "A text.") == answer
    with pytest.raises(
        ValueError, match=r"^me/new: no folder here, and on the Hub: HF_HUB_OFFLINE is set, so the Hub is"
    ):
        mtbert.load("me/new")
    assert hub.requests == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert mtbert.load("me/toy").predict("sst", "A text.") == answer
    with pytest.raises(ConnectionError, match=r"^me/new: no folder here, and on the Hub: the Hub cannot be reached"):
        mtbert.load("me/new")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"export.json": b'{"to": "onnx"}'}, "It is an export in the format onnx; the model's page says how to load"),
        ({"export.json": b"{"}, "It is an export in the format unknown;"),
        ({"config.json": b"{}"}, "It has no mtbert.json. Give the name of a model that mtbert push has written."),
    ],
)
def test_another_kind_of_model_is_named(files: dict[str, bytes], said: str, hub: ToyHub, mtbert: Mtbert):
    hub.repositories["me/other"] = Repository(False, [files])
    done = mtbert("predict", "me/other", "--text", "A text.")
    assert done.mistake.startswith(f"me/other: no model of mtbert on the Hub. {said}")


def test_a_model_on_the_hub_that_lacks_a_file_is_refused(toy: Path, hub: ToyHub):
    mtbert.push(toy / "run", "me/toy")
    del hub.repositories["me/toy"].files["heads.safetensors"]
    for _ in range(2):  # from the Hub, and from the cache
        with pytest.raises(
            FileNotFoundError, match=r"^me/toy: the model on the Hub lacks heads\.safetensors\. Push it"
        ):
            mtbert.load("me/toy")
