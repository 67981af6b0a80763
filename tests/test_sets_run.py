"""A task of sets from recipe to report: trained, saved, scored, asked, resumed bitwise, and studied.

A row has the label ``good`` if its text contains the word ``good``, and it has the label ``long`` if its text contains
the word ``runs``. Where each label has a column, a fifth of the cells of ``long`` are empty.
"""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import commands
import pyarrow.parquet as pq
import pytest
import toy_run
import yaml
from commands import Mtbert
from rich.console import Console
from stopped import assert_resumes_bitwise

from mtbert import load
from mtbert.recipe.files import load_recipe
from mtbert.training.start import start_run
from mtbert.use.outputs import joined

mtbert = commands.mtbert

SILENT = Console(quiet=True)
ANSWER = ["labels", "p(good)", "p(long)"]
ROWS = [
    (f"{'good' if i % 2 else 'a'} {'runs' if i % 3 == 0 else 'the'} {toy_run.WORDS[i % 7]}", i % 2 == 1, i % 3 == 0)
    for i in range(60)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of two tasks of sets, one with names in a cell, one with a column for each label."""
    folder = tmp_path_factory.mktemp("sets")
    toy_run.set_up(folder)
    with (folder / "data/names.csv").open("w", newline="") as file:
        written = [(text, ";".join(["good"] * good + ["long"] * long) or "[]") for text, good, long in ROWS]
        csv.writer(file).writerows([("text", "label"), *written])
    with (folder / "data/wide.csv").open("w", newline="") as file:
        wide = [(text, int(good), "" if i % 5 == 0 else int(long)) for i, (text, good, long) in enumerate(ROWS)]
        csv.writer(file).writerows([("text", "good", "long"), *wide])
    recipe = toy_run.raw_recipe(folder, lr=0.01, epochs=6, held_out=0)
    common = {"type": "multilabel", "inputs": "single", "batch_size": 6, "pooling": "mean"}
    recipe["tasks"] = {
        "names": common | {"train": "names.csv", "losses": [{"kind": "bce", "class_weights": "balanced"}, "rdrop"]},
        "wide": common
        | {"train": "wide.csv", "dev": "wide.csv", "columns": {"label": ["good", "long"]}, "losses": ["asl", "smart"]},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    console = Console(record=True, width=200, file=io.StringIO())
    start_run(load_recipe(str(folder / "mine.yaml")), folder / "run", console)
    (folder / "said.txt").write_text(console.export_text())
    return folder


def test_both_tasks_are_learned_and_their_losses_logged(folder: Path, said: Callable[..., str]):
    found = json.loads(said("evaluate", folder / "run", "--json"))["tasks"]
    assert {name: (one["type"], one["labels"]) for name, one in found.items()} == {
        "names": ("multilabel", ["good", "long"]),
        "wide": ("multilabel", ["good", "long"]),
    }
    for one in found.values():
        assert list(one["metrics"]) == ["micro_f1", "macro_f1", "exact_match", "average_precision", "nll", "ece"]
        assert one["metrics"]["micro_f1"] > 0.9 > one["constant"]["micro_f1"]
    logged = (folder / "run/metrics.jsonl").read_text()
    assert all(f'"{key}"' in logged for key in ("names.bce", "names.rdrop", "wide.asl", "wide.smart"))
    # Of 54 rows of train.
    assert "task names, loss bce: balanced class weights: good " in (folder / "said.txt").read_text()


def test_the_check_of_the_data_counts_labels_empty_sets_and_unknown_ones(folder: Path, said: Callable[..., str]):
    lines = [line.split() for line in said("data", "check", folder / "mine.yaml").splitlines()]
    counts = {words[0] for words in lines if words[1:2] and words[0] in ("good", "long")}
    assert counts == {"good", "long"}
    unknown = [words[2:] for words in lines if words[:2] == ["share", "unknown"]]
    assert unknown[0] == ["0", "0"]
    assert unknown[1] == ["0.1", "0.1"]


def test_evaluate_shows_a_table_by_label(folder: Path, said: Callable[..., str]):
    found = said("evaluate", folder / "run", "--task", "names")
    assert "names, by label" in found
    assert "names, commonest pairs" in found


def test_predict_gives_lists_and_in_csv_joined_names_that_can_be_read_again(folder: Path, said: Callable[..., str]):
    source = folder / "data/names.csv"
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        said("predict", folder / "run", "--task", "names", "--input", source, "--output", folder / name)
    with (folder / "a.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    objects = [json.loads(line) for line in (folder / "a.jsonl").read_text().splitlines()]
    columns = pq.read_table(folder / "a.parquet").to_pylist()
    assert list(written[0]) == ["text", "label", "labels", "p(good)", "p(long)"]
    assert [row["labels"] for row in objects] == [row["labels"] for row in columns]
    assert [row["labels"] for row in written] == [";".join(row["labels"]) or "[]" for row in objects]
    assert {row["labels"] for row in written} == {"good", "long", "good;long", "[]"}
    recipe = ["--set", "tasks.names.columns.label=labels"]
    again = said("evaluate", folder / "run", "--task", "names", "--split", folder / "a.csv", "--json", *recipe)
    assert json.loads(again)["tasks"]["names"]["metrics"]["exact_match"] == 1.0
    spoken = said("predict", folder / "run", "--task", "names", "--text", "good runs a")
    assert spoken.startswith("labels good, long  p(good) 0.")
    (loaded,) = load(folder / "run").predict("names", ["good runs a"])
    assert loaded["labels"] == ["good", "long"]


def test_several_tasks_of_sets_answer_with_lists_and_in_csv_with_joined_names(folder: Path, said: Callable[..., str]):
    (folder / "both.csv").write_text("text\ngood runs a\n")
    (row,) = csv.DictReader(io.StringIO(said("predict", folder / "run", "--input", folder / "both.csv")))
    assert list(row) == ["text", *(f"{task}.{key}" for task in ("names", "wide") for key in ANSWER)]
    assert row["names.labels"] == "good;long"
    said("predict", folder / "run", "--input", folder / "both.csv", "--output", folder / "both.jsonl")
    found = json.loads((folder / "both.jsonl").read_text())
    assert list(found["wide"]) == ANSWER
    assert found["names"]["labels"] == ["good", "long"]


def test_a_set_with_the_separator_in_a_name_is_written_as_a_list():
    assert joined({"labels": ["a", "b"], "x": 1}, ";") == {"labels": "a;b", "x": 1}
    assert joined({"labels": ["a;b", "c"]}, ";") == {"labels": ["a;b", "c"]}
    assert joined({"labels": []}, ";") == {"labels": []}


def test_the_report_shows_sets_and_how_many_labels_are_wrong(folder: Path, said: Callable[..., str]):
    said("report", folder / "run")
    page = (folder / "run/report.html").read_text()
    assert '"good; long"' in page
    assert 'long?"' in page


def test_a_run_stopped_in_the_middle_resumes_bitwise(folder: Path, tmp_path: Path):
    assert_resumes_bitwise(folder / "mine.yaml", folder / "run", tmp_path / "run", at=13)


def test_a_label_that_dev_alone_has_is_one_line_that_names_the_place(folder: Path, mtbert: Mtbert):
    (folder / "data/dev.csv").write_text("text,label\na dog,good\na cat,good;longer\n")
    done = mtbert("train", folder / "mine.yaml", "--set", "tasks.names.dev=dev.csv", "--out", folder / "no")
    said = "dev.csv, line 3, column 'label': 'longer' is not one of the classes 'good', 'long'. Did you mean 'long'?"
    assert said in done.mistake


def test_balanced_weights_need_rows_with_and_without_each_label(folder: Path, mtbert: Mtbert):
    labels = "tasks.names.labels=[good, long, new]"
    done = mtbert("train", folder / "mine.yaml", "--set", labels, "--out", folder / "no")
    assert done.code == 2
    assert "balanced needs rows with and without every label in train, found none of 'new'." in done.err
