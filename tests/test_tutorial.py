"""The tutorial does what it says with the packaged encoder: real MiniLM weights, half a minute on two cores."""

import json
from contextlib import ExitStack
from pathlib import Path

import blocks
import pytest
from commands import Mtbert
from pages import Page


@pytest.mark.real
def test_the_model_of_the_tutorial_learns_its_three_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mtbert: Mtbert
):
    monkeypatch.chdir(tmp_path)
    with ExitStack() as servers:
        page = Page(tmp_path, mtbert, servers)
        for block in blocks.blocks(blocks.ROOT / "docs/tutorial.md"):
            if block.language in blocks.RUN and block.reason is None:
                getattr(page, block.language)(block)
        answer = json.loads(page.written)["answers"][0]
    assert (answer["topic"]["label"], answer["urgent"]["label"]) == ("bug", "yes")
    scores = json.loads(mtbert("evaluate", "runs/support", "--json").out)["tasks"]
    assert {name: task["metrics"]["accuracy"] > 0.9 for name, task in scores.items()} == dict.fromkeys(scores, True)
