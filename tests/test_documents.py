"""The documents are true of the code: the tests, files, headings, settings and commands that they name exist."""

import re
from pathlib import Path

import pytest
import typer.main
from blocks import DOCUMENTS

from mtbert import cli
from mtbert.answers.known import ANSWER_TYPES
from mtbert.balance.known import BALANCING
from mtbert.kinds import Kinds
from mtbert.losses.known import LOSSES
from mtbert.recipe.parts import DataRecipe, ModelRecipe, TaskRecipe
from mtbert.recipe.tables import TableRecipe
from mtbert.recipe.train_settings import TrainRecipe
from mtbert.sampling.known import SAMPLERS
from mtbert.settings import Settings
from mtbert.studying.settings import Printed, RowSettings, StudySettings
from mtbert.task import Head

ROOT = Path(__file__).parent.parent
# The files that CONTRIBUTING.md adds.
NEW = {f"src/mtbert/{name}.py" for name in ("losses/focal", "answers/ratings", "model/families/prelayernorm")}
RECIPES = (ROOT / "docs/recipes.md").read_text()


def prose(path: Path) -> str:
    """Returns the text of a document without its code blocks."""
    return re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Returns the anchors that GitHub generates for the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(heading: str) -> str:
    """Returns the part of ``docs/recipes.md`` from a heading to the next one of its rank."""
    return RECIPES.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def keys(text: str) -> set[str]:
    """Returns the keys in the first column of the tables whose head is ``key | default | meaning``."""
    tables = re.findall(r"\| key \| default \| meaning \|\n\|[-|]+\n((?:\|.*\n)+)", text)
    return {
        key for table in tables for line in table.splitlines() for key in re.findall(r"`(.*?)`", line.split("|")[1])
    }


def fields(settings: type[Settings], prefix: str = "") -> set[str]:
    return {prefix + name for name in settings.model_fields}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_a_document_names_exists(document: Path):
    files = {path.name: path.read_text() for path in (ROOT / "tests").glob("*.py")}
    tests = set(re.findall(r"^def (test_\w+)", "\n".join(files.values()), re.MULTILINE))
    named = set(re.findall(r"test_\w+(?:\.py)?", prose(document)))
    patterns = {name for name in named if name.endswith("_") and any(file.startswith(name) for file in files)}
    assert named - set(files) - tests - patterns == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading(document: Path):
    for link in re.findall(r"\]\(([^)]+)\)", prose(document)):
        if "://" in link:
            continue
        name, _, heading = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_source_file_that_a_document_names_exists(document: Path):
    for name in re.findall(r"`((?:[\w.]+/)*\w+\.py)`", prose(document)):
        found = [folder for folder in ("", "src/mtbert", "tests") if (ROOT / folder / name).exists()]
        assert found or name in NEW, name


def test_every_key_of_a_recipe_has_a_line_and_every_line_a_key():
    columns = {f"columns.{name}" for name in ("text", "label", "votes", "shares", "weight", "id", "separator")}
    derived = {"name", "columns", "soft"}  # soft follows from columns
    task = (fields(TaskRecipe) | fields(Head, "head.") | columns) - derived
    assert keys(section("tasks.NAME")) == task
    assert keys(section("data and model")) == fields(DataRecipe, "data.") | fields(ModelRecipe, "model.")
    assert keys(section("train")) == fields(TrainRecipe)


def test_every_key_of_a_table_has_a_line_and_every_line_a_key():
    columns = {"columns.text", "columns.id"}
    assert keys(section("Tables")) == (fields(TableRecipe) | columns) - {"columns"}


def test_every_key_of_a_study_has_a_line_and_every_line_a_key():
    study = (
        fields(StudySettings)
        | fields(RowSettings, "rows.NAME.")
        | fields(Printed, "printed.")
        | {"rows.NAME", "extends"}
    ) - {"rows"}
    assert keys(section("Studies")) == study


def test_every_command_has_an_example():
    shown = re.findall(r"\| `mtbert ([^`]+)` \|", RECIPES)
    app = typer.main.get_command(cli.app)
    paths = [
        f"{name} {inner}".strip()
        for name, command in app.commands.items()
        for inner in getattr(command, "commands", {"": None})
    ]
    assert len(paths) > 8
    assert [path for path in paths if not any(f"{example} ".startswith(f"{path} ") for example in shown)] == []


@pytest.mark.parametrize("kinds", [LOSSES, SAMPLERS, BALANCING], ids=["losses", "samplers", "balancing"])
def test_every_technique_is_named_in_the_documents_of_recipes_and_of_techniques(kinds: Kinds):
    techniques = (ROOT / "docs/techniques.md").read_text()
    named = [set(re.findall(r"[\w-]+", " ".join(re.findall(r"`[^`\n]+`", text)))) for text in (RECIPES, techniques)]
    for kind in kinds.classes:
        assert all(kind in words for words in named), kind


def test_every_answer_type_is_named_in_the_document_of_recipes():
    assert [name for name in ANSWER_TYPES if f"| `{name}` |" not in section("tasks.NAME")] == []
