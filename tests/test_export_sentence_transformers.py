"""Folders for sentence-transformers: its modules answer as our model does, or the task is refused."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_stock
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from toy_stock import FAMILIES, TAGS, TYPES, exported, predictor, retop, rows, set_fitted, task

from mtbert.model.encoder import Encoder
from mtbert.model.settings import Pal
from mtbert.task import Head, Task
from mtbert.use.export import Wanted
from mtbert.use.export.sentence_transformers import SENTENCE_TRANSFORMERS
from mtbert.use.export.stock import quiet
from mtbert.use.predictor import Predictor

# The heads of families that have no native head, or one that the library has no modules for.
HEADS = dict.fromkeys(("modernbert", "nomic_bert", "gte"), ("linear", "mlp"))
COMPARED = ("binary", "regression", "ranking")  # answer types of two texts with a vector each


def all_tasks(kind: str) -> Iterator[Task]:
    """Yields a task for each answer type and each head; inputs are single and packed in turn, pooling too."""
    for turn, head in enumerate(HEADS.get(kind, ("linear", "mlp", "native")), len(kind)):
        for i, type_ in enumerate(TYPES, turn):
            pooling = {"pooling": "mean"} if turn % 2 and head != "native" else {}
            yield task(type_, head, ("single", "packed")[i % 2], name=f"{type_}-{head}", **pooling)
    for type_ in COMPARED:
        yield task(type_, "cosine", "separate", name=f"{type_}-cosine")


@pytest.mark.parametrize("kind", FAMILIES)
def test_each_answer_type_and_head_of_a_family_is_held_by_modules_of_the_library(kind: str, tmp_path: Path):
    made = predictor(kind, *all_tasks(kind))
    assert {SENTENCE_TRANSFORMERS.refusal(made.model, one) for one in made.tasks.values()} == {None}
    found = exported(SENTENCE_TRANSFORMERS, made, tmp_path)
    assert len(found) == len(HEADS.get(kind, "abc")) * len(TYPES) + len(COMPARED)
    assert max(one.largest for one in found.values()) < 2e-5


def load(made: Predictor, folder: Path) -> Any:
    """Exports the model, and returns what the library loads from the folder."""
    SENTENCE_TRANSFORMERS.write(Wanted(made, list(made.tasks)), folder)
    kind = json.loads((folder / "config_sentence_transformers.json").read_text())["model_type"]
    with quiet():
        return {"CrossEncoder": CrossEncoder, "SentenceTransformer": SentenceTransformer}[kind](
            str(folder), device="cpu"
        )


def probabilities(answers: list[dict[str, Any]]) -> list[Any]:
    return [pytest.approx([p for key, p in one.items() if key.startswith("p(")], abs=1e-5) for one in answers]


# What the library answers -----------------------------------------------------------------------------------------


def test_a_cross_encoder_gives_the_probability_of_yes_and_ranks_texts_by_it(tmp_path: Path):
    made = predictor("bert", task("binary", "mlp", "packed"))
    model, pairs = load(made, tmp_path), rows(made.tasks["t"])
    ours = [one["p(yes)"] for one in made.predict("t", pairs)]
    assert model.predict(pairs).tolist() == pytest.approx(ours, abs=1e-5)
    texts = ["a b", "c d", "e f"]
    ranked = [one["corpus_id"] for one in model.rank("q", texts)]
    of_texts = [one["p(yes)"] for one in made.predict("t", [("q", text) for text in texts])]
    assert ranked == sorted(range(3), key=lambda i: -of_texts[i])


@pytest.mark.parametrize(("type_", "softmax"), [("ordinal", True), ("multilabel", False)])
def test_a_cross_encoder_gives_a_probability_for_each_label(type_: str, softmax: bool, tmp_path: Path):
    made = predictor("roberta", task(type_, "linear", "packed"))
    model, pairs = load(made, tmp_path), rows(made.tasks["t"])
    assert model.predict(pairs, apply_softmax=softmax).tolist() == probabilities(made.predict("t", pairs))


def test_a_cross_encoder_gives_a_score_in_the_range_of_the_task_without_a_clamp(tmp_path: Path):
    made = predictor("electra", task("regression", "native", "packed"))
    with torch.no_grad():
        last = made.model.head("t").layers[-1]
        last.weight.zero_()
        last.bias.fill_(1.5)  # beyond the range 1 to 5
    assert load(made, tmp_path).predict([("a", "b")]).tolist() == pytest.approx([7.0])
    assert SENTENCE_TRANSFORMERS.lost(made.model, made.tasks["t"]) == (
        "Scores are not clamped: clamp them to 1 and 5.",
    )  # fmt: skip


@pytest.mark.parametrize(("type_", "function"), [("ordinal", "softmax"), ("multilabel", "sigmoid")])
def test_texts_are_encoded_as_logits(type_: str, function: str, tmp_path: Path):
    made = predictor("distilbert", task(type_, "mlp", pooling="mean"))
    model, texts = load(made, tmp_path), rows(made.tasks["t"])
    logits = model.encode(texts, convert_to_tensor=True)
    p = logits.softmax(-1) if function == "softmax" else logits.sigmoid()
    assert p.tolist() == probabilities(made.predict("t", texts))


def test_texts_are_encoded_as_our_vectors_and_compared_by_their_cosine(tmp_path: Path):
    made = set_fitted(predictor("bert", task("binary", "cosine", "separate")), threshold=0.25)
    model, pairs = load(made, tmp_path), rows(made.tasks["t"])
    one, other = (model.encode(list(column)) for column in zip(*pairs, strict=True))
    vectors = made.vectors("t", pairs)
    torch.testing.assert_close(torch.tensor(one), torch.tensor(vectors[:, 0]), rtol=0, atol=1e-5)
    cosines = [answer["cosine"] for answer in made.predict("t", pairs)]
    assert model.similarity_pairwise(one, other).tolist() == pytest.approx(cosines, abs=1e-6)
    assert SENTENCE_TRANSFORMERS.lost(made.model, made.tasks["t"]) == (
        "The answer is yes if the cosine is above 0.25, and no if not.",
    )


def test_notes_say_how_a_cosine_becomes_a_score():
    compared = task("regression", "cosine", "separate")
    assert SENTENCE_TRANSFORMERS.lost(predictor("bert", compared).model, compared) == (
        "The score is 1 + 4 * cosine, clamped to 1 and 5.",
    )
    ranking = task("ranking", "cosine", "separate")
    assert SENTENCE_TRANSFORMERS.lost(predictor("bert", ranking).model, ranking) == ()


@pytest.mark.parametrize("inputs", ["single", "packed"])
@pytest.mark.parametrize(
    ("type_", "fitted"),
    [
        ("ordinal", {"scale": 0.3}),
        ("binary", {"scale": 0.4, "bias": -0.7}),
        ("binary", {"knots": [[-3.0] * 200 + [-1.0, 0.0] + [4.0] * 54, [0.1] * 200 + [0.2, 0.6] + [0.9] * 54]}),
    ],
)
def test_a_calibration_is_part_of_the_last_layer_unless_it_is_isotonic(
    type_: str, fitted: dict[str, Any], inputs: str, tmp_path: Path
):
    made = set_fitted(predictor("bert", task(type_, "linear", inputs), fitted={"t": tuple(fitted)}), **fitted)
    assert exported(SENTENCE_TRANSFORMERS, made, tmp_path)["t"].largest < 5e-6
    assert len(SENTENCE_TRANSFORMERS.lost(made.model, made.tasks["t"])) == ("knots" in fitted)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_top_layers_of_a_task_are_the_top_layers_of_its_folder(kind: str, tmp_path: Path):
    tasks = task("ordinal", name="t"), task("binary", "cosine", "separate", name="u")
    found = exported(SENTENCE_TRANSFORMERS, retop(predictor(kind, *tasks, unshare=1)), tmp_path)
    assert max(one.largest for one in found.values()) < 2e-5


# Files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_an_encoder_without_a_pooler_is_loaded_without_one(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    made = predictor(kind, task("ordinal"))
    plain = Encoder(replace(made.model.encoder.config, pooler=False))
    plain.load_state_dict({k: v for k, v in made.model.encoder.state_dict().items() if "pooler" not in k})
    made.model.encoder = plain
    assert exported(SENTENCE_TRANSFORMERS, made, tmp_path)["t"].largest < 2e-5
    assert "pooler.dense.weight" not in load_file(tmp_path / "model.safetensors")
    SentenceTransformer(str(tmp_path), device="cpu")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_folder_holds_modules_and_their_weights_alone(tmp_path: Path):
    made = predictor("bert", task("binary", "mlp", "packed", pooling="mean"))
    load(made, tmp_path)
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()) == [
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "3_Dense/config.json",
        "3_Dense/model.safetensors",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert json.loads((tmp_path / "2_Dense/config.json").read_text())["activation_function"].endswith("ReLU")
    assert json.loads((tmp_path / "3_Dense/config.json").read_text())["module_output_name"] == "scores"


def test_texts_are_cut_to_the_length_that_the_model_reads(tmp_path: Path):
    assert load(predictor("roberta", task("ordinal")), tmp_path).max_seq_length == toy_stock.LONGEST


# Refusals -----------------------------------------------------------------------------------------------------------

REFUSED = [
    (TAGS, {}, "no module of sentence-transformers answers about words. Use --to transformers."),
    (
        TAGS.model_copy(update={"head": Head(kind="mlp")}), {},
        "no module of sentence-transformers answers about words. Use --to onnx.",
    ),
    (
        task("regression", "linear", "separate"), {},
        "no module of sentence-transformers makes concat_diff of two vectors, which head 'linear' reads. "
        "Use head: cosine, inputs: packed, or --to onnx.",
    ),
    (
        task("ordinal"), {"adapters": Pal(width=4, heads=2)},
        "sentence-transformers has no projected attention layers (PAL), and this task has some. Use --to onnx.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "changes", "said"), REFUSED)
def test_a_task_that_no_module_holds_is_refused_with_a_repair(asked: Task, changes: dict[str, Any], said: str):
    assert SENTENCE_TRANSFORMERS.refusal(predictor("bert", asked, **changes).model, asked) == said
