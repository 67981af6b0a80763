"""Pushes in other forms, from a study, and by a process of its own."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import toy_run
from test_hub_card import headings, parts
from toy_hub import TOKEN, ToyHub
from toy_study import run_here

import mtbert
from mtbert import hub_client
from mtbert.model.download import find_encoder
from mtbert.studying import plan
from mtbert.studying.results import read_study
from mtbert.studying.summary import summarise


def test_an_export_is_pushed_with_its_card_and_named_when_it_is_loaded(toy: Path, hub: ToyHub):
    pushed = mtbert.push(toy / "run", "me/sst", "sentence-transformers", tasks=["sst"])
    files = hub.repositories["me/sst"].files
    assert {"export.json", "modules.json", "model.safetensors", "1_Pooling/config.json"} <= set(pushed.files)
    assert {"mtbert.json", "recipe.yaml"} & files.keys() == set()
    assert hub.repositories["me/sst"].messages == ["Model with sst after step 2, exported as sentence-transformers"]
    metadata, text = parts(files["README.md"].decode())
    assert metadata["library_name"] == "sentence-transformers"
    assert metadata["tags"] == ["mtbert", "text-classification", "sentence-transformers"]
    assert headings(text) == ["sst", "Tasks", "Use", "Scores on dev", "Data", "Recipe"]
    assert "| `sst` | ordinal, single: 0, 1, 2, 3, 4 | 4 answers |" in text
    assert "\n## Use\n\nDownload the folder first: `hf download me/sst --local-dir FOLDER`.\n\n`pip install" in text
    assert json.loads(files["export.json"])["to"] == "sentence-transformers"
    with pytest.raises(
        FileNotFoundError, match="It is an export in the format sentence-transformers; the model's page"
    ):
        mtbert.load("me/sst")
    mtbert.push(toy / "run", "me/sst")
    left = hub.repositories["me/sst"].files.keys()
    assert {"export.json", "modules.json", "1_Pooling/config.json"} & left == set()
    assert mtbert.load("me/sst").tasks.keys() == {"sst", "quora", "sts"}


def test_an_export_that_is_refused_pushes_nothing(toy: Path, hub: ToyHub):
    with pytest.raises(ValueError, match=r"^task quora, --to transformers: head 'mlp' is not that of"):
        mtbert.push(toy / "run", "me/quora", "transformers", tasks=["quora"])
    assert hub.requests == []


def test_a_run_of_a_study_has_the_mean_over_seeds_in_its_card(tmp_path: Path, hub: ToyHub):
    toy_run.set_up(tmp_path, epochs=1, rounds=2)
    (tmp_path / "study.yaml").write_text("rows: {sum: toy.yaml}\nseeds: [0, 1]\n")
    run_here(plan.load_study(str(tmp_path / "study.yaml")), tmp_path / "out")
    mtbert.push(tmp_path / "out/cells/sum-0/run", "me/toy")
    card = hub.repositories["me/toy"].files["README.md"].decode()
    one = summarise(read_study(tmp_path / "out")).rows["sum"].scores["sts"]
    low, high = one.interval
    (line,) = [line for line in card.splitlines() if line.startswith("| `sts` | pearson |")]
    assert line.endswith(f"| {one.mean:.4f} ({low:.4f} to {high:.4f}), 2 seeds |")


def test_without_logs_or_data_a_warning_says_what_the_card_lacks(run_copy: Path, hub: ToyHub, capsys):
    for file in ("environment.json", "metrics.jsonl"):
        (run_copy / file).unlink()
    mtbert.push(run_copy, "me/toy", progress=True)
    said = capsys.readouterr().err
    assert "warning: the card has no hashes of the data: " in said
    assert "warning: the card has no scores: " in said
    text = parts(hub.repositories["me/toy"].files["README.md"].decode())[1]
    assert headings(text) == ["toy", "Tasks", "Use", "Recipe"]


def test_a_model_that_was_copied_alone_needs_its_recipe(toy: Path, hub: ToyHub, tmp_path: Path):
    shutil.copytree(toy / "run/best", tmp_path / "alone/best")
    with pytest.raises(FileNotFoundError, match=r"alone/best: no recipe\.yaml here or one folder up"):
        mtbert.push(tmp_path / "alone/best", "me/toy")
    assert hub.requests == []


def test_absolute_paths_of_data_become_names(run_copy: Path, hub: ToyHub, tmp_path: Path):
    recipe = run_copy / "recipe.yaml"
    old = recipe.read_text()
    recipe.write_text(old.replace("path: sst.csv", f"path: [{tmp_path}/a/x.csv, {tmp_path}/b/x.csv, c/y.csv]"))
    mtbert.push(run_copy, "me/toy")
    files = hub.repositories["me/toy"].files
    assert str(tmp_path).encode() not in files["recipe.yaml"] + files["README.md"]
    assert b"path:\n      - 1-x.csv\n      - 2-x.csv\n      - 3-c/y.csv\n" in files["recipe.yaml"]
    assert mtbert.load("me/toy").tasks.keys() == {"sst", "quora", "sts"}


# The Hub fails -------------------------------------------------------------------------------------------------


def test_a_hub_that_does_not_answer_is_not_waited_for(toy: Path, hub: ToyHub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub_client, "SECONDS", 0.05)
    hub.failing["/api/repos/create"] = (0, {}, b"")
    with pytest.raises(ConnectionError, match=r"^me/toy: the Hub did not answer in time\. Try again later\.$"):
        mtbert.push(toy / "run", "me/toy")


def test_a_push_does_not_undo_that_of_somebody_else(toy: Path, hub: ToyHub, monkeypatch: pytest.MonkeyPatch):
    mtbert.push(toy / "run", "me/toy")

    def answers_then_changes(name: str) -> None:
        hub.repositories[name].commits.append({"other": b""})

    hub.after["/preupload/"] = lambda: answers_then_changes("me/toy")
    with pytest.raises(
        ValueError, match=r"^me/toy: somebody else changed it at the same time\. Try again\. The Hub says"
    ):
        mtbert.push(toy / "run", "me/toy")
    assert hub.repositories["me/toy"].files == {"other": b""}


def test_an_error_of_python_holds_no_token_in_what_caused_it(toy: Path, hub: ToyHub):
    hub.failing["/commit/"] = (403, {"X-Error-Message": "TOKEN"}, b"TOKEN")
    with pytest.raises(ValueError, match="has no right to do this") as caught:
        mtbert.push(toy / "run", "me/toy")
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert TOKEN not in str(caught.value)


def test_without_a_network_one_line_says_so(toy: Path, hub: ToyHub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        ConnectionError, match=r"^me/toy: the Hub cannot be reached \(.*refused.*\)\. Check the network\.$"
    ):
        mtbert.push(toy / "run", "me/toy")


def test_the_command_finds_hub_token_and_cache_by_the_usual_variables(toy: Path, hub: ToyHub, tmp_path: Path):
    variables = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    environment = os.environ | variables | {"HF_HUB_DISABLE_XET": "1"}
    commit = mtbert.push(toy / "run", "me/toy").commit
    code = "import mtbert; print(mtbert.load('me/toy').name)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == f"me/toy@{commit[:12]}, step 2\n", done.stderr
    assert (tmp_path / f"home/hub/models--me--toy/snapshots/{commit}/mtbert.json").is_file()


def test_a_warning_of_the_hub_about_the_card_is_shown_without_the_token(toy: Path, hub: ToyHub, capsys):
    hub.warnings = ["no license", f"sent by {TOKEN}"]
    mtbert.push(toy / "run", "me/toy", progress=True)
    said = capsys.readouterr().err
    assert "warning: Warnings while validating metadata in README.md: - no license - sent by <token>\n" in said


def test_a_full_disk_is_named_by_the_folder_of_the_cache(monkeypatch: pytest.MonkeyPatch, hub: ToyHub, tmp_path: Path):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/cache'") as caught:
        mtbert.load("me/toy")
    assert caught.value.errno == errno.ENOSPC


# The token -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("you sent eyJx.y-z", "you sent <token>"),
        ("Authorization: Bearer something-else!", "Authorization: Bearer <token>"),
        ("hf_abcdefghij, hf_hub and hf", "<token>, hf_hub and hf"),
        ("x" * 190 + "eyJx.y-z", "x" * 190 + "<token>"),
    ],
)
def test_a_token_is_hidden_whatever_its_form(text: str, hidden: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "eyJx.y-z")
    assert hub_client.without_token(text) == hidden
    assert hub_client.hub_reason(OSError(text)) == hidden


def test_an_encoder_that_cannot_be_fetched_is_named_without_the_token(hub: ToyHub, caplog):
    secret = {"X-Error-Code": "GatedRepo", "X-Request-Id": TOKEN, "X-HF-Warning": f"encoder; {TOKEN}"}
    for path in ("/api/models/org/encoder", "/org/encoder/resolve/main/config.json"):
        hub.failing[path] = (403, secret, b"TOKEN")
    said = r"^org/encoder: no folder here, and on the Hub: the token has no right to do this\. Use a token that has it"
    with pytest.raises(ValueError, match=said) as caught:
        find_encoder("org/encoder")
    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "<token>" in caplog.text
    assert TOKEN not in caplog.text
