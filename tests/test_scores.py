"""The command ``evaluate``: its screen, its JSON, and the one line that a mistake prints."""

import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml
from commands import with_own_data
from rich.cells import cell_len
from rich.console import Console
from tiny import dataset

from mtbert import evaluate
from mtbert.scoring import evaluate_predicted
from mtbert.storage.predictions import Predicted
from mtbert.task import Task
from mtbert.use import breakdown
from mtbert.use.breakdown import Scored


def test_evaluate_repeats_the_scores_of_the_run(toy, mtbert):
    done = mtbert("evaluate", toy / "run" / "last")
    evaluation = json.loads((toy / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (done.code, done.err) == (0, "")
    for scores in evaluation["evaluation"].values():
        assert all(f"{value:.4f}" in done.out for value in scores["metrics"].values())
        assert scores["uncalibrated"] == {}
    assert "calibration" not in done.out
    cells = {row[2].strip(): row[4].strip() for line in done.out.splitlines() if len(row := line.split("│")) > 5}
    assert (cells["ece"], cells["pearson"]) == ("", "0.0000")
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
        "task sst: the recipe names no test data. Score a labelled file instead."
    )
    assert mtbert("evaluate", toy / "run", "--split", "test").mistake.startswith(
        "the recipe of this run names no test data."
    )


def test_evaluate_scores_a_labelled_file_of_one_task(toy, mtbert):
    done = mtbert("evaluate", toy / "run", "--task", "sts", "--split", toy / "data" / "sts.csv")
    assert done.code == 0
    assert "44" in done.out
    assert "quora" not in done.out


def test_scores_on_a_file_that_the_task_was_trained_on_are_doubted(toy, mtbert, tmp_path):
    copy = Path(shutil.copy(toy / "data/sst.csv", tmp_path / "copy.csv"))
    said = (
        f"warning: {copy}: has the same content as sst.csv, which task sst was trained on, so its scores here look "
        "better than they are. Score rows that the run has not seen.\n"
    )
    for model in ("run", "run/best"):
        done = mtbert(
            "evaluate", toy / model, "--task", "sst", "--split", copy, "--json", "--set", "data.root=/nowhere"
        )
        assert (done.code, done.err) == (0, said)
    better = "the scores look better than they are. Score rows that the run has not seen."
    told = f"task sst: 36 of 40 examples have a text that it was trained on, so {better}"  # a tenth is dev
    assert list(evaluate(toy / "run", copy, task="sst").warnings) == [told]
    head, *rows = copy.read_text().splitlines()
    assert list(evaluate(toy / "run", data={"sst": list(csv.DictReader(io.StringIO(copy.read_text())))}).warnings) == [
        told
    ]
    copy.write_text("\n".join([head, *rows[:9], "s99,a new row,1"]))
    told = told.replace("36 of 40", "8 of 10")
    assert mtbert("evaluate", toy / "run", "--task", "sst", "--split", copy).err == f"warning: {told}\n"
    copy.write_text(f"{head}\ns99,a new row,1\ns98,another,0\n")
    assert "trained on" not in mtbert("evaluate", toy / "run", "--task", "sst", "--split", copy).err
    other = ("--task", "sts", "--split", toy / "data/quora.csv", "--set", "tasks.sts.columns.label=is_duplicate")
    assert mtbert("evaluate", toy / "run", *other).err == ""  # another task was trained on it
    moved = Path(shutil.copytree(toy / "run", tmp_path / "moved"))
    (moved / "environment.json").unlink()
    unknown = ("--task", "sst", "--split", toy / "data/sst.csv", "--set", "data.root=/nowhere")
    assert mtbert("evaluate", moved, *unknown).err == ""  # neither train data nor their digests are left


def test_evaluate_reads_changed_data_with_the_range_that_the_model_learnt(toy, mtbert, run_copy):
    data = with_own_data(toy, run_copy)
    (data / "sts.csv").write_text((data / "sts.csv").read_text() + "t99,a,b,7\n")
    said = "sts.csv, line 46, column 'similarity': 7 is outside the task's range. Give 0 to 5, or leave the cell empty."
    assert mtbert("evaluate", run_copy).mistake == f"{said} (mtbert docs own-data)"


def test_a_mistake_in_an_evaluation_is_one_line(toy, mtbert, tmp_path):
    run = toy / "run"
    assert mtbert("evaluate", tmp_path).mistake.startswith(f"{tmp_path}: no trained model here")
    assert mtbert("evaluate", run, "--task", "x").mistake.startswith("task x: this model has no such task.")
    assert mtbert("evaluate", run, "--split", "test.csv").mistake == (
        "test.csv: neither dev nor test, so a labelled file. Give its task with --task: sst, quora, sts."
    )
    gone = mtbert("evaluate", run, "--task", "sst", "--split", tmp_path / "test.csv").mistake
    assert gone == f"{tmp_path}/test.csv: there is no such file. Check the path."
    moved = Path(shutil.copytree(run / "best", tmp_path / "moved"))
    assert mtbert("evaluate", moved).mistake.startswith(f"{moved}: no recipe.yaml here or one folder up")


# The screen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["best", "last"])
def test_the_screen_names_the_model_and_its_step(toy, mtbert, folder):
    path = toy / "run" / folder
    step = json.loads((path / "mtbert.json").read_text())["step"]
    # The title is as wide as the table, and a long path wraps.
    assert f"dev: {path}, step {step}" in "".join(
        line.strip() if "━" not in line else "\n" for line in mtbert("evaluate", path).out.splitlines()
    ).replace("step", " step").replace("  step", " step")


def predicted(task: Task, decided: Sequence[int], labels: Sequence[float]) -> Scored:
    answers = Predicted(torch.zeros(len(decided), len(task.labels or ())), torch.tensor(decided))
    data = dataset(task, [1] * len(decided), labels=labels)
    return Scored(data, answers, evaluate_predicted(data, answers))


def printed(scored: Scored) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    for table in breakdown.answer_tables(scored):
        console.print(table)
    return console.file.getvalue().splitlines()


def classes(number: int, name: str = "c") -> Task:
    labels = tuple(f"{name}{i}" for i in range(number))
    return Task(name="t", type="classification", inputs="single", labels=labels)


def test_the_screen_shows_scores_of_each_class_and_the_confusion_matrix():
    lines = printed(predicted(classes(3), [0, 0, 1, 1, 0], [0, 0, 0, 1, 2]))
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert rows == [
        ["c0", "0.6667", "0.6667", "0.6667", "3", "3"],
        ["c1", "0.5000", "1.0000", "0.6667", "1", "2"],
        ["c2", "0.0000", "0.0000", "0.0000", "1", "0"],
    ]
    assert "t: true class (rows) by answer (columns, numbered as rows):" in lines[-5]
    assert [line.split() for line in lines[-4:]] == [
        ["true", "class", "1", "2", "3"],
        ["1", "c0", "2", "1", "0"],
        ["2", "c1", "0", "1", "0"],
        ["3", "c2", "1", "0", "0"],
    ]


@pytest.mark.parametrize(
    ("name", "cut"), [("c", 0), ("a class with a long name " * 30, 24), ("\x1b[2J\r\nforged ", 12)]
)
def test_twelve_classes_of_any_names_fit_into_80_columns(name, cut):
    rows = [float(i % 12) for i in range(50_000)]
    lines = printed(predicted(classes(12, name), [int(i) for i in rows], rows))
    assert max(map(cell_len, lines)) <= 80
    assert not any("\x1b" in line or "\r" in line for line in lines)
    assert [line.split()[-12:][i] for i, line in enumerate(lines[-12:])] == ["4167"] * 8 + ["4166"] * 4
    assert sum("…" in line for line in lines) == cut


def test_thirteen_classes_have_no_confusion_matrix_and_31_no_lines_of_their_own():
    assert printed(predicted(classes(13), [0], [0]))[-2].startswith("│ c12 ")
    assert printed(predicted(classes(31), [0], [0])) == [
        "t: 31 classes, too many for a line each here; --json has them all."
    ]


# JSON ----------------------------------------------------------------------------------------------


def test_json_on_standard_output_has_everything_and_nothing_else(toy, mtbert, run_copy):
    data = with_own_data(toy, run_copy)
    (data / "sts.csv").write_text((data / "sts.csv").read_text() + "t99,a,b,\n")  # dropped, with a warning
    done = mtbert("evaluate", run_copy / "last", "--json")
    found = json.loads(done.out)
    logged = json.loads((run_copy / "metrics.jsonl").read_text().splitlines()[-1])
    assert done.err == "warning: sts.csv: dropped 1 row without a label in column 'similarity' (first: line 46).\n" * 2
    assert (found["model"], found["step"], found["split"]) == (str(run_copy / "last"), 2, "dev")
    assert found["aggregates"] == pytest.approx(logged["aggregates"])
    for name, task in found["tasks"].items():
        assert task["metrics"] == pytest.approx(logged["evaluation"][name]["metrics"])
        assert task["constant"] == pytest.approx(logged["evaluation"][name]["baseline"])
        assert (task["collapsed"], task["examples"]) == tuple(
            logged["evaluation"][name][key] for key in ("collapsed", "examples")
        )
    sst, sts = found["tasks"]["sst"], found["tasks"]["sts"]
    assert (sst["type"], sst["metric"], sst["labels"]) == ("ordinal", "accuracy", ["0", "1", "2", "3", "4"])
    assert sum(map(sum, sst["confusion"])) == sum(c["examples"] for c in sst["classes"]) == sst["examples"]
    assert [sum(row) for row in sst["confusion"]] == [c["examples"] for c in sst["classes"]]
    assert [sum(column) for column in zip(*sst["confusion"], strict=True)] == [c["answers"] for c in sst["classes"]]
    assert set(sst["classes"][0]) == {"label", "precision", "recall", "f1", "examples", "answers"}
    assert (sts["range"], "classes" in sts) == ([0.0, 5.0], False)
    assert set(sts["metrics"]) == {"pearson", "spearman", "mae"}
    assert set(found["tasks"]["quora"]["metrics"]) == {
        *("accuracy", "macro_f1", "auc", "average_precision", "nll", "ece")
    }


def test_an_undefined_metric_is_one_warning_line(toy, mtbert, tmp_path):
    (tmp_path / "one.csv").write_text("id,sentence1,sentence2,is_duplicate\na,dog,cat,1\nb,cat,dog,1\n")
    done = mtbert("evaluate", toy / "run", "--task", "quora", "--split", tmp_path / "one.csv", "--json")
    assert done.err.splitlines() == [
        "warning: task quora: auc where all labels are equal is undefined; reported as 0.5.",
        "warning: task quora: average_precision where all labels are equal is undefined; reported as 1.",
    ]
    assert json.loads(done.out)["tasks"]["quora"]["metrics"]["auc"] == 0.5


# Changes of the recipe ------------------------------------------------------------------------------


def test_a_moved_run_is_scored_with_its_data_at_their_new_place(toy, mtbert, run_copy, tmp_path):
    moved = Path(shutil.copytree(toy / "data", tmp_path / "elsewhere"))
    (moved / "sts.csv").write_text("\n".join((moved / "sts.csv").read_text().splitlines()[:11]) + "\n")
    found = json.loads(mtbert("evaluate", run_copy, "--set", f"data.root={moved}", "--json").out)
    assert found["tasks"]["sts"]["examples"] == 10


def test_a_labelled_file_may_have_other_columns_than_the_recipe(toy, mtbert, tmp_path):
    (tmp_path / "other.csv").write_text("comment,stars\na dog runs,0\na cat sleeps,4\n")
    sets = ("--set", "tasks.sst.columns={text: comment, label: stars, id: null}")
    done = mtbert("evaluate", toy / "run", "--task", "sst", "--split", tmp_path / "other.csv", "--json", *sets)
    assert json.loads(done.out)["tasks"]["sst"]["examples"] == 2


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("model.max_length=16", "model.max_length"),
        ("model={pooling: mean}", "model.pooling"),
        ("tasks.sst.labels=[a, b, c, d, e]", "tasks.sst.labels"),
        ("tasks.sts.range=[0, 9]", "tasks.sts.range"),
        ("tasks.sst.dev_seed=1", "tasks.sst.dev_seed"),
        ("tasks.sst.head=mlp", "tasks.sst.head.kind"),
        ("train.seed=3", "train.seed"),
        ("tasks.quora=null", "tasks.quora"),
    ],
)
def test_settings_that_the_model_was_trained_with_cannot_be_changed(toy, mtbert, change, key):
    said = (
        f"--set {key}: the model was trained with this setting, so it cannot be changed. These can: data.root, and of "
    )
    for call in (("evaluate", toy / "run"), ("predict", toy / "run", "--task", "sst", "--text", "a")):
        assert mtbert(*call, "--set", change).mistake == said + "tasks.NAME: columns, train, dev, test, metric."


def test_a_task_that_the_recipe_has_lost_is_named(mtbert, run_copy):
    recipe = yaml.safe_load((run_copy / "recipe.yaml").read_text())
    del recipe["tasks"]["sst"]
    (run_copy / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    said = "task sst: the recipe of this run does not have it, so its columns are unknown."
    for split in ("dev", "test", "some.csv"):
        assert mtbert("evaluate", run_copy, "--task", "sst", "--split", split).mistake == said
    assert mtbert("predict", run_copy, "--task", "sst", "--input", "some.csv").mistake == said
