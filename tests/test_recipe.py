"""Reading of recipes: what extends, overrides and defaults give, and the line that each mistake gives."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mtbert import recipe as recipes
from mtbert.losses.ordinal import OrdinalLogLoss
from mtbert.recipe import Recipe, dump, load, merge, schema, shipped, validate

ONE = "tasks: {a: {type: ordinal, inputs: single, train: a.csv}}\n"
PAIR = {"type": "binary", "inputs": "separate", "train": "p.csv", "columns": {"text": ["s", "t"]}}


def write(folder: Path, content: str | bytes, name: str = "mine.yaml") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def task(**settings: Any) -> recipes.TaskRecipe:
    return validate({"tasks": {"t": settings}}, "r").tasks["t"]


def refusal(folder: Path, content: str | bytes, *overrides: str, error: type[Exception] = ValueError) -> str:
    """The message without the folder, which the file's path begins with."""
    with pytest.raises(error) as caught:
        load(write(folder, content), overrides)
    return str(caught.value).replace(f"{folder}/", "")


# Extends and merge -------------------------------------------------------------------------------


def test_merge_goes_key_by_key_and_replaces_all_but_mappings():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}, "f": 1}
    change = {"a": {"c": [3]}, "d": None, "g": {"h": 2}}
    assert merge(base, change) == {"a": {"b": 1, "c": [3]}, "d": None, "f": 1, "g": {"h": 2}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}, "f": 1}


def test_a_shipped_recipe_is_extended_by_name_and_changed_in_depth(tmp_path):
    base = load("base")
    mine = load(write(tmp_path, "extends: base\ntasks: {sst: {batch_size: 3}}\n"))
    assert mine.tasks["sst"] == base.tasks["sst"].model_copy(update={"batch_size": 3})
    assert mine.tasks["sts"] == base.tasks["sts"]


