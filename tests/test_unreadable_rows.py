"""Train rows that no loss can read, because no word has a token or the weight is 0: they give no loss and no vote."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_run
import toy_words

from mtbert.batch import Dataset
from mtbert.ragged import Ragged
from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble
from mtbert.training.run import Run

LOST = {"words": ["\x07"], "tags": ["O"]}  # the tokenizer drops the only character


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an encoder, sentences whose sixth row has no token, and a table in which most weights are 0."""
    toy_run.set_up(tmp_path)
    rows = [{"words": words, "tags": tags} for words, tags in toy_words.sentences(20)]
    (tmp_path / "data/words.jsonl").write_text("\n".join(map(json.dumps, [*rows[:5], LOST, *rows[5:]])))
    lines = (f"good film {i},{'ab'[i % 2]},{int(i % 8 == 0)},{i % 2}" for i in range(40))
    (tmp_path / "data/weighted.csv").write_text("\n".join(["text,kind,weight,yes", *lines]))
    return tmp_path


def run_of(folder: Path, tasks: dict[str, Any], tables: dict[str, Any] | None = None, **train: Any) -> Run:
    raw = toy_run.raw_recipe(folder, **train) | {"tasks": tasks, "tables": tables or {}}
    return assemble(validate_recipe(raw, "toy")).run()


def words(**changes: Any) -> dict[str, Any]:
    own = {"train": "words.jsonl", "dev": "words.jsonl", "columns": {"text": "words", "label": "tags"}}
    return {"type": "tokens", "inputs": "single", "batch_size": 1} | own | changes


def tags(data: Dataset) -> list[list[float]]:
    assert isinstance(data.examples.labels, Ragged)
    return [data.examples.labels[i].tolist() for i in range(len(data))]


def test_a_task_of_words_has_a_dev_file_of_its_own(folder: Path):
    data = run_of(folder, {"ner": words()}).data["ner"]
    assert len(data.dev) == 21
    assert tags(data.dev)[5] == [0.0]
    assert tags(data.dev)[:5] == tags(data.train)[:5]
    assert data.train.rows.tolist() == [i for i in range(21) if i != 5]


@pytest.mark.parametrize("train", [{}, {"token_budget": 4}, {"mode": "alternate"}, {"aggregation": "pcgrad"}])
def test_a_step_without_a_label_changes_no_weight(folder: Path, train: dict[str, Any]):
    tasks = {"ner": words(), "again": words()} if train else {"ner": words()}
    tables = {}
    if train:
        of_table = {"type": "tokens", "inputs": "single", "table": "t", "label": "tags"}
        tables = {"t": {"train": "words.jsonl", "dev": "words.jsonl", "batch_size": 1, "columns": {"text": "words"}}}
        tasks = {"ner": of_table, "again": of_table}
    run = run_of(folder, tasks, tables, epochs=1, **train)
    empty = next(i for i in range(21) if run.streams[0].rows(i).tolist() == [5])
    for _ in range(empty):
        assert run.step().losses
    before = {name: p.clone() for name, p in run.model.named_parameters()}
    made = run.step()
    assert (made.losses, made.grad_norm, made.tokens) == ({}, 0.0, 0)
    assert all(p.equal(before[name]) for name, p in run.model.named_parameters())
    if empty < 20:
        assert run.step().losses


def test_a_task_whose_rows_in_a_step_have_the_weight_0_has_no_vote_in_it(folder: Path):
    columns = {"label": "kind", "weight": "weight"}
    tasks = {
        "kind": {"type": "classification", "inputs": "single", "table": "t", "columns": columns},
        "yes": {"type": "binary", "inputs": "single", "table": "t", "label": "yes"},
    }
    tables = {"t": {"train": "weighted.csv", "dev": "weighted.csv", "batch_size": 2}}
    run = run_of(folder, tasks, tables, aggregation="pcgrad")
    assert run.data["kind"].train.rows.tolist() == [0, 8, 16, 24, 32]
    assert run.sizes == {"t": 40}
    for batch in range(20):
        made = run.step()
        counted = bool(np.isin(run.streams[0].rows(batch), [0, 8, 16, 24, 32]).any())
        assert ("weight(kind)" in made.diagnostics, "kind.ce" in made.losses) == (counted, counted)
        assert "weight(yes)" in made.diagnostics
