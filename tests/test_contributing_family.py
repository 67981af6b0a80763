"""The encoder family of CONTRIBUTING.md equals transformers, and trains in a copy of the package."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import guide
import pytest
import tiny
import torch
import toy_run
import transformers
from one_step import backward, by_task
from tiny import CPU, MAX_LENGTH, VOCAB, pieces, ragged
from torch import Tensor
from torch.testing import assert_close
from toy_encoder import LENGTHS
from transformers.models.modernbert import modeling_modernbert

from mtbert.model import lora
from mtbert.model.attention import Groups
from mtbert.model.encoder import Encoder
from mtbert.model.families.known import FAMILIES
from mtbert.model.settings import Lora
from mtbert.model.weights import encoder_names, load_encoder, save_encoder

MODERNBERT = guide.example("Add an encoder family")
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def config(**changes: object) -> transformers.ModernBertConfig:
    return transformers.ModernBertConfig(
        **{
            "vocab_size": VOCAB,
            "hidden_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 36,
            "max_position_embeddings": MAX_LENGTH,
            "global_attn_every_n_layers": 1,
            "initializer_range": 0.5,
            **dict.fromkeys(["pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"], 0),
        }
        | changes
    )


@pytest.fixture(autouse=True)
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registers the family of the guide for one test."""
    name = "mtbert.model.families.modernbert"
    (tmp_path / "modernbert.py").write_text(MODERNBERT.content)
    spec = importlib.util.spec_from_file_location(name, tmp_path / "modernbert.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(FAMILIES, "modernbert", module.MODERNBERT)


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> transformers.PreTrainedModel:
    """A ModernBERT of transformers with large random weights, exact in float64.

    Their rotation and their eager softmax are in float32 whatever the weights are, which large weights blow up to 1e-5.
    """

    def turned(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, ...]:
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return tuple(x * cos + modeling_modernbert.rotate_half(x) * sin for x in (q, k))

    monkeypatch.setattr(modeling_modernbert, "apply_rotary_pos_emb", turned)
    monkeypatch.setitem(tiny.CONFIGS, "modernbert", config())
    model = tiny.hf_model("modernbert")
    model.set_attn_implementation("sdpa")
    return model


@pytest.fixture
def ours(theirs: transformers.PreTrainedModel, tmp_path: Path) -> Encoder:
    """The same model here, in float64."""
    theirs.save_pretrained(tmp_path / "theirs")
    encoder, weights = load_encoder(str(tmp_path / "theirs")).encoder.double(), theirs.state_dict()
    names = encoder_names(encoder.config)
    encoder.load_state_dict({name: torch.cat([weights[other] for other in names[name]]) for name in names})
    return encoder


BATCH = ragged(LENGTHS)


def states(encoder: Encoder, *, first_only: bool = False, rounded: bool = False) -> Tensor:
    x_ND = encoder.embed(BATCH.ids_N, BATCH.segments_N, BATCH.positions_N, None)
    return encoder.encode(x_ND, Groups(BATCH.layout, CPU, rounded), None, first_only=first_only)


def their_states(model: transformers.PreTrainedModel) -> Tensor:
    ids = pieces(BATCH.ids_N, BATCH.layout)
    return torch.cat([model(input_ids=i[None]).last_hidden_state[0] for i in ids])


def test_the_diff_adds_one_line_and_removes_none():
    assert MODERNBERT.changed == ["+from mtbert.model.families.modernbert import MODERNBERT as MODERNBERT"]


def test_states_and_gradients_equal_transformers(ours: Encoder, theirs: transformers.PreTrainedModel):
    found, expected = states(ours), their_states(theirs)
    assert expected.abs().max() > 5
    assert_close(found, expected, **EXACT)
    targets = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found * targets).sum().backward()
    (expected * targets).sum().backward()
    weights = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        (other,) = encoder_names(ours.config)[name]
        assert_close(parameter.grad, weights[other].grad, msg=name, **EXACT)


def test_first_tokens_alone_and_rounded_shapes_give_the_same_states(ours: Encoder):
    with torch.no_grad():
        whole = states(ours)
        assert_close(states(ours, first_only=True), whole[list(BATCH.layout.offsets[:-1])], **EXACT)
        assert Groups(BATCH.layout, CPU, rounded=True).dummies > 0
        assert_close(states(ours, rounded=True), whole, **EXACT)


def test_the_base_of_the_rotation_is_read_in_its_new_and_its_old_place(ours: Encoder, tmp_path: Path):
    file = tmp_path / "theirs/config.json"
    source = json.loads(file.read_text())
    changed = {
        "new": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 77.0}}},
        "old": {"rope_parameters": None, "global_rope_theta": 77.0},
        "default": {"rope_parameters": None},
    }
    bases = {}
    for name, change in changed.items():
        file.write_text(json.dumps(source | change))
        bases[name] = load_encoder(str(tmp_path / "theirs")).encoder.layers[2].attention.rotary.base
    assert bases == {"new": 77.0, "old": 77.0, "default": 160_000.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"global_attn_every_n_layers": 3}, "global_attn_every_n_layers must be 1, found 3. Choose an encoder without"),
        ({"mlp_bias": True}, "mlp_bias must be false, found True."),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 9.0}}},
            "rope_parameters must be plain rotary positions, found 'yarn'.",
        ),
    ],
)
def test_a_config_of_another_kind_is_refused(ours: Encoder, tmp_path: Path, change: dict[str, object], message: str):
    file = tmp_path / "theirs/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        load_encoder(str(tmp_path / "theirs"))


