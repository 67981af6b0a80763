"""The command ``evaluate``: its screen, its JSON, and the one line that a mistake gives."""

import json
import shutil
from pathlib import Path

from commands import with_own_data


def test_evaluate_repeats_the_scores_of_the_run(toy, mtbert):
    done = mtbert("evaluate", toy / "run" / "last")
    evaluation = json.loads((toy / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (done.code, done.err) == (0, "")
    for scores in evaluation["evaluation"].values():
        assert all(f"{value:.4f}" in done.out for value in scores["metrics"].values())
    assert f"{evaluation['aggregates']['overall']:.4f}" in done.out


def test_evaluate_scores_the_test_data_of_the_recipe(toy, mtbert, run_copy):
    data = with_own_data(toy, run_copy)
    rows = (data / "sts.csv").read_text().splitlines()
    labelled = [",".join([*row.split(",")[:3], str(i % 2)]) for i, row in enumerate(rows[1:])]
    (data / "test.csv").write_text("\n".join(["id,sentence1,sentence2,is_duplicate", *labelled]))
    change = ["--set", "tasks.quora.test=test.csv"]
    done = mtbert("evaluate", run_copy, "--split", "test", *change)
    assert done.code == 0
    assert ("44" in done.out, "quora" in done.out, "sst" in done.out) == (True, True, False)
    assert mtbert("evaluate", run_copy, "--split", "test", "--task", "sst", *change).mistake == (
        "task sst: the recipe names no test data. Give a labelled file with --split FILE."
    )
    assert mtbert("evaluate", toy / "run", "--split", "test").mistake.startswith("--split test: the recipe of this run")


def test_evaluate_scores_a_labelled_file_of_one_task(toy, mtbert):
    done = mtbert("evaluate", toy / "run", "--task", "sts", "--split", toy / "data" / "sts.csv")
    assert done.code == 0
    assert "44" in done.out
    assert "quora" not in done.out


def test_evaluate_reads_changed_data_with_the_range_that_the_model_learnt(toy, mtbert, run_copy):
    data = with_own_data(toy, run_copy)
    (data / "sts.csv").write_text((data / "sts.csv").read_text() + "t99,a,b,7\n")
    said = "sts.csv, line 46, column 'similarity': 7 is outside the task's range. Give 0 to 5, or drop the row."
    assert mtbert("evaluate", run_copy).mistake == said


def test_a_mistake_in_an_evaluation_is_one_line(toy, mtbert, tmp_path):
    run = toy / "run"
    assert mtbert("evaluate", tmp_path).mistake.startswith(f"{tmp_path}: no trained model here")
    assert mtbert("evaluate", run, "--task", "x").mistake.startswith("task x: this model has no such task.")
    assert mtbert("evaluate", run, "--split", "test.csv").mistake == (
        "--split test.csv: say whose labels these are, with --task sst or --task quora or --task sts."
    )
    gone = mtbert("evaluate", run, "--task", "sst", "--split", tmp_path / "test.csv").mistake
    assert gone == f"{tmp_path}/test.csv: there is no such file. Check the path."
    moved = Path(shutil.copytree(run / "best", tmp_path / "moved"))
    assert mtbert("evaluate", moved).mistake.startswith(f"{moved}: no recipe.yaml here or one folder up")
