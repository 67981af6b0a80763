"""CONTRIBUTING.md adds a technique by one file and one line; these tests do exactly that in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import toy_run

import mtbert

GUIDE = Path(__file__).parent.parent / "CONTRIBUTING.md"
FILE = re.compile(r"`src/(mtbert/losses/\w+\.py)` here.*?```python\n(.*?)```", re.DOTALL)
DIFF = re.compile(r"```diff\n(.*?)```", re.DOTALL)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package with the technique of the guide."""
    shutil.copytree(Path(mtbert.__file__).parent, tmp_path / "src/mtbert", ignore=shutil.ignore_patterns("__pycache__"))
    text = GUIDE.read_text()
    path, content = FILE.search(text).groups()
    (diff,) = DIFF.findall(text)
    assert not (tmp_path / "src" / path).exists()
    (tmp_path / "src" / path).write_text(content)
    subprocess.run(["git", "apply", "-p1"], input=diff, text=True, cwd=tmp_path, check=True)
    return tmp_path


def test_the_diff_adds_one_line_and_removes_none():
    (diff,) = DIFF.findall(GUIDE.read_text())
    changed = [line for line in diff.splitlines() if line[0] in "+-" and not line.startswith(("+++", "---"))]
    assert len(changed) == 1
    assert changed == ['+        "focal.FocalLoss",']


# Runs several commands in one process, because imports are slow, and prints the output and exit code of each.
COMMANDS = """
import contextlib, io, json, sys
from mtbert import cli

said = []
for arguments in json.loads(sys.argv.pop()):
    out, errors, code = io.StringIO(), io.StringIO(), 0
    sys.argv[1:] = arguments
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
    said.append((code, out.getvalue(), errors.getvalue()))
json.dump(said, sys.stdout)
"""


def test_recipes_schema_and_training_know_the_new_technique(copy: Path):
    toy_run.set_up(copy / "toy")
    toy = str(copy / "toy/toy.yaml")
    losses = "tasks.sst.losses=[ce, {kind: focal, gamma: 3, weight: 0.5}]"
    commands = [
        ["train", toy, "--set", losses, "--set", "train.rounds=3", "--out", "run"],
        ["recipe", "schema"],
        ["train", toy, "--set", "tasks.quora.losses=[focal]", "--out", "no"],
        ["train", toy, "--set", "tasks.sst.losses=[{kind: focal, gama: 3}]", "--out", "no"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        env=os.environ | {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"},
        cwd=copy,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    trained, schema, refused, wrong = json.loads(done.stdout)
    assert trained[0] == 0, trained
    assert "sst.focal" in (copy / "run/metrics.jsonl").read_text()
    assert "FocalLoss" in schema[1]
    assert refused[0] == 2
    assert "loss 'focal' needs one logit per class, which type 'binary' with head 'mlp'" in refused[2]
    assert "unknown key 'gama'. Did you mean 'gamma'?" in wrong[2]
