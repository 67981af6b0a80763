"""Reading recipes: extends, overrides and defaults, the folders that paths are relative to, and round trips."""

import json
import re
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import yaml
from recipe_files import ONE, refusal, write

from mtbert import yaml_text
from mtbert.recipe.files import dump_recipe, load_recipe, shipped_recipes
from mtbert.recipe.schema import recipe_schema
from mtbert.recipe.settings import Recipe, validate_recipe
from mtbert.studying import plan
from mtbert.yaml_files import merge

# Extends and merge -------------------------------------------------------------------------------


def test_merge_goes_key_by_key_and_replaces_all_but_mappings():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}, "f": 1}
    change = {"a": {"c": [3]}, "d": None, "g": {"h": 2}}
    assert merge(base, change) == {"a": {"b": 1, "c": [3]}, "d": None, "f": 1, "g": {"h": 2}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}, "f": 1}


def test_a_shipped_recipe_is_extended_by_name_and_changed_in_depth(tmp_path):
    base = load_recipe("base")
    mine = load_recipe(write(tmp_path, "extends: base\ntasks: {sst: {batch_size: 3}}\n"))
    assert mine.tasks["sst"] == base.tasks["sst"].model_copy(update={"batch_size": 3})
    assert mine.tasks["sts"] == base.tasks["sts"]


def test_a_path_in_extends_is_relative_to_its_own_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    write(tmp_path, ONE + "train: {epochs: 7}\n", "sub/parent.yaml")
    assert load_recipe(write(tmp_path, "extends: sub/parent.yaml\ntrain: {seed: 1}\n")).train.epochs == 7


def test_a_null_task_is_removed(tmp_path):
    path = write(tmp_path, "extends: base\ntasks: {sst: null}\n")
    assert list(load_recipe(path).tasks) == ["quora", "sts"]
    assert list(load_recipe(path, ["tasks.sts="]).tasks) == ["quora"]


def test_more_tasks_need_no_code(tmp_path):
    more = """
extends: demo
tasks:
  topic: {type: classification, inputs: single, train: topic.csv, labels: [sport, art, no]}
  nli: {type: classification, inputs: separate, train: nli.jsonl, columns: {text: [premise, hypothesis]}}
"""
    mine = load_recipe(write(tmp_path, more))
    assert list(mine.tasks) == ["sst", "quora", "sts", "topic", "nli"]
    assert mine.tasks["topic"].labels == ("sport", "art", "no")
    assert mine.tasks["nli"].columns.text == ("premise", "hypothesis")
    assert mine.aggregate("nli", {"nli": {"accuracy": 0.5, "macro_f1": 0.1}}) == 0.5


def test_a_loop_of_extends_is_refused(tmp_path):
    write(tmp_path, "extends: mine.yaml\n", "other.yaml")
    said = refusal(tmp_path, "extends: other.yaml\n")
    assert said == "recipe mine.yaml: extends itself through mine.yaml -> other.yaml -> mine.yaml."


def test_a_control_is_that_of_its_own_recipe_alone(tmp_path):
    assert load_recipe("paper/pal").control == "paper/base"
    assert load_recipe(write(tmp_path, "extends: paper/pal\n")).control is None
    assert load_recipe(write(tmp_path, "extends: paper/pal\ncontrol: paper/pal\n")).control == "paper/pal"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dmo", "Did you mean 'demo'?"),
        (
            "zzzzzz.yml",
            "Give a file, or a shipped recipe: base, best, cs224n, demo, paper/annealed, paper/base and 17 more "
            "(mtbert recipe list).",
        ),
    ],
)
def test_a_missing_recipe_is_named_with_those_that_exist(tmp_path, name, hint):
    missing = f"recipe {name}: no such file and no such shipped recipe. {hint}"
    assert refusal(tmp_path, f"extends: {name}", error=FileNotFoundError).startswith(missing)
    with pytest.raises(FileNotFoundError, match=re.escape(missing)):
        load_recipe(name)


def test_a_near_name_is_looked_for_among_files_and_shipped_recipes_alike(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, ONE, "abc.yaml")
    for asked, meant in (("ab.yml", "abc.yaml"), ("paper/pall", "paper/pal")):
        with pytest.raises(FileNotFoundError, match=re.escape(f" Did you mean '{meant}'?")):
            load_recipe(asked)


