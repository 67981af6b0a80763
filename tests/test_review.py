"""Answers that a person should look at: ``predict --unsure`` marks them, ``review`` writes them to a file to label.

Dimension key: B rows.
"""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_run
import yaml
from commands import Mtbert

from mtbert import load, review, scoring
from mtbert.recipe.files import load_recipe
from mtbert.splits import read_split
from mtbert.task import Head, Task
from mtbert.use.predictor import least_certain

CLASSES = Task(name="c", type="classification", inputs="single", labels=("a", "b", "c"))
YES_NO = Task(name="b", type="binary", inputs="single", labels=("no", "yes"))
TOPICS = Task(name="t", type="multilabel", inputs="single", labels=("x", "y"))
SCORES = Task(name="s", type="regression", inputs="single", range=(0.0, 1.0))
COSINE = Task(name="k", type="binary", inputs="separate", labels=("no", "yes"), head=Head(kind="cosine"))


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture
def pool(toy: Path, tmp_path: Path) -> Path:
    """A pool of 30 rows of random words; the first two are in train, the third nearly repeats the fourth."""
    rng = np.random.default_rng(5)
    train = read_split(load_recipe(str(toy / "toy.yaml")), "sst").train
    texts = [train[0].texts[0].upper(), f" {train[1].texts[0]} ", "a b c d e f g h i k", "K i h g f e d c b a."]
    texts += [" ".join(rng.choice(toy_run.WORDS, 7)) + f" {i}" for i in range(26)]
    file = tmp_path / "pool.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("id", "sentence", "when"), *((f"p{i}", x, "now") for i, x in enumerate(texts))])
    return file


# How certain an answer is ---------------------------------------------------------------------------------------


def test_certainty_is_the_calibrated_probability_of_the_answer():
    import tiny

    made = tiny.model(CLASSES, YES_NO, TOPICS)
    found = scoring.certainty(made, CLASSES, torch.log(torch.tensor([[0.2, 0.7, 0.1], [0.4, 0.3, 0.3]])))
    assert found == pytest.approx([0.7, 0.4], abs=1e-6)
    assert scoring.certainty(made, YES_NO, torch.logit(torch.tensor([0.9, 0.2]))) == pytest.approx([0.9, 0.8], abs=1e-6)
    both = torch.logit(torch.tensor([[0.9, 0.2]]))
    assert scoring.certainty(made, TOPICS, both) == pytest.approx([0.9 * 0.8], abs=1e-6)
    made.head("t").threshold.copy_(torch.logit(torch.tensor([0.95, 0.1])))  # the answer is then y alone
    assert scoring.certainty(made, TOPICS, both) == pytest.approx([0.1 * 0.2], abs=1e-6)


@pytest.mark.parametrize("task", [SCORES, COSINE], ids=["score", "cosine"])
def test_an_answer_without_a_probability_has_no_certainty(task: Task):
    import tiny

    said = f"^task {task.name}: type '{task.type}' with head '{task.head.kind}' gives no probability of an answer"
    with pytest.raises(ValueError, match=said):
        scoring.certainty(tiny.model(task), task, torch.zeros(2))


def test_the_least_certain_come_first_and_equal_ones_in_their_order():
    assert least_certain(np.array([0.5, 0.2, 0.5, 0.9, 0.2]), 3).tolist() == [1, 4, 0]


# predict --unsure -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "marked"), [(0.1, 3), (0.11, 4), (0.5, 15)])
def test_the_least_certain_share_is_marked(mtbert: Mtbert, toy: Path, pool: Path, tmp_path: Path, share, marked):
    out = tmp_path / "out.csv"
    done = mtbert("predict", toy / "run", "--task", "sst", "--input", pool, "--output", out, "--unsure", share)
    assert done.code == 0, done
    rows = rows_of(out)
    sure = [max(float(row[f"p({c})"]) for c in range(5)) for row in rows]
    assert [float(row["probability"]) for row in rows] == pytest.approx(sure, abs=2e-6)
    unsure = [row["unsure"] for row in rows]
    assert unsure.count("true") == marked
    assert unsure.count("false") == 30 - marked
    assert max(p for p, u in zip(sure, unsure, strict=True) if u == "true") <= min(
        p for p, u in zip(sure, unsure, strict=True) if u == "false"
    )


