"""``--part I/N``: the items of each share, and the texts that name no share."""

import pytest

from mtbert.part_share import PartShare, share_of


@pytest.mark.parametrize(
    "text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", "٢/٣", "", "x", "1 /2", "1/9999999"]
)
def test_a_share_that_does_not_exist_is_refused(text):
    with pytest.raises(ValueError, match=r"part must be I/N with I from 1 to N, found "):
        share_of(text)
    assert share_of("2/3") == PartShare(1, 3)


def test_each_item_belongs_to_one_share_and_each_share_has_every_nth_item():
    assert [[item for item in range(7) if share_of(f"{i}/3").has(item)] for i in (1, 2, 3)] == [
        [0, 3, 6],
        [1, 4],
        [2, 5],
    ]
    assert all(share_of(None).has(item) for item in range(7))
