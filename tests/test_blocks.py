"""Every code block of the documents runs as it is printed, on a tiny encoder, or says why it does not.

The blocks of a page run in their order in one folder: YAML becomes a recipe or a study, Python shares one namespace,
and commands are called in this process. ``mtbert serve`` starts a server in a thread, which ``curl`` then asks.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import blocks
import numpy as np
import pandas as pd
import pytest
import toy_run
from commands import Mtbert
from pages import Page
from typer.testing import CliRunner

from mtbert import cli

PAGES = [page for page in blocks.DOCUMENTS if blocks.blocks(page)]
SMALL = ["train.epochs=1", "train.threads=1"]

# The columns that recipes of the documents read. A column that is not here holds texts.
LABELS: dict[str, list[Any]] = {
    "topic": ["bug", "wish", "billing"],
    "same": ["no", "yes"],
    "urgent": ["no", "yes"],
    "mood": [1, 2, 3, 4, 5],
    "score": [1, 4, 7, 10],
}
FILES = {
    "topics.csv": "message topic",
    "topics-dev.csv": "message topic",
    "duplicates.csv": "id question other same",
    "quality.csv": "review score",
    "quality-dev.csv": "review score",
    "held-out.csv": "review score",
    "urgent.csv": "message urgent",
    "feedback.csv": "message topic urgent mood",
    "questions.csv": "first second same",
    "new.csv": "id message question other review first second",
    "pool.csv": "message",
    "texts.jsonl": "message question other review",
    "texts/may.parquet": "message",
}


def table(columns: str, seed: int, rows: int = 60) -> pd.DataFrame:
    """Returns a table of random texts, all different, with labels in turn."""
    generator = np.random.default_rng(seed)
    found: dict[str, list[Any]] = {}
    for column in columns.split():
        texts = [f"{i} {' '.join(generator.choice(toy_run.WORDS, 5))}" for i in range(rows)]
        labels = LABELS.get(column)
        found[column] = [labels[i % len(labels)] for i in range(rows)] if labels else texts
    return pd.DataFrame(found)


@pytest.fixture(scope="module", autouse=True)
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Lets a tiny random encoder stand in for the packaged one."""
    folder = toy_run.encoder_folder(tmp_path_factory.mktemp("demo") / "encoder", max_position_embeddings=512)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtbert.model.download._demo_folder", lambda: folder)
        patch.setattr("mtbert.model.download._check_demo", lambda found: found)
        yield


@pytest.fixture(scope="module")
def prepared(tiny_demo: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all data files, ``mine.yaml``, and the runs ``runs/mine`` and ``runs/demo``."""
    folder = tmp_path_factory.mktemp("prepared")
    for seed, (name, columns) in enumerate(FILES.items()):
        (folder / name).parent.mkdir(exist_ok=True)
        rows = table(columns, seed)
        match (folder / name).suffix:
            case ".csv":
                rows.to_csv(folder / name, index=False)
            case ".jsonl":
                rows.to_json(folder / name, orient="records", lines=True)
            case _:
                rows.to_parquet(folder / name)
    mine = next(block for block in blocks.blocks(blocks.ROOT / "docs/own-data.md") if block.language == "yaml")
    (folder / "mine.yaml").write_text(mine.text)
    for recipe, out, changes in (
        (str(folder / "mine.yaml"), "runs/mine", SMALL),
        ("demo", "runs/demo", [*SMALL, "train.rounds=2"]),
    ):
        options = [part for change in changes for part in ("--set", change)]
        done = CliRunner().invoke(cli.app, ["train", recipe, "--out", str(folder / out), *options])
        assert done.exit_code == 0, done
    return folder


@pytest.fixture
def in_folder(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mtbert: Mtbert
) -> Iterator[Callable[[], Page]]:
    """Returns a page that runs in a copy of the prepared folder."""
    with ExitStack() as servers:

        def made() -> Page:
            shutil.copytree(prepared, tmp_path / "page")
            monkeypatch.chdir(tmp_path / "page")
            return Page(tmp_path / "page", mtbert, servers)

        yield made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(blocks.ROOT)))
def test_the_blocks_of_a_page_run(page: Path, in_folder: Callable[[], Page]):
    found = blocks.blocks(page)
    unknown = [f"{block}: {block.language!r}" for block in found if block.language not in blocks.RUN + blocks.OUTPUT]
    assert unknown == [], "say what language it is"
    running = [block for block in found if block.language in blocks.RUN and block.reason is None]
    if running:
        made = in_folder()
    for block in running:
        try:
            getattr(made, block.language)(block)
        except Exception as error:
            error.add_note(f"This is {block}.")
            raise


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(blocks.ROOT)))
def test_every_command_of_a_page_exists_with_its_options(page: Path):
    for block in blocks.blocks(page):
        if block.language == "sh":
            for command in blocks.commands(block.text):
                try:
                    blocks.check(command)
                except AssertionError as error:
                    raise AssertionError(f"{block}: {command.words}: {error}") from None
        elif block.language == "json":
            json.loads(block.text)


def test_every_example_in_the_help_of_a_command_exists_with_its_options():
    text = Path(blocks.ROOT / "src/mtbert/cli").glob("*.py")
    lines = [line for file in text for line in re.findall(r"^      (mtbert .*)$", file.read_text(), re.MULTILINE)]
    assert len(lines) > 30
    for line in lines:
        for command in blocks.commands(line):
            blocks.check(command)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mtbert trian mine.yaml", "mtbert has no command 'trian'"),
        ("mtbert train mine.yaml --epoch 3", "No such option"),
        ("mtbert predict", "predict: Missing parameter: run"),
        ("torchrun --nproc-per-node 2 -m mtbert train mine.yaml --nothing", "No such option"),
        ("make cake", "cake"),
        ("pip install 'mtbert[cake]'", "cake"),
        ("python -m benchmarks.tables --cake 3", "--cake"),
        ("frobnicate", "frobnicate"),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, said: str):
    with pytest.raises(AssertionError, match=said):
        for command in blocks.commands(line):
            blocks.check(command)
