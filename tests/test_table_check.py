"""Figures about a table: token counts of the rows that a task reads, and rows of dev that share a text with train."""

from pathlib import Path

import toy_table

from mtbert.columns import TextColumn
from mtbert.data.measure import UNKNOWN, TableData, count_tokens, unknown_id
from mtbert.data.tokenizer import load_tokenizer
from mtbert.prepare import prepare
from mtbert.recipe.settings import validate_recipe

table_folder = toy_table.table_folder


def test_tokens_are_counted_for_the_rows_that_a_task_reads(table_folder: Path):
    tokenizer = load_tokenizer(table_folder / "encoder")
    unknown = unknown_id(tokenizer)
    raw = toy_table.raw_table_recipe(table_folder)
    raw["model"]["max_length"] = 9
    for name, one in prepare(validate_recipe(raw, "r"), tokenizer).items():
        found = count_tokens(tokenizer, one.train, 9, unknown)
        whole = [tokenizer.encode(*example.texts).ids for example in one.train.examples]
        assert found.lengths.tolist() == [len(ids) for ids in whole]
        (made,) = one.train.sequences
        kept = [made.ids[made.offsets[row] : made.offsets[row + 1]].tolist() for row in one.train.rows]
        special = tokenizer.num_special_tokens_to_add(name == "topics")
        assert found.unknown == sum(ids.count(unknown) > UNKNOWN * (len(ids) - special) for ids in kept)
        assert name == "topics" or 0 < found.unknown < len(one.train)


def test_a_row_of_dev_leaks_with_any_text_of_train_but_not_with_an_empty_one():
    train = [TextColumn.of(["a", "", "c"]), TextColumn.of(["x", "y", ""])]
    dev = [TextColumn.of(["A ", "", "z", "q"]), TextColumn.of(["", "n", "c", ""])]
    assert TableData("t", train, dev).leaked() == 2
