"""CONTRIBUTING.md adds an answer type whose labels have several parts, some missing; a copy of the package uses it."""

import json
from pathlib import Path

import guide
import pytest
import toy_run
import yaml

RATINGS = guide.example("Add an answer type")
TASK = {
    "type": "ratings",
    "inputs": "single",
    "labels": ["food", "service", "mood"],
    "range": [1, 5],
    "train": "reviews.csv",
    "batch_size": 4,
    "columns": {"label": "ratings"},
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the answer type of the guide, and beside it a recipe with a task of that type.

    Food is rated with 4 or 5, and the mood is rated with 3. Service is rated with 1 or is not rated.
    """
    folder = RATINGS.copy(tmp_path_factory.mktemp("copy"))
    toy_run.set_up(folder)
    rows = [f"{toy_run.WORDS[i % 7]} {toy_run.WORDS[i % 23]},{4 + i % 2};{'' if i % 3 else 1};3" for i in range(40)]
    (folder / "data/reviews.csv").write_text("\n".join(["text,ratings", *rows]) + "\n")
    recipe = toy_run.raw_recipe(folder, lr=0.03, epochs=8)
    recipe["tasks"] = {"reviews": TASK, "sst": recipe["tasks"]["sst"]}
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return folder


def test_the_diff_adds_one_line_and_removes_none():
    assert RATINGS.changed == ['+    "ratings.RATINGS",']


def test_a_task_of_the_new_type_is_checked_trained_saved_loaded_scored_and_reported(copy: Path):
    checked, trained, scored, shown, predicted, reported = guide.run(
        copy,
        ["data", "check", "mine.yaml"],
        ["train", "mine.yaml", "--out", "run"],
        ["evaluate", "run", "--json"],
        ["evaluate", "run", "--task", "reviews"],
        ["predict", "run", "--task", "reviews", "--input", "data/reviews.csv", "--output", "answers.jsonl"],
        ["report", "run"],
    )
    for code, out, errors in (checked, trained, scored, shown, predicted, reported):
        assert code == 0, out + errors
    # 36 of 40 rows are train; service is rated in 14 of all.
    assert [line.split()[:3] for line in checked[1].splitlines() if line.split()[:1] == ["food"]] == [
        ["food", "36", "100.0%"]
    ]
    assert "reviews.mse" in (copy / "run/metrics.jsonl").read_text()
    found = json.loads(scored[1])["tasks"]["reviews"]
    assert (found["type"], found["labels"], found["metric"]) == ("ratings", ["food", "service", "mood"], "agreement")
    assert found["metrics"]["agreement"] > 0.9  # of the range; 0.5 at the start
    assert "reviews, by aspect" in shown[1]
    answers = [json.loads(line) for line in (copy / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 40
    assert all(1 <= a["service"] < 2 < 2.5 < a["mood"] < 3.5 < 4 < a["food"] <= 5 for a in answers)
    assert "; ; 3" in (copy / "run/report.html").read_text()


def test_a_cell_or_a_recipe_that_does_not_fit_the_new_type_is_refused(copy: Path):
    (copy / "data/wrong.csv").write_text("text,ratings\na dog,4;;3\na cat,4;3\n")
    (copy / "data/high.csv").write_text("text,ratings\na dog,4;6;3\n")
    two, high, without, head = guide.run(
        copy,
        ["train", "mine.yaml", "--set", "tasks.reviews.train=wrong.csv", "--out", "no"],
        ["train", "mine.yaml", "--set", "tasks.reviews.train=high.csv", "--out", "no"],
        ["train", "mine.yaml", "--set", "tasks.reviews.range=null", "--out", "no"],
        ["train", "mine.yaml", "--set", "tasks.reviews.losses=[ce]", "--out", "no"],
    )
    assert [one[0] for one in (two, high, without, head)] == [2, 2, 2, 2]
    assert "wrong.csv, line 3, column 'ratings': '4;3' is not 3 ratings. Write them as 3;;5" in two[2]
    assert "high.csv, line 2, column 'ratings': 6 is outside the task's range. Give 1 to 5" in high[2]
    assert "tasks.reviews: type 'ratings' needs aspects and their range." in without[2]
    assert (
        "loss 'ce' needs one logit per class, which type 'ratings' with head 'linear' does not give. Use mse" in head[2]
    )
