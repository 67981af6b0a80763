"""Measures how a calibration that is fitted on few rows changes the likelihood of new rows, on simulated rows.

    python -m benchmarks.few_rows

Logits of classes are drawn from a normal distribution, labels from their probabilities. A model says the logits times a
factor: at 1 its probabilities are right, at 2 it is too sure. A line of the printed table is the mean change of the
negative log-likelihood of 3,000 new rows, in nats, over 100 draws of held-out rows.

Dimension key: B rows, K classes.
"""

import numpy as np
from scipy.special import expit, log_softmax

from mtbert.answers.calibration import FEWEST_ROWS
from mtbert.answers.fitting import CLASSES, YES_OR_NO, Fits, calibrated, fit_numbers

ROWS, FACTORS, DRAWS, NEW = (10, 20, 50, 200, 1000), (1, 2), 100, 3000
Rows = tuple[np.ndarray, np.ndarray]  # honest logits and labels


def of_classes(rng: np.random.Generator, rows: int, classes: int) -> Rows:
    logits_BK = rng.normal(0, 3, (rows, classes))
    p_BK = np.exp(log_softmax(logits_BK, axis=1))
    return logits_BK, (p_BK.cumsum(1) < rng.random((rows, 1))).sum(1).clip(max=classes - 1).astype(float)


def of_yes_or_no(rng: np.random.Generator, rows: int, mean: float) -> Rows:
    logits_B = rng.normal(mean, 3, rows)
    return logits_B, (rng.random(rows) < expit(logits_B)).astype(float)


def likelihood(logits: np.ndarray, labels_B: np.ndarray) -> float:
    """Returns the mean negative log-likelihood, in nats."""
    both = logits if logits.ndim == 2 else np.stack([-logits / 2, logits / 2], 1)
    return -float(log_softmax(both, axis=1)[np.arange(len(both)), labels_B.astype(int)].mean())


def changed(fits: Fits, names: tuple, held_out: Rows, new: Rows, factor: float) -> float:
    """Returns the change of the negative log-likelihood of ``new`` by a calibration that is fitted on ``held_out``."""
    import torch

    numbers = fit_numbers(fits, names, factor * held_out[0], held_out[1])
    fitted = {name: torch.from_numpy(np.asarray(number)) for name, number in numbers.items()}
    raw = torch.from_numpy(factor * new[0])
    return likelihood(calibrated(raw, fitted).numpy(), new[1]) - likelihood(raw.numpy(), new[1])


def main() -> None:
    """Prints the table."""
    cases = [
        *((f"{k} classes", CLASSES, ("scale",), of_classes, k) for k in (3, 77)),
        *(
            (f"yes/no, {what}", YES_OR_NO, ("scale", "bias"), of_yes_or_no, m)
            for what, m in (("even", 0), ("rare", -4))
        ),
        ("yes/no, even, isotonic", YES_OR_NO, ("knots",), of_yes_or_no, 0),
    ]
    print(f"| logits | {' | '.join(f'{rows:,} rows' for rows in ROWS)} |  (nothing is fitted below {FEWEST_ROWS})")
    for what, fits, names, draw, argument in cases:
        for factor in FACTORS:
            rng = np.random.default_rng(0)
            new = draw(rng, NEW, argument)
            found = [
                np.mean([changed(fits, names, draw(rng, rows, argument), new, factor) for _ in range(DRAWS)])
                for rows in ROWS
            ]
            print(f"| {what}, times {factor} | {' | '.join(f'{x:+.3f}' for x in found)} |", flush=True)


if __name__ == "__main__":
    main()
