"""Errors that a beginner meets name a topic of the documents, which exists."""

import ast
from pathlib import Path

import pytest
import yaml
from commands import Mtbert

import mtbert
from mtbert.advice import see
from mtbert.topics import topic_text

SOURCES = Path(mtbert.__file__).parent


def named() -> list[str]:
    """Returns the topics that the sources give to ``see``, which must be literal texts."""
    found = []
    for file in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == see.__name__:
                (argument,) = node.args
                found.append(str(ast.literal_eval(argument)))
    return found


def test_every_topic_that_an_error_names_is_in_the_documents():
    topics = named()
    assert len(topics) >= 12
    for topic in sorted(set(topics)):
        assert topic_text(topic).startswith("#"), topic


MISTAKES = {
    "own-data": [
        {"tasks": {"sst": {"columns": {"label": "sentimant"}}}},  # a missing column
        {"tasks": {"sst": {"labels": ["0", "1", "2"]}}},  # an unknown label
        {"tasks": {"quora": {"columns": {"label": "id"}}}},  # a wrong type
        {"tasks": {"sts": {"columns": {"label": "id"}}}},
    ],
    "encoders": [{"model": {"path": "no/such/encoder"}}],
    "recipes/where-relative-paths-start": [{"tasks": {"sst": {"train": "nothing.csv"}}}],
    "recipes/the-dev-split": [{"tasks": {"sst": {"train": "same.csv"}}}],
    "techniques/no-duplicates-in-a-batch": [{"tasks": {"sst": {"no_duplicates": True, "batch_size": 1000}}}],
}


@pytest.mark.parametrize(("topic", "change"), [(topic, change) for topic, all_ in MISTAKES.items() for change in all_])
def test_a_beginners_mistake_ends_with_its_topic(
    topic: str, change: dict[str, object], mtbert: Mtbert, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "mine.yaml"
    same = tmp_path / "same.csv"
    same.write_text("id,sentence,sentiment\n" + "".join(f"s{i},one text,{i % 5}\n" for i in range(20)))
    text = yaml.safe_dump({"extends": str(toy / "toy.yaml")} | change)
    recipe.write_text(text.replace("same.csv", str(same)))
    assert mtbert("data", "check", recipe).mistake.endswith(f" (mtbert docs {topic})")


def test_a_run_that_exists_or_has_changed_names_the_page_about_resuming(mtbert: Mtbert, toy: Path, run_copy: Path):
    assert mtbert("train", toy / "toy.yaml", "--out", run_copy).mistake.endswith(" (mtbert docs resume)")
    kept = run_copy / "recipe.yaml"
    kept.write_text(kept.read_text().replace("batch_size: 4", "batch_size: 3"))
    assert mtbert("train", "--resume", run_copy).mistake.endswith(" (mtbert docs resume)")


def test_a_folder_without_a_model_names_the_page_about_run_folders(mtbert: Mtbert, tmp_path: Path):
    said = mtbert("predict", tmp_path, "--text", "a").mistake
    assert said.endswith(" (mtbert docs run-folder)")
