"""Results of a study that was never run: given answers to a few examples of three tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tiny import RECORD

from mtbert.batch import Example, Examples
from mtbert.recipe.files import load_recipe
from mtbert.storage.predictions import Predicted
from mtbert.studying.results import DevData, EndedRun, Outline, Results
from mtbert.studying.settings import Printed

Answers = Mapping[str, Sequence[float]]  # by task: class indices, or scores on 0..1

LABELS: Answers = {
    "sst": (0, 1, 2, 3, 4, 2, 2, 1),
    "quora": (1, 0, 0, 1, 0, 0, 1, 0),
    "sts": (0, 1, 2, 3, 4, 5, 2.5, 4.5),
}
RIGHT: Answers = LABELS | {"sts": tuple(label / 5 for label in LABELS["sts"])}

# Compared with LABELS, 6 of 8 answers of sst are right and 5 of 8 of quora, and those of sts are reversed.
WORSE = {"sst": (0, 1, 2, 3, 4, 2, 0, 0), "quora": (1, 1, 1, 1, 0, 0, 1, 1), "sts": tuple(-y for y in LABELS["sts"])}
OTHER = WORSE | {"sst": (0, 1, 2, 3, 4, 2, 2, 0)}  # 7 of 8


def dev(labels: Answers = LABELS, train: int = 100) -> dict[str, DevData]:
    """Returns the tasks of the recipe ``demo`` with one example per label."""
    recipe = load_recipe("demo")
    found = {}
    for name, values in labels.items():
        settings = recipe.tasks[name]
        rows = [Example(f"{name}-{i}", (f"text {i}",) * settings.texts, v) for i, v in enumerate(values)]
        found[name] = DevData(settings.task, settings.metric, train, Examples.of(rows))
    return found


def result(row: str, seed: int, answers: Answers) -> EndedRun:
    """Returns a run that gave these answers, each with a logit of 10."""
    predicted = {}
    for name, values in answers.items():
        decided = torch.tensor(values, dtype=torch.float64 if name == "sts" else torch.long)
        if name == "sst":
            raw = 10 * torch.nn.functional.one_hot(decided, 5).float()
        else:
            raw = decided.float() if name == "sts" else 20 * decided.float() - 10
        predicted[name] = Predicted(raw, decided)
    return EndedRun(
        row=row,
        seed=seed,
        recipe=load_recipe("demo"),
        record=RECORD,
        predicted=predicted,
        step=None,
        steps=[],
        seconds=1.0,
        folder=Path(),
    )


def study(
    rows: Mapping[str, Sequence[Answers]],
    *,
    controls: Mapping[str, str] | None = None,
    labels: Answers = LABELS,
    printed: Printed | None = None,
) -> Results:
    """Returns a study whose recipes gave these answers, one for each seed; the first recipe is the reference."""
    outline = Outline(
        rows={row: (controls or {}).get(row) for row in rows},
        sources=dict.fromkeys(rows, "demo"),
        seeds=tuple(range(max(map(len, rows.values())))),
        reference=next(iter(rows)),
        threads=1,
        printed=printed,
    )
    runs = {row: {seed: result(row, seed, a) for seed, a in enumerate(by_seed)} for row, by_seed in rows.items()}
    return Results(outline, dev(labels), runs, [], [])


def without(results: Results, row: str, task: str) -> Results:
    """Returns ``results`` without the answers of one recipe of the study to one task."""
    runs = {
        seed: replace(run, predicted={name: p for name, p in run.predicted.items() if name != task})
        for seed, run in results.runs[row].items()
    }
    return replace(results, runs={**results.runs, row: runs})