def test_a_path_in_extends_is_relative_to_its_own_file(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    write(tmp_path, ONE + "train: {epochs: 7}\n", "sub/parent.yaml")
    assert load(write(tmp_path, "extends: sub/parent.yaml\ntrain: {seed: 1}\n")).train.epochs == 7


def test_a_null_task_is_removed(tmp_path):
    path = write(tmp_path, "extends: base\ntasks: {sst: null}\n")
    assert list(load(path).tasks) == ["quora", "sts"]
    assert list(load(path, ["tasks.sts="]).tasks) == ["quora"]


def test_more_tasks_need_no_code(tmp_path):
    more = """
extends: demo
tasks:
  topic: {type: classification, inputs: single, train: topic.csv, labels: [sport, art, no]}
  nli: {type: classification, inputs: separate, train: nli.jsonl, columns: {text: [premise, hypothesis]}}
"""
    mine = load(write(tmp_path, more))
    assert list(mine.tasks) == ["sst", "quora", "sts", "topic", "nli"]
    assert mine.tasks["topic"].labels == ("sport", "art", "no")
    assert mine.tasks["nli"].columns.text == ("premise", "hypothesis")
    assert mine.aggregate("nli", {"nli": {"accuracy": 0.5, "macro_f1": 0.1}}) == 0.5


def test_a_loop_of_extends_is_refused(tmp_path):
    write(tmp_path, "extends: mine.yaml\n", "other.yaml")
    said = refusal(tmp_path, "extends: other.yaml\n")
    assert said == "recipe mine.yaml: extends itself through mine.yaml -> other.yaml -> mine.yaml."


@pytest.mark.parametrize(
    ("name", "hint"),
    [("dmo", "Did you mean 'demo'?"), ("mine.yml", "Give a file, or one of: base, ")],
)
def test_a_recipe_that_is_not_there_is_named_with_what_is(tmp_path, name, hint):
    missing = f"recipe {name}: no such file and no such shipped recipe. {hint}"
    assert refusal(tmp_path, f"extends: {name}", error=FileNotFoundError).startswith(missing)
    with pytest.raises(FileNotFoundError, match=re.escape(missing)):
        load(name)


# Overrides ---------------------------------------------------------------------------------------


def test_overrides_are_yaml_values_and_later_ones_win(tmp_path):
    path = write(tmp_path, ONE)
    given = ["train.lr=1e-5", "train.seed=8", "train.seed=9", "tasks.a.labels=[no, yes, on]", "train.rounds=paper"]
    mine = load(path, given)
    assert (mine.train.lr, mine.train.seed, mine.train.rounds) == (1e-5, 9, "paper")
    assert mine.tasks["a"].labels == ("no", "yes", "on")


def test_an_override_may_hold_an_equals_sign(tmp_path):
    assert load(write(tmp_path, ONE), ["tasks.a.train=b=c.csv"]).tasks["a"].train.path == "b=c.csv"


@pytest.mark.parametrize("text", ["train.lr", "=1", "train..lr=1", ".lr=1"])
def test_an_override_of_another_form_is_refused(tmp_path, text):
    assert refusal(tmp_path, ONE, text) == f"--set {text}: give a.b=value, as in --set train.lr=2e-5."


def test_an_override_that_is_no_yaml_is_refused(tmp_path):
    said = refusal(tmp_path, ONE, "train.lr=[1")
    assert said.startswith("--set train.lr=[1, line 1: not YAML: ")


# YAML --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("2E4", 2e4),
        (".5", 0.5),
        ("-3", -3),
        ("010", 10),
        ("08", 8),
        ("no", "no"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("true", True),
        ("~", None),
        ("", None),
        ("-.inf", float("-inf")),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(text, value):
    found = recipes._parse(f"a: {text}", "r")["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "tasks:\n  a: 1\n  b: 2\n  a: 3\n",
            "recipe mine.yaml, line 4: not YAML: key 'a' stands twice. Mend the line.",
        ),
        ("tasks:\n\ta: 1\n", "recipe mine.yaml, line 2: not YAML: found character '\\t'"),
        ("a: !!python/name:os.system {}\n", "recipe mine.yaml, line 1: not YAML: could not determine a constructor"),
        ("a: &x [*x]\n", "recipe mine.yaml: not YAML: more than 100000 values, or one that holds itself."),
        ("a: \x01\n", "recipe mine.yaml: not YAML: unacceptable character #x0001"),
        (b"# \xe9\n", "recipe mine.yaml: not UTF-8 at byte 2. Save the file as UTF-8."),
        ("- a\n", "recipe mine.yaml: a recipe is a mapping with the key 'tasks', found list."),
        ("", "recipe mine.yaml: a recipe is a mapping with the key 'tasks', found NoneType."),
        ("extends: [base]\n", "recipe mine.yaml, extends: a name or a path, found ['base']."),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content, said):
    assert refusal(tmp_path, content).startswith(said)


# Folders -----------------------------------------------------------------------------------------


def test_a_relative_root_starts_from_the_file_that_says_it_or_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    path = write(tmp_path, ONE + "data: {root: csv}\n")
    assert load(path).root() == tmp_path / "csv"
    assert load(path, ["data.root=here"]).root() == Path("/here")
    assert load(path, ["data.root=/abs"]).root() == Path("/abs")
    assert load(write(tmp_path, "extends: ../mine.yaml\n", "sub/child.yaml")).root() == tmp_path / "csv"
    assert load(write(tmp_path, "extends: ../mine.yaml\ndata: {root: x}\n", "sub/child.yaml")).root() == (
        tmp_path / "sub" / "x"
    )


def test_without_a_root_data_lie_beside_the_recipe_and_those_of_a_shipped_one_in_the_working_folder(
    tmp_path, monkeypatch
):
    monkeypatch.chdir("/usr")
    assert load(write(tmp_path, ONE)).root() == tmp_path
    assert load(write(tmp_path, "extends: mine.yaml\n", "child.yaml")).root() == tmp_path
    assert load(write(tmp_path, "extends: base\n", "sub/child.yaml")).root() == tmp_path / "sub"
    assert load("base").root() == Path("/usr")


def test_an_encoder_folder_beside_the_recipe_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "bert").mkdir()
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir("/")
    path = write(tmp_path, ONE + "model: {path: bert}\n")
    assert load(path).model.path == str(tmp_path / "bert")
    assert load(path, ["model.path=org/bert"]).model.path == "org/bert"
    monkeypatch.chdir(tmp_path)
    assert load(path, ["model.path=demo"]).model.path == "demo"  # never a folder of that name


