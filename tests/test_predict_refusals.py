"""Files that ``predict`` never overwrites, and its errors if it cannot answer or cannot write."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file, save_file

from mtbert.use.predict import Question, predict_run

# Files that are never overwritten ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [
        ("--output", "run/metrics.jsonl", "lies in {toy}/run, which is a run."),
        ("--output", "run/best/../last/new.csv", "lies in {toy}/run/last, which is a model."),
        ("--vectors", "run/best/model.safetensors", "lies in {toy}/run/best, which is a model."),
        ("--output", "data/sst.csv", "is data of task sst."),
        ("--output", "data/sts.csv", "is data of task sts."),  # data of a task other than the one that is asked
        ("--vectors", "encoder/v.npy", "lies in {toy}/encoder, which is an encoder."),
    ],
)  # fmt: skip
def test_the_sources_of_a_run_are_not_overwritten(toy, mtbert, monkeypatch, option, name, said):
    before = {p: p.read_bytes() for p in toy.rglob("*") if p.is_file()}
    monkeypatch.setattr("mtbert.use.predict.load", lambda _: pytest.fail("the model was loaded before the refusal"))
    for folder in ("run", "run/best"):
        refused = mtbert("predict", toy / folder, "--task", "sst", "--text", "a", option, toy / name).mistake
        assert refused.startswith(f"{option} {toy / name}: {said.format(toy=toy)}")
    assert {p: p.read_bytes() for p in toy.rglob("*") if p.is_file()} == before


def test_data_that_a_change_names_are_not_overwritten_either(toy, mtbert, tmp_path):
    (tmp_path / "sst.csv").write_text("id,sentence\na,dog\n")
    call = ("predict", toy / "run", "--task", "sst", "--text", "a", "--output", tmp_path / "sst.csv")
    assert mtbert(*call, "--set", f"data.root={tmp_path}").mistake.endswith("is data of task sst. Give another.")
    assert mtbert(*call).mistake == f"--output {call[-1]}: exists. Give another file, or replace it (--overwrite)."
    assert mtbert(*call, "--overwrite").code == 0  # elsewhere the file may be written
    assert (tmp_path / "sst.csv").read_text().startswith("text,label,")
    parts = ("predict", toy / "run", "--input", tmp_path / "*.csv", "--output", tmp_path / "parts", "--overwrite")
    assert mtbert(*parts).mistake.startswith("--overwrite: replaces one file, and answers go into parts.")


def test_answers_and_vectors_do_not_go_into_one_file(toy, mtbert, tmp_path):
    (tmp_path / "v.npy").symlink_to(tmp_path / "both")
    (tmp_path / "a.csv").symlink_to(tmp_path / "both")
    call = ("--output", tmp_path / "a.csv", "--vectors", tmp_path / "v.npy")
    said = mtbert("predict", toy / "run", "--task", "sst", "--text", "a", *call).mistake
    assert said == f"--vectors {tmp_path}/v.npy: is the file of --output. Give another."


def test_a_moved_model_writes_its_answers_into_a_file(toy, mtbert, tmp_path):
    moved = shutil.copytree(toy / "run/best", tmp_path / "moved")
    assert mtbert("predict", moved, "--task", "sst", "--text", "a", "--output", tmp_path / "a.csv").code == 0
    said = mtbert("predict", moved, "--task", "sst", "--input", tmp_path / "a.csv").mistake
    assert said.startswith(f"{moved}: no recipe.yaml here or one folder up")


# Failures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_full_standard_output_is_one_line_and_exit_code_1(toy, tmp_path, command, unbuffered):
    rows = "".join(f"a{i},a dog runs\n" for i in range(200))
    (tmp_path / "in.csv").write_text("id,sentence\n" + rows)
    rest = {"predict": ["--task", "sst", "--input", tmp_path / "in.csv"], "evaluate": ["--json"]}[command]
    with (tmp_path / "out.csv").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "mtbert", command, toy / "run", *rest],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)),
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "mtbert: standard output: File too large. Make room, and go on.\n")


def test_a_closed_standard_output_is_one_line(toy, mtbert, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(ValueError, match=r"^standard output is closed\. Give --output FILE\.$"):
        predict_run(toy / "run", Question(("sst",), text="a"), Console(quiet=True))


def test_weights_that_give_no_finite_answer_end_with_one_line_and_exit_code_1(mtbert, run_copy, tmp_path):
    file = run_copy / "best/heads.safetensors"
    heads = load_file(file)
    save_file({k: np.full_like(v, 3e38) for k, v in heads.items()}, file)
    for call in (("predict", "--task", "sst", "--text", "a", "--output", tmp_path / "a.csv"), ("evaluate",)):
        done = mtbert(call[0], run_copy, *call[1:])
        assert (done.code, done.out) == (1, "")
        assert re.match(r"mtbert: task sst: \d+ of \d+ answers are not finite ", done.err)
        assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "a.csv").exists()


def test_foreign_names_and_labels_do_not_reach_the_terminal_raw(toy, mtbert, run_copy, tmp_path):
    card = run_copy / "best" / "mtbert.json"
    content = json.loads(card.read_text())
    content["tasks"]["sst"]["labels"] = ["\x1b[2J", "b\rmtbert: all is well", "c\n", "\a", "4"]
    card.write_text(json.dumps(content))
    said = mtbert("predict", run_copy, "--task", "sst", "--text", "a dog").out
    assert said.count("\n") == 1
    assert "p(\\x1b[2J) 0." in said
    (tmp_path / "in.csv").write_text("id,sentence,\x1b[2J\x07\na,dog,1\n")
    out = tmp_path / "a\x1b[2J.csv"
    done = mtbert("predict", toy / "run", "--task", "sst", "--input", tmp_path / "in.csv", "--output", out)
    assert (done.code, out.exists()) == (0, True)
    assert not set(done.err) & {"\x1b", "\a", "\r"}
    assert done.err.splitlines()[-1] == f"done: 1 answer in {tmp_path}/a\\x1b[2J.csv"
