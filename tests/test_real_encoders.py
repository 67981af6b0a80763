"""Real weights give the states of transformers in float32, for texts and for pairs.

all-MiniLM-L6-v2 is in the extra ``demo``. The environment variable MTBERT_MPNET names a folder that
``python -m benchmarks.get_mpnet`` has made; without it, the tests of all-mpnet-base-v2 are skipped.
"""

import os
from itertools import pairwise

import pytest
import torch
import transformers
from tiny import pieces, ragged
from torch.testing import assert_close
from toy_encoder import run

from mtbert.batch import StepBatch
from mtbert.data.tokenizer import load_tokenizer
from mtbert.model.weights import load_encoder

TEXTS = [
    ("Rain.",),
    ("A man plays the guitar.",),
    ("A man plays the guitar.", "Somebody makes music."),
    ("Two dogs chase a red ball across the wet grass by the school.",),
    (" ".join(["It is a long way to the sea, and back again."] * 9), "How far is it?"),
]


@pytest.fixture
def mpnet() -> str:
    folder = os.environ.get("MTBERT_MPNET")
    if folder is None:
        pytest.skip("MTBERT_MPNET names no folder")
    return folder


def assert_equal(path: str) -> None:
    loaded = load_encoder(path)
    tokenizer, library = load_tokenizer(loaded.folder), transformers.AutoTokenizer.from_pretrained(loaded.folder)
    model = transformers.AutoModel.from_pretrained(loaded.folder, attn_implementation="eager").eval()
    encoded = [library(*texts, return_tensors="pt") for texts in TEXTS]
    ours = [tokenizer.encode(*texts) for texts in TEXTS]
    assert [one.ids for one in ours] == [one["input_ids"][0].tolist() for one in encoded]
    layout = ragged({"a": [len(one) for one in ours]}).layout
    assert max(stop - start for start, stop in pairwise(layout.offsets)) > 100
    batch = StepBatch(
        layout,
        ids_N=torch.tensor([number for one in ours for number in one.ids]),
        segments_N=torch.tensor([number for one in ours for number in one.type_ids]),
        positions_N=torch.cat([torch.arange(len(one)) for one in ours]),
        places={},
        labels={},
        example_ids={},
        clusters={},
    )
    with torch.no_grad():
        states = pieces(run(loaded.encoder, batch)[-1], layout)
        theirs = [model(**one) for one in encoded]
        pooled_SD = loaded.encoder.pooled(torch.stack([x[0] for x in states]))
    assert_close(pooled_SD, torch.cat([t.pooler_output for t in theirs]), rtol=0, atol=1e-4)
    for mine, other in zip(states, theirs, strict=True):
        assert_close(mine, other.last_hidden_state[0], rtol=0, atol=1e-4)


@pytest.mark.real
def test_minilm_equals_transformers():
    assert_equal("demo")


@pytest.mark.real
def test_mpnet_equals_transformers(mpnet: str):
    assert_equal(mpnet)