def test_each_task_marks_its_own_share_and_scores_have_no_mark(mtbert: Mtbert, toy: Path, tmp_path: Path):
    file, out = tmp_path / "pairs.csv", tmp_path / "out.jsonl"
    lines = [f"{w} film,the {w} dog" for w in toy_run.WORDS[:10]]
    file.write_text("\n".join(["sentence1,sentence2", *lines]) + "\n")
    asked = ("predict", toy / "run", "--input", file, "--output", out, "--unsure", 0.2)
    done = mtbert(*asked)
    assert done.code == 0, done
    assert "--unsure: no answer of sts is marked" in done.err
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert sum(row["quora"]["unsure"] for row in found) == 2
    assert all({"unsure", "probability"}.isdisjoint(row["sts"]) for row in found)
    said = mtbert(*asked, "--task", "sts", "--overwrite").mistake
    assert said.startswith("--unsure: task sts: type 'regression' with head 'linear' gives no probability")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--input", "x.csv", "--unsure", 0), "--unsure must be a share between 0 and 1, found 0."),
        (("--input", "x.csv", "--unsure", 1), "--unsure must be a share between 0 and 1, found 1."),
        (("--input", "x.csv", "--unsure", "nan"), "--unsure must be a share between 0 and 1, found nan."),
        (
            ("--input", "x.csv", "--unsure", "10%"),
            "--unsure must be a share between 0 and 1, found 10%. Give a share such as 0.1.",
        ),
        (("--text", "good", "--unsure", 0.1), "--unsure marks a share of the rows of a file, and there is one text."),
    ],
)
def test_a_share_that_makes_no_sense_is_refused(mtbert: Mtbert, toy: Path, options: Any, said: str):
    assert mtbert("predict", toy / "run", "--task", "sst", *options).mistake.startswith(said)


# review ---------------------------------------------------------------------------------------------------------


def test_the_least_certain_new_rows_are_written_with_the_columns_of_the_recipe(
    mtbert: Mtbert, toy: Path, pool: Path, tmp_path: Path
):
    out = tmp_path / "to-label.csv"
    done = mtbert("review", toy / "run", "--task", "sst", "--input", pool, "--top", 30, "--output", out)
    assert done.code == 0, done
    assert done.err.splitlines()[-1] == f"done: 27 rows to label in {out}. Write into 'sentiment': 0, 1, 2, 3, 4."
    rows = rows_of(out)
    assert list(rows[0]) == ["id", "sentence", "sentiment", "answer", "probability"]
    assert {row["sentiment"] for row in rows} == {""}
    ids = [row["id"] for row in rows]
    assert not {"p0", "p1"} & set(ids)  # rows of train, in capitals and with space around
    assert len({"p2", "p3"} & set(ids)) == 1  # nearly the same
    p = [float(row["probability"]) for row in rows]
    assert p == sorted(p)
    answers = load(toy / "run").predict("sst", [row["sentence"] for row in rows])
    assert [row["answer"] for row in rows] == [answer["label"] for answer in answers]
    assert p == pytest.approx([max(answer[f"p({c})"] for c in range(5)) for answer in answers], abs=1e-5)


def test_a_pair_that_shares_one_text_with_dev_is_left_out_and_counted(mtbert: Mtbert, toy: Path, tmp_path: Path):
    split = read_split(load_recipe(str(toy / "toy.yaml")), "quora")
    (one, _), (_, other) = split.dev[0].texts, split.dev[1].texts
    in_train, _ = split.train[0].texts
    pool, out = tmp_path / "pairs.csv", tmp_path / "to-label.csv"
    pairs = [(f" {one.upper()}", "how 1"), ("why 2", other), (other, one), (in_train, "do 3"), ("new 4", "old 5")]
    with pool.open("w", newline="") as opened:
        rows = [(f"p{i}", *pair, "") for i, pair in enumerate(pairs)]
        heads = ("id", "sentence1", "sentence2", "is_duplicate")
        csv.writer(opened).writerows([heads, *rows, ("p5", one, "has a label", "1")])
    done = mtbert("review", toy / "run", "--task", "quora", "--input", pool, "--output", out)
    assert f"warning: {pool}: left out 3 rows with a text that is also in dev." in done.err
    assert {row["id"] for row in rows_of(out)} == {"p3", "p4"}


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(mtbert: Mtbert, toy: Path, pool: Path, tmp_path: Path):
    out = tmp_path / "labelled.csv"
    out.write_text("by hand")
    asked = ("review", toy / "run", "--task", "sst", "--input", pool, "--output", out)
    assert mtbert(*asked).mistake == f"--output {out}: exists. Give another file, or replace it (--overwrite)."
    assert out.read_text() == "by hand"
    assert mtbert(*asked, "--overwrite").code == 0
    assert out.read_text() != "by hand"


