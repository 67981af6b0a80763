import io
import os
import pickle
import resource
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from foreign import NO_FILES, edit, refused, replace_by, retensor
from safetensors.torch import load_file
from tiny import hf_folder, hf_model

from mtbert.model import weights
from mtbert.model.weights import encoder_state, load_encoder


@pytest.fixture
def bert(tmp_path):
    return hf_folder("bert", tmp_path / "bert")


@pytest.fixture
def pickled(bert):
    """Returns a folder with a pytorch_model.bin."""
    torch.save(load_file(bert / "model.safetensors"), bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()
    return bert


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", NO_FILES)
def test_weights_that_are_not_a_regular_file_are_refused(bert, name, kind):
    (bert / "model.safetensors").unlink()
    replace_by(bert / name, kind)
    refused(ValueError, bert, f"{bert}/{name}: {kind}, not a file. Fetch the model again.")


# Safetensors ---------------------------------------------------------------------------------------


def test_a_missing_shard_is_refused(tmp_path):
    hf_model("bert").save_pretrained(tmp_path, max_shard_size="10KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    refused(FileNotFoundError, tmp_path, f"{shard}: not there. Fetch the model again.")
    os.mkfifo(shard)
    refused(ValueError, tmp_path, f"{shard}: a pipe, not a file.")


def test_a_header_of_absurd_size_is_refused_unread(bert):
    file = bert / "model.safetensors"
    file.write_bytes((80_000_000).to_bytes(8, "little"))
    os.truncate(file, 80_000_100)
    refused(
        ValueError, bert, f"{file}: not a whole safetensors file (its names take 80,000,000 bytes, at most 8,388,608"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deep"),
        ("{}", "found {}"),
        ("[]", "found []"),
        ('{"weight_map": {}}', "found {}"),
        ('{"weight_map": 3}', "found 3"),
        ('{"weight_map": {"a": 3}}', "found 'a': 3"),
        ('{"weight_map": {"a": null}}', "found 'a': None"),
        ('{"weight_map": {"a": "../b.safetensors"}}', "found 'a': '../b.safetensors'"),
        ('{"weight_map": {"a": ".."}}', "found 'a': '..'"),
        ('{"weight_map": {"a": ""}}', "found 'a': ''"),
        ('{"weight_map": {"a": "/etc/x.safetensors"}}', "found 'a': '/etc/x.safetensors'"),
        ('{"weight_map": {"a": "x\\u0000.safetensors"}}', r"found 'a': 'x\x00.safetensors'"),
        ('{"weight_map": {"a\\nb": "x.safetensors\\n"}}', r"found 'a\nb': 'x.safetensors\n'"),
    ],
)
def test_an_index_that_names_no_file_beside_it_is_refused(bert, text, said):
    (bert / "model.safetensors").unlink()
    index = bert / "model.safetensors.index.json"
    index.write_text(text)
    refused(ValueError, bert, f"{index}: not ", said)


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("vocab_size", 2**24, "embeddings.word_embeddings.weight must have shape [16777216, 24]"),
        ("intermediate_size", 2**17, "encoder.layer.0.intermediate.dense.weight must have shape [131072, 24]"),
        ("max_position_embeddings", 2**20, "embeddings.position_embeddings.weight must have shape [1048576, 24]"),
    ],
)
def test_shapes_are_compared_before_anything_is_allocated(bert, key, value, name, monkeypatch):
    monkeypatch.setattr(torch, "cat", None)
    edit(bert / "config.json", **{key: value})
    refused(ValueError, bert, name, "by config.json, found [")


def test_a_width_beyond_the_weights_is_refused_in_little_memory(bert):
    edit(bert / "config.json", hidden_size=2**14, intermediate_size=2**17, num_hidden_layers=3, vocab_size=2**24)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(ValueError, bert, "embeddings.word_embeddings.weight must have shape [16777216, 16384]")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_quantized_weights_are_refused(bert):
    name = "encoder.layer.1.output.dense.weight"
    retensor(bert, lambda tensors: tensors | {name: tensors[name].to(torch.int8)})
    refused(ValueError, bert, f"{bert}: {name} must have numbers of one of F64, F32, F16, BF16, found 'I8'.")


def test_weights_larger_than_the_machine_are_refused(bert, monkeypatch):
    monkeypatch.setattr(weights.psutil, "virtual_memory", lambda: type("Memory", (), {"total": 4 * 13_000}))
    refused(ValueError, bert, f"{bert}: the weights take 0 GiB of memory, and this machine has 0. Choose a smaller")


