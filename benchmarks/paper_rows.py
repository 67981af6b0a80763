"""Trains every recipe of the paper for a few rounds and prints how far each loss fell.

    python benchmarks/paper_rows.py --data FOLDER --rounds 60 --set train.lr=1e-4

Nothing is evaluated on dev. The losses are those on a fixed sample of train, without dropout, before the first round
and after the last.
"""

import argparse
import time

import numpy as np
import torch

from mtbert.collate import collate
from mtbert.losses import Pass
from mtbert.recipe.files import load_recipe, shipped_recipes
from mtbert.training.assemble import assemble
from mtbert.training.run import Run

SAMPLE = 256  # train rows per task


@torch.no_grad()
def losses(run: Run) -> dict[str, float]:
    """Returns the main loss of each task, the first in its recipe, on the sample."""
    found = {}
    for name, data in run.data.items():
        rows = np.arange(min(SAMPLE, len(data.train)))
        batch = collate([(data.train, rows)], run.device)
        out = run.predictor(batch)[name]
        main, state = run.recipe.tasks[name].losses[0], run.generator.get_state()
        made = Pass(run.predictor, batch, data.task, out, batch.labels[name], run.generator, state)
        found[f"{name}.{main.kind}"] = float(main(made))
    return found


def main() -> None:
    """Prints one row of a Markdown table per recipe; exits with 1 if a loss did not fall."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--set", action="append", default=[], help="a setting of all recipes, a.b=c")
    arguments = parser.parse_args()
    rose = 0
    print("| recipe | loss before | loss after | ms a round |\n|---|---|---|---|", flush=True)
    for name in (n for n in shipped_recipes() if n.startswith("paper/")):
        changes = [f"data.root={arguments.data}", f"train.rounds={arguments.rounds}", "train.epochs=1", *arguments.set]
        settings = load_recipe(name, changes)
        run = assemble(settings).run()
        before = losses(run)
        begun = time.perf_counter()
        for _ in range(run.plan.steps):
            run.step()
        milliseconds = 1000 * (time.perf_counter() - begun) / arguments.rounds
        after = losses(run)
        rose += sum(after[key] >= before[key] for key in before)
        told = [", ".join(f"{key} {value:.4f}" for key, value in found.items()) for found in (before, after)]
        print(f"| `{name}` | {told[0]} | {told[1]} | {milliseconds:.0f} |", flush=True)
    print(f"losses that did not fall: {rose}")
    raise SystemExit(rose > 0)


if __name__ == "__main__":
    main()
