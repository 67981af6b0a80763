"""The errors of a study: how wrong an answer is, which errors a recipe fixes, and which examples the browser gets."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_report
from tiny import RECORD

from mtbert.batch import Example, Examples
from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import Recipe
from mtbert.storage.predictions import Predicted
from mtbert.studying import errors
from mtbert.studying.results import DevData, EndedRun, Results
from mtbert.task import Task

recipe = toy_report.recipe
results = toy_report.results


def one(task: Task, label: float, raw: list[Any], decided: float, recipe: Recipe, name: str) -> errors.Judged:
    d = DevData(task, "accuracy", 1, Examples.of([Example("a", ("x",) * task.texts, label)]))
    answers = {name: Predicted(torch.tensor(raw), torch.tensor([decided]))}
    return errors.judge(d, EndedRun("r", 0, recipe, RECORD, answers, None, [], 0.0, Path()))


def test_an_answer_among_classes_is_as_wrong_as_its_label_is_improbable(recipe: Recipe, results: Results):
    sst = results.dev["sst"].task
    judged = one(sst, 0, [[0.0, math.log(2), math.log(5), 0.0, 0.0]], 2, recipe, "sst")
    assert judged.p_B[0] == pytest.approx(0.5)
    assert judged.loss_B[0] == pytest.approx(math.log(10))
    assert (judged.distance_B[0], judged.wrong_B[0]) == (2, True)


def test_an_answer_of_yes_or_no_has_the_probability_of_its_logit(recipe: Recipe, results: Results):
    quora = results.dev["quora"].task
    judged = one(quora, 0, [math.log(3)], 1, recipe, "quora")
    assert judged.p_B[0] == pytest.approx(0.75)
    assert judged.loss_B[0] == pytest.approx(math.log(4))
    judged = one(quora, 0, [-math.log(3)], 0, recipe, "quora")
    assert judged.p_B[0] == pytest.approx(0.75)
    assert judged.loss_B[0] == pytest.approx(math.log(4 / 3))
    assert not judged.wrong_B[0]


def test_a_score_is_wrong_by_its_distance_in_the_range_of_labels(recipe: Recipe, results: Results):
    sts = results.dev["sts"].task
    judged = one(sts, 4.0, [1.3], 1.3, recipe, "sts")  # beyond the range: 5
    assert (judged.answer[0], judged.distance_B[0], judged.wrong_B[0]) == (5, 1, True)
    assert not one(sts, 4.0, [0.72], 0.72, recipe, "sts").wrong_B[0]


def test_overlap_is_words_of_both_over_words_of_either():
    assert errors.overlap(("A dog runs.", "a cat RUNS fast")) == pytest.approx(2 / 5)
    assert errors.overlap(("?", "!")) == 0


def test_an_example_is_fixed_when_most_seeds_of_the_row_have_it_right(results: Results):
    def wrong(*marks: bool) -> list[errors.Judged]:
        nothing = np.zeros(1)
        return [errors.Judged(nothing, nothing, nothing, nothing, np.array([m])) for m in marks]

    found = errors.Errors(results)
    for before, after, change in (
        ((True, True, False), (False, False, True), 1),
        ((False, False, True), (True, True, False), -1),
        ((True, True, True), (True, True, False), 0),
    ):
        found.judged["sst"] = {"plain": wrong(*before), "strong": wrong(*after)}
        assert found.change("sst", "strong") == [change]


def test_a_cosine_is_as_wrong_as_it_is_far_on_the_wrong_side(results: Results):
    recipe = load_recipe("demo", ["tasks.quora.inputs=separate", "tasks.quora.head=cosine", "tasks.quora.losses=[mse]"])
    labels, cosines, decided = (0, 1, 0, 1), [0.9, 0.6, 0.3, 0.8], [1, 0, 0, 1]
    d = DevData(
        results.dev["quora"].task, "accuracy", 1, Examples.of(Example("a", ("x", "y"), label) for label in labels)
    )
    answers = {"quora": Predicted(torch.tensor(cosines), torch.tensor(decided))}
    judged = errors.judge(d, EndedRun("r", 0, recipe, RECORD, answers, None, [], 0.0, Path()))
    assert np.isnan(judged.p_B).all()
    # The threshold is 0.7, between 0.6 and 0.8: the loss is positive for wrong answers and negative for right ones.
    assert judged.loss_B == pytest.approx([0.2, 0.1, -0.4, -0.1], abs=1e-6)


def told(distances: list[float], losses: list[float] | None = None) -> errors.Judged:
    """Returns answers at these distances from their labels; they are wrong where the distance is not 0."""
    distance_B = np.array(distances, dtype=np.float64)
    loss_B = distance_B if losses is None else np.array(losses, dtype=np.float64)
    return errors.Judged(distance_B, distance_B, distance_B, loss_B, distance_B > 0)


def table(found: errors.Errors, name: str) -> list[list[str]]:
    return [list(row) for t in found.tables() if t.name == name for row in t.rows]


def test_how_far_errors_are_and_which_a_row_fixes_and_breaks(results: Results):
    found = errors.Errors(results)
    right = [0.0] * 54
    found.judged["sst"] = {
        "plain": [told([0, 1, 1, 2, 3, 4, *right])] * 2,
        "strong": [told([1, 0, 0, 1, 3, 4, *right]), told([1, 0, 0, 1, 3, 4, *right])],
    }
    assert table(found, "errors-sst") == [
        ["plain", "91.7%", "3.3%", "1.7%", "3.3%", "40.0%"],
        ["strong", "93.3%", "3.3%", "0.0%", "3.3%", "50.0%"],
    ]
    (changes,) = (t for t in found.tables() if t.name == "changes")
    assert changes.columns[:3] == ("row", "sst fixed", "sst broken")
    assert next(row[1:3] for row in changes.rows if row[0] == "strong") == ("2", "1")
    assert [row[0] for row in changes.rows] == ["strong", "same"]
    assert "compared with plain" in changes.title


def test_errors_by_words_in_common(results: Results):
    found = errors.Errors(results)
    found.overlap = {"quora": np.array([0.0, 0.1, 0.2, 0.5, 1.0, 1.0])}
    found.judged["quora"] = {"plain": [told([1, 1, 0, 0, 0, 1]), told([1, 0, 0, 0, 0, 0])]}
    found.overlap["sts"], found.judged["sts"] = np.array([0.0, 0.1]), {"plain": [told([0.5, 2.0])]}
    assert table(found, "overlap-sts")[1][1] == "1.250"
    counts, plain = table(found, "overlap-quora")
    assert counts[1:6] == ["2", "1", "1", "0", "2"]
    assert plain[1:6] == ["0.750", "0.000", "0.000", "", "0.250"]
    assert float(plain[6]) == pytest.approx(
        -8.75 / 255**0.5, abs=1e-3
    )  # of ranks (1 2 3 4 5.5 5.5) and (6 4.5 2 2 2 4.5)


def test_the_browser_gets_the_answers_of_each_run(results: Results):
    found = errors.Errors(results)
    given = found.browser("strong")
    shown = next(e for e in given["examples"] if e["task"] == "quora")
    number = next(i for i, e in enumerate(results.dev["quora"].examples) if e.id == shown["id"])
    judged = found.judged["quora"]["strong"][0]
    assert given["runs"][3] == "strong, seed 0"
    assert shown["answers"][3] == [
        judged.answer[number],
        round(judged.p_B[number], 4),
        judged.distance_B[number],
        round(judged.loss_B[number], 4),
    ]
    assert shown["answers"][3][1] % 1
    assert len(shown["answers"]) == len(shown["wrong"]) == 9
    assert (given["rows"], given["compared"]) == ([0, 0, 0, 1, 1, 1, 2, 2, 2], True)
    assert shown["change"] == [int(found.change("quora", row)[number]) for row in ("plain", "strong", "same")]
    assert given["first"] == {"task": found.most_wrong("strong")[0], "run": 3}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\nb"),
        ("a\x1b[2J\x00\u202eb", r"a\x1b[2J\x00\u202eb"),
        ("x" * 1_000_000, "x" * 5000 + " … (995,000 more characters)"),
    ],
)
def test_a_text_of_the_data_is_cut_and_its_control_characters_are_escaped(results: Results, text: str, shown: str):
    dev = results.dev["sst"]
    examples = [replace(example, texts=(text,)) for example in dev.examples]
    odd = replace(results, dev=results.dev | {"sst": replace(dev, examples=Examples.of(examples))})
    given = errors.Errors(odd).browser("plain")["examples"]
    assert {entry["texts"][0] for entry in given if entry["task"] == "sst"} == {shown}


def test_the_browser_has_the_worst_examples_and_those_most_surely_fixed_and_broken(
    results: Results, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(errors, "WORST", 2)
    monkeypatch.setattr(errors, "CHANGED", 1)
    found = errors.Errors(results)
    rest = [0.0] * 52
    found.judged["sst"] = {
        "plain": [told([9, 8, 0, 0, 2, 3, 0, 0, *rest])],
        "strong": [told([9, 8, 2, 3, 0, 0, 0, 1, *rest], [9, 8, 2, 3, -1, -3, 0, 1, *rest])],
    }
    # The worst two of both; then 5 is fixed by 6 nats, 4 by 3; 3 is broken by 3, 2 by 2, 7 by 1.
    assert found.examples("sst") == [0, 1, 3, 5]


def test_the_names_of_classes_are_shortened_and_their_control_characters_escaped():
    shown = errors._names(("plain", "a\u202eb", "x" * 100_000))
    assert shown == ["plain", r"a\u202eb", "x" * 200 + " … (99,800 more characters)"]
    assert errors._names(None) is None
