"""From the files of a recipe to batches: segments, selected rows, the order of texts, clusters."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import toy_run

from mtbert.collate import collate
from mtbert.data.tokenizer import load_tokenizer
from mtbert.prepare import Prepared, prepare
from mtbert.recipe.settings import validate_recipe
from mtbert.yaml_files import merge

PAIR = {
    "type": "binary",
    "inputs": "packed",
    "train": "pairs.csv",
    "dev": "dev.csv",
    "columns": {"id": "id", "text": ["first", "second"], "label": "same"},
    "batch_size": 2,
}
FILE = """id,first,second,same,lang,source
a,the cat,a dog,1,en,old
b,the film,why good,0,en,new
c,a plot,the cat,0,de,old
d,how dull,a plot,1,de,new
e,fine film,not fine,1,en,old
"""


def prepared(folder: Path, task: dict[str, Any], file: str = FILE) -> Prepared:
    """Returns the prepared task ``pair``, trained on ``file`` and scored on :data:`FILE`."""
    if not (folder / "encoder").exists():
        toy_run.encoder_folder(folder / "encoder")
    (folder / "pairs.csv").write_text(file)
    (folder / "dev.csv").write_text(FILE)
    raw = toy_run.raw_recipe(folder)
    raw["data"]["root"], raw["tasks"] = str(folder), {"pair": merge(PAIR, task)}
    settings = validate_recipe(raw, "toy")
    return prepare(settings, load_tokenizer(folder / "encoder"))["pair"]


@pytest.mark.parametrize(("segments", "of_the_second"), [(True, 1), (False, 0)])
def test_the_second_text_has_a_segment_of_its_own_unless_the_task_says_otherwise(
    tmp_path: Path, segments: bool, of_the_second: int
):
    data = prepared(tmp_path, {"segments": segments}).train
    batch = collate([(data, np.array([0]))], tiny.CPU)
    # [CLS] the cat [SEP] a dog [SEP]
    assert batch.segments_N.tolist() == [0] * 4 + [of_the_second] * 3


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({"lang": "en"}, "abe"),
        ({"lang": "en", "source": "old"}, "ae"),
        ({"source": "old", "lang": "en"}, "ae"),
        ({"lang": "de", "source": "old", "same": 0}, "c"),
    ],
)
def test_where_keeps_the_rows_that_hold_all_of_its_values(tmp_path: Path, where: dict[str, Any], ids: str):
    found = prepared(tmp_path, {"train": {"path": "pairs.csv", "where": where}, "labels": ["0", "1"]})
    assert "".join(e.id for e in found.train.examples) == ids
    assert "".join(e.id for e in found.dev.examples) == "abcde"


@pytest.mark.parametrize("columns", [["first", "second"], ["second", "first"]])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_the_texts_of_a_pair_come_in_the_order_that_the_recipe_names(tmp_path: Path, suffix: str, columns: list[str]):
    header, *rows = (line.split(",") for line in FILE.strip().splitlines())
    objects = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
    (tmp_path / "pairs.jsonl").write_text("\n".join(objects))
    source = f"pairs.{suffix}"
    found = prepared(tmp_path, {"train": source, "dev": source, "columns": {"text": columns}})
    texts = {"first": "the cat", "second": "a dog"}
    assert found.train.examples[0].texts == tuple(texts[column] for column in columns)
    words = [*"[PAD] [UNK] [CLS] [SEP] [MASK]".split(), *toy_run.WORDS]
    ids = collate([(found.train, np.array([0]))], tiny.CPU).ids_N
    first, second = (texts[column] for column in columns)
    assert [words[i] for i in ids] == ["[CLS]", *first.split(), "[SEP]", *second.split(), "[SEP]"]


LINKED = """id,first,second,same
a,the cat,a dog,1
b,a dog,not fine,1
c,how dull,a plot,0
d,the cat,a plot,0
e,very bad,how dull,1
"""


@pytest.mark.parametrize("asked", [{"losses": ["bce", "mnrl"]}, {"no_duplicates": True}])
def test_texts_that_mean_the_same_share_a_cluster(tmp_path: Path, asked: dict[str, Any]):
    data = prepared(tmp_path, {"inputs": "separate", "batch_size": 1} | asked, LINKED).train
    clusters = collate([(data, np.arange(5))], tiny.CPU).clusters["pair"].tolist()
    named = {
        text: n for e, pair in zip(data.examples, clusters, strict=True) for text, n in zip(e.texts, pair, strict=True)
    }
    # Equal texts share a number wherever they occur, and pairs labelled 1 are linked in chains of any length.
    assert all(
        named[text] == n
        for e, pair in zip(data.examples, clusters, strict=True)
        for text, n in zip(e.texts, pair, strict=True)
    )
    assert named["the cat"] == named["a dog"] == named["not fine"]
    assert named["how dull"] == named["very bad"]
    assert len(set(named.values())) == 3
    assert named["a plot"] not in (named["the cat"], named["how dull"])


def test_clusters_are_made_only_if_they_are_asked_for(tmp_path: Path):
    data = prepared(tmp_path, {}).train
    assert data.clusters is None
    assert collate([(data, np.array([0]))], tiny.CPU).clusters == {}
