"""The words at the top of a report: its result in a sentence or two, what limits it, and what to do next."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtbert.advice import command_line
from mtbert.messages import count, few, shown
from mtbert.studying.charts import signed
from mtbert.studying.dev_limits import (
    MOST_NAMES,
    chosen_on_dev,
    findable,
    in_sentence,
    leaked,
    like_dev,
    measure_on_new_texts,
    nearly_perfect,
)
from mtbert.studying.errors import Errors
from mtbert.studying.results import EndedRun, Results
from mtbert.studying.statistics import Estimate, ScoreEstimate
from mtbert.studying.summary import Against, Comparison, Summary, Verdict
from mtbert.training import history

_Judged = Mapping[str, tuple[str, Comparison]]  # by row: the deciding score, and the difference in it


@dataclass(frozen=True)
class Conclusion:
    """The words at the top of a report.

    Attributes:
        headline: The result in one or two plain sentences.
        limits: Sentences that say how far the result can be trusted.
        steps: What the reader should do next, the most urgent first.
        doubts: The sentences in ``limits`` that give a reason to doubt that training has taught the model anything.
            Empty if the report compares recipes.
    """

    headline: str
    limits: tuple[str, ...]
    steps: tuple[str, ...]
    doubts: tuple[str, ...] = ()


def conclude(results: Results, summary: Summary, errors: Errors) -> Conclusion:
    """Returns the words at the top of the report of a study or of a single run."""
    against = shown_against(summary)
    judged = judged_rows(summary, against)
    if not judged:
        return _scores_of_one(results, summary, errors)
    return Conclusion(
        _headline(results, judged, against),
        tuple(_limits(results, summary, judged, against)),
        tuple(_study_steps(results, summary, errors, judged, against)),
    )


def shown_against(summary: Summary) -> Against:
    """Returns ``"control"`` or ``"reference"``: what the top of the report compares each recipe with.

    The control of a recipe is another recipe, which usually lacks only one technique. The reference is a single recipe
    for the whole study. Returns ``"control"`` if at least one recipe can be compared with its control. Otherwise,
    returns ``"reference"``.
    """
    return "control" if summary.comparisons["control"] else "reference"


def judged_rows(summary: Summary, against: Against) -> dict[str, tuple[str, Comparison]]:
    """Returns a dict from recipe name to a pair: the name of a score, and the comparison by this score.

    The comparison is between the recipe and its control, or between the recipe and the reference recipe; ``against``
    chooses which. The method :meth:`Summary.judged_by` chooses the score. If the method returns None, the recipe is
    left out.

    Clear effects come before unclear ones; in both groups, the largest improvement comes first.
    """
    found = {
        row: (score, by_score[score])
        for row, by_score in summary.comparisons[against].items()
        if (score := summary.judged_by(by_score)) is not None
    }
    return dict(sorted(found.items(), key=lambda item: (item[1][1].verdict == "unclear", -item[1][1].difference.mean)))


def _headline(results: Results, judged: _Judged, against: Against) -> str:
    """Returns sentences such as ``1 of 2 techniques helps: a (+0.020). The other shows no clear effect.``"""
    number, by = len(judged), {verdict: _named(judged, verdict) for verdict in ("better", "worse", "unclear")}
    better, worse, unclear = by["better"], by["worse"], by["unclear"]
    reference = results.outline.reference
    if against == "control":
        noun, verbs = "technique", {"better": ("helps", "help"), "worse": ("hurts", "hurt")}
        none, nothing = "is proven to help", "is proven to help or to hurt"
        other = ("shows no clear effect", "show no clear effect")
    else:
        noun = "recipe"
        verbs = {v: (f"is {v} than {reference}", f"are {v} than {reference}") for v in ("better", "worse")}
        none, nothing = f"is proven better than {reference}", f"is proven better or worse than {reference}"
        other = ("is not clearly different", "are not clearly different")
    if number == 1:
        ((row, (score, one)),) = judged.items()
        if one.verdict == "unclear":
            return f"{row} {nothing.replace('is proven', 'is not proven')}."
        return f"{row} {verbs[one.verdict][0]}: {signed(one.difference.mean)} in {score}."
    if len(unclear) == number:
        return f"None of the {number} {noun}s {nothing}."
    said = []
    if better:
        said.append(f"{len(better)} of {number} {noun}s {_verb(better, verbs['better'])}: {in_sentence(better)}.")
    else:
        said.append(f"None of the {number} {noun}s {none}.")
    if worse:
        said.append(f"{len(worse)} {_verb(worse, verbs['worse'])}: {in_sentence(worse)}.")
    if unclear:
        said.append(f"The other{'' if len(unclear) == 1 else f' {len(unclear)}'} {_verb(unclear, other)}.")
    return " ".join(said)


def _named(judged: _Judged, verdict: Verdict) -> list[str]:
    return [f"{row} ({signed(one.difference.mean)})" for row, (_, one) in judged.items() if one.verdict == verdict]


def _verb(items: Sequence[str], forms: tuple[str, str]) -> str:
    return forms[len(items) > 1]


def _limits(results: Results, summary: Summary, judged: _Judged, against: Against) -> list[str]:
    scores = dict.fromkeys(score for score, _ in judged.values())
    tasks = len([name for name in summary.baseline if name in results.dev])
    said = []
    if list(scores) == [summary.main] and summary.main not in results.dev:
        said.append(
            f"The numbers are differences in {summary.main}, the mean score over {count(tasks, 'task')}, on dev."
        )
    elif len(scores) == 1:
        said.append(f"The numbers are differences in the score of {next(iter(scores))} on dev.")
    else:
        said.append("Each recipe is judged by the score that it shares with the other recipe, on dev.")
    said += [like_dev(results), *leaked(results)]
    seeds = sorted({one.difference.seeds for _, one in judged.values()})
    least = [x for score in scores if (x := summary.detectable(against, score)) is not None]
    if least:
        said.append(f"With {_seeds(seeds)}, {findable(least)}")
    single = sum(one.difference.seeds == 1 for _, one in judged.values())
    if single:
        has = "has" if single == 1 else "have"
        said.append(
            f"{count(single, 'comparison')} {has} one seed, which compares two runs and says little about the "
            f"{'technique' if against == 'control' else 'recipe'}."
        )
    left = len(summary.comparisons[against]) - len(judged)
    if left:
        other = "its control" if against == "control" else results.outline.reference
        has = "has" if left == 1 else "have"
        said.append(f"{count(left, 'more row')} {has} no {summary.main} that {other} has too, and so no verdict.")
    return said


def _seeds(found: Sequence[int]) -> str:
    return count(found[0], "seed") if len(found) == 1 else f"{found[0]} to {found[-1]} seeds"


def _study_steps(results: Results, summary: Summary, errors: Errors, judged: _Judged, against: Against) -> list[str]:
    steps = []
    if results.missing:
        every = len(results.missing) + sum(map(len, results.runs.values()))
        are = "has" if len(results.missing) == 1 else "have"
        steps.append(
            f"Finish the study: {len(results.missing)} of {count(every, 'run')} {are} not ended. Run the same mtbert "
            "study command again."
        )
    steps += _collapses(summary)
    taken = recipe_to_take(results, summary)
    if taken is not None:
        steps.append(_advice(results, summary, *taken))
        steps += [
            f"Where only {score} matters, take {row}: it is clearly better there ({signed(one.difference.mean)})."
            for row, (score, one) in judged.items()
            if score != summary.main and one.verdict == "better" and one.other == taken[0]
        ]
    unclear = [one.difference for _, one in judged.values() if one.verdict == "unclear"]
    if unclear:
        steps.append(_more(unclear, summary.detectable(against, summary.main)))
    steps += _errors_to_read(errors, results.outline.reference if taken is None else taken[0])
    return steps


def recipe_to_take(results: Results, summary: Summary) -> tuple[str, str] | None:
    """Returns a pair of recipes of the study: the one to take, and the one with the highest mean of the main score.

    The recipe to take is the best of those that are clearly better than the reference recipe. If there are none, it is
    the reference recipe. Returns None if the reference recipe has no score.
    """
    known = {row: s.scores[summary.main].mean for row, s in summary.rows.items() if summary.main in s.scores}
    reference = results.outline.reference
    if reference not in known:
        return None
    clear = [
        row
        for row, by_score in summary.comparisons["reference"].items()
        if row in known and summary.main in by_score and by_score[summary.main].verdict == "better"
    ]
    return max(clear or [reference], key=lambda row: known[row]), max(known, key=lambda row: known[row])


def _advice(results: Results, summary: Summary, take: str, highest: str) -> str:
    reference, main = results.outline.reference, summary.main
    if take != reference:
        interval = summary.comparisons["reference"][take][main].difference.interval
        size = "" if interval is None else f" ({signed(interval[0])} to {signed(interval[1])} in {main})"
        said = f"Take {take}: it is clearly better than {reference}{size}."
        return (
            said + " It was chosen by its dev score, so score it once on test files: mtbert report STUDY --row --test."
        )
    said = f"Keep {reference}: no other recipe is clearly better."
    if highest != reference:
        said += f" {highest} has the highest mean, but chance alone could explain that."
    return said


def _more(unclear: Sequence[Estimate], least: float | None) -> str:
    """Returns advice on whether more seeds or more dev examples would make the unclear comparisons clearer.

    ``least`` is the smallest difference in the main score that the study can be expected to find; None if unknown.
    """
    varied = [one for one in unclear if one.se > 0]
    if not varied:
        return "Look at the recipes: those without a clear effect give exactly the answers of the other recipe."
    if any(one.seeds == 1 for one in varied):
        return "Run more seeds, three at least: with one seed, the chance between runs is not measured."
    share = float(np.median([min(1.0, one.of_examples / one.se**2) for one in varied]))
    if share > 0.5:
        return (
            f"Get more dev examples if a smaller difference matters: {share:.0%} of the uncertainty comes from their "
            "number. More seeds would help little."
        )
    seeds = max(one.seeds for one in varied)
    said = f"Run more seeds if a smaller difference matters: {1 - share:.0%} of the uncertainty comes from the seeds."
    if least is None or math.isinf(least):
        return said
    finer = least * float(np.sqrt(share + (1 - share) / 2))
    return f"{said} With {2 * seeds} seeds, a difference of about {finer:.3f} would be found."


def _collapses(summary: Summary) -> list[str]:
    found = [row + mark for row in summary.rows if (mark := summary.collapse_mark(row))]
    if not found:
        return []
    return [
        f"Find out why some runs give nearly the same answer to everything: {few(found, MOST_NAMES)}. A lower train.lr "
        "often helps; mtbert data check shows the labels."
    ]


def _errors_to_read(errors: Errors, row: str) -> list[str]:
    worst = errors.most_wrong(row)
    if worst is None:
        return []
    task, share, pair = worst
    said = f"Read the errors of {task} first: {share:.0%} of the answers of {shown(row)} are wrong there"
    said += f", most often {few(pair[1:])} where the label is {few(pair[:1])}." if pair is not None else "."
    return [f"{said} {errors.results.dev[task].task.answer.labels.wrong}".rstrip()]


def _scores_of_one(results: Results, summary: Summary, errors: Errors) -> Conclusion:
    """Returns the conclusion of a study in which no two recipes can be compared.

    The conclusion is about a single recipe: the reference recipe or, if no run of the reference recipe has ended, the
    first recipe in ``summary``.
    """
    row = results.outline.reference if results.outline.reference in summary.rows else next(iter(summary.rows))
    scores = summary.rows[row].scores
    if not scores:
        return Conclusion("No task was scored.", (), ())
    score = summary.main if summary.main in scores else next(iter(scores))
    interval = scores[score].interval
    tasks = [name for name in scores if name in results.dev]
    doubtful = [name for name in tasks if _lower_end(scores[name]) <= summary.baseline[name]]
    limits = [like_dev(results), *chosen_on_dev(results, row), *leaked(results)]
    limits += nearly_perfect({name: scores[name].mean for name in tasks})
    if interval is None:
        limits.append(f"{score} has no interval, because it is the same for every choice of the dev examples.")
    else:
        limits.append(f"The 95% interval of {score} is {interval[0]:.3f} to {interval[1]:.3f}.")
    doubts = [f"Not clearly better than the best constant answer: {few(doubtful)}."] if doubtful else []
    limits += doubts
    if not doubts and len(tasks) > 1 and all(scores[name].interval for name in tasks):
        limits.append("Every task is clearly better than its best constant answer.")
    first = next(iter(results.runs[row].values()))
    if first.step is not None:
        limits.append(f"The scores are those of best/, the model after step {first.step}, which predicts.")
    limits += [] if first.newest is None else [f"{first.newest}."]
    stopped = [] if results.stopped is None else [f"Go on with the run: {results.stopped.again}"]
    steps = [*stopped, *_collapses(summary)]
    if doubtful and not steps:
        steps.append(f"Check the labels of {few(doubtful)} (mtbert data check), or train longer.")
    steps += [*([] if stopped else _still_rising(first)), *_errors_to_read(errors, row)]
    steps += measure_on_new_texts(first)
    if len(results.runs[row]) == 1:
        steps.append("To compare settings, run a study with several seeds: a single run says little about a technique.")
    return Conclusion(_headline_of_one(results, summary, row, score), tuple(limits), tuple(steps), tuple(doubts))


def _lower_end(score: ScoreEstimate) -> float:
    """Returns the lower end of a score's interval or, if the interval is not known, the score."""
    return score.mean if score.interval is None else score.interval[0]