# Round trips and shipped recipes -----------------------------------------------------------------


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_loads_and_comes_back_from_its_dump(name, tmp_path):
    recipe = load(name)
    assert load(write(tmp_path, dump(recipe))) == recipe


def test_words_that_look_like_values_survive_a_dump(tmp_path):
    labels = ["no", "yes", "1e5", "010", "0x1", "1_0", "~", "null", "True", "1:30", "", " a", "é: #", "2020-01-01"]
    recipe = validate(
        {
            "tasks": {"no": {"type": "ordinal", "inputs": "single", "train": "1e3", "labels": labels}},
            "train": {"lr": 1e-5},
        },
        "r",
    )
    again = load(write(tmp_path, dump(recipe)))
    assert again.tasks["no"].labels == tuple(labels)
    assert (again.tasks["no"].train.path, again.train.lr) == ("1e3", 1e-5)
    assert yaml.safe_load(dump(recipe))["tasks"]["no"]["labels"] == labels


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_fits_the_schema(name):
    raw = recipes._parse((Path(recipes.__file__).parent / "recipes" / f"{name}.yaml").read_text(), name)
    jsonschema.validate(raw, schema())


def test_the_schema_knows_short_forms_and_lets_a_file_be_partial():
    definitions, properties = schema()["$defs"], schema()["properties"]
    assert set(properties) == {"extends", *Recipe.model_fields}
    assert properties["tasks"]["additionalProperties"]["anyOf"] == [{"$ref": "#/$defs/TaskRecipe"}, {"type": "null"}]
    task = definitions["TaskRecipe"]["properties"]
    assert "name" not in task
    assert {"enum": ["linear", "mlp", "cosine"], "type": "string"} in task["head"]["anyOf"]
    assert {"type": "string"} in task["losses"]["items"]["anyOf"]
    assert {"type": "string"} in definitions["Source"]["anyOf"]
    assert {"type": "string"} in definitions["Columns"]["properties"]["text"]["anyOf"]
    assert '"required"' not in json.dumps(schema())


# Keys and values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trian.lr=1", "unknown key 'trian'. Did you mean 'train'?"),
        ("train.epoch=1", "train: unknown key 'epoch'. Did you mean 'epochs'?"),
        ("tasks.a.bach_size=1", "tasks.a: unknown key 'bach_size'. Did you mean 'batch_size'?"),
        ("tasks.a.losses=[{kind: oll, alhpa: 1}]", "tasks.a.losses.0: unknown key 'alhpa'. Did you mean 'alpha'?"),
        ("tasks.a.head.kind=linaer", "tasks.a.head.kind: must be 'linear', 'mlp' or 'cosine', found \"linaer\"."),
        ("tasks.a.head=linaer", "tasks.a.head.kind: must be 'linear', 'mlp' or 'cosine', found \"linaer\"."),
        (
            "tasks.a.losses=[cee]",
            "tasks.a.losses.0: must be one of 'bregman', 'bce', 'ce', 'cosent', 'oll', 'mnrl', 'rdrop', 'mse', "
            "'simcse', 'simcse-unsup', 'smart', found {\"kind\": \"cee\"}.",
        ),
        ("tasks.a.losses=[{weight: 2}]", 'tasks.a.losses.0: must have a kind, found {"weight": 2}.'),
        ("tasks.a.losses=ce", 'tasks.a.losses: must be a list, found "ce".'),
        ("tasks.a.type=", "tasks.a.type: must be 'classification', 'ordinal', 'binary' or 'regression', found null."),
        ("tasks.a.labels=[0, b]", "tasks.a.labels.0: must be text; quote what looks like a number, found 0."),
        ("tasks.b={type: ordinal, inputs: single}", "tasks.b.train: must be given."),
        ("tasks.a b=3", "tasks.a b: must be a mapping, found 3."),
        ("tasks=[a]", 'tasks: must be a mapping, found ["a"].'),
        ("tasks.a=", "tasks: must not be empty, found {}."),
        ("train.lr=no", 'train.lr: must be a valid number, found "no".'),
        ("train.lr=-1", "train.lr: must be greater than 0, found -1."),
        ("train.lr=.inf", "train.lr: must be a finite number, found Infinity."),
        ("train.epochs=2.5", "train.epochs: must be a valid integer, found 2.5."),
        ("train.rounds=papr", "train.rounds: must be 'min', 'max' or 'paper' or a valid integer, found \"papr\"."),
        ("train.select=b", "train.select: 'b' is neither an aggregate nor a task. Use overall, mean, a."),
        ("data.root=3", "data.root: must be text; quote what looks like a number, found 3."),
        ("data=3", "data: must be a mapping, found 3."),
        ("model.dropout=1", "model.dropout: must be less than 1, found 1."),
    ],
)
def test_a_wrong_key_or_value_is_one_line_with_its_path(tmp_path, override, said):
    assert refusal(tmp_path, ONE, override) == f"recipe {tmp_path}/mine.yaml, {said}".replace(f"{tmp_path}/", "")