@pytest.mark.parametrize(
    ("asked", "there"),
    [("mine.yml", "mine.yaml"), ("mine.yaml", "mine.yml"), ("mine", "mine.yaml"), ("mine", "mine.yml")],
)
def test_a_wrong_suffix_is_reported_before_all_shipped_recipes(tmp_path, monkeypatch, asked, there):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, ONE, f"sub/{there}")
    for load_ in (load_recipe, plan.load_study):
        with pytest.raises(FileNotFoundError) as error:
            load_(f"sub/{asked}")
        assert str(error.value).endswith(
            f" sub/{asked}: no such file and no such shipped "
            f"{'recipe' if load_ is load_recipe else 'study'}. Did you mean 'sub/{there}'?"
        )


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a" * 5000, "a\x1b[2J\n", "\udcff", "x/" * 3000, "a\0b"])
def test_a_name_that_cannot_be_a_file_is_one_line(tmp_path, name):
    for beside in (None, tmp_path):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            load_recipe(name, beside=beside)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 1000


def test_a_chain_of_extends_has_an_end(tmp_path):
    for i in range(40):
        write(tmp_path, f"extends: {i + 1}.yaml\n", f"{i}.yaml")
    with pytest.raises(ValueError, match=r"recipe \S*/20\.yaml: the 20th that the one before extends\."):
        load_recipe(str(tmp_path / "0.yaml"))


# Overrides ---------------------------------------------------------------------------------------


def test_overrides_are_yaml_values_and_later_ones_win(tmp_path):
    path = write(tmp_path, ONE)
    given = ["train.lr=1e-5", "train.seed=8", "train.seed=9", "tasks.a.labels=[no, yes, on]", "train.rounds=[min, 7]"]
    mine = load_recipe(path, given)
    assert (mine.train.lr, mine.train.seed, mine.train.rounds) == (1e-5, 9, ("min", 7))
    assert mine.tasks["a"].labels == ("no", "yes", "on")


def test_an_override_may_hold_an_equals_sign(tmp_path):
    assert load_recipe(write(tmp_path, ONE), ["tasks.a.train=b=c.csv"]).tasks["a"].train.path == "b=c.csv"


@pytest.mark.parametrize("text", ["train.lr", "=1", "train..lr=1", ".lr=1"])
def test_an_override_of_another_form_is_refused(tmp_path, text):
    assert refusal(tmp_path, ONE, text) == f"changes=['{text}']: give a.b=value, as in changes=['train.lr=2e-5']."


def test_an_override_that_is_not_yaml_is_refused(tmp_path):
    said = refusal(tmp_path, ONE, "train.lr=[1")
    assert said.startswith("changes=['train.lr=[1'], line 1: not YAML: ")


def test_a_path_of_hundreds_of_keys_is_refused(tmp_path):
    said = refusal(tmp_path, ONE, f"{'a.' * 899}a=1")
    assert said.endswith(": a path of 900 keys, and no setting has one of more than 20.")


def test_an_override_is_shown_escaped_and_cut(tmp_path):
    said = refusal(tmp_path, ONE, "a\x1b\n" + "b" * 10**6)
    assert said.startswith(r"changes=['a\x1b\nbbb")
    assert len(said) < 200


# Folders -----------------------------------------------------------------------------------------


def test_a_relative_root_starts_from_the_file_that_sets_it_or_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    path = write(tmp_path, ONE + "data: {root: csv}\n")
    assert load_recipe(path).root() == tmp_path / "csv"
    assert load_recipe(path, ["data.root=here"]).root() == Path("/here")
    assert load_recipe(path, ["data.root=/abs"]).root() == Path("/abs")
    assert load_recipe(write(tmp_path, "extends: ../mine.yaml\n", "sub/child.yaml")).root() == tmp_path / "csv"
    assert load_recipe(write(tmp_path, "extends: ../mine.yaml\ndata: {root: x}\n", "sub/child.yaml")).root() == (
        tmp_path / "sub" / "x"
    )


def test_without_a_root_data_lie_beside_the_recipe_and_those_of_a_shipped_one_in_the_working_folder(
    tmp_path, monkeypatch
):
    monkeypatch.chdir("/usr")
    assert load_recipe(write(tmp_path, ONE)).root() == tmp_path
    assert load_recipe(write(tmp_path, "extends: mine.yaml\n", "child.yaml")).root() == tmp_path
    assert load_recipe(write(tmp_path, "extends: base\n", "sub/child.yaml")).root() == tmp_path / "sub"
    assert load_recipe("base").root() == Path("/usr")


def test_an_encoder_folder_beside_the_recipe_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "bert").mkdir()
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir("/")
    path = write(tmp_path, ONE + "model: {path: bert}\n")
    assert load_recipe(path).model.path == str(tmp_path / "bert")
    assert load_recipe(path, ["model.path=org/bert"]).model.path == "org/bert"
    monkeypatch.chdir(tmp_path)
    assert load_recipe(path, ["model.path=demo"]).model.path == "demo"  # a folder of that name is never used


