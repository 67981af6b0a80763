"""Folders for transformers: a class of the library answers as our model does, or the task is refused."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_stock
import transformers
from safetensors.torch import load_file
from toy_stock import FAMILIES, TAGS, TYPES, exported, predictor, retop, rows, set_fitted, task

from mtbert import scoring
from mtbert.model.settings import Pal
from mtbert.task import Head, Task
from mtbert.use.export import Exporter, Wanted
from mtbert.use.export.card import write_about
from mtbert.use.export.check import compare
from mtbert.use.export.known import EXPORTERS
from mtbert.use.export.stock import quiet
from mtbert.use.export.transformers import TRANSFORMERS
from mtbert.use.predictor import Predictor

# The heads that a class of transformers has, by family.
HELD = {
    "bert": ("native", "linear"),
    "roberta": ("native", "linear"),
    "xlm-roberta": ("native", "linear"),
    "camembert": ("native", "linear"),
    "mpnet": ("native", "linear"),
    "deberta-v2": ("native",),
    "electra": ("native",),
    "distilbert": ("native", "mlp"),
    "modernbert": ("native",),
    "nomic_bert": (),  # these two have classes for tags alone
    "gte": (),
}


def all_tasks(kind: str) -> Iterator[Task]:
    """Yields a task for each answer type and each head in :data:`HELD`; inputs are single and packed in turn."""
    for turn, head in enumerate(HELD[kind], len(kind)):
        for i, type_ in enumerate(TYPES, turn):
            yield task(type_, head, ("single", "packed")[i % 2], name=f"{type_}-{head}")
    tags = task("tokens", "native", labels=TAGS.labels) if kind == "modernbert" else TAGS
    yield tags.model_copy(update={"name": "tags"})


@pytest.mark.parametrize("kind", FAMILIES)
def test_each_answer_type_and_head_of_a_family_is_held_by_a_class_of_transformers(kind: str, tmp_path: Path):
    made = predictor(kind, *all_tasks(kind))
    assert {TRANSFORMERS.refusal(made.model, one) for one in made.tasks.values()} == {None}
    found = exported(TRANSFORMERS, made, tmp_path)
    assert len(found) == len(HELD[kind]) * len(TYPES) + 1
    assert max(one.largest for one in found.values()) < 2e-5
    bases = {json.loads(file.read_text())["architectures"][0] for file in tmp_path.rglob("config.json")}
    base = type(tiny_model(kind)).__name__.removesuffix("Model")
    assert bases == {f"{base}ForTokenClassification"} | ({f"{base}ForSequenceClassification"} if HELD[kind] else set())


def tiny_model(kind: str) -> transformers.PreTrainedModel:
    return toy_stock.tiny.hf_model(kind)


# What a pipeline answers --------------------------------------------------------------------------------------


def pipe(kind: str, folder: Path, **options: Any) -> Any:
    with quiet():
        return transformers.pipeline(kind, str(folder), device="cpu", **options)


def write(made: Predictor, folder: Path) -> Path:
    TRANSFORMERS.write(Wanted(made, list(made.tasks)), folder)
    return folder


@pytest.mark.parametrize(
    ("type_", "inputs"),
    [("ordinal", "single"), ("classification", "packed"), ("binary", "single"), ("binary", "packed")],
)
def test_a_pipeline_gives_the_probability_of_each_label(type_: str, inputs: str, tmp_path: Path):
    made = predictor("bert", task(type_, inputs=inputs))
    ask = pipe("text-classification", write(made, tmp_path), top_k=None, truncation=True)
    asked = rows(made.tasks["t"])
    given = asked if inputs == "single" else [{"text": one, "text_pair": other} for one, other in asked]
    answers = made.predict("t", asked)
    for theirs, ours in zip(ask(given), answers, strict=True):
        expected = {key[2:-1]: p for key, p in ours.items() if key.startswith("p(")}
        assert {one["label"]: one["score"] for one in theirs} == pytest.approx(expected, abs=1e-5)
        assert theirs[0]["label"] == ours["label"]  # the most probable one comes first


def test_a_pipeline_gives_each_label_of_a_set_a_probability_of_its_own(tmp_path: Path):
    made = predictor("roberta", task("multilabel"))
    ask = pipe("text-classification", write(made, tmp_path), top_k=None, truncation=True)
    for theirs, ours in zip(ask(rows(made.tasks["t"])), made.predict("t", rows(made.tasks["t"])), strict=True):
        expected = {key[2:-1]: p for key, p in ours.items() if key.startswith("p(")}
        assert {one["label"]: one["score"] for one in theirs} == pytest.approx(expected, abs=1e-5)


def test_a_pipeline_gives_a_score_in_the_range_of_the_task_without_a_clamp(tmp_path: Path):
    made = predictor("electra", task("regression", "native"))
    with torch.no_grad():
        last = made.model.head("t").layers[-1]
        last.weight.zero_()
        last.bias.fill_(1.5)  # beyond the range 1 to 5
    ask = pipe("text-classification", write(made, tmp_path), truncation=True)
    assert ask("a b") == [{"label": "t", "score": pytest.approx(7.0)}]
    assert made.predict("t", "a b") == [{"score": 5.0}]


def test_a_pipeline_tags_words_as_we_do(tmp_path: Path):
    made, texts = predictor("bert", TAGS), ["a b. c q w e r t y", "x! y z"]  # a token for each word
    ask = pipe("token-classification", write(made, tmp_path), ignore_labels=[])
    p_WK = scoring.predict_examples(made.model, made.read("t", texts)).softmax(-1)
    expected = [((TAGS.labels or ())[int(p_K.argmax())], pytest.approx(float(p_K.max()), abs=1e-5)) for p_K in p_WK]
    assert [(one["entity"], one["score"]) for text in texts for one in ask(text)] == expected
    assert len({tag for tag, _ in expected}) > 1


# What goes into the last layer, and what does not -------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "fitted"),
    [
        ("ordinal", {"scale": 0.3}),
        ("multilabel", {"scale": 2.5}),
        ("binary", {"scale": 0.4, "bias": -0.7}),
    ],
)
def test_a_calibration_is_part_of_the_last_layer(type_: str, fitted: dict[str, float], tmp_path: Path):
    plain, made = (predictor("bert", task(type_), fitted={"t": names}) for names in ((), tuple(fitted)))
    set_fitted(made, **fitted)
    assert exported(TRANSFORMERS, made, new(tmp_path / "calibrated"))["t"].largest < 2e-6
    exported(TRANSFORMERS, plain, new(tmp_path / "plain"))
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "calibrated"))
    scale, bias = fitted["scale"], torch.tensor(fitted.get("bias", 0.0))
    torch.testing.assert_close(after["classifier.weight"], scale * before["classifier.weight"])
    torch.testing.assert_close(after["classifier.bias"][1:], (scale * before["classifier.bias"] + bias)[1:])


def new(folder: Path) -> Path:
    folder.mkdir()
    return folder


KNOTS = [[-3.0] * 200 + [-1.0, 0.0, 2.0] + [4.0] * 53, [0.1] * 200 + [0.2, 0.6, 0.7] + [0.9] * 53]


def test_an_isotonic_calibration_is_left_to_the_reader_of_the_card(tmp_path: Path):
    made = set_fitted(predictor("bert", task("binary"), fitted={"t": ("knots",)}), knots=KNOTS)
    assert exported(TRANSFORMERS, made, tmp_path)["t"].largest < 2e-6
    (note,) = TRANSFORMERS.lost(made.model, made.tasks["t"])
    assert note == (
        "Probabilities are not calibrated, because the calibration is no part of a linear layer. A calibrated "
        "one is `numpy.interp(logit, *knots)`, where the logit is that of the second label minus that of the first, "
        'without softmax, and `export.json` has `knots` under `["tasks"]["t"]["fitted"]`.'
    )
    ask = pipe("text-classification", tmp_path, top_k=None, truncation=True, function_to_apply="none")
    texts = rows(made.tasks["t"])
    logits = [{one["label"]: one["score"] for one in answer} for answer in ask(texts)]
    p_B = np.interp([logit["yes"] - logit["no"] for logit in logits], *KNOTS)
    assert p_B.tolist() == pytest.approx([answer["p(yes)"] for answer in made.predict("t", texts)], abs=1e-5)


@pytest.mark.parametrize(
    ("asked", "fitted", "notes"),
    [
        (task("ordinal"), {}, ()),
        (task("regression"), {}, ("Scores are not clamped: clamp them to 1 and 5.",)),
        (task("multilabel"), {"threshold": [0.0, 0.0, 0.0]}, ()),
        (
            task("multilabel"),
            {"threshold": [0.0, 1.0, -1.0]},
            (
                "A label is chosen if its probability is above its threshold: bad 0.5, so so 0.7311, good 0.2689.",
            ),
        ),
        (TAGS, {}, ("A word has the tag of its first token; tokens after it have tags that nobody trained.",)),
    ],
)  # fmt: skip
def test_notes_say_what_a_class_does_not_hold(asked: Task, fitted: dict[str, Any], notes: tuple[str, ...]):
    made = set_fitted(predictor("bert", asked, fitted={"t": tuple(fitted)}), **fitted)
    assert TRANSFORMERS.lost(made.model, asked) == notes


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_top_layers_of_a_task_are_the_top_layers_of_its_class(kind: str, tmp_path: Path):
    names = ("t", "u")
    made = retop(predictor(kind, *(task("ordinal", "native", name=name) for name in names), TAGS_OF_V, unshare=2))
    found = exported(TRANSFORMERS, made, tmp_path)
    assert max(one.largest for one in found.values()) < 2e-5
    t, u = (load_file(tmp_path / name / "model.safetensors") for name in names)
    differing = {name for name in t if not torch.equal(t[name], u[name])}
    assert any("layer.2." in name for name in differing)
    assert not any("layer.0." in name or "embeddings" in name for name in differing)


TAGS_OF_V = TAGS.model_copy(update={"name": "v"})

# Files ----------------------------------------------------------------------------------------------------------


def test_a_folder_holds_no_code_and_no_keys_that_make_a_library_do_other_things(tmp_path: Path):
    made = predictor("bert", task("binary"))
    strange = {"auto_map": {"AutoModel": "evil.Model"}, "return_dict": False, "quantization_config": {"bits": 4}}
    encoder = made.model.encoder
    encoder.config = replace(encoder.config, source={**encoder.config.source, **strange, "id2label": {"0": "old"}})
    write(made, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    config = json.loads((tmp_path / "config.json").read_text())
    assert not set(strange) & set(config)
    assert (config["id2label"], config["label2id"]) == ({"0": "no", "1": "yes"}, {"no": 0, "yes": 1})
    assert (config["problem_type"], config["model_type"]) == ("single_label_classification", "bert")
    assert load_file(tmp_path / "model.safetensors")["classifier.weight"][0].abs().max() == 0


@pytest.mark.parametrize(
    ("kind", "segments", "names"),
    [
        ("bert", True, ["input_ids", "attention_mask", "token_type_ids"]),
        ("bert", False, ["input_ids", "attention_mask"]),
        ("roberta", True, ["input_ids", "attention_mask"]),
        ("distilbert", True, ["input_ids", "attention_mask"]),
    ],
)
def test_the_tokenizer_makes_our_tokens(kind: str, segments: bool, names: list[str], tmp_path: Path):
    made = predictor(kind, task("ordinal", "native", "packed", segments=segments))
    write(made, tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (tokenizer.model_max_length, tokenizer.model_input_names) == (toy_stock.LONGEST, names)
    pairs = rows(made.tasks["t"], 40)
    data = made.read("t", pairs)
    assert data.truncated > 5
    tokens = tokenizer(*map(list, zip(*pairs, strict=True)), truncation=True)
    ours = data.sequences[0]
    assert [x for ids in tokens["input_ids"] for x in ids] == ours.ids.tolist()
    if "token_type_ids" in names:
        assert [x for ids in tokens["token_type_ids"] for x in ids] == ours.segments.tolist()
    else:
        assert "token_type_ids" not in tokens
    assert not ours.segments.any() if not segments else True


@pytest.mark.parametrize("exporter", EXPORTERS.values(), ids=EXPORTERS)
@pytest.mark.parametrize("inputs", ["single", "packed"])
def test_texts_with_white_space_at_their_ends_have_the_answers_of_ours(exporter: Exporter, inputs: str, tmp_path: Path):
    made = replace(predictor("roberta", task("ordinal", "native", inputs)), tokenizer=toy_stock.bytes_tokenizer())
    texts = ["the A", "  the A\n", "a  the", "\tTHE <mask> a", "naive\u00e9 ", "x [SEP] y </s> z"]
    asked = texts if inputs == "single" else list(zip(texts, texts[::-1], strict=True))
    data = made.read("t", asked)
    assert data.examples.texts[0][1] == "  the A\n"
    wanted = Wanted(made, ["t"])
    answering = exporter.write(wanted, tmp_path)["t"]
    write_about(exporter, wanted, {}, tmp_path)
    assert compare(made.model, data, answering).largest < 2e-5


def test_a_tokenizer_without_padding_is_refused(tmp_path: Path):
    made = predictor("roberta", task("ordinal"))
    strange = Predictor(made.model, toy_stock.tokenizer("bert"))  # its token before the first position is [UNK]
    write(strange, new(tmp_path / "unk"))
    made.model.encoder.config = replace(made.model.encoder.config, position_offset=9)
    with pytest.raises(ValueError, match=r"^the tokenizer has no special token for padding, such as \[PAD\],"):
        write(strange, new(tmp_path / "none"))


# Refusals ---------------------------------------------------------------------------------------------------------

MLP = {"kind": "mlp", "hidden": 7}
REFUSED = [
    (
        "bert", task("ordinal", pooling="mean"), {},
        "BertForSequenceClassification reads first tokens, and this task reads means over tokens. "
        "Use head: native, or --to sentence-transformers.",
    ),
    (
        "bert", task("ordinal", "mlp"), {},
        "head 'mlp' is not that of BertForSequenceClassification. Use head: native, or --to sentence-transformers.",
    ),
    (
        "distilbert", task("ordinal", MLP), {},
        "head 'mlp' is not that of DistilBertForSequenceClassification. "
        "Use head: native, or --to sentence-transformers.",
    ),
    (
        "electra", task("ordinal"), {},
        "head 'linear' is not that of ElectraForSequenceClassification. "
        "Use head: native, or --to sentence-transformers.",
    ),
    (
        "camembert", TAGS.model_copy(update={"head": Head(kind="mlp")}), {},
        "head 'mlp' is not that of CamembertForTokenClassification. Use head: linear, or --to onnx.",
    ),
    (
        "bert", task("regression", "cosine", "separate"), {},
        "no class of transformers reads two texts separately. Use --to sentence-transformers.",
    ),
    (
        "bert", task("regression", "linear", "separate"), {},
        "no class of transformers reads two texts separately. Use --to onnx.",
    ),
    (
        "bert", task("ordinal"), {"adapters": Pal(width=4, heads=2)},
        "transformers has no projected attention layers (PAL), and this task has some. Use --to onnx.",
    ),
    (
        "bert", task("regression", range=(0.0, 1e40)), {},
        "scores from 0 to 1e+40 have more digits than weights in float32 give. Use --to onnx.",
    ),
    (
        "bert", task("regression", range=(1000.0, 1001.0)), {},
        "scores from 1000 to 1001 have more digits than weights in float32 give. Use --to onnx.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "asked", "changes", "said"), REFUSED)
def test_a_task_that_no_class_holds_is_refused_with_a_repair(kind, asked: Task, changes: dict[str, Any], said: str):
    assert TRANSFORMERS.refusal(predictor(kind, asked, **changes).model, asked) == said


def test_only_tasks_with_projected_attention_layers_are_refused_for_them():
    tasks = task("ordinal", name="t"), task("ordinal", name="u")
    model = predictor("bert", *tasks, adapters=Pal(width=4, heads=2, tasks=("u",))).model
    assert [TRANSFORMERS.refusal(model, one) is None for one in tasks] == [True, False]


def test_a_bert_without_a_pooler_is_not_told_to_use_its_native_head():
    made = predictor("bert", task("ordinal"))
    made.model.encoder.config = replace(made.model.encoder.config, pooler=False)
    assert TRANSFORMERS.refusal(made.model, made.tasks["t"]) == (
        "head 'linear' is not that of BertForSequenceClassification. Use --to sentence-transformers."
    )
