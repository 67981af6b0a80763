"""From a recipe to data sets: what is read, what is held out, and which places are named in messages."""

from pathlib import Path

import pytest
import recipe_files
from reading import message
from toy_run import encoder_folder

from mtbert import prepare, splits
from mtbert.data.tokenizer import load_tokenizer
from mtbert.recipe.settings import Recipe, validate_recipe


def recipe(folder: Path, **task: object) -> Recipe:
    settings = {"type": "classification", "inputs": "single", "train": "a.csv", **task}
    return validate_recipe({"data": {"root": str(folder)}, "tasks": {"topic": settings}}, "mine")


def write(folder: Path, name: str, texts: str) -> None:
    rows = [f"{text},{i % 2}\n" for i, text in enumerate(texts)]
    (folder / name).write_text("text,label\n" + "".join(rows))


def test_dev_is_drawn_from_all_files_of_train(tmp_path: Path):
    write(tmp_path, "a.csv", "abcdefgh")
    write(tmp_path, "b.csv", "ijklmnop")
    made = recipe(tmp_path, train=["a.csv", "b.csv"], dev_fraction=0.5)
    split = splits.read_split(made, "topic")
    train, dev = ({e.texts[0] for e in side} for side in (split.train, split.dev))
    assert (len(train), len(dev)) == (8, 8)
    assert train | dev == set("abcdefghijklmnop")
    assert all(side & set("abcdefgh") and side & set("ijklmnop") for side in (train, dev))


TOO_GOOD = (
    "which puts the same texts into train and dev, so scores on dev are too good. (mtbert docs recipes/the-dev-split)"
)


def test_a_split_that_cannot_be_made_names_the_file_and_the_setting_that_works(tmp_path: Path):
    write(tmp_path, "a.csv", "aaaa")
    said = message(ValueError, splits.read_split, recipe(tmp_path), "topic")
    assert said == (
        "a.csv: dev cannot be split off. Rows that share a text must stay together, and chains of shared texts link "
        f"all 4 rows. Name a dev file with other texts, or set tasks.topic.dev_split: rows, {TOO_GOOD}"
    )
    split = splits.read_split(recipe(tmp_path, dev_split="rows"), "topic")
    assert (len(split.train), len(split.dev)) == (3, 1)


def test_the_setting_of_a_table_is_named_by_its_table(tmp_path: Path):
    write(tmp_path, "a.csv", "aaaa")
    raw = recipe(tmp_path).model_dump(exclude_none=True)["data"]
    task = {"type": "classification", "inputs": "single", "table": "films"}
    made = validate_recipe({"data": raw, "tables": {"films": {"train": "a.csv"}}, "tasks": {"topic": task}}, "r")
    assert "set tables.films.dev_split: rows, which" in message(ValueError, splits.read_split, made, "topic")


def test_a_dev_split_that_is_far_too_small_is_told(tmp_path: Path):
    write(tmp_path, "a.csv", "a" * 36 + "bcde")
    (line,) = splits.split_table(recipe(tmp_path, dev_fraction=0.5), "topic").warnings
    assert line == (
        "a.csv: dev has 4 of 40 rows instead of 50%, because rows that share a text stay together. Name a dev file "
        f"with other texts, or set tasks.topic.dev_split: rows, {TOO_GOOD}"
    )
    assert splits.split_table(recipe(tmp_path), "topic").warnings == ()
    assert splits.split_table(recipe(tmp_path, dev_fraction=0.5, dev_split="rows"), "topic").warnings == ()


def test_every_file_has_a_digest_of_its_own(tmp_path: Path):
    for name in ("a.csv", "b.csv", "c.csv"):
        write(tmp_path, name, "ab")
    tokenizer = load_tokenizer(encoder_folder(tmp_path / "encoder"))
    made = recipe(tmp_path, train=["a.csv", "b.csv"], dev="c.csv", test="d.csv")
    assert list(prepare.prepare(made, tokenizer)["topic"].table.digests) == ["a.csv", "b.csv", "c.csv"]


def test_test_data_are_read_alone_and_with_the_classes_that_were_learnt(tmp_path: Path):
    write(tmp_path, "t.csv", "abc")
    tokenizer = load_tokenizer(encoder_folder(tmp_path / "encoder"))
    made = recipe(tmp_path, test="t.csv", labels=["1", "0"])
    data, warnings = prepare.read_test(made, [made.tasks["topic"].task], tokenizer)
    assert [(e.texts[0], e.label) for e in data["topic"].examples] == [("a", 1.0), ("b", 0.0), ("c", 1.0)]
    assert warnings == ()
    said = message(ValueError, prepare.read_test, recipe(tmp_path), [made.tasks["topic"].task], tokenizer)
    assert said == "task topic: the recipe names no test data. Score a labelled file instead."
    gone = recipe(tmp_path, test="u.csv")
    said = message(FileNotFoundError, prepare.read_test, gone, [made.tasks["topic"].task], tokenizer)
    assert said.startswith(
        "u.csv: there is no such file. Did you mean 't.csv'? Relative paths start from data.root, here"
    )


@pytest.mark.parametrize(
    ("sources", "other"),
    [
        ("train: a.csv, test: a.csv", "train"),
        ("train: [b.csv, a.csv], test: a.csv", "train"),
        ("train: b.csv, dev: {path: a.csv}, test: [a.csv, c.csv]", "dev"),
        ("train: a.csv, test: {path: a.csv, where: {part: test}}", "train"),
        ("train: {hub: x, split: train}, test: {hub: x, split: train}", "train"),
    ],
)
def test_test_data_that_are_trained_or_tuned_on_are_refused(tmp_path: Path, sources: str, other: str):
    said = recipe_files.refusal(tmp_path, "tasks: {a: {type: binary, inputs: single, " + sources + "}}")
    assert f"tasks.a: test and {other} are the same data, so test would tell nothing." in said


def test_a_part_of_a_file_may_be_test(tmp_path: Path):
    one = {"path": "a.csv", "where": {"split": "train"}}
    assert recipe(tmp_path, train=one, test=one | {"where": {"split": "test"}}).tasks["topic"].test is not None


def test_codes_of_classes_come_from_yaml_and_back(tmp_path: Path):
    from mtbert.recipe.files import dump_recipe, load_recipe

    (tmp_path / "mine.yaml").write_text(
        'tasks: {a: {type: binary, inputs: single, train: a.csv, labels: {"0": bad, "1": good}}}\n'
    )
    made = load_recipe(str(tmp_path / "mine.yaml"))
    assert (made.tasks["a"].labels, made.tasks["a"].codes) == (("bad", "good"), ("0", "1"))
    (tmp_path / "again.yaml").write_text(dump_recipe(made))
    assert load_recipe(str(tmp_path / "again.yaml")) == made
    changed = load_recipe(str(tmp_path / "mine.yaml"), ['tasks.a.labels={"1": fine}'])
    assert (changed.tasks["a"].labels, changed.tasks["a"].codes) == (("bad", "fine"), ("0", "1"))


def test_a_folder_whose_name_is_not_utf_8_is_refused():
    with pytest.raises(ValueError, match=r"recipe mine, data\.root: the name must be UTF-8 text, found 'a\\udcff'\."):
        recipe(Path("a\udcff"))