def test_a_pretraining_checkpoint_loads_and_its_head_is_reported(tmp_path: Path):
    torch.manual_seed(0)
    model = transformers.ModernBertForMaskedLM(config())
    model.save_pretrained(tmp_path / "mlm")
    loaded = load_encoder(str(tmp_path / "mlm"))
    assert loaded.missing == ()
    assert set(loaded.unexpected) == {"decoder.bias", "head.dense.weight", "head.norm.weight"}
    assert torch.equal(loaded.encoder.layers[1].intermediate.weight, model.model.layers[1].mlp.Wi.weight)


def test_low_rank_changes_of_values_and_gate_are_apart_and_are_saved(ours: Encoder, tmp_path: Path):
    lora.add(ours.float(), Lora(rank=2), seed=0)
    change = ours.layers[1].intermediate.parametrizations.weight[0]
    assert (change.a.shape, change.b.shape) == ((2, 2, 24), (2, 36, 2))
    with torch.no_grad():
        change.b.normal_(generator=torch.Generator().manual_seed(0))
        save_encoder(lora.merged(ours), tmp_path / "merged")
        assert_close(states(load_encoder(str(tmp_path / "merged")).encoder), states(ours), rtol=1e-4, atol=1e-4)


def test_embeddings_lie_lowest_and_the_last_norm_behind_all_layers(ours: Encoder):
    depths = ours.depths()
    named = {name: depths[parameter] for name, parameter in ours.named_parameters()}
    assert {depth for name, depth in named.items() if name.startswith("layers.1.")} == {2}
    assert (named["word_embedding.weight"], named["embedding_norm.weight"], named["final_norm.weight"]) == (0, 0, 4)


# A whole set-up -------------------------------------------------------------------------------------


def set_up(folder: Path) -> None:
    """The toy set-up with a small ModernBERT."""
    toy_run.set_up(folder)
    torch.manual_seed(0)
    words = len((folder / "encoder/vocab.txt").read_text().splitlines())
    shape = {"vocab_size": words, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    transformers.ModernBertModel(config(**shape, initializer_range=0.1)).save_pretrained(folder / "encoder")


def test_gradients_are_kept_apart_by_task(tmp_path: Path):
    set_up(tmp_path)
    change = {"tasks": {"sst": {"pooling": "mean"}, "sts": {"losses": ["mse", "smart"]}}}

    def made() -> toy_run.Run:
        run, _ = toy_run.build(tmp_path, change)
        run.model.double()
        return run

    whole = made()
    backward(whole.objective, whole._draw()[0])
    run = made()
    found = by_task(run, run._draw()[0])
    for i, weight in enumerate(whole.shared):
        parts = [gradients[i].to_dense() for gradients in found if gradients[i] is not None]
        assert len(parts) == 3
        assert_close(torch.stack(parts).sum(0), weight.grad.to_dense(), rtol=1e-9, atol=1e-12)


def test_a_copy_trains_saves_loads_and_predicts_with_it(tmp_path: Path):
    copy = MODERNBERT.copy(tmp_path / "copy")
    set_up(copy / "toy")
    (copy / "texts.csv").write_text("sentence\na good film\nthe dog was bad\n")
    toy, few = str(copy / "toy/toy.yaml"), ["--set", "train.rounds=3"]
    techniques = ["model.lora={rank: 2}", "model.pal={width: 4, heads: 2}", "tasks.sst.losses=[ce, smart]"]
    done = guide.run(
        copy,
        ["train", toy, *few, "--set", "train.aggregation=pcgrad", "--set", "train.layer_decay=0.5", "--out", "run"],
        ["train", toy, *few, *(part for one in techniques for part in ("--set", one)), "--out", "changed"],
        ["predict", "run", "--task", "sst", "--input", "texts.csv", "--output", "answers.jsonl"],
        ["predict", "changed", "--task", "sst", "--input", "texts.csv", "--output", "others.jsonl"],
    )
    assert [code for code, _, _ in done] == [0, 0, 0, 0], done
    for run, answers in (("run", "answers.jsonl"), ("changed", "others.jsonl")):
        assert len((copy / answers).read_text().splitlines()) == 2
        saved = next((copy / run).rglob("config.json")).parent
        model, report = transformers.AutoModel.from_pretrained(saved, output_loading_info=True)
        assert type(model) is transformers.ModernBertModel
        assert not any(report.values())
        before = transformers.AutoModel.from_pretrained(copy / "toy/encoder")
        assert not torch.equal(model.layers[1].mlp.Wi.weight, before.layers[1].mlp.Wi.weight)