def _headline_of_one(results: Results, summary: Summary, row: str, score: str) -> str:
    """Returns sentences with a score of the recipe ``row``, and with the same score of the best constant answer.

    If the recipe's run was stopped, the first sentence says how far it had come. ``score`` is the score's name.
    """
    scores, constant = summary.rows[row].scores, summary.baseline[score]
    found = scores[score]
    who = shown(row) if results.stopped is None else f"{results.stopped.sentence} {shown(row)}"
    over = "" if found.seeds == 1 else f" (the mean over {count(found.seeds, 'seed')})"
    if found.trials is not None:
        return (
            f"{who} answers {found.mean:.1%} of the {count(found.trials, 'dev example')} of {score} correctly{over}. "
            f"Always giving the same answer would be right for {constant:.1%}."
        )
    dev = results.dev.get(score)
    where = f", on average over {count(len(scores) - 1, 'task')}" if dev is None else f" of {score}, by {dev.metric}"
    return (
        f"{who} scores {found.mean:.3f} out of 1 on the dev examples{where}{over}. "
        f"Always giving the same answer would score {constant:.3f}."
    )


def _still_rising(run: EndedRun) -> list[str]:
    """Returns advice to train longer if the last evaluation of the run has a higher score than all earlier ones."""
    scores = [history.selected(line, run.recipe) for line in run.steps if "evaluation" in line]
    if len(scores) < 2 or scores[-1] <= max(scores[:-1]):
        return []
    epochs = run.recipe.train.epochs
    return [
        "Train longer: the last evaluation was the best one. "
        f"{command_line('train', '--resume', run.folder, '--epochs', 2 * epochs)} goes on."
    ]
