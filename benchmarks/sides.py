"""The two sides of a row (a measurement that compares mtbert with another loop): shared settings, and comparison.

Both sides of a row have the same weights, rows of data, dropout rates and optimizer settings. Before a row is timed,
both sides make a step, or a round of steps, in float32 without dropout. They must agree on every loss and, if they
compute the same function, on the norm of the gradient.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import torch

from benchmarks.report import Row, compared
from benchmarks.timing import Measure, Paired, limits, paired, timed
from mtbert.model.config import read_config
from mtbert.model.download import TOKENIZER_FILES, find_encoder
from mtbert.model.encoder import Encoder
from mtbert.model.families.known import FAMILIES
from mtbert.model.weights import save_encoder
from mtbert.recipe.files import load_recipe
from mtbert.recipe.settings import Recipe
from mtbert.training.assemble import assemble
from mtbert.training.run import Run

ROOT = Path(__file__).parent.parent
TASKS = ("sst", "quora", "sts")
BERT_BASE = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}


GOALS = {
    "alternating": ">= 2.5x",
    "trainer": ">= 4x",
    "alternating-base/loop": ">= 2.5x",
    "alternating-base/trainer": ">= 5x",
    "joint": ">= 3x",
    "smart/plain": "<= 2.8x",
    "smart/smart-pytorch": ">= 2x",
    "surgery/joint": "<= 1.3x",
    "surgery/torchjd": ">= 1x",
    "pal": "<= 1.25x",
    "scoring/pipeline": ">= 4x",
    "scoring/cross-encoder": ">= 2x",
    "together": "<= 1.15x",
    "tokenising/first": "<= 10 s",
    "tokenising/cached": "<= 0.5 s",
    "help": "<= 0.5 s",
    "memory": "<= 1.0x",
    "growth/tokens": "<= 1.2x",
    "growth/tasks": "<= 1.2x",
    "growth/length": "<= 1.2x",
    **{f"{family}/{what}": ">= 1.5x" for family in FAMILIES for what in ("step", "answers")},
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a benchmark, mostly from the command line."""

    work: Path  # folder for files that only this benchmark needs
    pairs: int = 7
    encoder: str | None = None  # for all rows; None: each row has its own, small or in the shape of BERT-base
    small: str = "demo"
    shape: Mapping[str, Any] = field(default_factory=lambda: BERT_BASE)
    data: str | None = None  # folder of the CS224N files; None: generated sentences
    threads: int = 1
    pairs_scored: int | None = None
    plot: Path = ROOT / "docs" / "growth.png"

    @property
    def few(self) -> int:
        """The number of pairs to measure for a row that takes long."""
        return min(self.pairs, 5)

    def path(self, *, base: bool = False) -> str:
        """Returns the encoder of a row: the packaged MiniLM, or random weights in the shape of BERT-base."""
        chosen = self.encoder or ("bert-base-shape" if base else self.small)
        return str(_bert_base(self.work, self.shape, self.small)) if chosen == "bert-base-shape" else chosen

    def recipe(self, name: str, *changes: str, base: bool = False) -> Recipe:
        """Returns a recipe of the paper's three tasks with endless batches, on this benchmark's data and encoder."""
        path = self.path(base=base)
        longest = min(128, read_config(find_encoder(path) / "config.json").max_length)
        made = [f"tasks.{t}.{s}={{generated: {t}, split: {s}}}" for t in TASKS for s in ("train", "dev")]
        return load_recipe(
            name,
            [
                *([f"data.root={self.data}"] if self.data else made),
                f"model={{path: '{path}', max_length: {longest}, dropout: 0.1}}",
                f"train={{threads: {self.threads}, clip: 1.0, rounds: 1000000, epochs: 1}}",
                "train={schedule: constant, warmup: 0}",
                *changes,
            ],
        )

    def run(self, name: str, *changes: str, base: bool = False) -> Run:
        """Returns a run of the recipe before its first step."""
        settings = self.recipe(name, *changes, base=base)
        return assemble(settings).run()

    def exact(self, name: str, *changes: str, base: bool = False) -> Run:
        """Returns a run of the recipe without dropout and in float32, so that two ways to compute it must agree."""
        still = ["model.dropout=0", "train.precision=fp32", *(f"tasks.{t}.head={{dropout: 0}}" for t in TASKS)]
        return self.run(name, *still, *changes, base=base)


class Told(Protocol):
    """The parts of an optimizer step's record that both sides have."""

    @property
    def losses(self) -> Mapping[str, float]: ...

    @property
    def grad_norm(self) -> float: ...


class Stepper(Protocol):
    """A run of mtbert, or a loop that it is compared with."""

    def step(self) -> Told: ...


