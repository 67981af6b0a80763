"""Dev that is drawn from train: a class of which it has far too many rows, or none, is told with a better seed."""

from pathlib import Path

import pytest

from mtbert import dev_rows, splits
from mtbert.recipe.settings import Recipe, validate_recipe

SEE = "or name a dev file. (mtbert docs recipes/the-dev-split)"
DRAWN = ["9", "17", "21", "28", "35", "43"]  # of 60 rows that share no text, with the default seed
MANY = ["9", "17", "1", "2", "3", "4"]  # rows of a class of which two are drawn
SHOULD = "where 10% of each class should be there."


def recipe(folder: Path, **task: object) -> Recipe:
    settings = {"type": "classification", "inputs": "single", "train": "a.csv", **task}
    return validate_recipe({"data": {"root": str(folder)}, "tasks": {"topic": settings}}, "mine")


def write(folder: Path, classes: dict[str, list[str]], rows: int = 60, other: str = "a") -> None:
    label_of = {row: label for label, ids in classes.items() for row in ids}
    lines = [f"t{i},{label_of.get(str(i), other)}\n" for i in range(1, rows + 1)]
    (folder / "a.csv").write_text("text,label\n" + "".join(lines))


def split(folder: Path, **task: object) -> splits.TableSplit:
    return splits.split_table(recipe(folder, **task), "topic")


def dev_ids(found: splits.TableSplit) -> list[str]:
    return [example.id for example in found.dev.tasks["topic"].examples]


def test_classes_of_which_dev_has_too_many_rows_or_the_only_one_are_told_with_a_seed_that_draws_them_evenly(
    tmp_path: Path,
):
    write(tmp_path, {"b": MANY, "c": ["21"]})
    found = split(tmp_path)
    assert dev_ids(found) == DRAWN
    assert found.own_warnings["topic"] == (
        f"a.csv: the rows drawn as dev have 2 of 6 examples of 'b', 1 of 1 example of 'c', {SHOULD} "
        f"Set tasks.topic.dev_seed: 1, which draws them more evenly, {SEE}",
    )
    assert found.better_seed == 1
    mended = split(tmp_path, dev_seed=1)
    assert (mended.own_warnings["topic"], mended.better_seed) == ((), None)


def test_a_frequent_class_of_which_dev_has_no_row_is_told(tmp_path: Path):
    write(tmp_path, {"b": DRAWN}, other="a")
    (line,) = split(tmp_path).own_warnings["topic"]
    assert line.startswith(
        f"a.csv: the rows drawn as dev have 0 of 54 examples of 'a', 6 of 6 examples of 'b', {SHOULD}"
    )


def test_a_class_with_one_row_in_dev_or_few_in_all_is_not_told(tmp_path: Path):
    write(tmp_path, {"b": ["9", "1", "2"], "c": ["3"]})
    assert split(tmp_path).own_warnings["topic"] == ()


def test_labels_take_no_part_in_the_draw(tmp_path: Path):
    for label in ("9", "10"):
        write(tmp_path, {"b": [label]})
        assert dev_ids(split(tmp_path)) == DRAWN


def test_no_seed_is_named_if_none_is_better_or_if_there_are_too_many_rows_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path, {"b": MANY})
    monkeypatch.setattr(dev_rows, "MOST_TRIED", 59)
    found = split(tmp_path)
    assert found.own_warnings["topic"][0].endswith(f"{SHOULD} Try tasks.topic.dev_seed: 1, {SEE}")
    assert found.better_seed is None
    monkeypatch.undo()
    shared = "".join("the same,b\n" for _ in range(20))  # a group that is too large for dev
    (tmp_path / "a.csv").write_text("text,label\n" + shared + "".join(f"t{i},a\n" for i in range(60)))
    found = split(tmp_path)
    assert found.own_warnings["topic"] == (
        f"a.csv: the rows drawn as dev have 0 of 20 examples of 'b', {SHOULD} Add rows of these classes, {SEE}",
    )
    assert found.better_seed is None


def test_a_seed_is_named_that_leaves_a_task_rows_in_train_and_in_dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    task = {"type": "regression", "inputs": "single", "table": "films"}
    raw = {"data": {"root": str(tmp_path)}, "tables": {"films": {"train": "a.csv"}}, "tasks": {"near": task}}

    def refusal(*labelled: str) -> str:
        write(tmp_path, dict(zip("123", ([row] for row in labelled), strict=False)), other="")
        with pytest.raises(dev_rows.NoDevRow) as error:
            splits.split_table(validate_recipe(raw, "mine"), "films")
        return str(error.value)

    no_row = "a.csv: no row is left for dev of task near. Name a dev file"
    assert refusal("26", "10", "11") == f"{no_row}, or set tables.films.dev_seed: 1."
    assert refusal("1", "10", "11") == f"{no_row}, or set tables.films.dev_seed: 3."  # seeds 1 and 2 draw none either
    monkeypatch.setattr(dev_rows, "SEEDS_TRIED", 1)
    assert refusal("25", "26") == f"{no_row}."  # seed 1 draws both of them


def test_a_dev_file_and_scores_have_no_such_warning(tmp_path: Path):
    write(tmp_path, {"1": MANY}, other="0")
    assert split(tmp_path, dev="a.csv").own_warnings["topic"] == ()
    assert split(tmp_path, type="regression").own_warnings["topic"] == ()
    assert split(tmp_path, type="binary").better_seed == 1
