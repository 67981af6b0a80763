"""The numbers that the paper prints, on its own data: single runs of BERT-base, by task and ``overall``.

Source: "Improving Multi-Task BERT Fine-Tuning: Effective Methods and Practices" (A. Wang, H. Xue, X. Li), tables 1 to
5. A row is named after the recipe that follows it here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mtbert.study.summary import OVERALL

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Sizes:
    """Rows of a task's data in table 1."""

    train: int
    dev: int
    test: int


SIZES: Mapping[str, Sizes] = {
    "sst": Sizes(8_544, 1_101, 2_210),
    "quora": Sizes(283_010, 40_429, 80_859),
    "sts": Sizes(6_040, 863, 1_725),
}


def _scores(sst: float, quora: float, sts: float, overall: float) -> Scores:
    return {"sst": sst, "quora": quora, "sts": sts, OVERALL: overall}


ROWS: Mapping[int, Mapping[str, Scores]] = {
    2: {
        "paper/se-base": {"quora": 0.657, "sts": 0.266},
        "paper/base": {"quora": 0.900, "sts": 0.809},
    },
    3: {
        "paper/loss-ce": {"sst": 0.526},
        "paper/loss-oll": {"sst": 0.516},
        "paper/loss-ceoll": {"sst": 0.529},
    },
    4: {
        "paper/se-base": _scores(0.389, 0.657, 0.266, 0.559),
        "paper/se-mnrl": _scores(0.262, 0.672, 0.039, 0.486),
        "paper/se-cosine": _scores(0.128, 0.705, 0.467, 0.517),
        "paper/se-simcse": _scores(0.262, 0.637, 0.045, 0.474),
        "paper/base": _scores(0.505, 0.900, 0.809, 0.770),
        "paper/surgery": _scores(0.480, 0.897, 0.820, 0.762),
        "paper/pal-annealed": _scores(0.513, 0.889, 0.830, 0.772),
        "paper/smart-ceoll": _scores(0.519, 0.899, 0.868, 0.784),
    },
    5: {"paper/smart-ceoll": _scores(0.533, 0.898, 0.869, 0.789)},
}
TITLES = {
    1: "Table 1: data",
    2: "Table 2: separate or packed pairs",
    3: "Table 3: losses on SST",
    4: "Table 4: techniques",
    5: "Table 5: test",
}
DIGIT = 0.001  # of the last printed place


def contradicted(scores: Scores) -> float | None:
    """Returns what the paper's formula gives for a row, where the printed ``overall`` is further off than rounding.

    >>> contradicted(ROWS[4]["paper/surgery"]) is None
    True
    """
    if OVERALL not in scores:
        return None
    formula = (scores["sst"] + scores["quora"] + (scores["sts"] + 1) / 2) / 3
    # Each of the three scores may be off by half a digit, the correlation counts half, and so may their mean.
    rounding = DIGIT / 2 * ((1 + 1 + 1 / 2) / 3 + 1)
    return formula if abs(formula - scores[OVERALL]) > rounding else None