def test_weights_do_not_stay_views_of_their_file(bert):
    encoder = load_encoder(str(bert)).encoder
    before = encoder_state(encoder)["pooler.dense.bias"].clone()
    (bert / "model.safetensors").write_bytes(b"\0" * (bert / "model.safetensors").stat().st_size)
    assert torch.equal(encoder_state(encoder)["pooler.dense.bias"], before)


# PyTorch files -------------------------------------------------------------------------------------


class Trap:
    """Unpickling this object would write a file, which shows that code from a checkpoint ran."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


class Zeros:
    """Unpickling this object would allocate nine gigabytes; PyTorch's own list of harmless names allows it."""

    def __reduce__(self):
        return bytearray, (9 * 10**9,)


def test_a_pickle_is_never_executed(pickled, tmp_path):
    file, sprung = pickled / "pytorch_model.bin", tmp_path / "sprung"
    file.write_bytes(pickle.dumps(Trap(sprung), protocol=2))
    refused(ValueError, pickled, f"{file}: not a file of plain tensors (names ", "which no plain tensor needs")
    torch.save({"embeddings.word_embeddings.weight": Trap(sprung)}, file)
    refused(ValueError, pickled, f"{file}: not a file of plain tensors (names ", "Use model.safetensors.")
    assert not sprung.exists()


@pytest.mark.parametrize("old", [False, True])
def test_a_pickle_that_makes_nine_gigabytes_of_nothing_is_refused(pickled, old):
    file = pickled / "pytorch_model.bin"
    torch.save({"a": Zeros()}, file, _use_new_zipfile_serialization=not old)
    refused(ValueError, pickled, f"{file}: not a file of plain tensors (names '", "bytearray', which no plain tensor")


def test_a_pickle_that_unpacks_to_more_than_it_has_is_refused(pickled):
    file = pickled / "pytorch_model.bin"
    packed = io.BytesIO()
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(
                member.filename, bytes(member.file_size) if "data/" in member.filename else source.read(member)
            )
    file.write_bytes(packed.getvalue())
    refused(ValueError, pickled, f"{file}: not a file of plain tensors (unpacks to ", "bytes, more than its own ")


def test_a_pickle_far_larger_than_its_encoder_is_refused(pickled):
    file = pickled / "pytorch_model.bin"
    os.truncate(file, 9 * 10**9)  # a sparse file, which takes no room on the disk
    refused(ValueError, pickled, f"{file}: has 9,000,000,000 bytes, but by config.json the weights take at most ")


def test_names_that_are_not_text_are_refused(pickled):
    file = pickled / "pytorch_model.bin"
    torch.save({3: torch.zeros(1)}, file)
    refused(ValueError, pickled, f"{file}: not a file of plain tensors (a tensor's name is 3, not a text)")
    torch.save({"\x1b[2J\n" * 1000: torch.zeros(1)}, file)
    refused(ValueError, pickled, "no weight of a bert encoder among 1 tensor, found")


def test_tensors_that_are_not_plain_are_refused(pickled):
    file = pickled / "pytorch_model.bin"
    torch.save({"a": torch.zeros(3, device="meta")}, file)
    refused(ValueError, pickled, f"{file}: not a file of plain tensors (")
    torch.save({"a": torch.eye(3).to_sparse()}, file)
    refused(ValueError, pickled, f"{file}: not a file of plain tensors (")


@pytest.mark.parametrize("old", [False, True])
def test_plain_tensors_load_from_both_formats(pickled, old):
    before = encoder_state(load_encoder(str(pickled)).encoder)
    state = OrderedDict((name, torch.nn.Parameter(t)) for name, t in hf_model("bert").float().state_dict().items())
    state["embeddings.position_ids"] = torch.arange(40)[None]
    torch.save(state, pickled / "pytorch_model.bin", _use_new_zipfile_serialization=not old)
    after = encoder_state(load_encoder(str(pickled)).encoder)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(tensor.requires_grad for tensor in after.values())


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 cut"])
def test_a_broken_torch_file_is_refused(pickled, content):
    (pickled / "pytorch_model.bin").write_bytes(content)
    refused(ValueError, pickled, f"{pickled}/pytorch_model.bin: not a file of plain tensors (")


def test_a_truncated_torch_file_is_refused(pickled):
    file = pickled / "pytorch_model.bin"
    whole = file.read_bytes()
    for cut in (10, 1000, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        refused(ValueError, pickled, f"{file}: not a file of plain tensors (")


def test_a_torch_file_without_a_dictionary_is_refused(pickled):
    torch.save([torch.zeros(1)], pickled / "pytorch_model.bin")
    refused(ValueError, pickled, f"{pickled}/pytorch_model.bin: not a file of plain tensors (a list)")
