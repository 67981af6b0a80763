"""The encoder family of CONTRIBUTING.md equals transformers, and trains in a copy of the package."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import guide
import pytest
import tiny
import torch
import toy_encoder
import toy_run
import transformers
from tiny import pieces, ragged
from torch.testing import assert_close
from toy_encoder import EXACT, LENGTHS

from mtbert.model.families.known import FAMILIES
from mtbert.model.weights import encoder_names

EXAMPLE = guide.example("Add an encoder family")
KIND = "prelayernorm"
encoders = toy_encoder.encoders


@pytest.fixture(autouse=True)
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registers the family of the guide for one test."""
    name = f"mtbert.model.families.{KIND}"
    (tmp_path / f"{KIND}.py").write_text(EXAMPLE.content)
    spec = importlib.util.spec_from_file_location(name, tmp_path / f"{KIND}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(FAMILIES, KIND, module.PRELAYERNORM)
    shape = tiny.CONFIGS["roberta"].to_dict()
    monkeypatch.setitem(tiny.CONFIGS, KIND, transformers.RobertaPreLayerNormConfig(**shape | {"model_type": None}))


def test_the_diff_adds_one_line_and_removes_none():
    assert EXAMPLE.changed == ["+from mtbert.model.families.prelayernorm import PRELAYERNORM as PRELAYERNORM"]


def test_states_and_gradients_equal_transformers(encoders):
    ours, theirs, batch = encoders(KIND), tiny.hf_model(KIND), ragged(LENGTHS)
    found = toy_encoder.run(ours, batch)[-1]
    expected = torch.cat(
        [theirs(input_ids=ids[None]).last_hidden_state[0] for ids in pieces(batch.ids_N, batch.layout)]
    )
    assert expected.abs().max() > 3
    assert_close(found, expected, **EXACT)
    targets = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found * targets).sum().backward()
    (expected * targets).sum().backward()
    weights = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if not name.startswith("pooler"):
            others = [weights[other].grad for other in encoder_names(ours.config)[name]]
            assert_close(parameter.grad, torch.cat(others), msg=name, **EXACT)


def set_up(folder: Path) -> None:
    """The toy set-up with a small encoder of this family."""
    toy_run.set_up(folder)
    words = len((folder / "encoder/vocab.txt").read_text().splitlines())
    shape = {"vocab_size": words, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.RobertaPreLayerNormConfig(**shape, intermediate_size=24, max_position_embeddings=64)
    torch.manual_seed(0)
    transformers.RobertaPreLayerNormModel(config).save_pretrained(folder / "encoder")


def test_a_copy_trains_saves_loads_and_predicts_with_it(tmp_path: Path):
    copy = EXAMPLE.copy(tmp_path / "copy")
    set_up(copy / "toy")
    (copy / "texts.csv").write_text("sentence\na good film\nthe dog was bad\n")
    toy = str(copy / "toy/toy.yaml")
    changes = ["train.rounds=3", "train.aggregation=pcgrad", "train.layer_decay=0.5", "model.pal={width: 4, heads: 2}"]
    done = guide.run(
        copy,
        ["train", toy, *(part for change in changes for part in ("--set", change)), "--out", "run"],
        ["predict", "run", "--task", "sst", "--input", "texts.csv", "--output", "answers.jsonl"],
    )
    assert [code for code, _, _ in done] == [0, 0], done
    assert len((copy / "answers.jsonl").read_text().splitlines()) == 2
    saved = next((copy / "run").rglob("config.json")).parent
    model, report = transformers.AutoModel.from_pretrained(saved, output_loading_info=True)
    assert type(model) is transformers.RobertaPreLayerNormModel
    assert not any(report.values())
    before = transformers.AutoModel.from_pretrained(copy / "toy/encoder")
    weight = "encoder.layer.1.intermediate.dense.weight"
    assert not torch.equal(model.get_parameter(weight), before.get_parameter(weight))