def test_each_mistake_has_its_line(tmp_path):
    said = refusal(tmp_path, ONE, "train.lr=x", "train.seed=-1", "tasks.a.inputs=two").splitlines()
    assert [line.split(":")[0] for line in said] == [
        f"recipe mine.yaml, {where}" for where in ("tasks.a.inputs", "train.lr", "train.seed")
    ]


def test_a_long_value_is_cut(tmp_path):
    said = refusal(tmp_path, ONE, f"train.lr={'x' * 200}")
    assert said.endswith('found "' + "x" * 76 + "....")


@pytest.mark.parametrize("name", ["overall", "mean"])
def test_a_task_cannot_have_an_aggregates_name(tmp_path, name):
    said = refusal(tmp_path, ONE.replace("a:", f"{name}:", 1))
    assert said == f"recipe mine.yaml, a task cannot be called '{name}': that is the name of an aggregate. Rename it."


# Losses, metrics, columns ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "kind", "metric"),
    [
        ({"type": "classification"}, "ce", "accuracy"),
        ({"type": "ordinal"}, "ce", "accuracy"),
        ({"type": "binary"}, "bce", "accuracy"),
        ({"type": "regression"}, "mse", "pearson"),
        ({"type": "binary", "head": "cosine"}, "mse", "accuracy"),
        ({"type": "regression", "head": "cosine"}, "mse", "pearson"),
    ],
)
def test_the_default_loss_and_metric_follow_from_type_and_head(settings, kind, metric):
    found = task(**PAIR | settings)
    assert ([loss.kind for loss in found.losses], found.metric) == ([kind], metric)


def test_a_loss_by_name_equals_a_loss_by_mapping():
    ordinal = {"type": "ordinal", "inputs": "single", "train": "a.csv"}
    by_name = task(**ordinal, losses=["ce", "oll"])
    assert by_name == task(**ordinal, losses=[{"kind": "ce"}, {"kind": "oll", "alpha": 1.5, "weight": 1}])
    assert by_name.losses[1] == OrdinalLogLoss(alpha=1.5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"type": "classification", "losses": ["oll"]}, "loss 'oll' needs an order of the classes, which type"),
        (
            {"type": "ordinal", "losses": ["ce", "bce"]},
            "which type 'ordinal' with head 'linear' does not give. Use ce,",
        ),
        (
            {"type": "ordinal", "losses": ["mse"]},
            "loss 'mse' needs a score or a cosine, which type 'ordinal' with head 'linear' does not give.",
        ),
        (
            {"type": "regression", "losses": ["bce"]},
            "loss 'bce' needs one logit for two classes, which type 'regression'",
        ),
        ({"type": "regression", "losses": ["ce"], "head": "cosine"}, "which type 'regression' with head 'cosine'"),
        ({"head": "cosine", "losses": ["bce"]}, "with head 'cosine' does not give. Use mse, or"),
        ({"losses": ["bce", {"kind": "bce", "weight": 2}]}, "loss 'bce' stands 2 times. Name it once, with a weight."),
        ({"metric": "pearson"}, "metric 'pearson' does not fit type 'binary'. Use accuracy or macro_f1."),
        ({"type": "regression", "metric": "accuracy"}, "does not fit type 'regression'. Use pearson or spearman."),
        ({"columns": {"text": "s"}}, "inputs 'separate' takes 2 text column(s), found ['s']. Name as many in"),
        ({"inputs": "single"}, "inputs 'single' takes 1 text column(s), found ['s', 't']."),
        ({"head": "cosine", "inputs": "packed"}, "inputs must be 'separate', found 'packed'."),
    ],
)
def test_what_does_not_fit_the_type_is_refused(settings, said):
    with pytest.raises(ValueError, match=rf"^recipe r, tasks\.t: .*{re.escape(said)}"):
        task(**PAIR | settings)


