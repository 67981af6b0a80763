"""docs/architecture.md and its picture of the layers show the packages that there are, in the order of the contract."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOT_SHOWN = {"__init__", "__main__"}


def rows_of_the_picture() -> list[set[str]]:
    """Returns the names in the picture's boxes, a set for each row from the top."""
    by_height: dict[float, set[str]] = {}
    picture = (ROOT / "docs/layers.svg").read_text()
    for height, name in re.findall(r'y="([\d.]+)"[^>]*font-weight="bold">([\w/]+)<', picture):
        by_height.setdefault(float(height), set()).add(name.rstrip("/"))
    return [by_height[height] for height in sorted(by_height)]


def modules() -> set[str]:
    """Returns the names of the packages and modules at the top of ``src/mtbert``."""
    found = {path.stem for path in (ROOT / "src/mtbert").glob("*.py")}
    return (found | {path.parent.name for path in (ROOT / "src/mtbert").glob("*/*.py")}) - NOT_SHOWN


def test_the_picture_shows_each_package_and_module_once():
    shown = [name for row in rows_of_the_picture() for name in row]
    assert sorted(shown) == sorted(modules())


def test_the_picture_never_shows_a_module_above_one_that_may_import_it():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [{name.strip().removeprefix("mtbert.") for name in layer.split("|")} for layer in contracts[0]["layers"]]
    floor = {name: i for i, layer in enumerate(layers) for name in layer}
    floors = [[floor[name] for name in row] for row in rows_of_the_picture()]
    for higher, lower in pairwise(floors):
        assert max(higher) <= min(lower), (higher, lower)


def test_the_document_names_each_package_and_module():
    text = (ROOT / "docs/architecture.md").read_text()
    left_out = {"seeds", "profiling", "numbers", "metrics"}  # small helpers, in the picture alone
    assert {name for name in modules() if f"`{name}/`" not in text and f"`{name}.py`" not in text} == left_out


def test_no_file_has_more_than_350_lines():
    files = [file for folder in ("src", "tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    assert {str(file.relative_to(ROOT)): n for file in files if (n := len(file.read_text().splitlines())) > 350} == {}
