"""The dev split in a recipe that ``mtbert init`` writes: by texts, or by rows if chains of texts link the rows."""

from pathlib import Path

import commands
import pytest
import toy_files
from commands import Mtbert
from toy_files import TEXTS, csv, only_task, recipe

here = toy_files.here
mtbert = commands.mtbert
pytestmark = pytest.mark.usefixtures("here")


def chain(name: str, rows: int, *, apart: int = 0) -> str:
    """Writes pairs that each share a text with the next one, and ``apart`` further pairs that share none."""
    first = [f"the text number {i}" for i in (*range(rows), *range(1000, 1000 + apart))]
    second = [f"the text number {i}" for i in (*range(1, rows + 1), *range(2000, 2000 + apart))]
    return csv(name, "first,second,same", first, second, ["no", "yes"])


@pytest.mark.parametrize(("rows", "apart", "linked"), [(30, 0, True), (60, 1, True), (20, 5, False), (2, 20, False)])
def test_a_dev_split_is_by_rows_if_chains_of_texts_link_nearly_all_rows(rows: int, apart: int, linked: bool):
    task = only_task(chain("pairs.csv", rows, apart=apart))
    assert task.get("dev_split", "texts") == ("rows" if linked else "texts")


def test_the_dev_split_of_several_tasks_is_a_setting_of_their_table():
    first, second = ([f"the text number {i + shift}" for i in range(30)] for shift in (0, 1))
    made = recipe(csv("pairs.csv", "first,second,same,near", first, second, ["no", "yes"], [0, 2.5, 5, 1.5]))
    assert made["tables"]["pairs"]["dev_split"] == "rows"  # type: ignore[index]
    assert all("dev_split" not in task for task in made["tasks"].values())


def test_files_that_chains_of_texts_link_can_be_trained_on(mtbert: Mtbert):
    done = mtbert("init", chain("pairs.csv", 30))
    assert done.code == 0, done
    text = " ".join(Path("pairs.yaml").read_text().replace("\n    #", "").split())
    assert "chains of shared texts link nearly all rows" in text
    assert "dev: FILE" in text
    assert "warning: same, dev: 3 of 3 examples (100.0%) have a text that is in train too, " in done.out
    assert "may be too good. Name a dev file with other texts.\n" in done.out


def test_a_dev_file_or_a_missing_label_changes_what_is_linked():
    csv("pairs-dev.csv", "first,second,same", TEXTS, TEXTS[::-1], ["no", "yes"])
    assert "dev_split" not in only_task(chain("pairs.csv", 30), "pairs-dev.csv")
    name = chain("gaps.csv", 200, apart=8)
    Path(name).write_text(Path(name).read_text().replace("no\n", "\n", 100).replace("yes\n", "\n", 100))
    assert "dev_split" not in only_task(name)  # rows without a label take no part in the split
