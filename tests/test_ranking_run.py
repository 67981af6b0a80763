"""A ranking from recipe to report: checked, trained, scored, asked with any number of candidates, resumed, studied."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
import toy_run
import toy_search
import yaml
from commands import Mtbert
from rich.console import Console
from stopped import assert_resumes_bitwise
from toy_study import run_here

from mtbert import load
from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import validate_recipe
from mtbert.storage.predictions import PREDICTIONS, load_predictions, save_predictions
from mtbert.studying import plan
from mtbert.training.assemble import assemble
from mtbert.training.start import start_run
from mtbert.use.predictor import Predictor
from mtbert.yaml_files import merge

mtbert = commands.mtbert

SILENT = Console(quiet=True)
QUERY, *CANDIDATES = toy_search.rows(1, wrong=3, seed=9)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of a ranking with two wrong candidates in each row, and mine.yaml, its recipe."""
    folder = tmp_path_factory.mktemp("search")
    toy_run.set_up(folder)
    (folder / "mine.yaml").write_text(yaml.safe_dump(toy_search.raw_recipe(folder), sort_keys=False))
    start_run(load_recipe(str(folder / "mine.yaml")), folder / "run", SILENT)
    return folder


def test_the_right_candidate_comes_first_more_often_than_in_a_random_order(folder: Path, said: Callable[..., str]):
    found = json.loads(said("evaluate", folder / "run", "--json"))["tasks"]["search"]
    assert found["constant"] == {"accuracy": pytest.approx(1 / 3), "mrr": pytest.approx((1 + 1 / 2 + 1 / 3) / 3)}
    assert found["metrics"]["accuracy"] > 0.8
    assert found["metrics"]["mrr"] > 0.9
    assert (found["candidates"], sum(found["ranks"]), found["collapsed"]) == (3, 40, False)
    assert "search, by rank" in said("evaluate", folder / "run")


def test_the_check_of_the_data_shows_chance_and_has_nothing_to_say_of_labels(folder: Path, said: Callable[..., str]):
    out = said("data", "check", folder / "mine.yaml")
    assert re.search(r"3 candidates +80 100.0% .*40 100.0%", out)
    assert re.search(r"accuracy by chance +0.3333 +0.3333", out)
    assert "same label" not in out


def test_the_check_of_the_data_finds_wrong_candidates_that_are_right(folder: Path, said: Callable[..., str]):
    rows = toy_search.rows(40)
    rows[0] = (*rows[0][:3], rows[0][1])  # the right one again
    rows[1] = (rows[2][0], *rows[1][1:3], rows[2][1])  # right for the same query in the next row
    toy_search.write(folder / "data/doubtful.csv", rows)
    out = said("data", "check", folder / "mine.yaml", "--set", "tasks.search.train=doubtful.csv")
    assert "2 of 40 examples (5.0%) have a wrong candidate that is right for the same query." in " ".join(out.split())


@pytest.mark.parametrize("number", [1, 2, 4])
def test_python_ranks_any_number_of_candidates_and_each_as_if_alone(folder: Path, number: int):
    made = load(folder / "run")
    (found,) = made.predict("search", (QUERY, *CANDIDATES[:number]))
    alone = [made.predict("search", [(QUERY, candidate)])[0]["cosines"][0] for candidate in CANDIDATES[:number]]
    assert found["cosines"] == pytest.approx(alone, abs=1e-5)
    assert found["first"] == int(np.argmax(alone)) + 1 == 1
    assert [found["cosines"][found["ranks"].index(rank)] for rank in range(1, number + 1)] == sorted(
        found["cosines"], reverse=True
    )
    assert made((QUERY, *CANDIDATES[:number])) == [{"search": found}]
    vectors = made.vectors("search", (QUERY, *CANDIDATES[:number]))
    assert vectors.shape == (1, number + 1, 16)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([("q", "a", "b"), ("q", "a")], "text 2: takes a query and 2 candidates, as the first one does, found 2"),
        ([("q",)], "text 1: takes a query and 1 candidate at least, found 1"),
        ([3], "text 1: must be a query and its candidates, found 3."),
        ([("q", "")], "text 1: must be UTF-8 text and not empty"),
        (5, "Give a list of queries with their candidates, as [(query, one, other)]."),
    ],
)
def test_texts_that_are_no_ranking_are_refused_in_one_line(folder: Path, texts: Any, said: str):
    with pytest.raises((ValueError, TypeError), match=re.escape(said)):
        predictor(folder).predict("search", texts)