def check(ours: Stepper, theirs: Stepper, steps: int = 1, *, norms: bool = True) -> None:
    """Raises ValueError unless both sides have the same losses, and gradient norms, in their first steps.

    Losses that only one side has are ignored.
    """
    for number in range(1, steps + 1):
        their, our = theirs.step(), ours.step()
        both = our.losses.keys() & their.losses.keys()
        found = {key: (our.losses[key], their.losses[key]) for key in sorted(both)}
        if not found:
            raise ValueError(f"step {number}: no common loss among {list(our.losses)} and {list(their.losses)}.")
        if norms:
            found["gradient norm"] = our.grad_norm, their.grad_norm
        for key, (a, b) in found.items():
            # A norm accumulates the rounding errors of all weights, and later steps those of earlier updates.
            if not np.isclose(a, b, rtol=1e-3 if key == "gradient norm" else 1e-4, atol=1e-6):
                raise ValueError(f"step {number}: {key} is {a:.7g} on our side and {b:.7g} on theirs: not comparable.")


class Rounds:
    """A measurement of one round of a run; also collects its time relative to the least that the machine allows."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.over: list[float] = []  # of each call: measured time over least time

    def __call__(self) -> float:
        run, done = self.run, []
        seconds = timed(lambda: done.extend(run.step() for _ in range(run.plan.steps_per_round)))()
        machine = limits(run.device, run.model.compute)
        trained = sum(p.numel() for p in run.trained)
        self.over.append(seconds / sum(machine.step(run.model.multiplied, step.tokens, trained) for step in done))
        return seconds


def steps_of(stepper: Stepper, count: int) -> Measure:
    """Returns a measurement of the time of ``count`` steps."""
    return timed(lambda: [stepper.step() for _ in range(count)])


def contest(
    s: Settings, row: str, rival: Callable[[Run], Stepper], *changes: str, base: bool = False, note: str = ""
) -> Row:
    """Returns a row that compares rounds of the paper's base model with a rival loop from the same weights."""
    bare = s.exact("paper/base", *changes, base=base)
    check(bare, rival(bare), bare.plan.steps_per_round)
    del bare
    run = s.run("paper/base", *changes, base=base)
    ours, theirs = Rounds(run), steps_of(rival(run), run.plan.steps_per_round)
    pairs = paired(ours, theirs, s.few if base else s.pairs)
    return compared(row, GOALS[row], pairs, floor=_floor(ours, pairs), note=note)


def technique(
    s: Settings, row: str, name: str, *changes: str, against: Sequence[str] = (), base: bool = False, note: str = ""
) -> Row:
    """Returns a row that compares rounds of a recipe with rounds of the paper's base model, both by mtbert.

    The losses that both have are checked in a joint step, because one joint step has the losses of all tasks.
    """
    exact = s.exact(name, *changes, "train.mode=joint", base=base)
    with torch.no_grad():
        for parameter in exact.model.adapters.parameters():  # adapters of zeros add nothing
            parameter.zero_()
    check(exact, s.exact("paper/base", *against, "train.mode=joint", base=base), norms=False)
    del exact
    ours, plain = Rounds(s.run(name, *changes, base=base)), Rounds(s.run("paper/base", *against, base=base))
    pairs = paired(ours, plain, s.few if base else s.pairs)
    return compared(row, GOALS[row], pairs, floor=_floor(ours, pairs), note=note)


def _floor(rounds: Rounds, pairs: Paired) -> float:
    return median(rounds.over[-len(pairs.ours) :])


def _bert_base(work: Path, shape: Mapping[str, Any], small: str) -> Path:
    """Returns a folder with random weights in the given shape and the tokenizer of MiniLM, which has BERT's words."""
    folder = work / "bert-base-shape"
    if not folder.is_dir():
        write_random_encoder(folder, shape)
        copy_tokenizer(find_encoder(small), folder)
    return folder


def write_random_encoder(folder: Path, shape: Mapping[str, Any]) -> None:
    """Writes an encoder with random weights into a new folder; ``shape`` becomes its ``config.json``."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(shape))
    encoder = Encoder(read_config(folder / "config.json"))
    generator = torch.Generator().manual_seed(0)
    norms = {module.weight for module in encoder.modules() if isinstance(module, torch.nn.LayerNorm)}
    for parameter in encoder.parameters():
        if parameter in norms:
            torch.nn.init.ones_(parameter)
        else:
            torch.nn.init.normal_(parameter, std=0.02, generator=generator)
    save_encoder(encoder, folder)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copies the tokenizer files that ``source`` has into ``folder``."""
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copy(source / name, folder)
