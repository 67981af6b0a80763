"""The head kind ``native`` against the classes of transformers for sequence classification.

Dimension key: B examples, K classes.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import toy_encoder
import toy_run
import transformers
from foreign import refused, retensor
from pydantic import ValidationError
from torch.testing import assert_close

from mtbert.collate import collate
from mtbert.data.tokenizer import load_tokenizer
from mtbert.model.attention import Groups
from mtbert.model.encoder import Encoder
from mtbert.model.heads import LinearHead, build_head
from mtbert.model.model import Model
from mtbert.model.native import NativeHead
from mtbert.model.weights import encoder_names, load_encoder
from mtbert.recipe.settings import validate_recipe
from mtbert.storage.model_folder import load_model, save_model
from mtbert.task import Head, Task
from mtbert.training.assemble import assemble
from mtbert.yaml_files import merge

encoders = toy_encoder.encoders

CLASSES = ("a", "b", "c")
NATIVE = Head(kind="native", dropout=0.0)
LENGTHS = [7, 1, 12, 7, 30]
KINDS = [
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "electra",
    "distilbert",
    "modernbert",
    "modernbert biased",
    "mpnet",
    "deberta-v2",
    "deberta-v2 plain",
]


def task(**changes: object) -> Task:
    return Task.model_validate(
        {"name": "t", "type": "classification", "inputs": "single", "labels": CLASSES, "head": NATIVE} | changes
    )


def parts_of(native: NativeHead, head: LinearHead) -> dict[str, torch.nn.Module]:
    """Returns the parts of a head by their names in transformers."""
    named = dict(zip(native.names, head.layers, strict=True))
    return named if native.norm is None or head.norm is None else named | {native.norm.name: head.norm}


def stock_of(
    kind: str, encoder: Encoder, head: LinearHead, *, words: bool = False, **changes: str
) -> transformers.PreTrainedModel:
    """Returns the family's own class for sequence classification, with our weights and without dropout.

    With ``words``, returns the class for token classification.
    """
    config = type(tiny.CONFIGS[kind])(**tiny.CONFIGS[kind].to_dict() | {"num_labels": len(CLASSES)} | changes)
    auto = transformers.AutoModelForTokenClassification if words else transformers.AutoModelForSequenceClassification
    how = tiny.exact_attention(config.model_type)
    stock = auto.from_config(config, attn_implementation=how, dtype=torch.float64)
    missing, unexpected = stock.base_model.load_state_dict(tiny.hf_model(kind).state_dict(), strict=False)
    assert missing == []
    assert all(name.startswith("pooler") for name in unexpected)  # RoBERTa's class drops the pooler
    native = encoder.config.native
    assert native is not None
    parts = parts_of(native, head)
    for name, layer in parts.items():
        stock.get_submodule(name).load_state_dict(layer.state_dict())
    left = set(stock.state_dict()) - {f"{stock.base_model_prefix}.{n}" for n in stock.base_model.state_dict()}
    assert left == {f"{name}.{part}" for name, layer in parts.items() for part in layer.state_dict()}
    return stock.eval()


@pytest.mark.parametrize(
    ("kind", "changes"), [*((kind, {}) for kind in KINDS), ("modernbert", {"classifier_pooling": "mean"})]
)
def test_predictions_and_gradients_equal_those_of_the_class_in_transformers(
    kind: str, changes: dict[str, str], encoders: Callable[[str], Encoder]
):
    encoder = encoders(kind)
    pooling = {"pooling": "mean"} if changes else {}
    model = Model(encoder, {"t": task(**pooling)}, pooling="mean", max_length=tiny.MAX_LENGTH, seed=0).double()
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    head = model.head("t")
    assert isinstance(head, LinearHead)
    stock = stock_of(kind, encoder, head, **changes)
    data = tiny.dataset(model.tasks["t"], LENGTHS, labels=[0.0] * len(LENGTHS))
    ours_BK = model(collate([(data, np.arange(len(LENGTHS)))], tiny.CPU))["t"].prediction

    flat, offsets, rows = data.sequences[0].ids, data.sequences[0].offsets, len(LENGTHS)
    ids = torch.full((rows, max(LENGTHS)), stock.config.pad_token_id or 0)
    for row, (start, stop) in enumerate(pairwise(offsets)):
        ids[row, : stop - start] = torch.from_numpy(flat[start:stop])
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    theirs_BK = stock(ids, attention_mask=mask.long()).logits
    assert ours_BK.std() > 0.1
    assert_close(ours_BK, theirs_BK, **toy_encoder.EXACT)

    factors_BK = torch.randn(theirs_BK.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for prediction_BK in (ours_BK, theirs_BK):
        (prediction_BK * factors_BK).sum().backward()
    assert encoder.config.native is not None
    expected = dict(stock.named_parameters())
    for name, layer in parts_of(encoder.config.native, head).items():
        for part, parameter in layer.named_parameters():
            assert_close(parameter.grad, expected[f"{name}.{part}"].grad, **toy_encoder.EXACT)
    prefix, trained = f"{stock.base_model_prefix}.", dict(encoder.named_parameters())
    for ours, names in encoder_names(encoder.config).items():
        theirs = [expected[prefix + name].grad for name in names if prefix + name in expected]
        if not theirs:
            assert trained[ours].grad is None, ours  # a pooler that the class in transformers does not have
        else:
            assert_close(trained[ours].grad, torch.cat(theirs), **toy_encoder.EXACT)


@pytest.mark.parametrize("kind", ["modernbert", "modernbert biased"])
def test_a_head_of_words_gives_the_logits_of_the_class_for_tokens(kind: str, encoders: Callable[[str], Encoder]):
    encoder = encoders(kind)
    model = Model(encoder, {"t": task(type="tokens")}, pooling="cls", max_length=tiny.MAX_LENGTH, seed=0).double()
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    head, ids = model.head("t"), torch.randint(5, tiny.VOCAB, (1, 30), generator=torch.Generator().manual_seed(0))
    batch = tiny.ragged({"t": [30]})
    x_ND = encoder.embed(ids[0], batch.segments_N, batch.positions_N, None)
    ours_NK = head((encoder.encode(x_ND, Groups(batch.layout, tiny.CPU), None),), None)
    assert_close(ours_NK, stock_of(kind, encoder, head, words=True)(ids).logits[0], **toy_encoder.EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_where_the_class_in_transformers_has_it(kind: str, encoders: Callable[[str], Encoder]):
    dropping = task(head={"kind": "native", "dropout": 0.5})
    model = Model(encoders(kind), {"t": dropping}, pooling="cls", max_length=tiny.MAX_LENGTH, seed=0).double()
    head = model.head("t")
    assert isinstance(head, LinearHead)
    stock = stock_of(kind, model.encoder, head).train()
    assert model.encoder.config.native is not None
    theirs = stock.get_submodule(model.encoder.config.native.names[0])
    zeros = {"ours": [], "theirs": []}
    for name, layer in (("ours", head.layers[0]), ("theirs", theirs)):
        layer.register_forward_pre_hook(lambda _, args, name=name: zeros[name].append(bool((args[0] == 0).any())))
    data = tiny.dataset(dropping, [3] * 20, labels=[0.0] * 20)
    model(collate([(data, np.arange(20))], tiny.CPU), torch.Generator().manual_seed(0))
    stock(torch.full((20, 3), 7))
    assert zeros["ours"] == zeros["theirs"] == [kind.split()[0] not in ("distilbert", "modernbert", "deberta-v2")]


def test_a_linear_head_beside_a_native_one_still_reads_the_pooler(encoders: Callable[[str], Encoder]):
    linear = task(name="u", head=Head(dropout=0.0))
    model = Model(encoders("roberta"), {"t": task(), "u": linear}, pooling="cls", max_length=40, seed=0).double()
    rows, data = np.arange(5), tiny.dataset(task(), LENGTHS)
    for parts in (tasks := [(data, rows), (replace(data, task=linear), rows)]), tasks[::-1]:
        batch = collate(parts, tiny.CPU)
        assert len(batch.layout.spans) == 1
        out = model(batch)
        assert_close(out["u"].vectors[0], model.encoder.pooled(out["u"].first_SD), rtol=0, atol=0)
        assert_close(out["t"].vectors[0], out["t"].first_SD, rtol=0, atol=0)


DROPS_BOTH = NativeHead(names=("dense", "out"), activation=torch.tanh)


@pytest.mark.parametrize(
    ("native", "shares"),
    [
        (NativeHead(names=("out",), pooler=True), [0.5]),
        (DROPS_BOTH, [0.5, 0.5]),
        (replace(DROPS_BOTH, activation=torch.relu, drops_input=False), [0.0, 0.5]),
    ],
)
def test_dropout_is_before_the_last_layer_and_where_the_family_has_it_before_the_first(native, shares):
    head = build_head(task(head={"kind": "native", "dropout": 0.5}), 200, 0, native)
    assert isinstance(head, LinearHead)
    found = []
    for layer in head.layers:
        layer.register_forward_pre_hook(lambda layer, args: found.append((args[0] == 0).float().mean().item()))
        torch.nn.init.constant_(layer.weight, 0.01)
    head((torch.ones(50, 200),), torch.Generator().manual_seed(0))
    assert found == pytest.approx(shares, abs=0.03)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"inputs": "separate"},
            "head 'native' reads one sequence, as its class in transformers does, so inputs must be 'single' or "
            "'packed', found 'separate'. Use inputs: packed, or head: linear.",
        ),
    ],
)
def test_it_reads_the_first_token_of_one_sequence(changes, said):
    assert task(inputs="packed", pooling="cls").pooled("mean") == task().pooled("mean") == "cls"
    with pytest.raises(ValidationError, match=re.escape(said)):
        task(**changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pooling": "mean"}, "first tokens, found pooling 'mean'. Use pooling: cls."),
        ({"type": "tokens"}, "first tokens, and type 'tokens' reads a state for each word. Use head: linear."),
    ],
)
def test_a_family_whose_head_reads_first_tokens_alone_refuses_means_and_words(changes, said):
    with pytest.raises(ValueError, match=re.escape(f"tasks.t: head 'native' of a bert encoder reads {said}")):
        tiny.model(task(**changes))


def test_an_encoder_that_lacks_what_the_head_reads_is_refused_with_a_repair():
    with pytest.raises(ValueError, match=re.escape("tasks.t: head 'native' of a bert encoder reads its pooler, and")):
        tiny.model(task(), pooler=False)
    with pytest.raises(
        ValueError, match=re.escape("tasks.t: head 'native' is not known for a bert encoder. Use head:")
    ):
        tiny.model(task(), shape={"native": None})


def without_pooler(folder: Path) -> None:
    retensor(folder, lambda tensors: {name: t for name, t in tensors.items() if "pooler" not in name})


def test_a_run_is_refused_before_its_data_are_read(tmp_path: Path):
    toy_run.set_up(tmp_path)
    raw = merge(toy_run.raw_recipe(tmp_path), {"tasks": {"sst": {"head": "native"}}})
    without_pooler(tmp_path / "encoder")
    (tmp_path / "data/sst.csv").unlink()
    with pytest.raises(ValueError, match=r"^tasks\.sst: head 'native' of a bert encoder reads its pooler, .* mlp\.$"):
        assemble(validate_recipe(raw, "r"))


def test_no_note_says_that_a_pooler_is_missing_if_only_native_heads_pool_first_tokens(tmp_path: Path):
    toy_run.set_up(tmp_path)
    tiny.hf_folder("electra", tmp_path / "electra")
    vocab = (tmp_path / "encoder/vocab.txt").read_text()
    (tmp_path / "electra/vocab.txt").write_text(vocab)
    raw = merge(toy_run.raw_recipe(tmp_path), {"model": {"path": str(tmp_path / "electra")}})
    said = []
    for head in ("linear", "native"):
        heads = {name: {"head": head} for name in raw["tasks"]}
        notes = assemble(validate_recipe(merge(raw, {"tasks": heads}), "r")).notes
        said.append(any("has no pooler" in note.text for note in notes))
    assert said == [True, False]


def test_a_model_folder_keeps_the_head_and_names_the_card_if_the_encoder_lacks_its_pooler(tmp_path: Path):
    source = toy_run.encoder_folder(tmp_path / "encoder")
    model = Model(load_encoder(str(source)).encoder, {"t": task()}, pooling="mean", max_length=20, seed=3)
    save_model(model, load_tokenizer(source), tmp_path / "saved")
    assert json.loads((tmp_path / "saved/mtbert.json").read_text())["tasks"]["t"]["head"]["kind"] == "native"
    loaded = load_model(tmp_path / "saved").model
    for ours, theirs in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    without_pooler(tmp_path / "saved")
    refused(ValueError, tmp_path / "saved", f"{tmp_path}/saved/mtbert.json: tasks.t: head 'native'", load=load_model)
