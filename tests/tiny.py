"""Small objects that several tests share, each made from literal settings or a seeded generator."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import core_model_loading
from transformers.models.modernbert import modeling_modernbert

from mtbert.batch import Dataset, Example, Examples, Layout, Sequences, Span, StepBatch
from mtbert.environment import RunRecord
from mtbert.model.encoder import Encoder, EncoderConfig
from mtbert.model.families import bert
from mtbert.model.model import Model
from mtbert.model.native import NativeHead
from mtbert.model.settings import Pal
from mtbert.task import Pooling, Task

CPU = torch.device("cpu")
RECORD = RunRecord(
    python="3.11",
    packages={"torch": "2.13.0"},
    platform="toy",
    cpu="toy",
    cores=2,
    threads=1,
    device="cpu",
    git_commit=None,
    data={},
    recipe="0",
)

# Encoders ------------------------------------------------------------------------------------------

MAX_LENGTH = 40
VOCAB = 99
_SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 36,
    "max_position_embeddings": MAX_LENGTH,
    "initializer_range": 0.5,
}
_ROBERTA = _SHAPE | {"max_position_embeddings": MAX_LENGTH + 2, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
_MODERN = {name: size for name, size in _SHAPE.items() if name != "initializer_range"} | {
    "local_attention": 8,
    **dict.fromkeys(["pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"], 0),
}
_ROTARY = _SHAPE | {"pad_token_id": 0}
# Two heads of 12 numbers: transformers computes the scale sqrt(3 * 12) in float32, which must be exact there. Distances
# beyond 8 share buckets.
_DEBERTA = _SHAPE | {
    "num_attention_heads": 2,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_buckets": 16,
}
CONFIGS: Mapping[str, transformers.PreTrainedConfig] = {
    "bert": transformers.BertConfig(**_SHAPE),
    "bert gelu_new": transformers.BertConfig(**_SHAPE, hidden_act="gelu_new"),
    "bert relu": transformers.BertConfig(**_SHAPE, hidden_act="relu"),
    "roberta": transformers.RobertaConfig(**_ROBERTA),
    "xlm-roberta": transformers.XLMRobertaConfig(**_ROBERTA),
    "camembert": transformers.CamembertConfig(**_ROBERTA),
    # Layers 1 and 2 of 3 have a window of 4 tokens on each side.
    "modernbert": transformers.ModernBertConfig(**_MODERN),
    "modernbert biased": transformers.ModernBertConfig(
        **_MODERN
        | {"local_attention": 14, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
        **dict.fromkeys(["norm_bias", "attention_bias", "mlp_bias", "classifier_bias"], True),
        hidden_activation="gelu_pytorch_tanh",
        rope_parameters={"full_attention": {"rope_theta": 77.0}, "sliding_attention": {"rope_theta": 5.0}},
    ),
    "mpnet": transformers.MPNetConfig(**_SHAPE | {"max_position_embeddings": MAX_LENGTH + 2, "layer_norm_eps": 1e-5}),
    "deberta-v2": transformers.DebertaV2Config(**_DEBERTA, position_biased_input=False),
    "deberta-v2 plain": transformers.DebertaV2Config(
        **_DEBERTA
        | {"norm_rel_ebd": "none", "position_buckets": -1, "type_vocab_size": 2, "max_relative_positions": 20}
    ),
    "nomic_bert": transformers.NomicBertConfig(**_ROTARY),
    "gte": transformers.GteConfig(
        **_ROTARY, type_vocab_size=2, rope_parameters={"rope_type": "default", "rope_theta": 77.0}
    ),
    "gte plain": transformers.GteConfig(**_ROTARY, type_vocab_size=0, hidden_act="gelu_new"),
    "electra": transformers.ElectraConfig(**_SHAPE, embedding_size=16),
    "electra wide": transformers.ElectraConfig(**_SHAPE, embedding_size=24, hidden_act="gelu_new"),
    "distilbert": transformers.DistilBertConfig(
        vocab_size=VOCAB, dim=24, n_layers=3, n_heads=4, hidden_dim=36, max_position_embeddings=MAX_LENGTH
    ),
    "distilbert sinusoidal": transformers.DistilBertConfig(
        vocab_size=VOCAB,
        dim=24,
        n_layers=3,
        n_heads=4,
        hidden_dim=36,
        max_position_embeddings=MAX_LENGTH,
        sinusoidal_pos_embds=True,
    ),
}


def _rotated(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, ...]:
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return tuple(x * cos + modeling_modernbert.rotate_half(x) * sin for x in (q, k))


# ModernBERT there rotates in float32, and its eager softmax is in float32, which large weights blow up to 1e-5.
ROTATED_IN_FLOAT32 = modeling_modernbert.apply_rotary_pos_emb  # the library's own function
modeling_modernbert.apply_rotary_pos_emb = _rotated
IN_FLOAT32 = ("modernbert",)  # families whose eager attention is in float32 whatever the weights are


def exact_attention(family: str) -> str:
    """Returns the name of an attention of transformers that is in float64 if the weights are."""
    return "sdpa" if family in IN_FLOAT32 else "eager"


def hf_model(kind: str, seed: int = 0) -> transformers.PreTrainedModel:
    """Returns a transformers model in float64 and evaluation mode, with large random weights and biases.

    With the usual initial size of weights, 0.02, exact and tanh GELU agree to 1e-5; with 0.5 they do not.
    """
    how = exact_attention(CONFIGS[kind].model_type)
    model = transformers.AutoModel.from_config(CONFIGS[kind], attn_implementation=how, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            if "norm.weight" in name.lower():
                parameter += 1.0
    return model.eval()


def names_in_files(model: transformers.PreTrainedModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns ``tensors``, whose names are those of parameters of ``model``, with the names that files have."""
    return core_model_loading.revert_weight_conversion(model, dict(tensors))


