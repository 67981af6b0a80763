"""Which rows of a pool ``mtbert review`` leaves out, also if the pool is a file of the table itself; ids of a pool."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import toy_run
import yaml
from commands import Mtbert
from rich.console import Console

from mtbert.recipe.files import load_recipe
from mtbert.training.start import start_run

WORDS = toy_run.WORDS
ROWS = [
    (f"a{i}" if i else "pool-7", f"{WORDS[i]} {WORDS[i + 1]}", "12"[i % 2] if i % 3 else "", "01"[i % 2])
    for i in range(18)
]
DEV = [
    ("d0", "old plot", "1", ""),
    ("d1", "dull plot", "2", ""),
    ("d2", "new cat", "", "1"),
    ("d3", "why dog", "", "0"),
]


def write(file: Path, rows: Sequence[Sequence[object]]) -> Path:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(rows)
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over a table with a dev file; every third row of train and half of dev have no label of task stars."""
    folder = tmp_path_factory.mktemp("pools")
    toy_run.encoder_folder(folder / "encoder")
    (folder / "data").mkdir()
    head = ("key", "text", "stars", "spam")
    write(folder / "data/train.csv", [head, *ROWS])
    write(folder / "data/dev.csv", [head, *DEV])
    raw = {
        "data": {"root": str(folder / "data")},
        "model": {"path": str(folder / "encoder"), "max_length": 24},
        "tables": {"t": {"train": "train.csv", "dev": "dev.csv", "columns": {"id": "key"}}},
        "tasks": {
            "stars": {"type": "classification", "inputs": "single", "table": "t", "label": "stars"},
            "spam": {"type": "binary", "inputs": "single", "table": "t", "label": "spam"},
        },
        "train": {"epochs": 1, "rounds": 1, "threads": 1, "precision": "fp32"},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    start_run(load_recipe(str(folder / "mine.yaml")), folder / "run", Console(quiet=True))
    return folder


@pytest.fixture
def chosen(mtbert: Mtbert, folder: Path, tmp_path: Path) -> Callable[..., tuple[list[dict[str, str]], str]]:
    """Reviews a pool for task stars. Returns the rows of the written file, and what was printed."""

    def run(pool: Path, *options: str) -> tuple[list[dict[str, str]], str]:
        out = tmp_path / "out.csv"
        asked = ("review", folder / "run", "--task", "stars", "--input", pool, "--output", out, "--overwrite")
        done = mtbert(*asked, *options)
        assert done.code == 0, done
        with out.open(newline="") as opened:
            return list(csv.DictReader(opened)), done.err

    return run


def test_of_the_own_train_file_the_rows_that_train_only_other_tasks_are_left(chosen, folder: Path):
    rows, _ = chosen(folder / "data/train.csv")
    assert {row["key"] for row in rows} == {key for key, _, stars, _ in ROWS if not stars}


def test_a_row_of_dev_is_never_shown_whichever_task_it_scores(chosen, tmp_path: Path):
    texts = [f" {text.upper()} " for _, text, _, _ in DEV]
    rows, _ = chosen(
        write(tmp_path / "p.csv", [("key", "text"), *((f"x{i}", t) for i, t in enumerate([*texts, "how why"]))])
    )
    assert [row["key"] for row in rows] == ["x4"]


def test_a_row_that_has_a_label_in_the_pool_is_left_out_and_counted(chosen, tmp_path: Path):
    given = [
        ("key", "text", "stars", "spam"),
        ("x0", "how why", "1", ""),
        ("x1", "why do", "", "1"),
        ("x2", "do how", "nan", ""),
    ]
    rows, told = chosen(write(tmp_path / "p.csv", given))
    assert sorted(row["key"] for row in rows) == ["x1", "x2"]
    assert f"warning: {tmp_path / 'p.csv'}: left out 1 row with a label in 'stars'." in told


def test_a_row_with_an_empty_text_is_left_out_and_counted(chosen, tmp_path: Path):
    given = [("key", "text", "stars"), ("x0", " ", "1"), ("x1", "how why", ""), ("x2", "do how new", "")]
    rows, told = chosen(write(tmp_path / "p.csv", given))
    assert {row["key"]: row["text"] for row in rows} == {"x1": "how why", "x2": "do how new"}
    assert (
        f"warning: {tmp_path / 'p.csv'}: left out 1 row of task stars, because a text is empty (first: line 2)." in told
    )


@pytest.mark.parametrize(("name", "ids"), [("more", ["more-1", "more-2"]), ("pool", ["pool-2-1", "pool-2-2"])])
def test_rows_of_a_pool_without_ids_get_ids_that_train_does_not_have(chosen, tmp_path: Path, name: str, ids: list[str]):
    rows, _ = chosen(write(tmp_path / f"{name}.csv", [("text",), ("how why",), ("do how new",)]))
    assert sorted(row["key"] for row in rows) == ids


def test_a_pool_whose_text_has_another_name_is_written_with_the_columns_of_train(chosen, tmp_path: Path):
    pool = write(tmp_path / "p.csv", [("message",), ("how why",), (ROWS[1][1],), (DEV[0][1],)])
    rows, told = chosen(pool)
    assert [[*list(row)[:4], row["key"], row["text"]] for row in rows] == [
        ["key", "text", "stars", "spam", "p-1", "how why"]  # the texts of train and dev are left out, as ever
    ]
    assert told.splitlines()[:2] == [
        f"{pool}: 'message' is the only text, so these tasks read it: stars (no column 'text'). To name another "
        "column: --set tables.t.columns.text=COLUMN",
        f"warning: {pool}: left out 1 row with a text that is also in dev.",
    ]


def test_columns_of_the_pool_that_the_user_names_are_written_under_the_names_of_train(chosen, tmp_path: Path):
    given = [("nr", "message", "note", "mark"), ("a", "how why", "x", ""), ("b", "do how new", "y", "2")]
    set_ = ["tables.t.columns.id=nr", "tables.t.columns.text=message", "tasks.stars.columns.label=mark"]
    pool = write(tmp_path / "p.csv", given)
    rows, told = chosen(pool, *(word for change in set_ for word in ("--set", change)))
    assert [list(row.items())[:4] for row in rows] == [[("key", "a"), ("text", "how why"), ("stars", ""), ("spam", "")]]
    assert told.splitlines()[0] == f"warning: {pool}: left out 1 row with a label in 'mark'."
    assert "cannot be read" not in told
    assert told.splitlines()[-1].endswith("Write into 'stars': 1, 2.")


def test_a_pool_without_the_text_that_the_user_names_is_refused(mtbert: Mtbert, folder: Path, tmp_path: Path):
    pool = write(tmp_path / "p.csv", [("body",), ("how why",)])
    asked = ("review", folder / "run", "--task", "stars", "--input", pool, "--output", tmp_path / "out.csv")
    assert mtbert(*asked, "--set", "tasks.stars.columns.text=message").mistake == (
        f"{pool}: there is no column 'message', found 'body'. Task stars reads it. To name another column: --set "
        "tasks.stars.columns.text=body"
    )
