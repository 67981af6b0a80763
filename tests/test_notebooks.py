"""The notebooks in ``examples/`` are kept without output, and their cells run in their order on a tiny encoder."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import toy_run

NOTEBOOKS = sorted((Path(__file__).parent.parent / "examples/notebooks").glob("*.ipynb"))


def cells(path: Path) -> list[str]:
    """Returns the code of a notebook, cell by cell."""
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def run(code: str, names: dict[str, Any]) -> Any:
    """Runs a cell as a notebook does: returns the value of its last line if that is an expression."""
    parsed = ast.parse(code)
    last = parsed.body.pop() if isinstance(parsed.body[-1], ast.Expr) else None
    exec(compile(parsed, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_output(path: Path):
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    for cell in notebook["cells"]:
        assert cell.keys() >= {"cell_type", "id", "metadata", "source"}
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    assert notebook["cells"][0]["source"][0].startswith("# ")


@pytest.fixture
def values(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The values that the cells of a notebook show."""
    encoder = toy_run.encoder_folder(tmp_path / "encoder", max_position_embeddings=160)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    changed = [code.replace('ENCODER = "demo"', f'ENCODER = "{encoder}"') for code in cells(request.param)]
    assert changed != cells(request.param)
    return [run(code, names) for code in changed]


def named(name: str) -> Any:
    path = next(path for path in NOTEBOOKS if path.stem == name)
    return pytest.mark.parametrize("values", [path], indirect=True, ids=[name])


@named("dataframe")
def test_a_data_frame_becomes_a_model_that_answers(values: list[Any]):
    sample, _, scores, answers, joined, shape = values
    assert len(sample) == 5
    assert "constant" in scores._repr_html_()
    assert [answer["topic"].keys() for answer in answers] == [{"label", "p(bug)", "p(wish)"}] * 2
    assert list(joined["p(bug)"]) == sorted(joined["p(bug)"])
    assert shape == (1, 16)


@named("study")
def test_a_study_ends_with_a_report(values: list[Any]):
    *_, failed, report, tables = values
    assert failed == {}
    assert report.read_text().startswith("<!doctype html>")
    assert len(tables) > 1


@named("serving")
def test_a_server_answers_and_ends(values: list[Any]):
    *_, answered, length, code = values
    assert [answer["topic"].keys() for answer in answered["answers"]] == [{"label", "p(bug)", "p(wish)"}] * 2
    assert (length, code) == (16, 0)
