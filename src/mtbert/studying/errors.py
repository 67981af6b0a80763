"""Analysis of the errors of a study's runs: how large they are, which are worst, and which a technique fixes or causes.

Dimension key: B examples, K classes, S seeds.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from mtbert.answers import Judged
from mtbert.messages import clean, count
from mtbert.studying.results import DevData, EndedRun, Results
from mtbert.studying.text_table import TextTable, if_seeds
from mtbert.studying.type_tables import type_tables

WORST = 30  # examples of each row and task that the report shows
CHANGED = 15  # further examples that a row fixes, and as many that it breaks
OVERLAP_BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # edges of the bins of lexical overlap
MOST_CHARACTERS = 5000  # characters of a text that the report shows
MOST_OF_A_NAME = 200  # characters of a class's name that the report shows
WORD = re.compile(r"\w+")


def judge(dev: DevData, result: EndedRun) -> Judged:
    """Returns the given run's answers to the dev examples of one task, and how wrong each answer is."""
    name, predicted = dev.task.name, result.predicted[dev.task.name]
    shown, decided = (part.numpy().astype(np.float64) for part in (predicted.shown, predicted.decision))
    return result.recipe.tasks[name].predicts.judge(dev.task, shown, decided, dev.labels)


def overlap(texts: Sequence[str]) -> float:
    """Returns the Jaccard similarity of two texts: the number of words in both, divided by the number in either."""
    first, second = (set(WORD.findall(text.lower())) for text in texts)
    return len(first & second) / max(1, len(first | second))


