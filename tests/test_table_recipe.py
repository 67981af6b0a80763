"""Tables in a recipe: the settings, the mistakes that are refused, and the parts that are written and hashed."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import toy_run
import toy_table
import yaml

from mtbert.recipe.files import dump_recipe, load_recipe, with_absolute_files
from mtbert.recipe.identity import identity, shortened
from mtbert.recipe.schema import recipe_schema
from mtbert.recipe.settings import Recipe, as_plain, validate_recipe
from mtbert.studying.plan import make_plan
from mtbert.studying.settings import RowSettings, StudySettings
from mtbert.studying.tunable import Tuning
from mtbert.use.trained import recipe_of
from mtbert.yaml_files import merge

RAW = toy_table.raw_table_recipe(Path("/nowhere"))
OWN = {"type": "binary", "inputs": "single", "train": "own.csv"}


def read(change: dict[str, Any] | None = None) -> Recipe:
    return validate_recipe(merge(RAW, change or {}), "r")


def refusal(change: dict[str, Any]) -> list[str]:
    with pytest.raises(ValueError, match=r"^recipe r, ") as caught:
        read(change)
    return [line.removeprefix("recipe r, ") for line in str(caught.value).splitlines()]


def test_a_task_has_the_settings_of_its_table():
    recipe = read(
        {"tables": {"reviews": {"dev_seed": 3, "test": "t.csv", "no_duplicates": True}}, "tasks": {"own": OWN}}
    )
    for name in ("stars", "spam", "topics"):
        task = recipe.tasks[name]
        assert (task.table, task.source_name) == ("reviews", "reviews")
        assert (task.train.path, task.test and task.test.path, task.dev) == ("reviews.csv", "t.csv", None)
        assert (task.dev_fraction, task.dev_seed, task.batch_size, task.no_duplicates) == (0.2, 3, 8, True)
        assert task.columns.id == "key"
    assert recipe.tasks["stars"].columns.text == ("body",)
    assert recipe.tasks["topics"].columns.text == ("title", "body")
    assert recipe.tasks["topics"].labels == recipe.tasks["topics"].columns.label == ("film", "pet")
    assert recipe.tasks["own"].source_name == "own"
    assert {name: [t.name for t in tasks] for name, tasks in recipe.tasks_by_table().items()} == {
        "reviews": ["stars", "spam", "topics"],
        "own": ["own"],
    }


@pytest.mark.parametrize(("name", "found"), [({"a": 1}, "{'a': 1}"), (["reviews"], "('reviews',)"), (5, "5")])
def test_what_cannot_be_a_tables_name_is_refused(name: Any, found: str):
    said = f"tasks.stars.table: must be the name of a table, found {found}. Known: reviews."
    assert refusal({"tasks": {"stars": {"table": name}}}) == [said]


def test_label_is_short_for_the_column_of_labels_in_every_task():
    assert read({"tasks": {"own": OWN | {"label": "mood"}}}).tasks["own"].columns.label == "mood"
    twice = {"label": "mood", "columns": {"label": "mood"}}
    said = refusal({"tasks": {"own": OWN | twice}})
    assert said == ["tasks.own: label is short for columns.label, which the task has too. Drop one of them."]


def test_a_later_label_replaces_the_long_or_short_one_before(tmp_path: Path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(RAW, sort_keys=False))
    (tmp_path / "next.yaml").write_text(
        "extends: base.yaml\ntasks: {stars: {columns: {label: a}}, topics: {label: [b, c]}}"
    )
    recipe = load_recipe(str(tmp_path / "next.yaml"), ["tasks.spam.label=d", "tables.reviews.batch_size=5"])
    assert [task.columns.label for task in recipe.tasks.values()] == ["a", "d", ("b", "c")]
    assert recipe.tasks["topics"].columns.text == ("title", "body")
    assert {task.batch_size for task in recipe.tasks.values()} == {5}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tables": {"more": {"train": "m.csv"}}}, "tables.more: no task reads it. Write table: more in a task"),
        (
            {"tasks": {"spam": {"table": "review"}}},
            "tasks.spam.table: there is no table 'review'. Did you mean 'reviews'?",
        ),
        ({"tasks": {"spam": {"table": 3}}}, "tasks.spam.table: must be the name of a table, found 3. Known: reviews."),
        (
            {"tasks": {"spam": {"batch_size": 4}}},
            "tasks.spam.batch_size: belongs to the table, not to a task that reads it. "
            "Move it to tables.reviews.batch_size.",
        ),
        ({"tasks": {"spam": {"train": "s.csv"}}}, "tasks.spam.train: belongs to the table"),
        ({"tasks": {"spam": {"dev_seed": 1}}}, "tasks.spam.dev_seed: belongs to the table"),
        (
            {"tasks": {"spam": {"columns": {"id": "key"}}}},
            "tasks.spam.columns.id: belongs to the table, not to a task that reads it. Move it to tables.reviews",
        ),
        ({"tables": {"a b": {"train": "x.csv"}}}, "tables.a b: must consist of letters, digits, - and _, found"),
        ({"tables": {"reviews": {"trian": "r.csv"}}}, "tables.reviews: unknown key 'trian'. Did you mean 'train'?"),
        ({"tables": {"reviews": {"columns": {"label": "x"}}}}, "tables.reviews.columns: unknown key 'label'."),
        ({"tables": {"reviews": {"columns": {"text": ["a", "a"]}}}}, "tables.reviews.columns.text: text must name one"),
        ({"tables": {"reviews": {"test": "reviews.csv"}}}, "tables.reviews: test and train are the same data"),
        ({"tables": {"reviews": {"train": None}}}, "tables.reviews.train: must be"),
        (
            {"tables": {"own": {"train": "x.csv"}}, "tasks": {"own": OWN, "spam": {"table": "own"}}},
            "tables.own: a task of",
        ),
        (
            {"tasks": {"stars": {"inputs": "packed"}}},
            "tasks.stars: inputs 'packed' takes 2 text columns, found 'body'.",
        ),
    ],
)
def test_mistakes_about_tables_are_one_line_each(change: dict[str, Any], said: str):
    (line,) = refusal(change)
    assert line.startswith(said)


def test_several_tasks_with_a_wrong_table_are_named_together():
    wrong = {"tasks": {"spam": {"table": "review"}, "stars": {"dev": "d.csv"}}}
    assert [line.partition(":")[0] for line in refusal(wrong)] == ["tasks.stars.dev", "tasks.spam.table"]


def test_without_its_train_a_table_is_said_to_need_it_once():
    raw = copy.deepcopy(RAW)
    del raw["tables"]["reviews"]["train"]
    with pytest.raises(ValueError, match=re.escape("recipe r, tables.reviews.train: must be given.")) as caught:
        validate_recipe(raw, "r")
    assert "\n" not in str(caught.value)


def test_a_recipe_writes_the_settings_of_a_table_once_and_is_read_again():
    recipe = read({"tasks": {"own": OWN}})
    raw = as_plain(recipe)
    assert raw["tables"]["reviews"]["batch_size"] == 8
    assert set(raw["tasks"]["stars"]) & {"train", "dev", "test", "dev_seed", "batch_size", "no_duplicates"} == set()
    columns = raw["tasks"]["stars"]["columns"]
    assert ("text" in columns, columns["label"], "id" in columns) == (False, "stars", False)
    assert raw["tasks"]["topics"]["columns"]["text"] == ["title", "body"]
    assert raw["tasks"]["stars"]["table"] == "reviews"
    assert "table" not in raw["tasks"]["own"]
    assert validate_recipe(yaml.safe_load(dump_recipe(recipe)), "r") == recipe


def test_the_recipe_of_a_run_reads_other_columns_of_a_table_in_each_task_that_names_none(tmp_path: Path):
    recipe = read({"tasks": {"own": OWN}})
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    older = as_plain(recipe)  # earlier versions wrote the columns of the table into each of its tasks
    for name in ("stars", "spam"):
        older["tasks"][name]["columns"]["text"] = ["body"]
    (tmp_path / "old").mkdir()
    (tmp_path / "old/recipe.yaml").write_text(yaml.safe_dump(older))
    for run in (tmp_path, tmp_path / "old"):
        assert recipe_of(run, ()) == load_recipe(str(run / "recipe.yaml")) == recipe
        changed = recipe_of(run, ["tables.reviews.columns.text=review"]).tasks
        assert {name: task.columns.text for name, task in changed.items()} == {
            "stars": ("review",),
            "spam": ("review",),
            "topics": ("title", "body"),
            "own": ("text",),
        }
        of_one = recipe_of(run, ["tasks.stars.columns.text=review"]).tasks
        assert (of_one["stars"].columns.text, of_one["spam"].columns.text) == (("review",), ("body",))


def test_a_recipe_in_short_form_is_the_same_recipe_also_where_a_task_has_the_default_column():
    recipe = read({"tasks": {"spam": {"columns": {"text": "text"}}}})
    short = shortened(recipe)
    assert short["tasks"]["spam"]["columns"] == {"text": ["text"], "label": "spam"}
    assert short["tasks"]["stars"]["columns"] == {"label": "stars"}
    assert validate_recipe(short, "r") == recipe


def test_a_recipe_without_tables_is_written_without_them():
    raw = as_plain(validate_recipe(toy_run.raw_recipe(Path("/nowhere")), "toy"))
    assert "tables" not in raw
    assert "table" not in raw["tasks"]["sst"]


def test_every_setting_of_a_table_and_its_tasks_changes_the_identity_of_a_run():
    changes: list[dict[str, Any]] = [
        {},
        {"tables": {"reviews": {"batch_size": 9}}},
        {"tables": {"reviews": {"train": "other.csv"}}},
        {"tables": {"reviews": {"columns": {"id": None}}}},
        {"tasks": {"stars": {"label": "spam"}}},
        {"tasks": {"stars": {"columns": {"text": "title"}}}},
        {"tasks": {"stars": {"weight": 2.0}}},
    ]
    assert len({identity(read(change)) for change in changes}) == len(changes)
    assert identity(read({"tables": {"reviews": {"no_duplicates": False}}})) == identity(read())


def test_null_removes_a_table_with_its_tasks():
    without = {"tables": {"reviews": None}, "tasks": {"stars": None, "spam": None, "topics": None, "own": OWN}}
    assert list(read(without).tasks) == ["own"]
    assert refusal({"tables": {"reviews": None}})[0] == (
        "tasks.stars.table: the recipe has no tables, so there is no 'reviews'. "
        "Write train: FILE in place of table, or add tables: {NAME: {train: FILE}}."
    )


def test_the_schema_has_tables_and_the_short_label():
    schema = recipe_schema()
    (table,) = schema["properties"]["tables"]["patternProperties"].values()
    assert table == {"anyOf": [{"$ref": "#/$defs/TableRecipe"}, {"type": "null"}]}
    assert "label" in schema["$defs"]["TaskRecipe"]["properties"]
    assert set(schema["$defs"]["TableColumns"]["properties"]) == {"text", "id"}


def test_a_sampler_needs_two_tables_and_surgery_two_tasks():
    sampler = {"train": {"mode": "alternate", "sampler": {"kind": "square_root"}}}
    assert refusal(sampler) == ["train.sampler is about several tables, found one. Drop it."]
    read(merge(sampler, {"tasks": {"own": OWN}}))
    read({"train": {"aggregation": {"kind": "pcgrad"}}})


def plan(tmp_path: Path, *changes: str) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(RAW, sort_keys=False))
    rows = {"a": RowSettings(recipe="r.yaml"), "b": RowSettings(recipe="r.yaml", set=changes)}
    make_plan(StudySettings(rows=rows), "s", tmp_path)


def test_rows_of_a_study_must_draw_the_same_dev_from_a_table(tmp_path: Path):
    plan(tmp_path, "tasks.spam=null", "tasks.stars.weight=2")
    plan(tmp_path, "tables.reviews.batch_size=3")
    for change in ("tables.reviews.dev_seed=1", "tables.reviews.train=other.csv"):
        with pytest.raises(ValueError, match=r"^study s, rows\.b: task stars has other dev examples than in row a"):
            plan(tmp_path, change)
    with pytest.raises(ValueError, match=r"task stars has other dev examples"):
        plan(tmp_path, "tasks.topics=null")  # its titles no longer tie rows together


def test_a_trial_of_a_tuning_takes_dev_from_the_train_rows_of_a_table(tmp_path: Path):
    raw = merge(RAW, {"tables": {"reviews": {"dev": "dev.csv"}}, "tune": {"tables.reviews.batch_size": [2, 3]}})
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(raw))
    trial = Tuning(str(tmp_path / "r.yaml"), (), False, tmp_path / "tuned").trial({"tables.reviews.batch_size": 3})
    assert trial.tables["reviews"].dev is None
    assert {(task.dev, task.batch_size) for task in trial.tasks.values()} == {(None, 3)}
    assert validate_recipe(as_plain(trial), "r") == trial
    del raw["tables"]["reviews"]["dev"]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match=r"r\.yaml, tables\.reviews: has no dev file, so its dev is the part of train"):
        Tuning(str(tmp_path / "r.yaml"), (), False, tmp_path / "tuned").trial({})


def test_files_of_tables_become_absolute_also_in_the_tasks_that_read_them():
    found = with_absolute_files(read({"tables": {"reviews": {"test": "t.csv"}}}), {"reviews": {"train": "kept"}})
    for holder in (found.tables["reviews"], *found.tasks.values()):
        assert (holder.train.path, holder.test and holder.test.path) == ("reviews.csv", "/nowhere/data/t.csv")
    assert validate_recipe(as_plain(found), "r") == found


def test_a_digest_has_the_settings_of_a_table_once(monkeypatch: pytest.MonkeyPatch):
    hashed: list[dict[str, Any]] = []
    monkeypatch.setattr("mtbert.recipe.identity._sha256", hashed.append)
    identity(read())
    assert hashed[0]["tables"]["reviews"]["batch_size"] == 8
    assert set(hashed[0]["tasks"]["stars"]) == {"name", "type", "inputs", "columns", "losses", "metric", "table"}
