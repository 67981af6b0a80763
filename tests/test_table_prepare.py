"""The data sets of tasks that read one table: shared tokens, rows with labels, one dev split, one read of test."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_table
from tokenizers import Tokenizer

from mtbert import splits
from mtbert.columns import TextColumn
from mtbert.data import cache, formats
from mtbert.data.split import grouped_split
from mtbert.data.tokenizer import load_tokenizer
from mtbert.prepare import Prepared, prepare, read_test
from mtbert.recipe.settings import Recipe, validate_recipe
from mtbert.yaml_files import merge

table_folder = toy_table.table_folder
TASKS = ("stars", "spam", "topics")


def recipe(folder: Path, change: dict[str, Any] | None = None) -> Recipe:
    """Returns the toy recipe with ``change``. No rows are held out of train to fit thresholds."""
    raw = merge(toy_table.raw_table_recipe(folder), {"train": {"held_out": 0}})
    return validate_recipe(merge(raw, change or {}), "r")


def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder / "encoder")


def prepared(folder: Path, change: dict[str, Any] | None = None, **asked: Any) -> dict[str, Prepared]:
    return prepare(recipe(folder, change), tokenizer(folder), **asked)


def test_tasks_with_the_same_form_of_input_share_their_tokens(table_folder: Path):
    more = {
        "again": toy_table.TASKS["spam"],
        "flat": toy_table.TASKS["topics"] | {"segments": False},
        "apart": toy_table.TASKS["topics"] | {"inputs": "separate"},
        "title": toy_table.TASKS["spam"] | {"columns": {"text": "title"}},
    }
    data = prepared(table_folder, {"tasks": more})
    for side in ("train", "dev"):
        found = {name: getattr(one, side).sequences for name, one in data.items()}
        assert found["stars"] is found["spam"] is found["again"]
        others = [found[name] for name in ("stars", "topics", "flat", "apart", "title")]
        assert len({id(each) for each in others}) == 5
        assert {len(part) for sequences in others for part in sequences} == {len(found["stars"][0])}
    assert found["stars"] is not data["stars"].train.sequences


def test_rows_of_a_task_index_the_tokens_of_its_texts(table_folder: Path):
    words = tokenizer(table_folder)
    for name, one in prepared(table_folder).items():
        for data in (one.train, one.dev):
            assert (np.diff(data.rows) > 0).all()
            assert len(data) == len(data.rows) < data.size
            (made,) = data.sequences
            for example, row in zip(data.examples, data.rows.tolist(), strict=True):
                ids = made.ids[made.offsets[row] : made.offsets[row + 1]].tolist()
                assert ids == words.encode(*example.texts).ids, name


def test_the_tasks_of_a_table_have_all_of_its_labels_and_no_other(table_folder: Path):
    data = prepared(table_folder)
    lines = (table_folder / "data/reviews.csv").read_text().splitlines()[1:]
    cells = {line.split(",")[0]: line.split(",") for line in lines}
    stars = {key: float(row[3]) for key, row in cells.items() if row[3]}
    spam = {key: float(row[4] == "yes") for key, row in cells.items() if row[4]}
    topics = {k: (float(row[5]), float(row[6])) for k, row in cells.items() if row[5] and row[1]}
    for name, expected in (("stars", stars), ("spam", spam), ("topics", topics)):
        one = data[name]
        found = {e.id: e.label for side in (one.train, one.dev) for e in side.examples}
        assert len(one.train) + len(one.dev) == len(found)
        assert found == expected


def test_examples_of_two_tasks_with_one_row_have_one_id(table_folder: Path):
    data = prepared(table_folder)
    for side in ("train", "dev"):
        ids: dict[int, set[str]] = {}
        for one in data.values():
            found = getattr(one, side)
            for row, key in zip(found.rows.tolist(), found.examples.ids, strict=True):
                ids.setdefault(row, set()).add(key)
        assert sorted(ids) == list(range(found.size))
        assert {len(keys) for keys in ids.values()} == {1}


# The dev split ---------------------------------------------------------------------------------------------


def sides(data: dict[str, Prepared]) -> dict[str, bool]:
    """Returns for each id whether it is in dev; fails if two tasks disagree."""
    found: dict[str, bool] = {}
    for one in data.values():
        for is_dev, side in ((False, one.train), (True, one.dev)):
            for key in side.examples.ids:
                assert found.setdefault(key, is_dev) == is_dev
    return found


def test_tasks_of_a_table_agree_about_dev_which_stays_if_one_with_the_same_texts_goes(table_folder: Path):
    whole = sides(prepared(table_folder))
    for gone in ("stars", "spam"):
        fewer = sides(prepared(table_folder, {"tasks": {gone: None}}))
        assert len(fewer) < len(whole)
        assert fewer.items() <= whole.items()


def test_a_task_with_files_of_its_own_draws_dev_from_the_rows_with_its_label_alone(table_folder: Path):
    own = {key: toy_table.TASKS["stars"][key] for key in ("type", "inputs")}
    own |= {"train": "reviews.csv", "dev_fraction": 0.2, "columns": {"text": "body", "label": "stars", "id": "key"}}
    lines = (table_folder / "data/reviews.csv").read_text().splitlines()[1:]
    labelled = [cells for cells in (line.split(",") for line in lines) if cells[3]]
    _, dev = grouped_split([TextColumn.of(cells[2] for cells in labelled)], 0.2, 0)
    found = prepared(table_folder, {"tasks": {"own": own}})["own"]
    assert list(found.dev.examples.ids) == [labelled[row][0] for row in dev]


def test_rows_that_share_any_text_are_on_one_side_and_empty_texts_are_not_shared(table_folder: Path):
    rows = [f"k{i},{'T' + str(i // 6) if i % 2 else ''},body {i // 3},{i % 2},no,1,0" for i in range(300)]
    file = table_folder / "data/reviews.csv"
    file.write_text("\n".join(["key,title,body,stars,spam,film,pet", *rows]))
    found = sides(prepared(table_folder))
    assert 40 <= sum(found.values()) <= 80  # without titles, all rows would be tied together if these were shared
    for i in range(0, 300, 6):
        assert len({found[f"k{j}"] for j in range(i, i + 6)}) == 1


def test_dev_is_drawn_from_the_whole_file_if_the_table_reads_a_part(table_folder: Path):
    toy_table.write_table(table_folder / "data", rows=240)
    whole = sides(prepared(table_folder))
    part = {"tables": {"reviews": {"train": {"path": "reviews.csv", "where": {"spam": "yes"}}}}}
    found = sides(prepared(table_folder, part | {"tasks": {"spam": None}}))
    assert 10 < len(found) < len(whole)
    assert found.items() <= whole.items()


def test_a_dev_file_is_read_for_all_tasks(table_folder: Path):
    toy_table.write_table(table_folder / "data", "dev.csv", rows=24, seed=1)
    data = prepared(table_folder, {"tables": {"reviews": {"dev": "dev.csv"}}})
    assert {name: len(one.dev) for name, one in data.items()} == {"stars": 16, "spam": 18, "topics": 15}
    assert data["stars"].dev.size == 23
    assert list(data["spam"].table.digests) == ["reviews.csv", "dev.csv"]
    assert [line.partition(":")[0] for line in data["spam"].table.warnings] == ["reviews.csv", "dev.csv"]
    assert [line.partition(":")[0] for line in data["topics"].warnings] == ["reviews.csv", "dev.csv"]
    assert data["spam"].warnings == ()


def test_some_tasks_of_a_table_have_the_data_that_they_have_beside_the_others(table_folder: Path):
    whole, one = prepared(table_folder), prepared(table_folder, only=["topics"])
    assert list(one) == ["topics"]
    for side in ("train", "dev"):
        found, expected = getattr(one["topics"], side), getattr(whole["topics"], side)
        assert list(found.examples) == list(expected.examples)
        assert found.rows.tolist() == expected.rows.tolist()


def test_examples_that_are_cut_are_counted_for_each_task(table_folder: Path):
    data = prepared(table_folder, {"model": {"max_length": 9}})
    words = tokenizer(table_folder)
    for one in data.values():
        for side in (one.train, one.dev):
            long = sum(len(words.encode(*example.texts)) > 9 for example in side.examples)
            assert side.truncated == long
    assert data["topics"].train.truncated > data["spam"].train.truncated > 0


# Refusals and warnings -------------------------------------------------------------------------------------


def refusal(folder: Path, change: dict[str, Any] | None = None) -> str:
    with pytest.raises(ValueError, match=r"reviews\.csv") as caught:
        prepared(folder, change)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_task_without_any_label_in_its_table_is_named(table_folder: Path):
    file = table_folder / "data/reviews.csv"
    file.write_text("key,title,body,stars,spam,film,pet\n" + "".join(f"k{i},t,b {i},,no,1,0\n" for i in range(9)))
    assert refusal(table_folder) == (
        "task stars: reviews.csv: no usable row; all of them have no label in column 'stars'. Check the file."
    )


def test_wrong_labels_are_found_at_their_places(table_folder: Path):
    file = table_folder / "data/reviews.csv"
    file.write_text(file.read_text().replace(",yes,", ",maybe,"))
    assert refusal(table_folder).startswith("reviews.csv, line 3, column 'spam': 'maybe' is not one of the classes")


def test_a_missing_label_column_is_named(table_folder: Path):
    said = refusal(table_folder, {"tasks": {"stars": {"label": "star"}}})
    assert said.startswith("reviews.csv, line 1: there is no column 'star', found 'key', 'title', 'body', 'stars'")
    assert said.endswith("Did you mean 'stars'? Set tasks.TASK.columns.label. (mtbert docs own-data)")


def test_two_tasks_may_read_one_column_of_labels(table_folder: Path):
    again = toy_table.TASKS["stars"] | {"type": "classification"}
    data = prepared(table_folder, {"tasks": {"again": again}})
    assert list(data["again"].train.examples) == list(data["stars"].train.examples)
    assert data["again"].task.labels == data["stars"].task.labels == ("0", "1", "2", "3")


def test_a_table_with_no_row_for_dev_of_a_task_says_so(table_folder: Path):
    rows = [f"k{i},t {i},b {i},{i if i < 2 else ''},{('no', 'yes')[i % 2]},1,0" for i in range(400)]
    (table_folder / "data/reviews.csv").write_text("\n".join(["key,title,body,stars,spam,film,pet", *rows]))
    assert refusal(table_folder) == (
        "reviews.csv: no row is left for dev of task stars. Name a dev file, or set tables.reviews.dev_seed: 1."
    )


# Test data and the cache -----------------------------------------------------------------------------------


def test_test_data_of_a_table_are_read_once_for_all_tasks(table_folder: Path, monkeypatch: pytest.MonkeyPatch):
    toy_table.write_table(table_folder / "data", "test.csv", rows=24, seed=2)
    made = recipe(table_folder, {"tables": {"reviews": {"test": "test.csv"}}})
    tasks = [one.task for one in prepared(table_folder).values()]
    opened = []
    real = formats.opened
    monkeypatch.setattr(formats, "opened", lambda name, *rest, **more: opened.append(name) or real(name, *rest, **more))
    data, warnings = read_test(made, tasks, tokenizer(table_folder))
    assert opened == ["test.csv"]
    assert {name: len(one) for name, one in data.items()} == {"stars": 16, "spam": 18, "topics": 15}
    assert data["stars"].sequences is data["spam"].sequences
    assert len(warnings) == 2
    alone, _ = read_test(made, tasks[1:2], tokenizer(table_folder))
    assert list(alone["spam"].examples) == list(data["spam"].examples)


def test_a_second_start_reads_and_tokenises_nothing(table_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MTBERT_CACHE", str(table_folder / "cache"))
    plain = prepared(table_folder)
    monkeypatch.setattr(cache, "FEWEST", 5)
    monkeypatch.setattr(cache, "SETTLED", -(10**12))
    prepared(table_folder)
    for place in ("mtbert.data.formats.opened", "mtbert.data.tokenizer._tokens", "mtbert.data.draw.grouped_split"):
        monkeypatch.setattr(place, None)
    again = prepared(table_folder)
    for name, one in again.items():
        assert (one.task, one.warnings, one.table.warnings) == (
            plain[name].task,
            plain[name].warnings,
            plain[name].table.warnings,
        )
        for found, expected in ((one.train, plain[name].train), (one.dev, plain[name].dev)):
            assert list(found.examples) == list(expected.examples)
            np.testing.assert_array_equal(found.rows, expected.rows)
            np.testing.assert_array_equal(found.sequences[0].ids, expected.sequences[0].ids)


def test_several_tasks_of_a_table_are_split_in_one_read(table_folder: Path, monkeypatch: pytest.MonkeyPatch):
    reads = []
    real = splits.split_table
    monkeypatch.setattr(splits, "split_table", lambda *given, **more: reads.append(given[1]) or real(*given, **more))
    found = splits.read_splits(recipe(table_folder), TASKS)
    assert reads == ["reviews"]
    data = prepared(table_folder)
    assert {n: list(split.dev) for n, split in found.items()} == {n: list(one.dev.examples) for n, one in data.items()}
