"""Sentences about the limits of scores on dev, such as reasons why the scores may be too high."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtbert.advice import call, worded
from mtbert.data.sources import Source
from mtbert.messages import clean, few
from mtbert.recipe.parts import TaskRecipe
from mtbert.studying.results import EndedRun, Results

MOST_NAMES = 5  # names in a sentence
DOUBTFUL = 0.99  # from this score on, the report asks whether dev is too easy


def like_dev(results: Results) -> str:
    """Returns a sentence that says where the dev examples of each task come from.

    The sentence also says that the scores say nothing about texts of other kinds. Tasks with the same dev data are
    named together.
    """
    by_origin: dict[str, list[str]] = {}
    for name in results.dev:
        by_origin.setdefault(_origin(_settings(results, name)), []).append(clean(name))
    origins = [f"{in_sentence(names)}: {origin}" for origin, names in by_origin.items()]
    told = next(iter(by_origin)) if len(by_origin) == 1 else "; ".join(origins[:MOST_NAMES])
    more = f"; and {len(origins) - MOST_NAMES} more" if len(origins) > MOST_NAMES else ""
    return (
        f"The scores hold for texts like the dev examples ({told}{more}). They say nothing about other kinds of texts."
    )


def chosen_on_dev(results: Results, row: str) -> list[str]:
    """Returns a list with one sentence, which says that the model was chosen by its scores on dev.

    The model is that of the recipe ``row``. If each run of the recipe was evaluated at most once, there was no choice,
    and the list is empty.
    """
    scored = [sum("evaluation" in line for line in run.steps) for run in results.runs[row].values()]
    if max(scored) < 2:
        return []
    number = f"{max(scored)}" if min(scored) == max(scored) else f"up to {max(scored)}"
    return [f"The model is the best of {number} on these same examples, so its scores are a little too high."]


def leaked(results: Results) -> list[str]:
    """Returns a list with one sentence, which names all tasks whose train and dev examples share texts.

    If no task has shared texts, the list is empty.
    """
    found = []
    for name, dev in results.dev.items():
        most = max(r.record.leaked.get(name, 0) for by_seed in results.runs.values() for r in by_seed.values())
        if most:
            found.append(f"{most / len(dev.examples):.1%} of the examples of {name}")
    return (
        [f"Scores on dev may be too good, because texts of train are in dev too: {in_sentence(found)}."]
        if found
        else []
    )


def nearly_perfect(scores: Mapping[str, float]) -> list[str]:
    """Returns a list with one sentence, which doubts the scores of all tasks whose dev score is 0.99 or more.

    ``scores`` maps the name of each task to its dev score. If no task has such a high score, the list is empty.
    """
    found = [name for name, score in scores.items() if score >= DOUBTFUL]
    if not found:
        return []
    return [
        f"Doubt the nearly perfect score of {in_sentence(found)}: the dev examples may be much like those of train, or "
        "their texts may give the label away."
    ]


def measure_on_new_texts(run: EndedRun) -> list[str]:
    """Returns the advice to score the model on texts that had no part in training; none if nothing can be scored."""
    scored = [name for name in run.recipe.tasks if name in run.predicted]
    if not scored:
        return []
    if all(run.recipe.tasks[name].test is not None for name in scored):
        return [f"For an honest score, measure the model once on test: {call('evaluate', run.folder, split='test')}"]
    each = "" if len(scored) == 1 else ", and so for each task"
    of_file = f"{call('evaluate', run.folder, task=scored[0], split='FILE')}{each}"
    tables = {
        table: "ROWS"
        for table, readers in run.recipe.tasks_by_table().items()
        if any(task.name in scored for task in readers)
    }
    of_rows = call("evaluate", run.folder, data=tables)
    return [
        "For an honest score, label some texts of the kind that you will ask about, in rows with the columns of the "
        f"train data. Then: {worded(of_file, of_rows)}"
    ]


def findable(least: Sequence[float]) -> str:
    """Returns the end of a sentence about the smallest true difference between two recipes that a study usually finds.

    ``least`` holds the smallest difference for each score that is tested. An entry is infinity if the study may miss a
    difference of any size.
    """
    known = [x for x in least if not math.isinf(x)]
    if not known:
        return "a study like this one can miss any difference, however large: the scores vary too much."
    size = f"{min(known):.3f}" + (f" to {max(known):.3f}, depending on the score," if len(known) > 1 else "")
    return (
        f"a study like this one finds a true difference of {size} four times out of five. A smaller one is easily "
        "missed."
    )


def in_sentence(items: Sequence[str]) -> str:
    """Returns items as a list in a sentence, such as ``a, b and c``. It names ``MOST_NAMES`` items at most."""
    if len(items) > MOST_NAMES:
        return few(items, MOST_NAMES)
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def _settings(results: Results, task: str) -> TaskRecipe:
    """Returns the settings of a task in the first run that has it."""
    runs = (run for by_seed in results.runs.values() for run in by_seed.values())
    return next(run.recipe.tasks[task] for run in runs if task in run.predicted)


def _origin(task: TaskRecipe) -> str:
    """Returns where the dev examples of a task come from, such as ``a part of reviews.csv``."""
    if task.dev is None:
        return f"a part of {_named(task.train)}"
    return _named(task.dev)


def _named(source: Source) -> str:
    """Returns the names of a source's files without their folders, or the name of its data set."""
    if source.files:
        return in_sentence([clean(Path(file).name) for file in source.files])
    split = "" if source.split is None else f" [{source.split}]"
    name = source.hub if source.hub is not None else f"generated {source.generated}"
    return clean(f"{name}{split}")
