"""Low-rank updates of an encoder against explicitly changed weights; what is trained, and what is saved.

Dimension key: N tokens of a step, D width.
"""

import copy

import pytest
import torch
from pydantic import ValidationError
from tiny import CPU, hf_folder, ragged
from torch import Tensor
from torch.testing import assert_close

from mtbert.model.attention import Groups
from mtbert.model.encoder import Encoder
from mtbert.model.lora import Change, add, merged
from mtbert.model.settings import Lora
from mtbert.model.weights import load_encoder, save_encoder

EXACT = {"rtol": 1e-12, "atol": 1e-12}
BATCH = ragged({"a": [1, 3, 9], "b": [2, 17]})
MATRICES = [f"layers.{i}.{name}" for i in range(3) for name in ("qkv", "attention_output", "intermediate", "output")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of an encoder of width 24 and intermediate width 36, with 3 layers and large weights."""
    return hf_folder("bert", tmp_path_factory.mktemp("model"))


@pytest.fixture
def plain(folder):
    return load_encoder(str(folder)).encoder.double()


@pytest.fixture
def changed(folder):
    """Returns the same encoder with low-rank updates whose B is random too."""
    encoder = load_encoder(str(folder)).encoder.double()
    add(encoder, Lora(rank=2, alpha=3), seed=0)
    disturb(encoder)
    return encoder


def changes(encoder: Encoder) -> dict[str, Change]:
    return {name: encoder.get_submodule(f"{name}.parametrizations.weight.0") for name in MATRICES}


def disturb(encoder: Encoder) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for change in changes(encoder).values():
            change.b.copy_(0.5 * torch.randn(change.b.shape, generator=generator, dtype=torch.float64))


def hidden(encoder: Encoder) -> Tensor:
    x_ND = encoder.embed(BATCH.ids_N, BATCH.segments_N, BATCH.positions_N, None)
    return encoder.encode(x_ND, Groups(BATCH.layout, CPU), None)


def targets() -> Tensor:
    return torch.randn(32, 24, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_untrained_changes_leave_the_states_of_the_encoder_as_they_are(folder, plain, bfloat16):
    encoder = load_encoder(str(folder)).encoder.double()
    add(encoder, Lora(), seed=0)
    if bfloat16:
        encoder.float(), plain.float()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        assert torch.equal(hidden(encoder), hidden(plain))
    for change in changes(encoder).values():
        assert (change.a != 0).any()
        assert (change.b == 0).all()


@pytest.mark.parametrize(("rank", "alpha"), [(1, 16.0), (3, 1.5), (30, 16.0)])  # 30: wider than the encoder
def test_states_and_gradients_equal_those_of_explicitly_changed_weights(folder, plain, rank, alpha):
    encoder = load_encoder(str(folder)).encoder.double()
    add(encoder, Lora(rank=rank, alpha=alpha), seed=0)
    disturb(encoder)
    stacks = {"qkv": 3, "attention_output": 1, "intermediate": 1, "output": 1}
    with torch.no_grad():
        for name, change in changes(encoder).items():
            products = [change.b[p] @ change.a[p] for p in range(stacks[name.split(".")[-1]])]
            assert len(products) == len(change.a) == len(change.b)
            plain.get_submodule(name).weight += alpha / rank * torch.cat(products)
    assert_close(hidden(encoder), hidden(plain), **EXACT)

    (hidden(encoder) * targets()).sum().backward()
    (hidden(plain) * targets()).sum().backward()
    for name, change in changes(encoder).items():
        full = alpha / rank * plain.get_submodule(name).weight.grad.view(len(change.a), -1, change.a.shape[2])
        assert_close(change.a.grad, change.b.detach().transpose(1, 2) @ full, rtol=1e-9, atol=1e-9)
        assert_close(change.b.grad, full @ change.a.detach().transpose(1, 2), rtol=1e-9, atol=1e-9)


def test_only_the_changes_of_the_layers_matrices_are_trained(changed):
    trained = {name for name, parameter in changed.named_parameters() if parameter.requires_grad}
    assert trained == {f"{name}.parametrizations.weight.0.{part}" for name in MATRICES for part in "ab"}
    # Per layer 3 * (2 * 24 + 24 * 2), then 2 * 24 + 24 * 2, 2 * 24 + 36 * 2 and 2 * 36 + 24 * 2.
    assert sum(parameter.numel() for parameter in changed.parameters() if parameter.requires_grad) == 3 * 624
    (hidden(changed) * targets()).sum().backward()
    for name, parameter in changed.named_parameters():
        assert (parameter.grad is None) == (name not in trained)
        assert parameter.grad is None or parameter.grad.abs().max() > 0


def test_a_projection_of_the_embeddings_is_not_changed(tmp_path):
    encoder = load_encoder(str(hf_folder("electra", tmp_path))).encoder
    add(encoder, Lora(), seed=0)
    assert type(encoder.embedding_projection) is torch.nn.Linear
    assert not encoder.embedding_projection.weight.requires_grad
    assert len(changes(encoder)) == 12


@pytest.mark.parametrize("p", range(3))
def test_query_key_and_value_change_independently(changed, plain, p):
    change = changes(changed)["layers.1.qkv"]
    assert change.a.shape == (3, 2, 24)
    assert change.b.shape == (3, 24, 2)
    with torch.no_grad():
        change.b[[q for q in range(3) if q != p]] = 0
    difference = (changed.layers[1].qkv.weight - plain.layers[1].qkv.weight).detach()
    expected = torch.zeros(72, 24, dtype=torch.float64)
    expected[24 * p : 24 * (p + 1)] = 1.5 * (change.b[p] @ change.a[p]).detach()
    assert_close(difference, expected, **EXACT)
    assert not torch.equal(change.a[p], change.a[(p + 1) % 3])


def test_a_merged_copy_is_a_plain_encoder_and_leaves_the_original(changed, plain):
    with torch.no_grad():
        before = hidden(changed)
        copied = merged(changed)
        assert_close(hidden(copied), before, **EXACT)
        assert torch.equal(hidden(changed), before)
        assert (before - hidden(plain)).abs().max() > 0.1
    assert list(copied.state_dict()) == list(plain.state_dict())
    assert type(copied.layers[0].qkv) is torch.nn.Linear
    ours = {parameter.data_ptr() for parameter in changed.parameters()}
    for parameter in copied.parameters():
        assert type(parameter) is torch.nn.Parameter
        assert (parameter.is_leaf, parameter.requires_grad, parameter.is_contiguous()) == (True, True, True)
        assert parameter.data_ptr() not in ours


def test_a_merged_copy_is_saved_as_any_encoder(changed, tmp_path):
    copied = merged(changed)
    save_encoder(copied, tmp_path)
    loaded = load_encoder(str(tmp_path))
    assert (loaded.missing, loaded.unexpected) == ((), ())
    for name, tensor in loaded.encoder.state_dict().items():
        assert torch.equal(tensor, copied.state_dict()[name].float())


def test_a_deep_copy_is_merged_on_its_own(changed):
    twin = copy.deepcopy(changed)
    with torch.no_grad():
        for change in changes(twin).values():
            change.b.zero_()
        before = hidden(changed)
        merged(twin)
        assert torch.equal(hidden(changed), before)
        assert (hidden(merged(twin)) - before).abs().max() > 0.1


def test_an_encoder_without_changes_is_its_own_merged_copy(plain):
    assert merged(plain) is plain


def test_the_first_weights_depend_on_seed_and_name_alone(folder):
    def made(seed: int, rank: int = 2) -> dict[str, Tensor]:
        encoder = load_encoder(str(folder)).encoder
        before = torch.get_rng_state()
        add(encoder, Lora(rank=rank), seed)
        assert torch.equal(torch.get_rng_state(), before)
        return {name: change.a.detach() for name, change in changes(encoder).items()}

    first, again, other = made(0), made(0), made(1)
    for name in MATRICES:
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])
    assert not torch.equal(first["layers.0.intermediate"], first["layers.1.intermediate"])
    wide = made(0, rank=500)
    assert wide["layers.0.qkv"].std().item() == pytest.approx((3 * 24) ** -0.5, rel=0.02)
    assert wide["layers.0.output"].std().item() == pytest.approx((3 * 36) ** -0.5, rel=0.02)
    assert wide["layers.0.output"].abs().max() > 3 * (3 * 36) ** -0.5  # Gaussian, not uniform


@pytest.mark.parametrize(("settings", "path"), [({"rank": 0}, "rank"), ({"alpha": 0}, "alpha"), ({"r": 8}, "'r'")])
def test_a_change_of_no_rank_or_no_size_is_refused(settings, path):
    with pytest.raises(ValidationError, match=path):
        Lora(**settings)


def test_the_defaults_are_rank_8_and_alpha_16():
    assert Lora().model_dump() == {"rank": 8, "alpha": 16.0}
