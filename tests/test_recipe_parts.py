"""The parts of a recipe: which losses, metrics and techniques fit together, and why others do not."""

import re
from typing import Any

import pytest

from mtbert.losses.ordinal import OrdinalLogLoss
from mtbert.recipe.files import load_recipe
from mtbert.recipe.parts import TaskRecipe
from mtbert.recipe.settings import validate_recipe
from mtbert.sampling.temperature import Temperature

PAIR = {"type": "binary", "inputs": "separate", "train": "p.csv", "columns": {"text": ["s", "t"]}}


def task(**settings: Any) -> TaskRecipe:
    return validate_recipe({"tasks": {"t": settings}}, "r").tasks["t"]


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
        (
            {"metric": "pearson"},
            "metric 'pearson' does not fit type 'binary'. Use accuracy or macro_f1 or auc or average_precision.",
        ),
        ({"metric": "pearson", "type": "ordinal"}, "does not fit type 'ordinal'. Use accuracy or macro_f1."),
        ({"type": "regression", "metric": "mae"}, "'mae' does not fit type 'regression'. Use pearson or spearman."),
        ({"type": "regression", "metric": "accuracy"}, "does not fit type 'regression'. Use pearson or spearman."),
        ({"columns": {"text": "s"}}, "inputs 'separate' takes 2 text columns, found 's'. Name as many in"),
        ({"inputs": "single"}, "inputs 'single' takes 1 text column, found 's', 't'."),
        ({"head": "cosine", "inputs": "packed"}, "inputs must be 'separate', found 'packed'."),
    ],
)
def test_settings_that_do_not_fit_the_type_are_refused(settings, said):
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
        "codes": None,
        "range": None,
        "soft": None,
        "splitter": None,
    }


@pytest.mark.parametrize("change", ["epochs=1000000000000", "betas=[2, 3]", "seed=-1", "rounds=1000000000000"])
def test_a_number_that_makes_no_sense_for_a_run_is_refused_by_its_key(change: str):
    with pytest.raises(ValueError, match=rf"recipe base, train\.{change.split('=')[0]}"):
        load_recipe("base", [f"train.{change}"])


# Techniques that do not fit together ---------------------------------------------------------------

SST = {"type": "ordinal", "inputs": "single", "train": "a.csv", "columns": {"text": "s"}, "labels": ["a", "b", "c"]}


def whole(*, train=None, model=None, **tasks):
    two = {"sst": SST, "other": SST}
    return validate_recipe({"tasks": two | tasks, "train": train or {}, "model": model or {}}, "r")


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
            "tasks.sst: loss 'mnrl' needs pairs that mean the same (label 1), or a right candidate, as vectors of "
            "their own, which type 'ordinal'",
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
            {"quora": PAIR | {"losses": [{"kind": "bce", "class_weights": [1, 2]}]}},
            "loss 'bce': class_weights must be one number per class, found 2 for unnamed labels. Name the labels",
        ),
        (
            {"sst": SST | {"losses": [{"kind": "ce", "class_weights": "balancd"}]}},
            "tasks.sst.losses.0.class_weights: must be 'balanced', found \"balancd\".",
        ),
        (
            {"sst": SST | {"losses": [{"kind": "ce", "class_weights": 3}]}},
            "tasks.sst.losses.0.class_weights: must be a list, found 3.",
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
        ({"model": {"pal": {"heads": 10**12}}}, "model.pal.heads: must be less than or equal to 8192, found 1000000"),
        (
            {"train": {"sampler": "annealing"}},
            "train.sampler: must be one of 'annealed', 'round_robin', 'temperature', found \"annealing\". "
            "Did you mean 'annealed'?",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_with_the_reason_and_the_repair(settings, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        whole(**settings)


def test_a_technique_by_name_equals_one_by_mapping():
    by_name = whole(train={"aggregation": "pcgrad"}, model={"pal": "low_rank"})
    assert by_name == whole(train={"aggregation": {"kind": "pcgrad"}}, model={"pal": {"kind": "low_rank"}})
    assert whole(train={"mode": "alternate", "sampler": "square_root"}).train.sampler == Temperature(temperature=2.0)


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


def test_columns_that_name_only_a_label_keep_the_text_column():
    found = task(type="ordinal", inputs="single", train="a.csv", columns={"label": "stars"})
    assert (found.columns.text, found.columns.label, found.columns.id) == (("text",), "stars", None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train": {"select": "a\x1b[2J" + "b" * 1000}}, r"train.select: 'a\x1b[2Jbbbb"),
        ({"model": {"pal": {"tasks": ["a\rb"]}}}, r"model.pal.tasks: there is no task 'a\rb'"),
        ({"sst": SST | {"labels": ["a\n" + "b" * 10**6, "c", "a\n" + "b" * 10**6]}}, r"found 'a\nbbbb"),
        ({"sst": SST | {"metric": "\x07"}}, r"tasks.sst: metric '\x07' does not fit type 'ordinal'."),
        ({"sst": SST | {"columns": {"text": ["a\x00", "b"]}}}, r"found 'a\x00', 'b'."),
        ({"sst": SST | {"train": {"path": "a", "where": {"\x07": ["\x08"]}}}}, r"column '\x07' must be given"),
        ({"sst": SST | {"train": {"path": "a", "config": "\x07"}}}, r"found '\x07' beside path"),
        ({"sst": SST | {"train": {"path": "a", "split": "\x07"}}}, r"found split '\x07'"),
        ({"sst": SST | {"train": {"generated": "\x07", "split": "train"}}}, r"sts, found '\x07'"),
        ({"sst": SST | {"\x07": 1}}, r"tasks.sst: unknown key '\x07'."),
        ({"\x07": SST}, r"tasks.\x07.name: must consist of letters"),
        ({"train": {"lr": "\x9b" * 10**6}}, r'train.lr: must be a valid number, found "\x9b\x9b'),
    ],
)
def test_values_of_a_recipe_are_escaped_and_cut_in_a_message(settings, said):
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        whole(**settings)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


# A task without a label column -------------------------------------------------------------------


@pytest.mark.parametrize("type_", ["classification", "ordinal", "binary", "regression", "multilabel", "tokens"])
@pytest.mark.parametrize("given", [{"columns": {"label": None}}, {"label": None}])
def test_null_for_the_label_of_a_labelled_task_is_refused_with_the_name_of_the_task(type_: str, given: dict[str, Any]):
    said = "recipe r, tasks.t.columns: label must name a column, found null. Name one, or drop label for the column"
    with pytest.raises(ValueError, match=re.escape(said)):
        task(type=type_, inputs="single", train="a.csv", **given)


def test_null_for_a_label_is_no_mistake_where_votes_or_shares_or_candidates_take_its_place():
    for instead in ("votes", "shares"):
        columns = {"label": None, instead: "c"}
        found = task(type="classification", inputs="single", train="a.csv", labels=["x", "y"], columns=columns)
        assert found.columns.labels == ("c",)
    columns = {"text": ["q", "right", "wrong"], "label": None}
    assert task(type="ranking", inputs="separate", head="cosine", train="a.csv", columns=columns).columns.labels == ()