def hf_folder(kind: str, folder: Path, seed: int = 0) -> Path:
    """Returns the folder that ``save_pretrained`` writes for :func:`hf_model`; the numbers in it are float64."""
    hf_model(kind, seed).save_pretrained(folder)
    return folder


# Batches -------------------------------------------------------------------------------------------


def ragged(lengths: Mapping[str, Sequence[int]], *, packed: bool = False, seed: int = 0) -> StepBatch:
    """Returns a batch of random tokens (ids from 5 on) in sequences of the given lengths per task.

    The lengths must be sorted. With ``packed``, the second half of each sequence has segment id 1.
    """
    generator = torch.Generator().manual_seed(seed)
    offsets, spans = [0], {}
    segments, positions = [], []
    for task, sizes in lengths.items():
        assert list(sizes) == sorted(sizes)
        first, start = len(offsets) - 1, offsets[-1]
        for size in sizes:
            offsets.append(offsets[-1] + size)
            positions.append(torch.arange(size))
            segments.append((torch.arange(size) >= (size + 1) // 2).long() * packed)
        spans[task] = Span(first, len(offsets) - 1, start, offsets[-1])
    return StepBatch(
        layout=Layout(tuple(offsets), spans),
        ids_N=torch.randint(5, VOCAB, (offsets[-1],), generator=generator),
        segments_N=torch.cat(segments),
        positions_N=torch.cat(positions),
        places={},
        labels={},
        example_ids={},
        clusters={},
    )


def pieces(x_N: Tensor, layout: Layout) -> list[Tensor]:
    """Returns a tensor over all tokens, split into sequences."""
    return [x_N[start:stop] for start, stop in zip(layout.offsets, layout.offsets[1:], strict=False)]


# Models and data -----------------------------------------------------------------------------------

WIDTH = 8


def model(
    *tasks: Task,
    pooling: Pooling = "cls",
    seed: int = 0,
    pooler: bool = True,
    dropout: float = 0.0,
    layers: int = 1,
    adapters: Pal | None = None,
    unshare: int = 0,
    shape: Mapping[str, Any] = {},
) -> Model:
    """Returns a model: a BERT with large random weights that depend only on ``seed``, and heads for its tasks.

    ``shape`` changes other settings of the encoder.
    """
    config = EncoderConfig(
        family="bert",
        layer=bert.layer,
        vocab_size=VOCAB,
        width=WIDTH,
        embedding_width=WIDTH,
        layers=layers,
        heads=2,
        intermediate=16,
        activation="gelu",
        layer_norm_eps=1e-12,
        max_length=MAX_LENGTH,
        position_offset=0,
        segment_types=2,
        pooler=pooler,
        hidden_dropout=dropout,
        attention_dropout=dropout,
        native=NativeHead(names=("classifier",), pooler=True),
    )
    encoder = Encoder(replace(config, **shape))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in encoder.named_parameters():
        torch.nn.init.normal_(
            parameter, mean=1.0 if name.endswith("norm.weight") else 0.0, std=0.5, generator=generator
        )
    named = {task.name: task for task in tasks}
    return Model(encoder, named, pooling=pooling, max_length=MAX_LENGTH, seed=seed, adapters=adapters, unshare=unshare)


def dataset(
    task: Task, *lengths: Sequence[int], labels: Sequence[float | None] | None = None, seed: int = 0
) -> Dataset:
    """Returns examples ``a0``, ``a1``, ... of random tokens; ``lengths`` are given per sequence of an example."""
    rng = np.random.default_rng(seed)
    sequences = []
    for sizes in lengths:
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        ids = rng.integers(5, VOCAB, offsets[-1]).astype(np.int32)
        sequences.append(Sequences(ids, np.zeros_like(ids), offsets))
    labels = labels if labels is not None else [None] * len(lengths[0])
    examples = Examples.of(Example(f"a{i}", ("x",), label) for i, label in enumerate(labels))
    return Dataset.whole(task, examples, tuple(sequences))