def predictor(folder: Path) -> Predictor:
    return load(folder / "run")


def test_predict_reads_other_columns_than_train_had(folder: Path, said: Callable[..., str]):
    lines = ["question,a,b,c,d", f"{QUERY},{CANDIDATES[1]},{CANDIDATES[2]},{CANDIDATES[0]},{CANDIDATES[3]}"]
    (folder / "new.csv").write_text("\n".join(lines) + "\n")
    columns = ["--set", "tasks.search.columns.text=[question, a, b, c, d]"]
    said(
        "predict",
        folder / "run",
        "--task",
        "search",
        "--input",
        folder / "new.csv",
        *columns,
        "--output",
        folder / "a.jsonl",
    )
    found = json.loads((folder / "a.jsonl").read_text())
    assert (found["question"], found["first"], found["ranks"][2], len(found["cosines"])) == (QUERY, 3, 1, 4)
    assert said(
        "predict", folder / "run", "--task", "search", "--text", QUERY, "--text-pair", CANDIDATES[0]
    ).startswith("first 1  ranks 1  cosines 0.")


def test_a_file_without_a_candidate_column_names_it(folder: Path, mtbert: Mtbert):
    (folder / "short.csv").write_text("query,right,wrong\na,b,c\n")
    done = mtbert("predict", folder / "run", "--task", "search", "--input", folder / "short.csv")
    assert "there is no column 'worse', found 'query', 'right', 'wrong'." in done.mistake
    assert "reads pairs" in mtbert("predict", folder / "run", "--task", "search", "--text", "a").mistake


def test_a_run_stopped_in_the_middle_resumes_bitwise(folder: Path, tmp_path: Path):
    assert_resumes_bitwise(folder / "mine.yaml", folder / "run", tmp_path / "run", at=13)


# Report ---------------------------------------------------------------------------------------------


def test_a_finished_ranking_can_be_the_encoder_of_another_run_and_goes_on_with_its_head(folder: Path):
    raw = merge(yaml.safe_load((folder / "mine.yaml").read_text()), {"model": {"path": str(folder / "run")}})
    made = assemble(validate_recipe(raw, "on"))
    assert "heads going on: search; new: none" in made.notes[-1].text
    assert made.model.head("search").state_dict() == {}


STUDY = """
rows:
  mnrl: mine.yaml
  simcse: {recipe: mine.yaml, set: ['tasks.search.losses=[simcse]'], control: mnrl}
seeds: [0, 1]
set: [train.epochs=1]
"""


def test_a_study_of_rankings_compares_rows_and_shows_ranks_and_errors(folder: Path, tmp_path: Path):
    (folder / "study.yaml").write_text(STUDY)
    run_here(plan.load_study(str(folder / "study.yaml")), tmp_path / "out")
    ranks = (tmp_path / "out/tables/ranks-search.csv").read_text().splitlines()
    assert ranks[0] == "row,1st,2nd,3rd"
    assert [line.split(",")[0] for line in ranks[1:]] == ["random order", "mnrl", "simcse"]
    assert ranks[1] == "random order,33.3%,33.3%,33.3%"
    shares = [float(x.removesuffix("%")) for x in ranks[2].split(",")[1:]]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    page = (tmp_path / "out/report.html").read_text()
    assert "A ranking counts as wrong if a wrong candidate is as near to the query as the right one." in page
    assert '"candidate 1"' in page


@pytest.mark.parametrize("damage", ["fewer candidates in the decision", "fewer candidates in the prediction"])
def test_answers_with_another_number_of_candidates_are_not_to_these_data(
    folder: Path, tmp_path: Path, mtbert: Mtbert, damage: str
):
    run = commands.shutil.copytree(folder / "run", tmp_path / "run")
    (kept,) = load_predictions(run / "best").values()
    first = kept.decision[:, :2].clamp(max=2).contiguous()
    changed = (
        type(kept)(kept.prediction, first)
        if damage.endswith("decision")
        else type(kept)(kept.prediction[:, :2].contiguous(), kept.decision)
    )
    (run / "best" / PREDICTIONS).unlink()
    save_predictions({"search": changed}, run / "best")
    done = mtbert("report", run)
    assert done.code != 0
    assert "Traceback" not in done.err
