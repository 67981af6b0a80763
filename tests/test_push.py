"""The command ``push``, and what arrives on the Hub."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import Mtbert
from toy_hub import TOKEN, Repository, ToyHub

import mtbert
from mtbert import pushing
from mtbert.messages import plain_console
from mtbert.model import download
from mtbert.use.predictor import Predictor, load


def test_the_files_of_a_model_arrive_in_one_commit_and_nothing_else_does(toy: Path, hub: ToyHub):
    pushed = mtbert.push(toy / "run", "me/toy")
    repository = hub.repositories["me/toy"]
    assert repository.messages == ["Model with sst, quora, sts after step 2"]
    assert sorted(repository.files) == [
        ".gitattributes",
        "README.md",
        "config.json",
        "heads.safetensors",
        "model.safetensors",
        "mtbert.json",
        "recipe.yaml",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for file in ("model.safetensors", "heads.safetensors", "mtbert.json", "tokenizer.json", "config.json"):
        assert repository.files[file] == (toy / "run/best" / file).read_bytes()
    assert (pushed.name, pushed.commit, pushed.url) == ("me/toy", repository.hashes[1], f"{hub.url}/me/toy")
    assert pushed.files == tuple(sorted(set(repository.files) - {".gitattributes"}))


def test_no_path_of_this_machine_is_pushed(toy: Path, hub: ToyHub):
    mtbert.push(toy / "run", "me/toy")
    pushed = b"".join(hub.repositories["me/toy"].files.values())
    assert str(toy).encode() not in pushed
    assert b"root: null" in hub.repositories["me/toy"].files["recipe.yaml"]
    assert b"path: encoder" in hub.repositories["me/toy"].files["recipe.yaml"]


def test_the_command_says_what_it_pushed(toy: Path, hub: ToyHub, mtbert: Mtbert):
    done = mtbert("push", toy / "run", "me/toy")
    commit = hub.repositories["me/toy"].hashes[1][:12]
    where = f"{hub.url}/me/toy (private): 8 files, commit {commit}"
    assert (done.code, done.out) == (0, f"done: {where}\nnext: mtbert serve me/toy\n")
    assert "pushing 8 files, 0.0 MB, to me/toy\n" in done.err
    assert "warning" not in done.err


# Who may read it -----------------------------------------------------------------------------------------------


def test_a_new_model_is_private_unless_it_shall_be_public(toy: Path, hub: ToyHub):
    assert not mtbert.push(toy / "run", "me/closed").public
    assert mtbert.push(toy / "run", "me/open", public=True).public
    assert {name: one.private for name, one in hub.repositories.items()} == {"me/closed": True, "me/open": False}


def test_a_public_model_is_not_replaced_by_one_that_shall_be_private(toy: Path, hub: ToyHub, mtbert: Mtbert):
    hub.repositories["me/toy"] = Repository(private=False)
    done = mtbert("push", toy / "run", "me/toy")
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(
        "mtbert: me/toy: exists and is public, so everybody could read the model. Give --public, or another name.\n"
    )
    assert hub.asked_for("preupload") == hub.asked_for("commit") == []


def test_a_private_model_stays_private(toy: Path, hub: ToyHub, mtbert: Mtbert):
    hub.repositories["me/toy"] = Repository(private=True)
    done = mtbert("push", toy / "run", "me/toy", "--public")
    assert "warning: me/toy: exists and is private; pushing does not change that." in done.err
    assert "(private)" in done.out
    assert hub.repositories["me/toy"].private


# What was there before -----------------------------------------------------------------------------------------


def test_a_later_push_removes_files_of_the_earlier_one_and_keeps_others(toy: Path, hub: ToyHub):
    old = {
        "mtbert.json": b"{}",
        "tops.safetensors": b"old",
        "eval/results.json": b"{}",
        "LICENSE": b"mine",
        "a.png": b"p",
    }
    hub.repositories["me/toy"] = Repository(True, [old])
    mtbert.push(toy / "run", "me/toy")
    files = hub.repositories["me/toy"].files
    assert {"LICENSE", "a.png", "eval/results.json", "heads.safetensors"} <= files.keys()
    assert "tops.safetensors" not in files


def test_a_push_removes_the_files_that_an_earlier_export_lists_and_no_others(toy: Path, hub: ToyHub):
    listed = b'{"files": ["x.onnx", "x.onnx.data", "export.json", 5], "to": "onnx"}'
    old = {"export.json": listed, "x.onnx": b"x", "x.onnx.data": b"y", "mine.onnx": b"z", "config.json": b"{}"}
    hub.repositories["me/toy"] = Repository(True, [old])
    mtbert.push(toy / "run", "me/toy")
    assert {"x.onnx", "x.onnx.data", "export.json", "mine.onnx"} & hub.repositories["me/toy"].files.keys() == {
        "mine.onnx"
    }


def test_a_model_that_training_replaces_meanwhile_is_read_again(
    run_copy: Path, hub: ToyHub, monkeypatch: pytest.MonkeyPatch
):
    best, read = run_copy / "best", []

    def replacing(folder: Path) -> Predictor:
        made = load(folder)
        if not read:
            about = json.loads((best / "mtbert.json").read_text())
            new = best / "new.json"  # as training does, which never changes a file that is linked
            new.write_text(json.dumps(about | {"step": 1}))
            new.replace(best / "mtbert.json")
        read.append(made.step)
        return made

    monkeypatch.setattr(pushing, "load", replacing)
    mtbert.push(run_copy, "me/toy")
    assert read == [2, 1]
    assert hub.repositories["me/toy"].messages == ["Model with sst, quora, sts after step 1"]
    assert json.loads(hub.repositories["me/toy"].files["mtbert.json"])["step"] == 1


def test_a_loaded_model_can_be_pushed_until_its_folder_holds_another(run_copy: Path, hub: ToyHub):
    made = mtbert.load(run_copy)
    assert mtbert.push(made, "me/toy").files == mtbert.push(run_copy, "me/other").files
    with pytest.raises(ValueError, match=r"its folder holds another model now \(.*, step 2\)\. Load it again"):
        mtbert.push(replace(made, step=1), "me/toy")
    with pytest.raises(ValueError, match="a model in memory has no recipe"):
        mtbert.push(replace(made, folder=None), "me/toy")


def test_options_of_an_export_are_passed_on_and_refused_without_a_format(
    toy: Path, hub: ToyHub, mtbert: Mtbert, monkeypatch: pytest.MonkeyPatch
):
    done = mtbert("push", toy / "run", "me/toy", "--int8")
    assert done.mistake == "--int8 is for --to: mtbert's own form is not exported. Drop it, or give --to FORMAT."
    done = mtbert("push", toy / "run", "me/toy", "--to", "transformers", "--task", "sst", "--together")
    assert done.mistake == "--together: is not for --to transformers. Use --to onnx, or drop --together."
    done = mtbert("push", toy / "run", "me/toy", "--to", "transformers", "--task", "sst", "--input", "none.csv")
    assert "none.csv" in done.mistake


# The encoder that was fine-tuned -------------------------------------------------------------------------------


def test_a_local_encoder_is_not_taken_for_a_model_on_the_hub():
    assert [download.hub_id(path) for path in ("encoder", "org/name", "/a/b")] == [None, "org/name", None]


@pytest.mark.parametrize(("said", "licence"), [("mit", "mit"), ("a b", None), (["mit"], None), (None, None)])
def test_the_licence_of_a_base_model_is_asked_of_the_hub(said: object, licence: str | None):
    api = SimpleNamespace(model_info=lambda name: SimpleNamespace(card_data={"license": said}))
    base = download.Origin("org/name", None)
    found = pushing._with_licence(api, base, "org/name", plain_console())  # type: ignore[arg-type]
    assert found == download.Origin("org/name", licence)
    known = download.Origin("org/name", "bsd")
    assert pushing._with_licence(api, known, "org/name", plain_console()) is known  # type: ignore[arg-type]


def test_a_push_goes_on_if_the_hub_does_not_know_the_base_model(run_copy: Path, hub: ToyHub, mtbert: Mtbert):
    recipe = run_copy / "recipe.yaml"
    recipe.write_text(re.sub(r"path: \S*encoder\b", "path: org/gone", recipe.read_text()))
    done = mtbert("push", run_copy, "me/toy")
    assert done.code == 0, done
    assert "warning: the card has no licence of the base model: org/gone: there is no such repository" in done.err


def test_a_model_that_somebody_else_pushed_is_left_alone(toy: Path, hub: ToyHub):
    hub.repositories["me/other"] = Repository(
        True, [{"README.md": b"", "config.json": b"{}", "pytorch_model.bin": b""}]
    )
    with pytest.raises(ValueError, match=r"^me/other: holds another model \(config.json, pytorch_model.bin\)\. Give "):
        mtbert.push(toy / "run", "me/other")
    assert hub.asked_for("commit") == []


# Mistakes and failures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "toy",
        "a/b/c",
        "me/",
        "/toy",
        "me/to y",
        "me/a--b",
        "me/a..b",
        "me/.a",
        "me/a.",
        "me/a.git",
        "me/\x1b[2J",
        "m/" + "a" * 96,
    ],
)
def test_a_name_that_the_hub_does_not_have_is_refused(name: str, toy: Path, hub: ToyHub):
    with pytest.raises(ValueError, match="must be user/name, of letters, digits and single") as caught:
        mtbert.push(toy / "run", name)
    assert "\x1b" not in str(caught.value)
    assert hub.requests == []


def test_a_task_without_a_format_is_refused(toy: Path, hub: ToyHub, mtbert: Mtbert):
    done = mtbert("push", toy / "run", "me/toy", "--task", "sst")
    assert done.mistake == "--task is for --to: mtbert's own form holds all tasks. Drop it, or give --to FORMAT."


def test_without_a_token_the_hub_is_not_asked(
    toy: Path, hub: ToyHub, mtbert: Mtbert, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    done = mtbert("push", toy / "run", "me/toy")
    assert done.mistake == "me/toy: pushing needs a token of the Hub. Run: hf auth login (or set HF_TOKEN)."
    assert hub.requests == []


@pytest.mark.parametrize("place", ["/api/repos/create", "/preupload/", "/objects/batch", "/large/", "/commit/"])
@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, 2, "me/toy: there is no such repository, or it asks for a valid token. Check the name, or run: hf auth"),
        (403, 2, "me/toy: the token has no right to do this. Use a token that has it, or a name of your own."),
        (413, 2, "me/toy: the Hub takes nothing of this size."),
        (429, 1, "me/toy: too many requests. Wait a few minutes, and try again."),
        (503, 1, "me/toy: the Hub fails with status 503. Try again later."),
    ],
)
def test_a_failed_upload_leaves_one_line_without_the_token(
    place: str, status: int, code: int, said: str, toy: Path, hub: ToyHub, mtbert: Mtbert, monkeypatch, caplog
):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    secret = "you sent TOKEN and " + TOKEN
    headers = {"X-Error-Message": secret, "X-Request-Id": TOKEN, "X-HF-Warning": f"{place}{status}; {secret}"}
    hub.failing[place] = (status, headers, secret.encode())
    done = mtbert("push", toy / "run", "me/toy")
    (line,) = [line for line in done.err.splitlines() if line.startswith("mtbert: ")]
    assert line.startswith(f"mtbert: {said}")
    assert "The Hub says: you sent " in line
    assert "<token>" in line
    assert " and <token>\n" in caplog.text  # a warning that the Hub has sent
    assert TOKEN not in done.err + done.out + caplog.text
    assert "Traceback" not in done.err
    assert done.code == code
