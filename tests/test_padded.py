"""The padded twin gives the numbers of the padding-free model, for all families, poolings, heads, adapters and tops.

Dimension key: B examples, L length of padded sequences, W words, K tags.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import tiny
import torch
import toy_encoder
from torch import Tensor
from torch.testing import assert_close

from mtbert.batch import Dataset
from mtbert.collate import collate
from mtbert.model.families.known import FAMILIES
from mtbert.model.model import Model
from mtbert.model.settings import Pal
from mtbert.ragged import Ragged
from mtbert.task import Head, Pooling, Task
from mtbert.use.export.padded import PaddedModel, PaddedText

encoders = toy_encoder.encoders

EXACT = {"rtol": 1e-10, "atol": 1e-10}
LENGTHS = [7, 1, 12, 7, 30]
OTHERS = [3, 9, 1, 30, 2]


def task(name: str = "t", **changes: object) -> Task:
    return Task.model_validate(
        {"name": name, "type": "classification", "inputs": "single", "labels": ("a", "b", "c")} | changes
    )


CASES = {
    "linear, cls": task(pooling="cls"),
    "mlp, mean": task(head=Head(kind="mlp"), pooling="mean"),
    "native": task(head=Head(kind="native")),
    "packed": task(inputs="packed"),
    "no segments": task(inputs="packed", segments=False, pooling="mean"),
    "separate": task(inputs="separate", head=Head(features="concat_diff_product"), pooling="cls"),
    "cosine": task(type="regression", inputs="separate", head=Head(kind="cosine"), labels=None, range=(0, 5)),
    "yes or no": task(type="binary", labels=("no", "yes"), pooling="mean"),
}


def padded(data: Dataset, text: int = 0, junk: int = 0) -> PaddedText:
    """Returns one text of each example, padded with the token id ``junk``."""
    sequences = data.sequences[text]
    rows = [slice(a, b) for a, b in zip(sequences.offsets, sequences.offsets[1:], strict=False)]
    length = int(sequences.lengths.max())
    ids, mask, segments = (np.full((len(rows), length), fill) for fill in (junk, 0, junk % 2))
    for row, part in enumerate(rows):
        size = part.stop - part.start
        ids[row, :size], mask[row, :size], segments[row, :size] = sequences.ids[part], 1, sequences.segments[part]
    return torch.tensor(ids), torch.tensor(mask), torch.tensor(segments)


def texts_of(data: Dataset, junk: int = 0) -> list[PaddedText]:
    return [padded(data, i, junk) for i in range(len(data.sequences))]


@torch.no_grad()
def ragged_outputs(model: Model, data: Sequence[Dataset]) -> dict[str, tuple[Tensor, tuple[Tensor, ...]]]:
    batch = collate([(one, np.arange(len(one))) for one in data], tiny.CPU, model.apart)
    return {name: (out.prediction, out.vectors) for name, out in model(batch).items()}


@torch.no_grad()
def padded_outputs(
    model: Model, data: Sequence[Dataset], junk: int = 0
) -> dict[str, tuple[Tensor, tuple[Tensor, ...]]]:
    twin = PaddedModel(model, [one.task.name for one in data])
    return dict(twin(*texts_of(data[0], junk)))


def a_dataset(of: Task) -> Dataset:
    """Returns examples of random tokens. In a packed pair, every other token has segment id 1."""
    data = tiny.dataset(of, *([LENGTHS, OTHERS] if of.inputs == "separate" else [LENGTHS]))
    if of.inputs == "packed" and of.segments:
        data.sequences[0].segments[::2] = 1
    return data


def assert_same(model: Model, data: Sequence[Dataset], junk: int = 0) -> None:
    expected, found = ragged_outputs(model, data), padded_outputs(model, data, junk)
    assert list(found) == [one.task.name for one in data]
    for name in found:
        assert_close(found[name][0], expected[name][0], **EXACT)
        assert len(found[name][1]) == len(expected[name][1])
        for ours, theirs in zip(found[name][1], expected[name][1], strict=True):
            assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize(
    ("kind", "case"),
    [(kind, case) for kind in FAMILIES for case in CASES if case != "native" or kind not in ("gte", "nomic_bert")],
)
def test_padded_equals_ragged_for_every_family_and_head(kind: str, case: str, encoders):
    model = Model(encoders(kind), {"t": CASES[case]}, pooling="cls", max_length=tiny.MAX_LENGTH, seed=0).double()
    assert_same(model, [a_dataset(CASES[case])])


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_row_without_any_token_has_a_finite_answer_and_changes_no_other(kind: str, encoders):
    of = task(pooling="cls")
    model = Model(encoders(kind), {"t": of}, pooling="cls", max_length=tiny.MAX_LENGTH, seed=0).double()
    text = texts_of(a_dataset(of))[0]
    whole, mask_BL = PaddedModel(model, ["t"]), text[1].clone()
    mask_BL[1] = 0
    with torch.no_grad():
        expected, found = whole(text)["t"][0], whole((text[0], mask_BL, text[2]))["t"][0]
    assert found.isfinite().all()
    assert_close(found[[0, 2, 3, 4]], expected[[0, 2, 3, 4]], **EXACT)


@pytest.mark.parametrize("unshare", [0, 1])
@pytest.mark.parametrize("pal", [None, Pal(width=6, heads=3, tasks=("b",))])
@pytest.mark.parametrize("kind", ["mpnet", "modernbert", "deberta-v2"])
def test_relative_positions_and_windows_reach_adapters_and_own_tops(kind: str, pal: Pal | None, unshare: int, encoders):
    tasks = {name: task(name, pooling="mean") for name in ("a", "b")}
    settings = {"pooling": "mean", "max_length": tiny.MAX_LENGTH, "seed": 0, "adapters": pal, "unshare": unshare}
    model = Model(encoders(kind), tasks, **settings).double()
    model.encoder.requires_grad_(True)
    whole = a_dataset(tasks["a"])
    assert_same(model, [Dataset(one, whole.examples, whole.sequences, whole.rows) for one in tasks.values()])


@pytest.mark.parametrize("unshare", [0, 1, 2])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(
    "pal", [None, Pal(width=6, heads=3, tasks=("b",)), Pal(width=6, heads=3), Pal(kind="low_rank", width=5)]
)
def test_tasks_with_and_without_adapters_and_own_tops_answer_together(pal: Pal | None, pooling: Pooling, unshare: int):
    tasks = [task("a"), task("b", head=Head(kind="mlp")), task("c", type="ordinal")]
    model = tiny.model(*tasks, layers=3, pooling=pooling, adapters=pal, unshare=unshare).double()
    for module in (*model.adapters.parameters(), *model.tops.parameters()):
        torch.nn.init.normal_(module, std=0.5, generator=torch.Generator().manual_seed(1))
    whole = a_dataset(tasks[0])
    assert_same(model, [Dataset(one, whole.examples, whole.sequences, whole.rows) for one in tasks])


def test_the_ids_and_segments_of_padding_change_no_answer():
    of = task(inputs="packed", pooling="mean")
    model = tiny.model(of, layers=2, pooler=False).double()
    assert_same(model, [a_dataset(of)], junk=1)
    assert_same(model, [a_dataset(of)], junk=77)


def test_float32_is_equal_up_to_rounding():
    of = task(pooling="mean")
    model = tiny.model(of, layers=3)
    found, expected = (outputs(model, [a_dataset(of)])["t"][0] for outputs in (padded_outputs, ragged_outputs))
    assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_candidates_get_the_cosines_that_each_would_get_alone():
    of = task(type="ranking", inputs="separate", head=Head(kind="cosine"), labels=None)
    model = tiny.model(of, layers=2).double()
    data = tiny.dataset(of, LENGTHS, OTHERS, LENGTHS[::-1])
    query, *candidates = texts_of(data)
    length = max(ids.shape[1] for ids, _, _ in candidates)
    grow = [
        [torch.nn.functional.pad(x, (0, length - x.shape[1])) for x in text if x is not None] for text in candidates
    ]
    ids_BCL, mask_BCL, segments_BCL = (torch.stack(part, 1) for part in zip(*grow, strict=True))
    with torch.no_grad():
        prediction, vectors = PaddedModel(model, ["t"])(query, (ids_BCL, mask_BCL, segments_BCL))["t"]
    expected, of_head = ragged_outputs(model, [data])["t"]
    assert prediction.shape == (5, 2)
    assert_close(prediction, expected, **EXACT)
    assert_close(vectors[0], of_head[0], **EXACT)
    assert_close(vectors[1], torch.stack(of_head[1:], 1), **EXACT)


def test_each_token_gets_the_tags_that_it_gets_as_a_word():
    of = task(type="tokens", labels=("O", "B-X", "I-X"), splitter="unicode")
    model = tiny.model(of, layers=2).double()
    data = tiny.dataset(of, LENGTHS)
    places = Ragged.of([list(range(length)) for length in LENGTHS], np.int64)  # every token is the first of a word
    labels = places.with_values(np.zeros(len(places.values)))
    data = Dataset(
        of,
        type(data.examples)(data.examples.ids, data.examples.texts, labels),  # type: ignore[arg-type]
        (
            type(data.sequences[0])(
                data.sequences[0].ids, data.sequences[0].segments, data.sequences[0].offsets, places
            ),
        ),
        data.rows,
    )
    found_BLK = padded_outputs(model, [data])["t"][0]
    expected_WK = ragged_outputs(model, [data])["t"][0]
    assert found_BLK.shape == (5, 30, 3)
    mask_BL = texts_of(data)[0][1].bool()
    assert_close(found_BLK[mask_BL], expected_WK, **EXACT)


def test_a_twin_has_no_second_copy_of_the_weights():
    model = tiny.model(task())
    ours = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in PaddedModel(model, ["t"]).parameters()} == ours
