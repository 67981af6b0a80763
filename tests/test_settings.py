"""Settings of any kind: unknown keys and wrong values, and the line that each mistake gives."""

import pytest
from recipe_files import ONE, refusal


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