@pytest.mark.parametrize("key", ["data.root", "model.path"])
def test_a_loop_of_links_is_named_with_its_key(tmp_path, monkeypatch, key):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    why = "cannot be found (its links form a loop). Give another path."
    name = write(tmp_path, ONE)
    with pytest.raises(ValueError, match=re.escape(f"recipe {name}, {key}: a: {why}")):
        load_recipe(name, [f"{key}=a"])
    part, setting = key.split(".")
    said = refusal(tmp_path, f"{part}: {{{setting}: a}}\n")
    assert said == f"recipe mine.yaml, {key}: a: {why}"


def test_an_encoder_whose_folder_is_not_utf8_comes_back_from_a_dump(tmp_path):
    (tmp_path / "\udcff").mkdir()
    recipe = load_recipe(write(tmp_path, ONE + r'model: {path: "\udcff"}'))
    assert recipe.model.path == str(tmp_path / "\udcff")
    assert load_recipe(write(tmp_path, dump_recipe(recipe))).model.path == recipe.model.path


# Round trips and shipped recipes -----------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_loads_and_comes_back_from_its_dump(name, tmp_path):
    recipe = load_recipe(name)
    assert load_recipe(write(tmp_path, dump_recipe(recipe))) == recipe


def test_words_that_look_like_values_survive_a_dump(tmp_path):
    labels = ["no", "yes", "1e5", "010", "0x1", "1_0", "~", "null", "True", "1:30", "", " a", "é: #", "2020-01-01"]
    recipe = validate_recipe(
        {
            "tasks": {"no": {"type": "ordinal", "inputs": "single", "train": "1e3", "labels": labels}},
            "train": {"lr": 1e-5},
        },
        "r",
    )
    again = load_recipe(write(tmp_path, dump_recipe(recipe)))
    assert again.tasks["no"].labels == tuple(labels)
    assert (again.tasks["no"].train.path, again.train.lr) == ("1e3", 1e-5)
    assert yaml.safe_load(dump_recipe(recipe))["tasks"]["no"]["labels"] == labels


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_fits_the_schema(name):
    raw = yaml_text.parse((Path(str(resources.files("mtbert"))) / "recipes" / f"{name}.yaml").read_text(), name)
    jsonschema.validate(raw, recipe_schema())


def test_the_schema_knows_short_forms_and_lets_a_file_be_partial():
    definitions, properties = recipe_schema()["$defs"], recipe_schema()["properties"]
    assert set(properties) == {"extends", *Recipe.model_fields}
    assert properties["tasks"]["additionalProperties"]["anyOf"] == [{"$ref": "#/$defs/TaskRecipe"}, {"type": "null"}]
    task = definitions["TaskRecipe"]["properties"]
    assert not {"name", "soft"} & set(task)
    assert {"enum": ["linear", "mlp", "cosine", "native"], "type": "string"} in task["head"]["anyOf"]
    assert {"type": "string"} in task["losses"]["items"]["anyOf"]
    assert {"type": "string"} in definitions["Source"]["anyOf"]
    assert {"type": "string"} in definitions["Columns"]["properties"]["text"]["anyOf"]
    assert '"required"' not in json.dumps(recipe_schema())


def test_changing_one_setting_of_a_head_keeps_its_kind():
    assert load_recipe("base").tasks["quora"].head.kind == "mlp"
    head = load_recipe("base", ["tasks.quora.head.dropout=0.25"]).tasks["quora"].head
    assert (head.kind, head.dropout) == ("mlp", 0.25)
    assert load_recipe("base", ["tasks.quora.head=linear"]).tasks["quora"].head.kind == "linear"


def test_changing_one_setting_of_a_technique_keeps_its_kind():
    changes = ["train.mode=alternate", "train.sampler=temperature", "train.sampler.temperature=3"]
    recipe = load_recipe("base", [*changes, "model.pal=low_rank", "model.pal.width=12"])
    assert (recipe.train.sampler.kind, recipe.train.sampler.temperature) == ("temperature", 3)
    assert (recipe.model.pal.kind, recipe.model.pal.width) == ("low_rank", 12)
    recipe = load_recipe("paper/surgery", ["train.aggregation={kind: torchjd, method: UPGrad}"])
    assert recipe.train.aggregation.kind == "torchjd"
