"""Tables with a tag per word: every form and format gives the same rows, and errors name the place of a bad row."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtbert.answers.known import ANSWER_TYPES
from mtbert.columns import WordColumn
from mtbert.data.labels import complete, labelled_examples
from mtbert.data.memory import arrow_table
from mtbert.data.sources import Source, read, read_kept
from mtbert.data.tables import Columns, Table
from mtbert.ragged import Ragged
from mtbert.task import Task

WORDS = Columns().read_by(ANSWER_TYPES["tokens"])
FREE = Task(name="t", type="tokens", inputs="single")
ROWS: list[dict[str, Any]] = [
    {"text": ["Anna", "Li", "lives", "."], "label": ["B-PER", "I-PER", "O", "O"]},
    {"text": ["So", "?"], "label": ["O", "O"]},
    {"text": ["Ed"], "label": None},
    {"text": [], "label": []},
    {"text": ["Ed"], "label": ["B-PER"]},
]
SPANS: list[dict[str, Any]] = [
    {"text": " Anna Li  lives.", "label": [{"start": 1, "end": 8, "label": "PER"}]},
    {"text": "So?", "label": []},
    {"text": "Ed ", "label": [{"start": 0, "end": 2, "label": "PER"}]},
]
EXPECTED = [[1, 2, 0, 0], [0, 0], [1]]


def table(folder: Path, name: str, *, labelled: bool = True) -> Table:
    return read(Source(path=name), WORDS, folder, texts=1, labelled=labelled)


def lines(*rows: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, rows))


def check(found: Table, name: str) -> Task:
    task = complete(FREE, [found])
    assert task.labels == ("O", "B-PER", "I-PER"), name
    labels = labelled_examples(found, task).labels
    assert isinstance(labels, Ragged)
    assert [labels[i].tolist() for i in range(len(labels))] == EXPECTED, name
    return task


def test_every_form_and_format_of_words_gives_the_same_rows(tmp_path: Path):
    joined = [{"text": " ".join(r["text"]), "label": r["label"] and " ".join(r["label"])} for r in ROWS]
    (tmp_path / "l.jsonl").write_text(lines(*ROWS))
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    pd.DataFrame(joined).to_csv(tmp_path / "s.csv", index=False)
    (tmp_path / "t.jsonl").write_text(lines({"text": "Anna  Li lives .", "label": ROWS[0]["label"]}, *joined[1:]))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "p.parquet")
    texts = ("\n".join(map(" ".join, zip(r["text"], r["label"], strict=True))) for r in ROWS if r["label"])
    (tmp_path / "c.conll").write_text("\n\n".join(texts))
    arrays = pd.DataFrame([{k: v if v is None else np.array(v) for k, v in row.items()} for row in ROWS])
    for given, name in ((ROWS, "m"), (arrays, "d"), (pa.Table.from_pylist(ROWS), "r"), (joined, "j")):
        pq.write_table(arrow_table(given, [WORDS], "rows"), tmp_path / f"{name}.parquet")
    for name in ("l.jsonl", "a.json", "s.csv", "t.jsonl", "p.parquet", "c.conll", *map("{}.parquet".format, "mdrj")):
        found = table(tmp_path, name)
        assert list(found.texts[0]) == ["Anna Li lives .", "So ?", "Ed"], name
        assert isinstance(found.texts[0], WordColumn), name
        assert check(found, name).splitter == "unicode-joined"


def test_texts_with_spans_stay_as_they_are_and_their_words_are_split(tmp_path: Path):
    (tmp_path / "s.jsonl").write_text(lines(*SPANS))
    written = [row | {"label": json.dumps(row["label"])} for row in SPANS]
    pd.DataFrame(written).to_csv(tmp_path / "s.csv", index=False)
    pq.write_table(arrow_table(SPANS, [WORDS], "rows"), tmp_path / "m.parquet")
    for name in ("s.jsonl", "s.csv", "m.parquet"):
        found = table(tmp_path, name)
        assert list(found.texts[0]) == [" Anna Li  lives.", "So?", "Ed "], name
        assert not isinstance(found.texts[0], WordColumn), name
        assert check(found, name).splitter == "unicode"


def test_codes_of_tags_are_read_by_the_mapping_of_labels(tmp_path: Path):
    (tmp_path / "n.jsonl").write_text(lines({"text": ["Ed", "so"], "label": [1, 0]}))
    task = FREE.model_copy(update={"labels": ("O", "B-PER", "I-PER"), "codes": ("0", "1", "2")})
    labels = labelled_examples(table(tmp_path, "n.jsonl"), task).labels
    assert isinstance(labels, Ragged)
    assert labels.values.tolist() == [1, 0]


def test_rows_without_labels_keep_words_and_outer_space(tmp_path: Path):
    (tmp_path / "w.jsonl").write_text(lines(*(row for row in ROWS if row["text"])))
    (tmp_path / "s.jsonl").write_text(lines(*SPANS))
    words, texts = (table(tmp_path, name, labelled=False).texts[0] for name in ("w.jsonl", "s.jsonl"))
    assert isinstance(words, WordColumn)
    assert (words[0], texts[0]) == ("Anna Li lives .", " Anna Li  lives.")
    (tmp_path / "e.jsonl").write_text(lines({"text": " "}))
    with pytest.raises(ValueError, match=re.escape("e.jsonl, line 1, column 'text': the text is empty.")):
        table(tmp_path, "e.jsonl", labelled=False)


def test_a_table_from_the_cache_still_knows_whose_words_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mtbert.data.cache.FEWEST", 1)
    (tmp_path / "w.jsonl").write_text(lines(*ROWS))
    (tmp_path / "s.jsonl").write_text(lines(*SPANS))
    for _ in range(2):
        found = [read_kept(Source(path=name), [WORDS], tmp_path, texts=[1]) for name in ("w.jsonl", "s.jsonl")]
        assert [isinstance(each.texts[0], WordColumn) for each in found] == [True, False]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [ROWS[1], {"text": ["a", "b"], "label": ["O"]}],
            "x.jsonl, line 2, column 'label': 1 tag for 2 words. Give one for each word.",
        ),
        (
            [{"text": "a b c", "label": "O O"}],
            "x.jsonl, line 1, column 'label': 2 tags for 3 words. Give one for each word.",
        ),
        ([ROWS[1], SPANS[0]], "line 2, column 'label': rows before have words, found places in texts. Use one form"),
        ([SPANS[1], ROWS[1]], "line 2, column 'label': rows before have places in texts, found words. Use one form"),
        (
            [{"text": ["a"], "label": SPANS[0]["label"]}],
            "line 1, column 'label': spans are places in a text, found a list of words. Give the text, or a tag per",
        ),
        ([{"text": ["a", 3], "label": ["O", "O"]}], "x.jsonl, line 1, column 'text': word 2 must be a string, found 3"),
        ([{"text": "so", "label": [{"start": 0, "end": 9, "label": "x"}]}], "line 1, column 'label': span 0 to 9 is"),
        ([{"text": "so", "label": [None]}], "x.jsonl, line 1, column 'label': tag 1 must be a text or a number"),
    ],
)
def test_a_row_that_does_not_fit_is_one_line_that_names_its_place(
    tmp_path: Path, rows: list[dict[str, Any]], said: str
):
    (tmp_path / "x.jsonl").write_text(lines(*rows))
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        table(tmp_path, "x.jsonl")
    assert "\n" not in str(error.value)


def test_spans_with_parts_of_words_are_counted_once_in_a_warning(tmp_path: Path):
    cut = [{"start": 1, "end": 3, "label": "x"}, {"start": 4, "end": 6, "label": "x"}]
    (tmp_path / "x.jsonl").write_text(lines(SPANS[1], {"text": "Anna lives", "label": cut}))
    assert table(tmp_path, "x.jsonl").warnings == (
        "x.jsonl: 2 spans with a part of a word, which stands for the whole word (first: line 2).",
    )


def test_lists_of_class_numbers_of_a_data_set_become_their_names(tmp_path: Path):
    import datasets

    tags = datasets.List(datasets.ClassLabel(names=["O", "B-x", "I-x"]))
    features = datasets.Features({"text": datasets.List(datasets.Value("string")), "label": tags})
    made = datasets.Dataset.from_dict({"text": [["a", "b", "c"]], "label": [[0, 1, 2]]}, features=features)
    made.save_to_disk(tmp_path / "kept")
    found = read(Source(hub="kept"), WORDS, tmp_path, texts=1)
    assert list(found.labels) == ['["O", "B-x", "I-x"]']