class Errors:
    """The errors that the runs of a study make on dev. Every answer is judged once, when the object is created."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.judged = {
            task: {
                row: [judge(dev, result) for result in by_seed.values()]
                for row, by_seed in results.runs.items()
                if all(task in result.predicted for result in by_seed.values())
            }
            for task, dev in results.dev.items()
        }
        self.overlap = {
            task: np.array([overlap(texts) for texts in zip(*dev.examples.texts, strict=True)])
            for task, dev in results.dev.items()
            if dev.task.texts == 2
        }

    def tables(self) -> list[TextTable]:
        """Returns the tables of the report about the errors that the runs of a study make on dev.

        Some tables show how far off the answers are. Others show how errors depend on the words that two texts share.
        The last table compares each recipe of the study with the study's reference recipe. It counts the examples that
        most runs of the reference recipe get wrong and most runs of the other recipe get right. It also counts the
        reverse.
        """
        return [
            *(table for task, dev in self.results.dev.items() for table in type_tables(dev, self.judged[task])),
            *(self._overlap_table(task) for task in self.overlap),
            *self._changes(),
        ]

    def _overlap_table(self, task: str) -> TextTable:
        """Returns a table of mean errors on text pairs: a line for each recipe of the study.

        Each column stands for a range of word overlap. The overlap of a pair is the share of its words that are in both
        texts.
        """
        graded = self.results.dev[task].task.answer.labels.graded
        found, overlap_B = self.by_overlap(task), self.overlap[task]
        rows = []
        for row, means in found.items():
            error_B = self._error(task, row)
            varies = np.ptp(overlap_B) > 0 and np.ptp(error_B) > 0
            correlation = f"{stats.spearmanr(overlap_B, error_B).statistic:+.3f}" if varies else ""
            rows.append((row, *(f"{mean:.3f}" if number else "" for mean, number in means), correlation))
        counts = ["examples", *(str(int(in_B.sum())) for in_B in self._bins(task)), ""]
        ranges = [f"{low:.1f} to {high:.1f}" for low, high in pairwise(OVERLAP_BINS)]
        return TextTable(
            f"overlap-{task}",
            f"{'Mean distance' if graded else 'Share of errors'} by words in common: {task}",
            ("row", *ranges, "rank correlation"),
            (tuple(counts), *rows),
            (
                "The columns are shares of words: those that both texts have, of those that either has. "
                f"{if_seeds(self.judged[task], 'The errors are means over all seeds. ')}"
                "rank correlation: Spearman's, between that share and the error.",
            ),
        )

    def by_overlap(self, task: str) -> dict[str, list[tuple[float, int]]]:
        """Returns the mean errors on text pairs, grouped by the word overlap of the pairs.

        The result is a dict from each recipe of the study to a list. The list has a tuple for each bin of
        :data:`OVERLAP_BINS`: the mean error over all seeds, and the number of dev examples in the bin. The mean error
        is ``nan`` if the bin has no examples.
        """
        found = {}
        for row in self.judged[task]:
            error_B = self._error(task, row)
            found[row] = [
                (float(error_B[in_B].mean()) if in_B.any() else math.nan, int(in_B.sum())) for in_B in self._bins(task)
            ]
        return found

    def _bins(self, task: str) -> list[npt.NDArray[np.bool_]]:
        """Returns a mask over the dev examples, ``[B]``, for each bin of word overlap.

        The mask is true where the overlap of the two texts of an example is in the bin. :data:`OVERLAP_BINS` holds the
        edges of the bins.
        """
        bins = len(OVERLAP_BINS) - 1
        bin_B = np.clip(np.searchsorted(OVERLAP_BINS, self.overlap[task], side="right") - 1, 0, bins - 1)
        return [bin_B == i for i in range(bins)]

    def _error(self, task: str, row: str) -> npt.NDArray[np.float64]:
        """Returns the error of a recipe on each dev example of a task, ``[B]``, as a mean over the seeds.

        ``row`` is the name of the recipe.
        """
        graded = self.results.dev[task].task.answer.labels.graded
        errors_SB = [run.distance_B if graded else run.wrong_B for run in self.judged[task][row]]
        error_B: npt.NDArray[np.float64] = np.mean(errors_SB, axis=0)
        return error_B

    def _changes(self) -> Iterator[TextTable]:
        reference = self.results.outline.reference
        rows = []
        for row in self.results.runs:
            cells = []
            for task in self.results.dev:
                change_B = self.change(task, row)
                fixed = [] if change_B is None else [int((change_B > 0).sum()), int((change_B < 0).sum())]
                cells += [str(n) for n in fixed] or ["", ""]
            if row != reference and any(cells):
                rows.append((row, *cells))
        if rows:
            means = dict.fromkeys(dev.task.answer.labels.wrong for dev in self.results.dev.values())
            words = (
                "fixed: wrong in most seeds of the reference, and right in most seeds of the row. broken: the reverse."
            )
            heads = [f"{task} {what}" for task in self.results.dev for what in ("fixed", "broken")]
            yield TextTable(
                "changes",
                f"Dev examples that a row fixes or breaks, compared with {reference}",
                ("row", *heads),
                tuple(rows),
                (" ".join([words, *filter(None, means)]),),
            )

    def change(self, task: str, row: str) -> npt.NDArray[np.int64] | None:
        """Compares the recipe ``row`` of the study with the reference recipe on every dev example of a task.

        Returns ``[B]``: 1 if most runs of the reference recipe are wrong and most runs of ``row`` are not, -1 in the
        reverse case, and otherwise 0. Returns None if one of the two recipes has no answers to the task.
        """
        both = [self.judged[task].get(name) for name in (self.results.outline.reference, row)]
        if both[0] is None or both[1] is None:
            return None
        before_B, after_B = (np.mean([run.wrong_B for run in runs], axis=0) > 0.5 for runs in both if runs)
        changed: npt.NDArray[np.int64] = before_B.astype(np.int64) - after_B.astype(np.int64)
        return changed

    def most_wrong(self, row: str) -> tuple[str, float, tuple[str, str] | None] | None:
        """Returns the task on which one recipe of the study is wrong most often; None if this recipe has no errors.

        ``row`` is the name of the recipe. The result holds the task's name, the share of wrong answers over all seeds,
        and the commonest error as a pair: the label, and the answer that was given instead. The pair is None if the
        answers are not classes.
        """
        shares = {
            task: float(np.mean([run.wrong_B for run in by_row[row]]))
            for task, by_row in self.judged.items()
            if row in by_row
        }
        if not any(shares.values()):
            return None
        task = max(shares, key=lambda name: shares[name])
        dev, tell = self.results.dev[task], self.results.dev[task].task.answer.labels.tell
        names = dev.task.answer.labels.choices(dev.task)
        if names is None:
            return task, shares[task], None
        pairs = Counter(
            (tell(dev.task, dev.labels[i]), tell(dev.task, run.answer[i]))
            for run in self.judged[task][row]
            for i in np.flatnonzero(run.wrong_B)
        )
        label, answer = pairs.most_common(1)[0][0]
        return task, shares[task], (names[int(label)], names[int(answer)])

    def examples(self, task: str) -> list[int]:
        """Returns the indices of the dev examples that the report shows for a task.

        The list contains the examples that each recipe of the study answers worst. For each recipe except the
        reference recipe, the list also contains the examples on which this recipe most clearly beats the reference
        recipe or loses to the reference recipe.
        """
        chosen: set[int] = set()
        losses = {row: np.mean([run.loss_B for run in runs], axis=0) for row, runs in self.judged[task].items()}
        for row, loss_B in losses.items():
            chosen.update(np.argsort(-loss_B, kind="stable")[:WORST].tolist())
            change_B = self.change(task, row)
            if change_B is not None:
                moved_B = loss_B - losses[self.results.outline.reference]
                for sign in (1, -1):
                    of_sign = np.flatnonzero(change_B == sign)
                    chosen.update(of_sign[np.argsort(sign * moved_B[of_sign], kind="stable")][:CHANGED].tolist())
        return sorted(chosen)

    def browser(self, row: str) -> Mapping[str, Any]:
        """Returns the data for the report's list of examples, as JSON values.

        The list ``answers`` of an example contains an entry for every run: the answer, its probability, its distance
        from the label, and its loss. The entry is null if the run does not have the task of the example.

        ``row`` is the name of a recipe. The page first shows the first run of this recipe, and the task on which this
        recipe is wrong most often.
        """
        runs = [(name, seed) for name, by_seed in self.results.runs.items() for seed in by_seed]
        rows = list(self.results.runs)
        examples = []
        for task, dev in self.results.dev.items():
            judged = [
                self.judged[task][name][list(self.results.runs[name]).index(seed)]
                if name in self.judged[task]
                else None
                for name, seed in runs
            ]
            changes = [self.change(task, name) for name in rows]
            for i in self.examples(task):
                one, tell = dev.examples[i], partial(dev.task.answer.labels.tell, dev.task)
                examples.append(
                    {
                        "task": task,
                        "id": _readable(str(one.id)),
                        "texts": [_readable(text) for text in one.texts],
                        "label": tell(dev.labels[i]),
                        "overlap": _number(self.overlap[task][i]) if task in self.overlap else None,
                        "answers": [
                            run
                            and [tell(run.answer[i]), *(_number(x[i]) for x in (run.p_B, run.distance_B, run.loss_B))]
                            for run in judged
                        ],
                        "wrong": [bool(run and run.wrong_B[i]) for run in judged],
                        "change": [0 if change_B is None else int(change_B[i]) for change_B in changes],
                    }
                )
        worst = self.most_wrong(row)
        return {
            "tasks": {
                task: {"labels": _names(dev.task.answer.labels.choices(dev.task))}
                for task, dev in self.results.dev.items()
            },
            "runs": [f"{name}, seed {seed}" for name, seed in runs],
            "rows": [rows.index(name) for name, _ in runs],
            "compared": len(rows) > 1,
            "first": None if worst is None else {"task": worst[0], "run": [name for name, _ in runs].index(row)},
            "examples": examples,
        }


def _names(choices: Sequence[str] | None) -> list[str] | None:
    """Returns the names of answers as the page shows them: long names are cut. Returns None if ``choices`` is None."""
    return None if choices is None else [_readable(name, MOST_OF_A_NAME) for name in choices]


def _readable(text: str, most: int = MOST_CHARACTERS) -> str:
    """Returns ``text`` as the report shows it: cut after ``most`` characters, with control characters escaped."""
    more = len(text) - most
    return clean(text[:most], lines=True) + (f" … ({count(more, 'more character')})" if more > 0 else "")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