def test_the_model_keeps_only_the_task():
    settings = task(**PAIR | {"weight": 2.0, "pooling": "mean"})
    assert settings.task.model_dump() == {
        "name": "t",
        "type": "binary",
        "inputs": "separate",
        "head": {"kind": "linear", "features": "concat_diff", "hidden": None, "dropout": 0.3},
        "pooling": "mean",
        "segments": True,
        "labels": None,
        "range": None,
    }


def test_changing_one_setting_of_a_head_keeps_its_kind():
    assert load("base").tasks["quora"].head.kind == "mlp"
    head = load("base", ["tasks.quora.head.dropout=0.25"]).tasks["quora"].head
    assert (head.kind, head.dropout) == ("mlp", 0.25)
    assert load("base", ["tasks.quora.head=linear"]).tasks["quora"].head.kind == "linear"


@pytest.mark.parametrize("text", ["a: !!timestamp abc", "a: !!bool zz", "tasks: !!map [a]", "a: &x [*x]"])
def test_a_strange_yaml_value_is_one_line(text: str, tmp_path: Path):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="not YAML") as error:
        load(str(path))
    assert "\n" not in str(error.value)


def test_aliases_of_aliases_end_at_once(tmp_path: Path):
    path = tmp_path / "bomb.yaml"
    path.write_text(
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    )
    with pytest.raises(ValueError, match="more than 100000 values"):
        load(str(path))


@pytest.mark.parametrize("change", ["epochs=1000000000000", "betas=[2, 3]", "seed=-1", "rounds=1000000000000"])
def test_a_number_that_no_run_can_mean_is_refused_by_its_key(change: str):
    with pytest.raises(ValueError, match=rf"recipe base, train\.{change.split('=')[0]}"):
        load("base", [f"train.{change}"])


# Techniques that do not fit together ---------------------------------------------------------------

SST = {"type": "ordinal", "inputs": "single", "train": "a.csv", "columns": {"text": "s"}, "labels": ["a", "b", "c"]}


