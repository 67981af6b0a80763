"""The screens after a run: the table of scores, and the profile."""

import io
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from rich.table import Table

from mtbert.recipe.files import load_recipe
from mtbert.scores import score_table
from mtbert.scoring import Evaluation
from mtbert.training.profile import Profile


def lines(table: Table) -> list[list[str]]:
    """Returns the cells of each line of a printed table."""
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(table)
    printed = console.export_text().splitlines()
    return [
        [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in printed if line[0] in "│┃"
    ]


SCORES = {
    "sst": Evaluation({"accuracy": 0.5, "macro_f1": 0.4}, {"accuracy": 0.25, "macro_f1": 0.125}, False, 1101),
    "sts": Evaluation({"pearson": 0.75, "spearman": 0.625}, {"pearson": 0.0, "spearman": 0.0}, False, 863),
}


def test_the_table_of_scores_has_each_score_beside_the_best_constant():
    settings = load_recipe("demo")
    assert lines(score_table(settings, SCORES, "dev")) == [
        ["task", "metric", "score", "constant", "examples"],
        ["sst", "accuracy", "0.5000", "0.2500", "1101"],
        ["", "macro_f1", "0.4000", "0.1250", ""],
        ["sts", "pearson", "0.7500", "0.0000", "863"],
        ["", "spearman", "0.6250", "0.0000", ""],
        # (0.5 + 1.75 / 2) / 2, and for the constants (0.25 + 1 / 2) / 2: a correlation of 0 counts as 1/2.
        ["overall", "", "0.6875", "0.3750", ""],
    ]


def test_overall_is_computed_from_each_tasks_chosen_metric():
    settings = load_recipe("demo", ["tasks.sst.metric=macro_f1", "tasks.sts.metric=spearman"])
    table = lines(score_table(settings, SCORES, "dev"))
    assert [row[0] for row in table[1:5]] == ["", "sst", "", "sts"]
    # (0.4 + 1.625 / 2) / 2 and (0.125 + 1 / 2) / 2.
    assert table[-1] == ["overall", "", "0.6062", "0.3125", ""]


def below(table: Table, width: int = 120) -> list[str]:
    """Returns the lines below a printed table."""
    file = io.StringIO()
    Console(width=width, file=file).print(table)
    return [line.rstrip() for line in file.getvalue().partition("┘\n")[2].splitlines()]


def test_one_task_has_no_overall_and_a_collapse_of_ten_answers_or_more_is_said_below():
    settings = load_recipe("demo")
    scores = {"accuracy": 0.25, "macro_f1": 0.125}
    assert below(score_table(settings, {"sst": Evaluation(scores, scores, True, 9)}, "dev")) == []
    one = {"sst": Evaluation(scores, scores, True, 10)}
    table = score_table(settings, one, "dev")
    assert lines(table)[1:] == [["sst", "accuracy", "0.2500", "0.2500", "10"], ["", "macro_f1", "0.1250", "0.1250", ""]]
    assert " ".join(below(table)) == (
        "sst has collapsed: nearly all of its answers are the same. What that means: mtbert docs scores"
    )
    assert below(table)[-1] == "What that means: mtbert docs scores"


def test_a_score_below_the_constants_is_said_below_the_table():
    fine, worse = (
        Evaluation({"accuracy": score, "macro_f1": 0.5}, {"accuracy": 0.7, "macro_f1": 0.4}, False, 30)
        for score in (0.8, 0.3667)
    )
    settings = load_recipe("demo")
    assert " ".join(below(score_table(settings, {"sst": fine, "quora": worse}, "dev"))) == (
        "quora is below the constant: always giving the same answer has a better accuracy. "
        "What that means: mtbert docs scores"
    )
    assert below(score_table(settings, {"sst": fine}, "dev")) == []


def test_what_calibration_changed_is_said_below_the_table():
    settings = load_recipe("demo")
    worst = {"accuracy": 0.7, "nll": 1.5, "ece": 0.0}
    one = Evaluation({"accuracy": 0.8, "nll": 0.5, "ece": 0.0625}, worst, False, 30, {"nll": 0.75, "ece": 0.125})
    assert " ".join(below(score_table(settings, {"quora": one, "sts": SCORES["sts"]}, "dev"))) == (
        "Before and after calibration, which is fitted on rows held out of train, never on dev (lower is better): "
        "quora: nll 0.7500 to 0.5000, ece 0.1250 to 0.0625"
    )


def test_the_widest_table_of_scores_fits_80_columns_and_cuts_no_number_or_name():
    names = ["accuracy", "average_precision", "exact_match"]
    one = Evaluation(dict.fromkeys(names, 0.25), dict.fromkeys(names, 0.5), False, 1_234_567)
    long = "a-task-with-a-long-name-of-the-user"
    settings = load_recipe("demo")
    settings = settings.model_copy(update={"tasks": {long: settings.tasks["quora"], "sst": settings.tasks["sst"]}})
    table = score_table(settings, {long: one, "sst": one}, "dev", ("last/", {long: one, "sst": one}))
    file = io.StringIO()
    Console(width=80, file=file).print(table)
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert text.count("1234567") == 2
    assert text.count("average_precision") == 2
    cells = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert "".join(cells) == f"{long}sstoverall"


def test_a_profile_shows_the_share_of_the_machines_rate_that_the_encoders_products_reach(
    monkeypatch: pytest.MonkeyPatch,
):
    console = Console(width=120, file=io.StringIO(), record=True)
    profile = Profile(console, 1000, torch.device("cpu"), torch.float32)
    profile.profiler = SimpleNamespace(events=list, key_averages=list)
    profile.tokens, profile.seconds = 400, 2.0
    monkeypatch.setattr("mtbert.training.profile.product_rate", lambda device, compute: 4e6)
    profile._report(steps=20)
    # Forward, and backward to inputs and weights: 3 products, 2 operations each, for 200 tokens a second and weight.
    said = console.export_text()
    assert "20 tokens a step, 200 tokens/s; the encoder's products: 30% of the 0 GFLOP/s" in said
