"""Encoders with the weights of transformers models, and the states between their layers."""

import pytest
import torch
import torch.nn.attention.varlen
from tiny import CPU, MAX_LENGTH, hf_folder, hf_model, names_in_files

from mtbert.batch import StepBatch
from mtbert.model.attention import Groups
from mtbert.model.encoder import Encoder
from mtbert.model.weights import encoder_names, load_encoder

EXACT = {"rtol": 1e-8, "atol": 1e-8}
LENGTHS = {"a": [1, 1, 3, 8, 9, 15, 16, MAX_LENGTH], "b": [2, 7, 7, 7], "c": [17, 39]}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Our encoder of each kind, float64, with the weights of ``hf_model(kind)``."""
    loaded = {}

    def get(kind: str) -> Encoder:
        if kind not in loaded:
            folder = hf_folder(kind, tmp_path_factory.mktemp("model"))
            loaded[kind] = load_encoder(str(folder)).encoder
        return with_weights(loaded[kind], kind)

    return get


def with_weights(encoder: Encoder, kind: str) -> Encoder:
    """Returns ``encoder`` in float64, with the weights of ``hf_model(kind)``; the loader returns float32."""
    model, names = hf_model(kind), encoder_names(encoder.config)
    theirs = names_in_files(model, model.state_dict())
    encoder.double().load_state_dict({ours: torch.cat([theirs[t] for t in names[ours]]) for ours in names})
    encoder.zero_grad()
    return encoder


def run(encoder: Encoder, batch: StepBatch, generator=None) -> list[torch.Tensor]:
    """Returns the input of each layer and the output of the last, ``[N, D]`` each."""
    states: list[torch.Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, args: states.append(args[0])) for layer in encoder.layers]
    x_ND = encoder.embed(batch.ids_N, batch.segments_N, batch.positions_N, generator)
    states.append(encoder.encode(x_ND, Groups(batch.layout, CPU), generator))
    for hook in hooks:
        hook.remove()
    return states