def whole(*, train=None, model=None, **tasks):
    two = {"sst": SST, "other": SST}
    return validate({"tasks": two | tasks, "train": train or {}, "model": model or {}}, "r")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"train": {"mode": "alternate", "aggregation": "pcgrad"}},
            "train: aggregation compares the gradients of all tasks in a step, and mode 'alternate' has one task in "
            "each. Use mode: joint, or drop aggregation.",
        ),
        ({"train": {"mode": "alternate", "conflicts": True}}, "Use mode: joint, or drop conflicts."),
        (
            {"train": {"mode": "joint", "sampler": "annealed"}},
            "train: sampler 'annealed' chooses the one task of a step, and mode 'joint' has all tasks in each, so it "
            "would change nothing. Use mode: alternate, or drop sampler.",
        ),
        (
            {"train": {"aggregation": "pcgrad", "sampler": "annealed"}},
            "Use mode: alternate, or drop sampler.",
        ),
        (
            {"sst": SST | {"losses": ["ce", "simcse-unsup"]}, "model": {"dropout": 0}},
            "tasks.sst: loss 'simcse-unsup' compares two passes that differ in dropout alone, found model.dropout 0. "
            "Set model.dropout: 0.1",
        ),
        (
            {"sst": SST | {"losses": ["ce", "rdrop"], "head": {"dropout": 0}}, "model": {"dropout": 0}},
            "tasks.sst: loss 'rdrop' compares two",
        ),
        ({"other": None, "train": {"aggregation": "pcgrad"}}, "train.aggregation is about several tasks, found one."),
        ({"other": None, "train": {"mode": "alternate", "sampler": "annealed"}}, "train.sampler is about several"),
        ({"train": {"ema": {"predicts": False}}}, "train.ema: with predicts: false only losses read the average"),
        (
            {"sst": SST | {"losses": ["ce", "bregman"]}},
            "tasks.sst: loss 'bregman' compares with averaged weights, found no train.ema. "
            "Set train.ema: {decay: 0.99, predicts: false}.",
        ),
        (
            {"sst": SST | {"losses": ["ce", "mnrl"]}},
            "tasks.sst: loss 'mnrl' needs pairs that mean the same (label 1) as two vectors, which type 'ordinal'",
        ),
        (
            {"quora": PAIR | {"type": "binary", "inputs": "packed", "losses": ["bce", "mnrl"]}},
            "which inputs 'packed' do not give. Use inputs: separate, or add a task of such inputs on the same file.",
        ),
        ({"quora": PAIR | {"type": "regression", "losses": ["mse", "simcse"]}}, "loss 'simcse' needs pairs that mean"),
        ({"quora": PAIR | {"losses": ["bce", "cosent"]}}, "loss 'cosent' needs a cosine, from head: cosine, which"),
        (
            {"model": {"pal": {"tasks": ["stt"]}}},
            "model.pal.tasks: there is no task 'stt'. Known: sst, other. Mend the name.",
        ),
        ({"model": {"pal": {"width": 10, "heads": 4}}}, "heads must divide the width, found 4 heads and width 10."),
        (
            {"model": {"lora": {}, "freeze": 2}},
            "model: freeze: 2 beside lora, which freezes all of the encoder's own weights. Drop one of them.",
        ),
        (
            {"model": {"freeze": "all"}, "train": {"aggregation": "pcgrad"}},
            "train.aggregation is about weights that the tasks share, and model.freeze: all trains none of them.",
        ),
        ({"model": {"freeze": "all"}, "train": {"layer_decay": 0.9}}, "drop train.layer_decay."),
        (
            {"model": {"freeze": "all"}, "quora": PAIR | {"head": "cosine"}},
            "tasks.quora: head 'cosine' has no weights, so with model.freeze: all there is nothing to train.",
        ),
        (
            {"sst": SST | {"losses": [{"kind": "ce", "class_weights": [1, 2]}]}},
            "tasks.sst: loss 'ce': class_weights must be one number per class, found 2 for 3 labels.",
        ),
        (
            {"sst": SST | {"losses": [{"kind": "ce", "class_weights": []}]}},
            "tasks.sst.losses.0.class_weights: must not be empty",
        ),
        (
            {"sst": SST | {"losses": [{"kind": "ce", "class_weights": [1]}]}},
            "tasks.sst.losses.0.class_weights: must have at least 2 items, found [1].",
        ),
        (
            {"sst": SST | {"train": {"path": "a.csv", "where": {"lang": None}}}},
            "tasks.sst.train.where: column 'lang' must be given a text, a number, true or false, found None.",
        ),
        ({"model": {"pal": {"width": 65532}}}, "model.pal.width: must be less than or equal to 8192, found 65532."),
        ({"train": {"sampler": "annealing"}}, "train.sampler: must be one of 'round_robin', 'proportional',"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_reason_and_the_repair(settings, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        whole(**settings)


def test_a_technique_by_name_equals_one_by_mapping():
    by_name = whole(train={"aggregation": "pcgrad"}, model={"pal": "low_rank"})
    assert by_name == whole(train={"aggregation": {"kind": "pcgrad"}}, model={"pal": {"kind": "low_rank"}})
    assert whole(train={"mode": "alternate", "sampler": "square_root"}).train.sampler.kind == "square_root"


def test_a_task_of_vectors_alone_is_not_scored():
    pairs = PAIR | {"losses": ["mnrl"]}
    assert [t.scored for t in whole(pairs=pairs).tasks.values()] == [True, True, False]
    with pytest.raises(
        ValueError, match=r"'pairs' is neither an aggregate nor a task\. Use overall, mean, sst, other\."
    ):
        whole(pairs=pairs, train={"select": "pairs"})
    with pytest.raises(ValueError, match=r"no task has a loss that trains its predictions.* Add bce, ce or mse\."):
        task(**pairs)
    assert task(**pairs | {"head": "cosine"}).scored  # a cosine is what the vectors were trained for
    assert not whole(other=SST | {"losses": ["rdrop"]}).tasks["other"].scored
    assert whole(other=SST | {"losses": ["ce", "rdrop"]}, model={"dropout": 0}).tasks["other"].scored  # heads have 0.3


def test_vectors_serve_a_contrastive_loss_under_any_head():
    for head in ("linear", "cosine"):
        main = "mse" if head == "cosine" else "bce"
        settings = PAIR | {"head": head, "losses": [main, "mnrl"]}
        assert [x.kind for x in task(**settings).losses] == [main, "mnrl"]


# The paper -----------------------------------------------------------------------------------------

PAPER = [name for name in shipped() if name.startswith("paper/")]


def test_every_row_of_the_paper_and_the_controls_it_lacks_are_there():
    rows = "base base-joint surgery annealed pal pal-annealed smart smart-ceoll loss-ce loss-oll loss-ceoll".split()
    rows += "se-base se-mnrl se-cosine se-simcse single-sst single-quora single-sts".split()
    assert sorted(PAPER) == sorted(f"paper/{row}" for row in rows)


@pytest.mark.parametrize("name", PAPER)
def test_a_row_of_the_paper_keeps_its_protocol_on_any_encoder(name):
    recipe = load(name, ["model.path=bert-base-uncased"])
    train = recipe.train
    assert (train.lr, train.epochs, train.weight_decay, train.betas) == (1e-5, 10, 1e-3, (0.9, 0.999))
    assert (train.schedule, train.warmup, train.clip) == ("constant", 0, None)
    assert {n: t.batch_size for n, t in recipe.tasks.items()}.items() <= {"sst": 8, "quora": 16, "sts": 8}.items()
    assert recipe.model.path == "bert-base-uncased"


def test_a_control_differs_in_its_technique_alone():
    def changed(name, control):
        a, b = (flat(load(n).model_dump(mode="json")) for n in (f"paper/{name}", f"paper/{control}"))
        return {k for k in a.keys() | b.keys() if a.get(k) != b.get(k)} - {"control"}

    assert changed("base-joint", "base") == {"train.mode"}
    assert changed("surgery", "base-joint") == {"train.aggregation.kind", "train.conflicts"}
    assert changed("annealed", "base") == {"train.sampler.kind"}
    assert {k.split(".")[1] for k in changed("pal", "base")} == {"pal"}
    assert changed("pal-annealed", "pal") == changed("annealed", "base")
    assert {k.split(".")[2] for k in changed("smart", "base")} == {"losses"}
    assert {tuple(k.split(".")[1:3]) for k in changed("smart-ceoll", "smart")} == {("sst", "losses")}
    assert {tuple(k.split(".")[1:3]) for k in changed("se-mnrl", "se-base")} == {("quora", "losses")}
    assert {tuple(k.split(".")[1:3]) for k in changed("se-simcse", "se-base")} == {("quora", "losses")}
    assert changed("loss-ce", "single-sst") == set()


def flat(value, path=""):
    if isinstance(value, dict) and value:
        return {k: v for key, item in value.items() for k, v in flat(item, f"{path}.{key}".lstrip(".")).items()}
    return {path: value}


def test_changing_one_setting_of_a_technique_keeps_its_kind():
    changes = ["train.mode=alternate", "train.sampler=temperature", "train.sampler.temperature=3"]
    recipe = load("base", [*changes, "model.pal=low_rank", "model.pal.width=12"])
    assert (recipe.train.sampler.kind, recipe.train.sampler.temperature) == ("temperature", 3)
    assert (recipe.model.pal.kind, recipe.model.pal.width) == ("low_rank", 12)
    recipe = load("paper/surgery", ["train.aggregation={kind: torchjd, method: UPGrad}"])
    assert recipe.train.aggregation.kind == "torchjd"
