"""Trains the paper's joint model by mtbert and by the plain loop, and compares their scores on dev.

    python -m benchmarks.scores --data FOLDER --seeds 3 --rounds 755 --out runs/scores.jsonl

For each seed, both sides start from the same weights and take the same rows in the same order, but draw different
dropout masks. One line is written for each side of each seed when it is done; a side that has a line is not trained
again.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

import transformers
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from benchmarks.plain import PlainLoop
from mtbert.model.weights import load_encoder
from mtbert.recipe.files import load_recipe
from mtbert.scoring import evaluate_model
from mtbert.training.assemble import assemble
from mtbert.training.run import Run

SIDES = ("ours", "plain")
RECIPE = "paper/base-joint"
# The plain loop can only use a constant rate. This one is for MiniLM; the paper's is for BERT-base.
SETTINGS = ("train={schedule: constant, warmup: 0, lr: 1e-4, clip: 1.0, epochs: 1}",)


def start(changes: list[str]) -> Run:
    """Returns a run of the recipe before its first step."""
    settings = load_recipe(RECIPE, [*SETTINGS, *changes])
    return assemble(settings).run()


def trained(run: Run, side: str) -> None:
    """Makes all steps of the plan on one side; afterwards the run's model has the trained weights."""
    if side == "plain":
        loop = PlainLoop.of(run)
        _all(run.plan.steps, loop.step)
        put(loop, run)
    else:
        _all(run.plan.steps, run.step)


def put(loop: PlainLoop, run: Run) -> None:
    """Copies the weights of the loop into the run's model."""
    with TemporaryDirectory() as folder:
        loop.model.encoder.save_pretrained(folder)
        run.model.encoder.load_state_dict(load_encoder(folder).encoder.state_dict())
    for name in run.data:
        linears = [layer for layer in loop.model.heads[f"for_{name}"] if isinstance(layer, nn.Linear)]
        for ours, theirs in zip(run.model.head(name).layers, linears, strict=True):
            ours.load_state_dict(theirs.state_dict())


def cells(out: Path, seeds: int, changes: list[str]) -> dict[tuple[str, int], dict[str, float]]:
    """Returns the scores by side and seed: those in ``out``, and new ones for what is missing there."""
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []
    found = {(line["side"], line["seed"]): line["scores"] for line in lines if line["settings"] == changes}
    for seed in range(seeds):
        for side in SIDES:
            if (side, seed) in found:
                continue
            run = start([*changes, f"train.seed={seed}"])
            begun = time.perf_counter()
            trained(run, side)
            seconds = round(time.perf_counter() - begun, 1)
            scores = {n: s for n, d in run.data.items() for s in [evaluate_model(run.model, d.dev).metrics]}
            found[side, seed] = {f"{n} {key}": value for n, s in scores.items() for key, value in s.items()}
            found[side, seed]["overall"] = run.recipe.aggregate("overall", scores)
            line = {"side": side, "seed": seed, "settings": changes, "seconds": seconds, "scores": found[side, seed]}
            with out.open("a") as file:
                file.write(json.dumps(line) + "\n")
    return {key: scores for key, scores in found.items() if key[1] < seeds}


def table(found: dict[tuple[str, int], dict[str, float]]) -> Table:
    """Returns the mean and standard deviation of each score over seeds, and those of the difference of both sides."""
    made = Table("score", *SIDES, "ours - plain")
    for score in next(iter(found.values())):
        by_side = [[s[score] for (side, _), s in sorted(found.items()) if side == chosen] for chosen in SIDES]
        differences = [a - b for a, b in zip(*by_side, strict=True)]
        made.add_row(score, *(f"{mean(x):.4f} ± {stdev(x):.4f}" for x in (*by_side, differences)))
    return made


def _all(steps: int, step: Callable[[], object]) -> None:
    for _ in track(range(steps), description="training", console=Console(stderr=True)):
        step()


def main() -> None:
    """Prints the table of all seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of the CS224N files")
    parser.add_argument("--seeds", type=int, default=3, help="2 or more")
    parser.add_argument("--rounds", type=int, default=755)
    parser.add_argument("--out", type=Path, default=Path("runs/scores.jsonl"))
    chosen = parser.parse_args()
    transformers.logging.disable_progress_bar()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    changes = [f"data.root={chosen.data}", f"train.rounds={chosen.rounds}"]
    Console().print(table(cells(chosen.out, chosen.seeds, changes)))


if __name__ == "__main__":
    main()
