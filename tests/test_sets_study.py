"""A study whose task has sets: its report compares recipes on resampled examples and counts wrong labels."""

from pathlib import Path

import toy_run
import yaml
from toy_study import run_here

from mtbert.studying import plan

STUDY = """
rows:
  bce: toy.yaml
  asl: {recipe: toy.yaml, set: ['tasks.topics.losses=[asl]'], control: bce}
seeds: [0, 1]
"""


def test_a_study_of_sets_compares_losses_with_intervals_and_lists_what_they_fix(tmp_path: Path):
    toy_run.set_up(tmp_path, lr=0.01)
    rows = [
        f"{toy_run.WORDS[i % 9]} {toy_run.WORDS[i % 7]},{'a;' * (i % 9 > 4)}{'b' if i % 7 > 2 else 'c'}"
        for i in range(80)
    ]
    (tmp_path / "data/topics.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    raw = toy_run.raw_recipe(tmp_path, lr=0.01)
    raw["tasks"] = {"topics": {"type": "multilabel", "inputs": "single", "pooling": "mean", "train": "topics.csv"}}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    (tmp_path / "study.yaml").write_text(STUDY)
    run_here(plan.load_study(str(tmp_path / "study.yaml")), tmp_path / "out")
    tables = {file.name: file.read_text() for file in (tmp_path / "out/tables").glob("*.csv")}
    said = "\n".join(tables.values())
    assert "topics fixed" in said
    scores = next(text for name, text in sorted(tables.items()) if "score" in name)
    assert "best constant" in scores
    page = (tmp_path / "out/report.html").read_text()
    assert "A set counts as wrong if one of its labels is wrong or missing." in page
    assert '"a; b"' in page