def test_the_first_of_two_near_repeats_is_the_less_certain_one(toy: Path, pool: Path, tmp_path: Path):
    everything, one = tmp_path / "all.jsonl", tmp_path / "one.jsonl"
    assert review(toy / "run", "sst", pool, everything) == 27
    assert review(str(toy / "run"), "sst", pool, one, top=1) == 1
    assert one.read_text() == everything.read_text().splitlines(keepends=True)[0]
    assert json.loads(one.read_text())["sentiment"] is None


def test_a_labelled_file_can_be_trained_on_next(mtbert: Mtbert, toy: Path, pool: Path, tmp_path: Path):
    out = tmp_path / "to-label.csv"
    assert mtbert("review", toy / "run", "--task", "sst", "--input", pool, "--top", 5, "--output", out).code == 0
    lines = out.read_text().splitlines()
    rows = list(csv.DictReader(lines))
    for row in rows[:4]:  # the last one stays without a label
        row["sentiment"] = "3"
    with out.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    recipe = yaml.safe_load((toy / "toy.yaml").read_text())
    before = len(read_split(load_recipe(str(toy / "toy.yaml")), "sst").train)
    recipe["tasks"]["sst"] |= {"train": [str(toy / "data/sst.csv"), str(out)], "dev": "sst.csv"}
    (tmp_path / "next.yaml").write_text(yaml.safe_dump(recipe))
    train = read_split(load_recipe(str(tmp_path / "next.yaml")), "sst").train
    assert len(train) == 44 > before
    assert train.labels[40:].tolist() == [3, 3, 3, 3]


def test_without_the_data_of_the_run_a_warning_says_so(mtbert: Mtbert, toy: Path, pool: Path, tmp_path: Path):
    run = Path(shutil.copytree(toy / "run", tmp_path / "run"))
    moved = ("--set", f"data.root={tmp_path / 'nowhere'}")
    out = tmp_path / "to-label.csv"
    done = mtbert("review", run, "--task", "sst", "--input", pool, "--output", out, *moved)
    assert done.code == 0, done
    assert "warning: train of task sst cannot be read, so rows of it may be among these (sst.csv: " in done.err
    assert {"p0", "p1"} <= {row["id"] for row in rows_of(out)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--task", "sts"), "task sts: type 'regression' with head 'linear' gives no probability of an answer"),
        (("--task", "none"), "task none: this model has no such task. Use sst or quora or sts."),
        (("--task", "sst", "--top", 0), "--top must be at least 1, found 0."),
        (("--task", "sst", "--output", "x.npy"), "--output x.npy: the file must end in .csv or .tsv or .jsonl."),
    ],
)
def test_what_cannot_be_reviewed_is_refused(mtbert: Mtbert, toy: Path, tmp_path: Path, options: Any, said: str):
    file = tmp_path / "pool.csv"
    file.write_text("sentence,sentence1,sentence2\na film,a dog,a cat\n")
    given = ("--output", tmp_path / "o.csv", *options) if "--output" not in options else options
    assert mtbert("review", toy / "run", "--input", file, *given).mistake.startswith(said)


def test_a_pool_of_known_rows_is_refused_and_the_pool_is_never_overwritten(mtbert: Mtbert, toy: Path, tmp_path: Path):
    pool = Path(shutil.copy(toy / "data/sst.csv", tmp_path / "pool.csv"))
    asked = ("review", toy / "run", "--task", "sst", "--input", pool)
    said = mtbert(*asked, "--output", tmp_path / "out.csv").mistake
    left_out = "Each is in train, has a text of dev, has a label, or has an empty text."
    assert said == f"{pool}: has no row to label. {left_out} Give another pool."
    assert mtbert(*asked, "--output", pool).mistake == f"--output {pool}: is the input file. Give another."
    assert mtbert(*asked, "--output", toy / "data/sst.csv").mistake.endswith("is data of task sst. Give another.")
