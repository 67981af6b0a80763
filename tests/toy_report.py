"""The results of a study of three recipes on made-up examples, and the page of its report."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import RECORD

from mtbert.batch import Example, Examples
from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import Recipe
from mtbert.storage.predictions import Predicted
from mtbert.studying import report
from mtbert.studying.results import DevData, EndedRun, Outline, Results

HOSTILE = "</script><img src=x onerror=alert(1)> <b>bold</b> & co"
WORDS = "one two three four five six seven eight nine ten".split()


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("demo")


def dev(recipe: Recipe) -> dict[str, DevData]:
    """Returns 60 made-up examples of each task in the recipe."""
    draws = np.random.default_rng(0)
    found = {}
    for name, settings in recipe.tasks.items():
        task = settings.task
        examples = []
        for i in range(60):
            texts = tuple(" ".join(draws.choice(WORDS, 5)) + f" {name}{i}" for _ in range(task.texts))
            label = float(draws.integers(len(task.labels))) if task.labels else float(draws.uniform(0, 5))
            examples.append(Example(f"{name}-{i}", texts, label))
        examples[0] = replace(examples[0], texts=(HOSTILE, *examples[0].texts[1:]))
        found[name] = DevData(task, settings.metric, 1000, Examples.of(examples))
    return found


def predicted(task: DevData, skill: float, draws: np.random.Generator) -> Predicted:
    labels_B = task.labels
    if task.task.labels is None:
        scores_B = labels_B / 5 + draws.normal(0, 0.3 / skill, len(labels_B))
        return Predicted(torch.tensor(scores_B, dtype=torch.float32), torch.tensor(scores_B, dtype=torch.float64))
    if task.task.type == "binary":
        raw_B = torch.tensor((2 * labels_B - 1) * skill + draws.normal(0, 1.5, len(labels_B)))
        return Predicted(raw_B.float(), (raw_B > 0).long())
    raw_BK = draws.normal(0, 1, (len(labels_B), len(task.task.labels or ())))
    raw_BK[np.arange(len(labels_B)), labels_B.astype(int)] += skill
    return Predicted(torch.tensor(raw_BK).float(), torch.tensor(raw_BK.argmax(1)))


def step(number: int, tasks: list[str], joint: bool) -> dict[str, Any]:
    taken = tasks if joint else [tasks[number % len(tasks)]]
    line: dict[str, Any] = {"step": number, "losses": {f"{task}.loss": 1 / number for task in taken}}
    if joint:
        line["diagnostics"] = {"cos(a, b)": math.cos(number), "conflicting": 0.5}
    return line


@pytest.fixture(scope="module")
def results(recipe: Recipe) -> Results:
    """A study of three recipes, ``plain``, ``strong`` (far better) and ``same`` (as good as plain), and three seeds."""
    tasks = dev(recipe)
    runs: dict[str, dict[int, EndedRun]] = {}
    for row, skill in (("plain", 1.0), ("strong", 3.0), ("same", 1.0)):
        for seed in range(3):
            draws = np.random.default_rng([seed, len(row)])
            answers = {name: predicted(d, skill, draws) for name, d in tasks.items()}
            steps = [step(n, list(tasks), joint=row == "strong") for n in range(1, 200)]
            runs.setdefault(row, {})[seed] = EndedRun(row, seed, recipe, RECORD, answers, None, steps, 1.0, Path())
    outline = Outline(
        rows={"plain": None, "strong": "plain", "same": "plain"},
        sources=dict.fromkeys(("plain", "strong", "same"), "demo"),
        seeds=(0, 1, 2),
        reference="plain",
        threads=1,
    )
    return Results(outline, tasks, runs, ["same, seed 3"], ["Runs differ in cpu: there are 2 different ones."])


def written(results: Results, out: Path) -> Path:
    """Writes the report of ``results`` with its tables and figures into ``out``. Returns the path of the page."""
    made = report.make_report(results)
    report.write_parts(made, out)
    return report.write_page(made, out)


@pytest.fixture(scope="module")
def page(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toy-study")
    return written(results, out)
