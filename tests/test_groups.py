"""Groups of sequences: a GPU gets fewer groups, because each costs a dozen kernels per layer, with the same results."""

import pytest
import torch
from tiny import CPU, ragged
from torch.testing import assert_close

from mtbert.model import attention
from mtbert.model.attention import Groups, attend, room

LENGTHS = {"a": [1, 3, 8, 9, 17, 31, 32, 33, 64], "b": [2, 65, 128, 129]}


def test_lengths_share_a_group_by_eights_on_a_cpu_and_by_doubling_on_a_gpu():
    lengths = [1, 8, 9, 31, 32, 33, 64, 65, 512]
    assert [room(n, CPU) for n in lengths] == [8, 8, 16, 32, 32, 40, 64, 72, 512]
    assert [room(n, torch.device("cuda")) for n in lengths] == [32, 32, 32, 32, 32, 64, 64, 128, 512]


@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("rounded", [False, True])
def test_few_groups_give_the_same_attention_as_many(rounded: bool, first_only: bool, monkeypatch: pytest.MonkeyPatch):
    layout = ragged(LENGTHS).layout
    many = Groups(layout, CPU, rounded=rounded)
    draws = torch.Generator().manual_seed(0)
    qkv = torch.randn(layout.offsets[-1] + many.dummies, 3 * 8, generator=draws, dtype=torch.float64)
    expected = attend(qkv, many, 2, 0.0, None, first_only=first_only)
    monkeypatch.setattr(attention, "room", lambda length, _: room(length, torch.device("cuda")))
    few = Groups(layout, CPU, rounded=rounded)
    assert [group.sequences for group in few] == [7, 2, 1, 2, 1]
    assert [group.tokens for group in many if group.sequences == 1][:2] == [9, 17]
    assert_close(attend(qkv, few, 2, 0.0, None, first_only=first_only), expected, rtol=1e-9, atol=1e-12)
