"""The file of ``mtbert review`` has all columns that the recipe reads from train, so it can be trained on next."""

import json
from pathlib import Path
from typing import Any

import pytest
import toy_run
import toy_table
import yaml
from commands import Mtbert
from rich.console import Console

from mtbert.recipe.files import load_recipe
from mtbert.splits import split_table
from mtbert.training.start import start_run

WORDS = {"type": "tokens", "inputs": "single", "table": "reviews"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over a table; one of its tasks has weights, one reads a second text, and one assigns tags to words."""
    folder = tmp_path_factory.mktemp("review")
    toy_run.encoder_folder(folder / "encoder")
    toy_table.write_table(folder / "data")
    lines = (folder / "data/reviews.csv").read_text().splitlines()
    heads = lines[0].split(",")
    rows: list[dict[str, Any]] = [dict(zip(heads, line.split(","), strict=True)) for line in lines[1:]]
    for i, row in enumerate(rows):
        row |= {"body": row["body"].split(), "year": 2021 if i % 5 else 2020, "sure": 1 + i % 3}
        row["parts"] = ["O"] * (len(row["body"]) - 1) + ["B-n"]
    (folder / "data/rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = toy_table.raw_table_recipe(folder, rounds=1)
    recipe["tables"] = {"reviews": toy_table.TABLE | {"train": {"path": ["rows.jsonl"], "where": {"year": 2021}}}}
    spam = {"type": "binary", "inputs": "single", "table": "reviews", "columns": {"label": "spam", "weight": "sure"}}
    recipe["tasks"] = toy_table.TASKS | {"spam": spam, "parts": WORDS | {"label": "parts"}}
    (folder / "reviews.yaml").write_text(yaml.safe_dump(recipe))
    start_run(load_recipe(str(folder / "reviews.yaml")), folder / "run", Console(quiet=True))
    pool = [{"key": f"p{i}", "body": f"a new film {i}", "title": "how"} for i in range(3)]
    (folder / "pool.jsonl").write_text("\n".join(map(json.dumps, pool)))
    return folder


def test_the_columns_of_all_tasks_of_the_table_are_written(mtbert: Mtbert, folder: Path, tmp_path: Path):
    out = tmp_path / "out.jsonl"
    done = mtbert("review", folder / "run", "--task", "stars", "--input", folder / "pool.jsonl", "--output", out)
    assert done.code == 0, done
    first = json.loads(out.read_text().splitlines()[0])
    assert list(first)[:4] == ["year", "key", "body", "title"]
    labels = ("stars", "spam", "film", "pet", "parts")
    assert first | dict.fromkeys(("answer", "probability", "key", "body")) == {
        **dict.fromkeys(("key", "body", *labels, "answer", "probability")),
        "year": 2021,
        "title": "how",
        "sure": 1,
    }


def test_a_row_is_left_out_if_a_text_that_another_task_reads_is_in_dev(mtbert: Mtbert, folder: Path, tmp_path: Path):
    dev = [json.loads(line) for line in (folder / "data/rows.jsonl").read_text().splitlines() if "2021" in line][:8]
    assert "" in [row["title"] for row in dev]  # an empty text is nothing that rows have in common
    (tmp_path / "dev.jsonl").write_text("\n".join(map(json.dumps, dev)))
    rows = [
        ("p0", next(row["title"] for row in dev if row["title"])),
        ("p1", ""),
        ("p2", None),
        ("p3", "how why do how"),
    ]
    pool, out = tmp_path / "pool.jsonl", tmp_path / "out.jsonl"
    pool.write_text("\n".join(json.dumps({"key": key, "title": t, "body": f"{key} film"}) for key, t in rows))
    asked = ("review", folder / "run", "--task", "stars", "--input", pool, "--output", out)
    done = mtbert(*asked, "--set", f"tables.reviews.dev={tmp_path / 'dev.jsonl'}")
    assert f"warning: {pool}: left out 1 row with a text that is also in dev." in done.err
    assert sorted(json.loads(line)["key"] for line in out.read_text().splitlines()) == ["p1", "p2", "p3"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_a_labelled_file_of_a_table_can_be_trained_on_next(mtbert: Mtbert, folder: Path, tmp_path: Path, suffix: str):
    out = tmp_path / f"out{suffix}"
    pool = tmp_path / "pool.jsonl"
    pool.write_text('{"body": ["very", "dull", "7"], "key": "p7"}\n')  # words as in train, and no title
    done = mtbert("review", folder / "run", "--task", "stars", "--input", pool, "--output", out)
    assert done.code == 0, done
    text = out.read_text()
    if suffix == ".jsonl":
        out.write_text(text.replace('"stars": null', '"stars": "3"'))
    else:
        mark = "\t" if suffix == ".tsv" else ","
        heads, row = (line.split(mark) for line in text.splitlines())
        row[heads.index("stars")] = "3"
        out.write_text(f"{mark.join(heads)}\n{mark.join(row)}\n")
    more = f"tables.reviews.train.path=[rows.jsonl, {out}]"
    same = ["tables.reviews.dev=rows.jsonl", "train.held_out=0"]
    recipes = (load_recipe(str(folder / "reviews.yaml"), [*same, *changes]) for changes in ([], [more]))
    before, after = (split_table(recipe, "reviews") for recipe in recipes)
    stars = after.train.tasks["stars"].examples
    assert len(stars) == len(before.train.tasks["stars"].examples) + 1
    assert (stars[-1].id, stars[-1].texts, stars[-1].label) == ("p7", ("very dull 7",), 3.0)
    for name in ("spam", "topics", "parts"):
        assert len(after.train.tasks[name].examples) == len(before.train.tasks[name].examples)
