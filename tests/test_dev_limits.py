"""How far scores on dev can be trusted: where the examples come from, and how a score may flatter."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import toy_results
from toy_results import RIGHT

from mtbert.advice import worded_for_shell
from mtbert.data.sources import Source
from mtbert.studying.dev_limits import chosen_on_dev, like_dev, measure_on_new_texts, nearly_perfect
from mtbert.studying.results import EndedRun, Results


def changed(run: EndedRun, **by_task: dict[str, Any]) -> EndedRun:
    """Returns the run with other settings of its tasks."""
    tasks = {name: task.model_copy(update=by_task.get(name, {})) for name, task in run.recipe.tasks.items()}
    return replace(run, recipe=run.recipe.model_copy(update={"tasks": tasks}), folder=Path("runs/mine"))


def results_of(*runs: EndedRun) -> Results:
    found = toy_results.study({"base": [RIGHT]})
    return replace(found, runs={"base": dict(enumerate(runs))})


RUN = toy_results.result("base", 0, RIGHT)


def test_the_origin_of_dev_is_named_once_for_all_tasks_that_share_it():
    drawn = {"train": Source(path="/some/where/tickets.csv"), "dev": None}
    run = changed(RUN, sst={"dev": Source(path=("a/one.csv", "b/two.csv"))}, quora=drawn, sts=drawn)
    assert like_dev(results_of(run)) == (
        "The scores hold for texts like the dev examples (sst: one.csv and two.csv; quora and sts: a part of "
        "tickets.csv). They say nothing about other kinds of texts."
    )
    hub = {"dev": Source(hub="owner/set", split="validation")}
    assert "(owner/set [validation])" in like_dev(results_of(changed(RUN, sst=hub, quora=hub, sts=hub)))


def test_a_model_that_was_chosen_by_its_dev_scores_is_called_so():
    logged = [{"step": 1, "evaluation": {}}, {"step": 2}, {"step": 3, "evaluation": {}}]
    once, twice = replace(RUN, steps=logged[:2]), replace(RUN, steps=logged)
    assert chosen_on_dev(results_of(once), "base") == []
    said = "The model is the best of {} on these same examples, so its scores are a little too high."
    assert chosen_on_dev(results_of(twice), "base") == [said.format("2")]
    assert chosen_on_dev(results_of(once, twice), "base") == [said.format("up to 2")]


def test_a_nearly_perfect_score_is_doubted():
    (said,) = nearly_perfect({"a": 1.0, "b": 0.985, "c": 0.99})
    assert said.startswith("Doubt the nearly perfect score of a and c: ")
    assert nearly_perfect({"b": 0.985}) == []


def test_the_advice_names_the_command_that_scores_other_texts():
    test = {"test": Source(path="test.csv")}
    with worded_for_shell():
        (said,) = measure_on_new_texts(changed(RUN))
        assert said.endswith("Then: mtbert evaluate runs/mine --task sst --split FILE, and so for each task")
        (said,) = measure_on_new_texts(changed(RUN, sst=test))  # two tasks have no test
        assert "--split FILE" in said
        (said,) = measure_on_new_texts(changed(RUN, sst=test, quora=test, sts=test))
        assert said == ("For an honest score, measure the model once on test: mtbert evaluate runs/mine --split test")
    one = replace(changed(RUN), predicted={"sts": RUN.predicted["sts"]})
    assert measure_on_new_texts(one)[0].endswith("Then: mtbert.evaluate('runs/mine', data={'sts': ROWS})")
    assert measure_on_new_texts(replace(RUN, predicted={})) == []
