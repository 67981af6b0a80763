"""CONTRIBUTING.md adds a technique by one file and one line; these tests do exactly that in a copy of the package."""

from pathlib import Path

import guide
import pytest
import toy_run

FOCAL = guide.example("Add a loss")


RECIPE = guide.GUIDE.read_text().split("## Add a loss", 1)[1].split("```yaml\n", 1)[1].split("```", 1)[0]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package with the technique of the guide."""
    return FOCAL.copy(tmp_path)


def test_the_diff_adds_one_line_and_removes_none():
    assert FOCAL.changed == ['+        "focal.FocalLoss",']


def test_recipes_schema_and_training_know_the_new_technique(copy: Path):
    toy_run.set_up(copy / "toy")
    toy = str(copy / "toy/toy.yaml")
    (copy / "focal.yaml").write_text(RECIPE)
    losses = "tasks.sst.losses=[ce, {kind: focal, gamma: 3, weight: 0.5}]"
    checked, trained, schema, refused, wrong = guide.run(
        copy,
        ["data", "check", "focal.yaml", "--set", f"model.path={copy / 'toy/encoder'}", "--set", "model.max_length=24"],
        ["train", toy, "--set", losses, "--set", "train.rounds=3", "--out", "run"],
        ["recipe", "schema"],
        ["train", toy, "--set", "tasks.quora.losses=[focal]", "--out", "no"],
        ["train", toy, "--set", "tasks.sst.losses=[{kind: focal, gama: 3}]", "--out", "no"],
    )
    assert checked[0] == 0, checked
    assert trained[0] == 0, trained
    assert "sst.focal" in (copy / "run/metrics.jsonl").read_text()
    assert "FocalLoss" in schema[1]
    assert refused[0] == 2
    assert "loss 'focal' needs one logit per class, which type 'binary' with head 'mlp'" in refused[2]
    assert "unknown key 'gama'. Did you mean 'gamma'?" in wrong[2]
