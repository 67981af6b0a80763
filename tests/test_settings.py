"""Settings of any kind: unknown keys, wrong values, and the line that each mistake gives."""

import re

import pytest
from recipe_files import ONE, refusal

from mtbert.recipe.settings import as_plain, validate_recipe
from mtbert.settings import HUGGING_FACE


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trian.lr=1", "unknown key 'trian'. Did you mean 'train'?"),
        ("train.epoch=1", "train: unknown key 'epoch'. Did you mean 'epochs'?"),
        ("tasks.a.bach_size=1", "tasks.a: unknown key 'bach_size'. Did you mean 'batch_size'?"),
        ("tasks.a.losses=[{kind: oll, alhpa: 1}]", "tasks.a.losses.0: unknown key 'alhpa'. Did you mean 'alpha'?"),
        (
            "tasks.a.head.kind=linaer",
            "tasks.a.head.kind: must be 'linear', 'mlp', 'cosine' or 'native', found \"linaer\". "
            "Did you mean 'linear'?",
        ),
        (
            "tasks.a.head=linaer",
            "tasks.a.head.kind: must be 'linear', 'mlp', 'cosine' or 'native', found \"linaer\". "
            "Did you mean 'linear'?",
        ),
        (
            "tasks.a.losses=[cee]",
            "tasks.a.losses.0: must be one of 'asl', 'bce', 'bregman', 'ce', 'cosent', 'mnrl', 'mse', 'oll', "
            "'rdrop', 'simcse', 'simcse-unsup', 'smart', found \"cee\". Did you mean 'ce'?",
        ),
        ("tasks.a.losses=[{weight: 2}]", 'tasks.a.losses.0: must have a kind, found {"weight": 2}.'),
        ("tasks.a.losses=ce", 'tasks.a.losses: must be a list, found "ce".'),
        (
            "tasks.a.type=",
            "tasks.a.type: must be given: 'classification', 'ordinal', 'binary', 'regression', 'multilabel', 'ranking' "
            "or 'tokens' (the form of the answer).",
        ),
        (
            "tasks.b={type: ordinal, train: a.csv}",
            "tasks.b.inputs: must be given: 'single', 'packed' or 'separate' (one text, two texts in one sequence, or "
            "a sequence for each text).",
        ),
        ("tasks.a.lable=stars", "tasks.a: unknown key 'lable'. Did you mean 'label'?"),
        (
            "tasks.a.type=[]",
            "tasks.a.type: must be 'classification', 'ordinal', 'binary', 'regression', 'multilabel', "
            "'ranking' or 'tokens', found [].",
        ),
        ("tasks.a.labels=[0, b]", "tasks.a.labels.0: must be text; quote what looks like a number, found 0."),
        ("tasks.b={type: ordinal, inputs: single}", "tasks.b.train: must be given."),
        ("tasks.a.votes=r", "tasks.a: unknown key 'votes'. Use columns.votes."),
        ("tasks.a b=3", "tasks.a b: must be a mapping, found 3."),
        ("tasks=[a]", 'tasks: must be a mapping, found ["a"].'),
        ("tasks.a=", "tasks: must not be empty, found {}."),
        ("train.betas=[0.9]", "train.betas.1: must be given."),
        ("train.betas=[0.9, 0.9, 0.9]", "train.betas: must have at most 2 items, found [0.9, 0.9, 0.9]."),
        ("train.lr=no", 'train.lr: must be a valid number, found "no".'),
        ("train.lr=-1", "train.lr: must be greater than 0, found -1."),
        ("train.eps=0", "train.eps: must be greater than or equal to 1e-15, found 0."),
        ("train.eps=1.5", "train.eps: must be less than or equal to 1, found 1.5."),
        ("tasks.a.dev_fraction=1", "tasks.a.dev_fraction: must be less than 1, found 1."),
        ("tasks.a.batch_size=9999999", "tasks.a.batch_size: must be less than or equal to 1000000, found 9999999."),
        ("train.lr=.inf", "train.lr: must be a finite number, found Infinity."),
        ("train.epochs=2.5", "train.epochs: must be a valid integer, found 2.5."),
        ("train.rounds=papr", "train.rounds: must be 'min' or 'max' or a valid integer, found \"papr\"."),
        ("train.rounds=[min, 0]", "train.rounds.1: must be 'min' or 'max' or greater than 0, found 0."),
        ("train.rounds=[]", "train.rounds: must not be empty, found []."),
        ("train.rounds=paper", "train.rounds: 'paper' is no name any more. Write rounds: [min, min, min, max]."),
        (
            "train.accumulate=4",
            "train: accumulate: 4 is no setting any more. Multiply each task's batch_size by 4; where memory is short, "
            "set train.token_budget.",
        ),
        ("train.select=b", "train.select: 'b' is neither an aggregate nor a task. Use overall, mean, a."),
        ("data.root=3", "data.root: must be text; quote what looks like a number, found 3."),
        ("data=3", "data: must be a mapping, found 3."),
        (
            "tasks.a.columns.label=5",
            "tasks.a.columns.label: must be a list or text; quote what looks like a number, found 5.",
        ),
        ("tasks.str=3", "tasks.str: must be a mapping, found 3."),
        ("tasks={'': 3}", "tasks.'': must be a mapping, found 3."),
        ("tasks.a.columns.separator=''", 'tasks.a.columns.separator: must not be empty, found "".'),
        (
            "tasks.a.columns.separator=aaaaaaaaaaa",
            'tasks.a.columns.separator: must have at most 10 characters, found "aaaaaaaaaaa".',
        ),
        ("train.calibrate=5", "train.calibrate: must be false, true or 'isotonic', found 5."),
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


