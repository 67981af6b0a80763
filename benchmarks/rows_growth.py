"""The rows of growth: how the time of a step depends on its tokens, its tasks and its sequence length."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.report import ENOUGH, Goal, Row
from benchmarks.sides import GOALS, TASKS, Rounds, Settings
from mtbert import environment
from mtbert.batch import Dataset, Example, Examples, Sequences
from mtbert.model.config import read_config
from mtbert.model.download import find_encoder
from mtbert.model.encoder import Encoder
from mtbert.model.model import Model
from mtbert.model.weights import load_encoder
from mtbert.prepare import Prepared, TableFacts
from mtbert.recipe.settings import Recipe
from mtbert.training.run import Run

TOKENS, LENGTH = 4096, 32  # tokens in a step and in its longest sequence, unless they are what is varied
JUDGED_LENGTH = 128  # attention is quadratic, which shows for longer sequences


def growth(s: Settings) -> Iterator[Row]:
    """Yields the seconds of joint steps on random words for several numbers of tokens, tasks and sequence lengths."""
    longest = read_config(find_encoder(s.path()) / "config.json").max_length
    curves = {
        "tokens": _curve(s, {n: {"tokens": n} for n in (256, 512, 1024, 2048, 4096, 8192)}),
        "tasks": _curve(s, {n: {"tasks": n} for n in (1, 3, 10)}),
        "length": _curve(s, {n: {"length": n} for n in (16, 32, 64, 128, 256, 512) if n <= longest}),
    }
    counts, seconds = curves["tokens"]
    # Least squares of the relative error of a line: a fixed part, for the optimizer, and a part per token.
    basis = np.stack([np.ones(len(counts)), np.array(counts)], 1) / np.array(seconds)[:, None]
    line = np.linalg.lstsq(basis, np.ones(len(counts)), rcond=None)[0]
    lengths, by_length = curves["length"]
    even = [t for n, t in zip(lengths, by_length, strict=True) if n <= JUDGED_LENGTH]
    judged = {
        "tokens": (1 + float(np.abs(basis @ line - 1).max()), "largest distance from a fixed part and one per token"),
        "tasks": (max(curves["tasks"][1]) / min(curves["tasks"][1]), f"slowest over fastest at {TOKENS} tokens"),
        "length": (max(even) / min(even), f"slowest over fastest at {TOKENS} tokens, up to length {JUDGED_LENGTH}"),
    }
    drawn = _draw(curves, s.plot)
    for name, (ratio, said) in judged.items():
        row, (x, y) = f"growth/{name}", curves[name]
        reached = Goal.parse(GOALS[row]).met(ratio) if s.few >= ENOUGH else None
        points = {name: [float(n) for n in x], "seconds": y}
        note = f"{said}; lengths from half the longest to the longest; {drawn}"
        yield Row(name=row, ratio=ratio, reach=GOALS[row], reached=reached, note=note, points=points)


def _curve(s: Settings, points: Mapping[int, Mapping[str, int]]) -> tuple[list[int], list[float]]:
    """Returns the points and the median seconds of a step at each; they take turns, so a slow phase affects all."""
    runs = [Rounds(random_words(s, **changed)) for changed in points.values()]
    found = [[run() for run in runs] for _ in range(1 + s.few)][1:]
    return list(points), [median(times) for times in zip(*found, strict=True)]


def random_words(s: Settings, *, tokens: int = TOKENS, length: int = LENGTH, tasks: int = 1, base: bool = False) -> Run:
    """Returns a run whose joint steps all read the same tokens. Each task has an equal share of these tokens."""
    rng, share = np.random.default_rng(0), tokens // tasks
    made: dict[str, Sequences] = {}
    path = s.path(base=base)
    loaded = load_encoder(path, dropout=0.1)
    for number in range(tasks):
        lengths: list[int] = []
        while (left := share - sum(lengths)) > 0:
            lengths.append(min(int(rng.integers(length // 2, length + 1)), left))
        ids = rng.integers(5, loaded.encoder.config.vocab_size, share).astype(np.int32)
        made[f"t{number}"] = Sequences(ids, np.zeros_like(ids), np.concatenate([[0], np.cumsum(lengths)]))
    common = "type: ordinal, inputs: single, labels: ['0', '1', '2', '3', '4'], train: {generated: sst, split: train}"
    settings = s.recipe(
        "paper/base",
        *(f"tasks.{task}=null" for task in TASKS),
        *(f"tasks.{name}={{{common}, batch_size: {len(flat)}}}" for name, flat in made.items()),
        "train.mode=joint",
        f"model.max_length={loaded.encoder.config.max_length}",
        base=base,
    )
    data = {}
    for name, flat in made.items():
        task = settings.tasks[name].task
        examples = Examples.of(Example(str(i), ("x",), float(i % 5)) for i in range(len(flat)))
        split = Dataset.whole(task, examples, (flat,))
        data[name] = Prepared(
            task, split, split, TableFacts(name, shared=False, train=(), dev=(), warnings=(), digests={}), ()
        )
    return run_on(settings, loaded.encoder, data)


def run_on(settings: Recipe, encoder: Encoder, data: Mapping[str, Prepared]) -> Run:
    """Returns a run on data that are already in memory."""
    model = Model(
        encoder,
        {name: d.task for name, d in data.items()},
        pooling=settings.model.pooling,
        max_length=settings.model.max_length,
        seed=settings.train.seed,
    )
    device = environment.device("auto")
    model.compute = environment.precision("auto", device)
    return Run(settings, model, data, device)


def _draw(curves: Mapping[str, tuple[list[int], list[float]]], file: Path) -> str:
    """Draws the curves into ``file``; returns a note that says whether that worked."""
    try:
        import matplotlib
    except ImportError:
        return 'plot left out: matplotlib is not installed, see extra "bench"'
    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = {"tokens": "tokens per step", "tasks": "tasks", "length": "longest sequence, tokens"}
    figure, panels = pyplot.subplots(1, 3, figsize=(10, 3.2), sharey=True, layout="constrained")
    for panel, (name, (x, y)) in zip(panels, curves.items(), strict=True):
        # If cost depended on tokens alone, it would be proportional to them, and flat where their number is constant.
        expected = [y[-1] * n / x[-1] for n in x] if name == "tokens" else [y[0]] * len(x)
        panel.plot(x, [1e3 * t for t in expected], color="0.6", linestyle="--", label="by the token alone")
        panel.plot(x, [1e3 * t for t in y], color="black", marker="o", label="measured")
        panel.set(xscale="log", yscale="log", xlabel=labels[name], xticks=x, xticklabels=x)
        panel.minorticks_off()
        panel.grid(color="0.9")
    panels[0].set_ylabel("ms per step")
    panels[0].legend(frameon=False)
    panels[1].set_title(f"{TOKENS} tokens per step", fontsize="medium")
    panels[2].set_title(f"{TOKENS} tokens per step", fontsize="medium")
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
    return f"drawn in {file.name}"
