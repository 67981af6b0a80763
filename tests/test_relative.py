"""Relative positions: buckets, rows by distance, and which rows a group of sequences reads.

Dimension key: R distances.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
import toy_encoder
from tiny import CPU, MAX_LENGTH, pieces, ragged
from torch import Tensor
from torch.testing import assert_close
from toy_encoder import EXACT, run
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from mtbert.model import attention, mix, relative
from mtbert.model.attention import Groups
from mtbert.model.encoder import Encoder
from mtbert.model.families import deberta_v2, mpnet
from mtbert.model.freeze import freeze
from mtbert.model.relative import RelativeEmbedding, by_key, distances_in
from mtbert.model.weights import load_encoder

encoders = toy_encoder.encoders
Encoders = Callable[[str], Encoder]


def test_buckets_of_mpnet_grow_with_the_distance_and_say_on_which_side_the_key_is():
    values_R = torch.tensor([0, -1, -7, -8, -11, -12, -16, -90, -91, -128, -5000, 1, 7, 8, 91, 5000])
    assert mpnet.bucket(values_R).tolist() == [0, 1, 7, 8, 8, 9, 10, 14, 15, 15, 15, 17, 23, 24, 31, 31]
    values_R = torch.arange(-600, 601)
    assert torch.equal(mpnet.bucket(values_R), MPNetEncoder.relative_position_bucket(values_R))


def test_buckets_of_deberta_are_single_distances_up_to_half_of_them_and_then_ranges():
    found = deberta_v2.buckets(256, 512, 512)
    assert found[:129] == [*range(129)]
    assert (found[129:133], found[300], found[510:]) == ([129, 130, 131, 131], 207, [255, 255])
    assert deberta_v2.buckets(256, 512, 5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("span", "farthest"), [(256, 512), (256, 300), (33, 100), (2, 40), (8, 8)])
def test_rows_of_deberta_are_those_of_transformers(span: int, farthest: int):
    values_R = torch.arange(-600, 601)
    found = deberta_v2.row(span, deberta_v2.buckets(span, farthest, 601), values_R)
    expected = (make_log_bucket_position(-values_R, span, farthest).long() + span).clamp(0, 2 * span - 1)
    assert torch.equal(found, expected)
    assert deberta_v2.row(4, None, torch.tensor([-9, -3, 0, 1, 4, 9])).tolist() == [7, 7, 4, 3, 0, 0]


def test_numbers_by_distance_become_numbers_by_key():
    by_distance = 10 * torch.arange(3)[:, None] + torch.arange(6)  # the tens are the query, and 3 is distance 0
    expected = [[3, 4, 5], [12, 13, 14], [21, 22, 23]]
    assert by_key(by_distance).tolist() == expected
    assert (by_key(torch.stack([by_distance, by_distance + 100]))[1] - 100).tolist() == expected


def test_a_single_token_has_distance_0_to_itself():
    assert by_key(torch.tensor([[5, 7]])).tolist() == [[7]]


def test_all_groups_share_the_distances_of_the_longest_sequence():
    found = distances_in(Groups(ragged({"a": [1, 3], "b": [2]}).layout, CPU))
    assert found.values_R.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert (found.zero, found.spans) == (3, {})


def test_spans_that_are_kept_apart_have_distances_of_their_own():
    found = distances_in(Groups(ragged({"a": [1, 3], "b": [2]}).layout, CPU), apart=True)
    assert found.values_R.tolist() == [-3, -2, -1, 0, 1, 2, 3, -2, -1, 0, 1, 2]
    assert found.zero == {"a": 3, "b": 9}
    assert found.spans == {"a": slice(0, 7), "b": slice(7, 12)}


@pytest.mark.parametrize("lengths", [[1, 3, 3], [1, 1, 1], [2, 2, 2, 2, 2]])
def test_the_number_of_distances_tells_them_from_tokens_and_sequences(lengths: list[int]):
    layout = ragged({"a": lengths}).layout
    count = len(distances_in(Groups(layout, CPU), apart=True).values_R)
    assert count not in (layout.offsets[-1], len(lengths))
    assert count > 2 * max(lengths) + 1  # this number would be that of the tokens or sequences


@pytest.mark.parametrize("kind", ["mpnet", "deberta-v2"])
def test_the_table_is_read_once_in_a_pass(kind: str, encoders: Encoders):
    encoder, batch, seen = encoders(kind), ragged({"a": [3, 5], "b": [20]}), []
    assert encoder.relative is not None
    hook = encoder.relative.table.register_forward_hook(lambda _, given, out: seen.append(len(out)))
    with torch.no_grad():
        run(encoder, batch)
    hook.remove()
    assert seen == [41]


def test_the_biases_of_a_hundred_sequences_are_kept_once(encoders: Encoders, monkeypatch: pytest.MonkeyPatch):
    encoder, made, bias = encoders("mpnet"), [], relative._bias

    def noted(rows_RH: Tensor) -> Tensor:
        made.append(bias(rows_RH))
        return made[-1]

    monkeypatch.setattr(relative, "_bias", noted)
    with torch.no_grad():
        run(encoder, ragged({"a": [8] * 97 + [20], "b": [7, 8, 8]}))
    assert len(encoder.layers) > 1
    # One result for each group; in memory, it holds the biases of each query and distance.
    sizes = [x.untyped_storage().nbytes() // x.element_size() for x in made]
    assert sizes == [encoder.config.heads * length * 2 * length for length in (8, 20, 8)]


def test_rows_of_one_span_are_those_of_its_distances(encoders: Encoders):
    encoder, groups = encoders("deberta-v2"), Groups(ragged({"a": [1, 9], "b": [5], "c": [3, 7]}).layout, CPU)
    rows = encoder.by_distance(encoder.distances(groups, apart=True))
    alone = encoder.by_distance(encoder.distances(Groups(ragged({"b": [5]}).layout, CPU)))
    assert rows is not None
    assert alone is not None
    found = rows.only("b")
    assert found.zero == 5
    assert torch.equal(found.rows_RW, alone.rows_RW)
    assert found.index_R.tolist() == alone.index_R.tolist()
    assert len(rows.only("c").index_R) == 15
    assert alone.only("b") is alone


def test_all_layers_share_the_places_of_distances_in_the_table(encoders: Encoders, monkeypatch: pytest.MonkeyPatch):
    encoder, asked = encoders("deberta-v2"), []
    vectors = encoder.relative
    assert isinstance(vectors, RelativeEmbedding)
    row = vectors.row
    monkeypatch.setattr(vectors, "rate", 0.1)
    monkeypatch.setattr(vectors, "row", lambda values_R: asked.append(len(values_R)) or row(values_R))
    with torch.no_grad():
        run(encoder, ragged({"a": [20]}), torch.Generator())
    assert asked == [41]
    assert len(encoder.layers) > 1


@pytest.mark.parametrize("kind", ["mpnet", "deberta-v2"])
def test_the_table_is_frozen_with_the_embeddings(kind: str, encoders: Encoders):
    encoder = encoders(kind)
    assert encoder.relative is not None
    assert {encoder.depths()[weight] for weight in encoder.relative.parameters()} == {0}
    freeze(encoder, 0)
    assert not any(weight.requires_grad for weight in encoder.relative.parameters())
    assert encoder.layers[0].qkv.weight.requires_grad
    encoder.requires_grad_(True)


@pytest.mark.parametrize("kind", ["mpnet", "deberta-v2"])
def test_the_kernel_without_biases_is_not_used(kind: str, encoders: Encoders, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attention, "_has_kernel", lambda *given: pytest.fail("asked for a kernel"))
    with torch.no_grad():
        run(encoders(kind), ragged({"a": [3]}))


@pytest.mark.parametrize("kind", ["mpnet", "deberta-v2"])
def test_long_sequences_have_relative_positions_too(kind: str, encoders: Encoders, monkeypatch: pytest.MonkeyPatch):
    batch = ragged({"a": [3, 5, 20]})
    with torch.no_grad():
        expected = run(encoders(kind), batch)[-1]
        monkeypatch.setattr(mix, "LONG", 4)
        assert torch.equal(run(encoders(kind), batch)[-1], expected)


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("mpnet", {"max_position_embeddings": 514}),
        ("deberta-v2", {"max_position_embeddings": 512, "position_buckets": 256}),
        ("deberta-v2", {"max_position_embeddings": 512, "position_buckets": 33, "max_relative_positions": 100}),
        ("deberta-v2", {"max_position_embeddings": 512, "position_buckets": 1100}),  # each distance has its own
        ("deberta-v2 plain", {"max_position_embeddings": 512}),
    ],
)
def test_long_sequences_equal_transformers(
    kind: str, keys: dict[str, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    config = type(tiny.CONFIGS[kind])(**tiny.CONFIGS[kind].to_dict() | keys)
    monkeypatch.setattr(tiny, "CONFIGS", {kind: config})
    model = tiny.hf_model(kind)
    encoder = toy_encoder.with_weights(load_encoder(str(tiny.hf_folder(kind, tmp_path))).encoder, kind)
    batch = ragged({"a": [1, 90, 130, 300, 512]})
    with torch.no_grad():
        ours = pieces(run(encoder, batch)[-1], batch.layout)
        for mine, ids in zip(ours, pieces(batch.ids_N, batch.layout), strict=True):
            assert_close(mine, model(input_ids=ids[None]).last_hidden_state[0], **EXACT)
    assert encoder.config.max_length == 512 > MAX_LENGTH