def test_all_unknown_keys_are_reported_at_once_beside_wrong_values(tmp_path):
    said = refusal(tmp_path, ONE, "train={epoch: 3, lrr: 1, lr: -1}", "modle=1", "tasks.a={bach_size: 1, tpye: 2}")
    assert said.splitlines() == [
        f"recipe mine.yaml, {line}"
        for line in (
            "tasks.a: unknown key 'bach_size'. Did you mean 'batch_size'?",
            "tasks.a: unknown key 'tpye'. Did you mean 'type'?",
            "train.lr: must be greater than 0, found -1.",
            "train: unknown key 'epoch'. Did you mean 'epochs'?",
            "train: unknown key 'lrr'. Did you mean 'lr'?",
            "unknown key 'modle'. Did you mean 'model'?",
        )
    ]


def test_a_misspelt_required_key_is_one_mistake(tmp_path):
    said = refusal(tmp_path, "tasks: {a: {typ: ordinal, inputs: single, train: a.csv}}")
    assert said == "recipe mine.yaml, tasks.a: unknown key 'typ'. Did you mean 'type'?"


@pytest.mark.parametrize(
    ("key", "here"),
    [
        ("num_train_epochs", "train.epochs"),
        ("learning_rate", "train.lr"),
        ("per_device_train_batch_size", "tasks.NAME.batch_size"),
        ("warmup_ratio", "train.warmup"),
        ("weight_decay", "train.weight_decay"),
        ("max_seq_length", "model.max_length"),
        ("model_name_or_path", "model.path"),
        ("fp16", "train.precision: bf16"),
        ("gradient_accumulation_steps", "tasks.NAME.batch_size, and train.token_budget for the memory"),
        ("lr_scheduler_type", "train.schedule"),
        ("metric_for_best_model", "train.select"),
        ("early_stopping_patience", "train.patience"),
        ("label_smoothing", "tasks.NAME.losses: [{kind: ce, smoothing: 0.1}]"),
        ("seed", "train.seed"),
    ],
)
@pytest.mark.parametrize("place", ["", "model.", "tasks.a.", "tasks.a.head."])
def test_a_hugging_face_name_gets_the_name_used_here_wherever_it_stands(tmp_path, place, key, here):
    where = f"{place[:-1]}: " if place else ""
    assert refusal(tmp_path, ONE, f"{place}{key}=1") == f"recipe mine.yaml, {where}unknown key '{key}'. Use {here}."


def test_hugging_face_names_lead_to_keys_of_a_recipe():
    task = {"type": "ordinal", "inputs": "single", "train": "a.csv", "columns": {"text": "t"}}
    known = flat(as_plain(validate_recipe({"tasks": {"NAME": task}}, "r"))) | {"tasks.NAME.losses"}
    for key, here in HUGGING_FACE.items():
        assert re.split("[:,]", here)[0] in known or here.startswith("the option --"), key


def flat(value: object, path: str = "") -> set[str]:
    """Returns the paths of all settings, and of the mappings that contain them."""
    inside = value.items() if isinstance(value, dict) else ()
    return {path}.union(*(flat(item, f"{path}.{key}".lstrip(".")) for key, item in inside))


def test_mistakes_after_the_twentieth_are_only_counted(tmp_path):
    said = refusal(tmp_path, ONE, f"train={{{', '.join(f'zzzzz{i}: 1' for i in range(1000))}}}").splitlines()
    assert len(said) == 21
    assert said[-1] == "recipe mine.yaml, and 980 more mistakes."
