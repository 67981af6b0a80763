"""Relative positions: buckets, rows by distance, and which rows a group of sequences reads.

Dimension key: R distances.
"""

from collections.abc import Callable

import pytest
import tiny
import torch
import toy_encoder
import transformers
from tiny import CPU, MAX_LENGTH, pieces, ragged
from torch.testing import assert_close
from toy_encoder import EXACT, run
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from mtbert.model import attention
from mtbert.model.attention import Groups
from mtbert.model.encoder import Encoder
from mtbert.model.families import mpnet
from mtbert.model.freeze import freeze
from mtbert.model.relative import by_key, distances_in
from mtbert.model.weights import load_encoder

encoders = toy_encoder.encoders
Encoders = Callable[[str], Encoder]


def test_buckets_of_mpnet_grow_with_the_distance_and_say_on_which_side_the_key_is():
    values_R = torch.tensor([0, -1, -7, -8, -11, -12, -16, -90, -91, -128, -5000, 1, 7, 8, 91, 5000])
    assert mpnet.bucket(values_R).tolist() == [0, 1, 7, 8, 8, 9, 10, 14, 15, 15, 15, 17, 23, 24, 31, 31]
    values_R = torch.arange(-600, 601)
    assert torch.equal(mpnet.bucket(values_R), MPNetEncoder.relative_position_bucket(values_R))


@pytest.mark.parametrize("zero", [2, 3])
def test_numbers_by_distance_become_numbers_by_key(zero: int):
    by_distance = 10 * torch.arange(3)[:, None] + torch.arange(6)  # the tens are the query
    expected = [[zero, zero + 1, zero + 2], [9 + zero, 10 + zero, 11 + zero], [18 + zero, 19 + zero, 20 + zero]]
    assert by_key(by_distance, zero).tolist() == expected
    assert by_key(torch.stack([by_distance, by_distance + 100]), zero)[1].tolist() == [
        [100 + number for number in row] for row in expected
    ]


def test_a_single_token_has_distance_0_to_itself():
    assert by_key(torch.tensor([[5, 7]]), 0).tolist() == [[5]]


def test_all_groups_share_the_distances_of_the_longest_sequence():
    found = distances_in(Groups(ragged({"a": [1, 3], "b": [2]}).layout, CPU))
    assert found.values_R.tolist() == [-2, -1, 0, 1, 2, 3]
    assert (found.zero, found.spans) == (2, {})


def test_spans_that_are_kept_apart_have_distances_of_their_own():
    found = distances_in(Groups(ragged({"a": [1, 3], "b": [2]}).layout, CPU), apart=True)
    assert found.values_R.tolist() == [-2, -1, 0, 1, 2, 3, -1, 0, 1, 2]
    assert found.zero == {"a": 2, "b": 7}
    assert found.spans == {"a": slice(0, 6), "b": slice(6, 10)}


@pytest.mark.parametrize("lengths", [[1, 3], [2, 2, 2], [1, 1, 1, 1, 2]])
def test_the_number_of_distances_tells_them_from_tokens_and_sequences(lengths: list[int]):
    layout = ragged({"a": lengths}).layout
    count = len(distances_in(Groups(layout, CPU), apart=True).values_R)
    assert count not in (layout.offsets[-1], len(lengths))
    assert count >= 2 * max(lengths)


def test_the_table_is_read_once_in_a_pass(encoders: Encoders):
    encoder, batch, seen = encoders("mpnet"), ragged({"a": [3, 5], "b": [20]}), []
    assert encoder.relative is not None
    hook = encoder.relative.table.register_forward_hook(lambda _, given, out: seen.append(len(out)))
    with torch.no_grad():
        run(encoder, batch)
    hook.remove()
    assert seen == [40]


def test_the_table_is_frozen_with_the_embeddings(encoders: Encoders):
    encoder = encoders("mpnet")
    assert encoder.relative is not None
    assert encoder.depths()[encoder.relative.table.weight] == 0
    freeze(encoder, 0)
    assert not encoder.relative.table.weight.requires_grad
    assert encoder.layers[0].qkv.weight.requires_grad
    encoder.requires_grad_(True)


def test_the_kernel_without_biases_is_not_used(encoders: Encoders, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attention, "_has_kernel", lambda *given: pytest.fail("asked for a kernel"))
    with torch.no_grad():
        run(encoders("mpnet"), ragged({"a": [3]}))


def test_long_sequences_equal_transformers(monkeypatch: pytest.MonkeyPatch, tmp_path):
    config = transformers.MPNetConfig(**tiny.CONFIGS["mpnet"].to_dict() | {"max_position_embeddings": 514})
    monkeypatch.setattr(tiny, "CONFIGS", {"mpnet": config})
    model = tiny.hf_model("mpnet")
    encoder = toy_encoder.with_weights(load_encoder(str(tiny.hf_folder("mpnet", tmp_path))).encoder, "mpnet")
    batch = ragged({"a": [1, 90, 130, 300, 512]})
    with torch.no_grad():
        ours = pieces(run(encoder, batch)[-1], batch.layout)
        for mine, ids in zip(ours, pieces(batch.ids_N, batch.layout), strict=True):
            assert_close(mine, model(input_ids=ids[None]).last_hidden_state[0], **EXACT)
    assert encoder.config.max_length == 512 > MAX_LENGTH
