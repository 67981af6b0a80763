"""CONTRIBUTING.md adds a technique in one file and one line; here that is done to a copy, word for word."""

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
    """The package with the technique of the guide."""
    shutil.copytree(Path(mtbert.__file__).parent, tmp_path / "src/mtbert", ignore=shutil.ignore_patterns("__pycache__"))
    text = GUIDE.read_text()
    path, content = FILE.search(text).groups()
    (diff,) = DIFF.findall(text)
    assert not (tmp_path / "src" / path).exists()
    (tmp_path / "src" / path).write_text(content)
    subprocess.run(["git", "apply", "-p1"], input=diff, text=True, cwd=tmp_path, check=True)
    return tmp_path


def test_the_diff_adds_one_line_and_takes_none():
    (diff,) = DIFF.findall(GUIDE.read_text())
    changed = [line for line in diff.splitlines() if line[0] in "+-" and not line.startswith(("+++", "---"))]
    assert len(changed) == 1
    assert changed[0].startswith("+from mtbert.losses.")


def test_recipes_schema_and_training_know_the_new_technique(copy: Path):
    toy_run.set_up(copy / "toy")
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}

    def mtbert_says(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from mtbert.cli import main; main()", *arguments]
        return subprocess.run(command, env=environment, cwd=copy, text=True, capture_output=True)

    toy = str(copy / "toy/toy.yaml")
    losses = "tasks.sst.losses=[ce, {kind: focal, gamma: 3, weight: 0.5}]"
    trained = mtbert_says("train", toy, "--set", losses, "--set", "train.rounds=3", "--out", "run")
    assert trained.returncode == 0, trained.stderr
    assert "sst.focal" in (copy / "run/metrics.jsonl").read_text()
    assert "FocalLoss" in mtbert_says("recipe", "schema").stdout
    refused = mtbert_says("train", toy, "--set", "tasks.quora.losses=[focal]", "--out", "no")
    assert refused.returncode == 2
    assert "loss 'focal' needs one logit per class, which type 'binary' with head 'mlp'" in refused.stderr
    wrong = mtbert_says("train", toy, "--set", "tasks.sst.losses=[{kind: focal, gama: 3}]", "--out", "no")
    assert "unknown key 'gama'. Did you mean 'gamma'?" in wrong.stderr
