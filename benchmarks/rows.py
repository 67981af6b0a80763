"""The rows of the benchmark: a function per group, which yields a :class:`Row` for each of its goals.

Both sides of a row have the same weights, rows of data, dropout rates and optimizer settings. Before a row is timed
its sides take a step, or a round of them, in float32 without dropout, and must agree on every loss and, where they
compute the same function, on the gradient's norm.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.plain import PlainLoop, SmartLoop, TorchJDLoop, TrainerLoop
from benchmarks.report import ENOUGH, Goal, Row, alone, compared
from benchmarks.timing import Measure, Paired, limits, paired, timed
from mtbert import environment, launch
from mtbert import recipe as recipes
from mtbert.batch import Dataset, Example, Sequences, collate
from mtbert.checkpoint import matching_tokenizer
from mtbert.data import demo
from mtbert.model.config import read_config
from mtbert.model.encoder import Encoder
from mtbert.model.hub import TOKENIZER_FILES, find_folder
from mtbert.model.model import Model
from mtbert.model.weights import load_encoder, save_encoder
from mtbert.predictor import Predictor
from mtbert.prepare import Prepared, prepare
from mtbert.recipe import Recipe
from mtbert.train import Run

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
QUORA_PAIRS = 47_213  # of the train file that the goal of tokenising speaks of
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
    "tokenising/first": "<= 10 s",
    "tokenising/cached": "<= 0.5 s",
    "help": "<= 0.5 s",
    "memory": "<= 1.0x",
    "growth/tokens": "<= 1.2x",
    "growth/tasks": "<= 1.2x",
    "growth/length": "<= 1.2x",
}


# What all rows share ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line says; ``work`` is a folder for files that only this run needs."""

    work: Path
    pairs: int = 7
    encoder: str | None = None  # of all rows; None: each row's own, small or in the shape of BERT-base
    small: str = "demo"
    shape: Mapping[str, Any] = field(default_factory=lambda: BERT_BASE)
    data: str | None = None  # folder of the CS224N files; None: generated sentences
    threads: int = 1
    pairs_scored: int | None = None
    plot: Path = ROOT / "docs" / "growth.png"

    @property
    def few(self) -> int:
        """Pairs of a row that takes long."""
        return min(self.pairs, 5)

    def path(self, *, base: bool = False) -> str:
        """The encoder of a row: the packaged MiniLM, or random weights in the shape of BERT-base."""
        chosen = self.encoder or ("bert-base-shape" if base else self.small)
        return str(_bert_base(self.work, self.shape, self.small)) if chosen == "bert-base-shape" else chosen

    def recipe(self, name: str, *changes: str, base: bool = False) -> Recipe:
        """A recipe of the paper's three tasks, its batches without end, on the data and the encoder of this run."""
        path = self.path(base=base)
        longest = min(128, read_config(find_folder(path) / "config.json").max_length)
        made = [f"tasks.{t}.{s}={{generated: {t}, split: {s}}}" for t in TASKS for s in ("train", "dev")]
        return recipes.load(
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
        """The recipe as a run that stands before its first step."""
        settings = self.recipe(name, *changes, base=base)
        device, _, data, model = launch.build(settings, Console(quiet=True))
        return Run(settings, model, data, device)

    def exact(self, name: str, *changes: str, base: bool = False) -> Run:
        """The same without dropout and in float32, so that two ways to compute it must agree."""
        still = ["model.dropout=0", "train.precision=fp32", *(f"tasks.{t}.head={{dropout: 0}}" for t in TASKS)]
        return self.run(name, *still, *changes, base=base)


class Told(Protocol):
    """What one optimizer step says of itself."""

    @property
    def losses(self) -> Mapping[str, float]: ...

    @property
    def grad_norm(self) -> float: ...


class Stepper(Protocol):
    """A run of mtbert, or a loop that it is compared with."""

    def step(self) -> Told: ...


def check(ours: Stepper, theirs: Stepper, steps: int = 1, *, norms: bool = True) -> None:
    """Raises ValueError unless both sides tell the same losses, and gradient norms, in their first steps.

    Losses that only one side has are passed over.
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
            # A norm adds up the rounding of all weights, and later steps that of the updates before.
            if not np.isclose(a, b, rtol=1e-3 if key == "gradient norm" else 1e-4, atol=1e-6):
                raise ValueError(f"step {number}: {key} is {a:.7g} on our side and {b:.7g} on theirs: not comparable.")


class Rounds:
    """Rounds of a run as a measure, with the least time that the machine would allow for each."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.over: list[float] = []  # of each call: measured over least

    def __call__(self) -> float:
        run, done = self.run, []
        seconds = timed(lambda: done.extend(run.step() for _ in range(run.plan.steps_per_round)))()
        machine = limits(run.device, run.model.compute)
        trained = sum(p.numel() for p in run.trained)
        self.over.append(seconds / sum(machine.step(run.model.multiplied, step.tokens, trained) for step in done))
        return seconds


def steps_of(stepper: Stepper, count: int) -> Measure:
    """``count`` steps as a measure."""
    return timed(lambda: [stepper.step() for _ in range(count)])


def contest(
    s: Settings, row: str, rival: Callable[[Run], Stepper], *changes: str, base: bool = False, note: str = ""
) -> Row:
    """Our rounds of the paper's base model against those of a loop that starts from the same weights."""
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
    """Our rounds of a recipe against our rounds of the paper's base model.

    The losses that both have are compared in a joint step, so that one step tells those of all tasks.
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
    """A folder with random weights in the given shape and the tokenizer of MiniLM, which has BERT's words."""
    folder = work / "bert-base-shape"
    if not folder.is_dir():
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(shape))
        encoder = Encoder(read_config(folder / "config.json"))
        generator = torch.Generator().manual_seed(0)
        for name, parameter in encoder.named_parameters():
            if name.endswith("norm.weight"):
                torch.nn.init.ones_(parameter)
            else:
                torch.nn.init.normal_(parameter, std=0.02, generator=generator)
        save_encoder(encoder, folder)
        _copy_tokenizer(find_folder(small), folder)
    return folder


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copy(source / name, folder)


# Training --------------------------------------------------------------------------------------------------


def alternating(s: Settings) -> Iterator[Row]:
    """Rounds of three optimizer steps against the plain padded loop."""
    yield contest(s, "alternating", PlainLoop.of, note="a round is 3 optimizer steps of 8 sst, 16 quora, 8 sts")


def trainer(s: Settings) -> Iterator[Row]:
    """The same rounds against the steps of ``transformers.Trainer``."""
    yield contest(s, "trainer", lambda run: _trainer(s, run), note=TRAINER_NOTE)


def alternating_base(s: Settings) -> Iterator[Row]:
    """Both again in the shape of BERT-base."""
    yield contest(s, "alternating-base/loop", PlainLoop.of, base=True)
    yield contest(s, "alternating-base/trainer", lambda run: _trainer(s, run), base=True, note=TRAINER_NOTE)


TRAINER_NOTE = (
    "Trainer's collator, training_step, clipping and optimizer; without its data loader, callbacks, schedule and "
    "logging, which would take more time. float32, its default, on any machine"
)


def _trainer(s: Settings, run: Run) -> TrainerLoop:
    return TrainerLoop(run, find_folder(run.recipe.model.path), s.work / "trainer")


def joint(s: Settings) -> Iterator[Row]:
    """One update from all three tasks against the plain loop that adds up three gradients."""
    yield contest(s, "joint", PlainLoop.of, "train.mode=joint")


def smart(s: Settings) -> Iterator[Row]:
    """SMART on all tasks against no SMART, and against smart-pytorch."""
    yield technique(s, "smart/plain", "paper/smart", note="ours against ours, rounds of 3 steps")
    bare = s.exact("paper/smart")
    check(bare, _SameNoise(bare, SmartLoop.of(bare)), bare.plan.steps_per_round)
    del bare
    run = s.run("paper/smart")
    ours = Rounds(run)
    pairs = paired(ours, steps_of(SmartLoop.of(run), run.plan.steps_per_round), s.pairs)
    note = "theirs is the plain padded loop; SMART's value and gradient checked for equal noise"
    yield compared("smart/smart-pytorch", GOALS["smart/smart-pytorch"], pairs, note=note)


class _SameNoise:
    """Lets smart-pytorch start from the noise that ``run`` will draw in the step that it takes next."""

    def __init__(self, run: Run, loop: SmartLoop) -> None:
        self.run, self.loop = run, loop

    def step(self) -> Told:
        run, turn = self.run, self.loop.done % len(self.run.streams)
        stream, draws = run.streams[turn], torch.Generator(run.device)
        draws.set_state(run.generator.get_state())
        layout = collate([(run.data[stream.name].train, stream.rows(run.taken[turn]))], run.device).layout

        def randn_like(x_BLD: Tensor, requires_grad: bool) -> Tensor:
            noise_MD = torch.randn(layout.offsets[-1], x_BLD.shape[-1], generator=draws, device=run.device)
            sorted_by_length = noise_MD.split(np.diff(layout.offsets).tolist())
            pieces = [sorted_by_length[i] for i in layout.spans[stream.name].order_S.tolist()]
            return pad_sequence(pieces, batch_first=True).requires_grad_(requires_grad)

        with patch.object(torch, "randn_like", randn_like):
            return self.loop.step()


def surgery(s: Settings) -> Iterator[Row]:
    """PCGrad in joint steps against plain addition, and against torchjd's on the same losses."""
    from torchjd import aggregation

    mode, pcgrad = "train.mode=joint", "train.aggregation=pcgrad"
    yield technique(s, "surgery/joint", "paper/base", mode, pcgrad, against=[mode], note="ours against ours")

    # All losses at once, or one after the other: what works, and is faster, is what is compared with.
    seconds: dict[int | None, float] = {}
    for chunk in (None, 1):
        try:
            check(s.exact("paper/base", mode), TorchJDLoop(s.exact("paper/base", mode), aggregation.Sum(), chunk))
            loop = TorchJDLoop(s.run("paper/base", mode), aggregation.PCGrad(), chunk)
            loop.step()
            seconds[chunk] = steps_of(loop, 2)()
        except RuntimeError:  # of vmap, which cannot differentiate everything
            continue
    chunk = min(seconds, key=lambda c: seconds[c])
    ours = Rounds(s.run("paper/base", mode, pcgrad))
    theirs = steps_of(TorchJDLoop(s.run("paper/base", mode), aggregation.PCGrad(), chunk), 1)
    note = (
        f"theirs is our model under mtl_backward, parallel_chunk_size={chunk}; gradient checked with addition on both "
        "sides, as PCGrad's order is random"
    )
    yield compared("surgery/torchjd", GOALS["surgery/torchjd"], paired(ours, theirs, s.pairs), note=note)


def pal(s: Settings) -> Iterator[Row]:
    """Projected attention layers against none, in the shape of BERT-base."""
    yield technique(s, "pal", "paper/pal", base=True, note="ours against ours, rounds of 3 steps")


# Prediction and preparation --------------------------------------------------------------------------------

BATCH_SIZES = (8, 32, 64, 128)


def scoring(s: Settings) -> Iterator[Row]:
    """Scores of question pairs, from text to number, against two packages at the batch size that suits each."""
    import sentence_transformers
    import transformers

    settings = s.recipe("paper/base", "tasks.quora.head={kind: linear}", "tasks.sst=null", "tasks.sts=null")
    device, tokenizer, data, model = launch.build(settings, Console(quiet=True))
    rows = [e.texts for d in (data["quora"].dev, *([] if s.data else [data["quora"].train])) for e in d.examples]
    pairs = rows[: s.pairs_scored]
    with torch.no_grad():
        model.head("quora").layers[-1].weight.mul_(10)  # fresh weights would call all pairs nearly alike
    folder = _sequence_classifier(s, model, settings)
    predictor = Predictor(model.to(device), tokenizer)
    kind = {"dtype": model.compute}  # where ours multiplies bfloat16 they may
    longest = settings.model.max_length

    def ours(pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [answer["p(1)"] for answer in predictor.predict("quora", pairs)]

    def pipeline(**kind: Any) -> Callable[..., list[float]]:
        made = transformers.pipeline("text-classification", str(folder), device=device, **kind)

        def score(pairs: Sequence[tuple[str, str]], size: int) -> list[float]:
            texts = [{"text": a, "text_pair": b} for a, b in pairs]
            return [x["score"] for x in made(texts, batch_size=size, truncation=True, max_length=longest)]

        return score

    def cross_encoder(**kind: Any) -> Callable[..., list[float]]:
        made = sentence_transformers.CrossEncoder(
            str(folder), max_length=longest, device=str(device), model_kwargs=dict(kind)
        )
        return lambda pairs, size: made.predict(list(pairs), batch_size=size, show_progress_bar=False).tolist()

    sample, compute = pairs[:512], model.compute
    for row, make in (("scoring/pipeline", pipeline), ("scoring/cross-encoder", cross_encoder)):
        model.compute = torch.float32
        scores = ours(sample)
        difference = np.abs(np.subtract(scores, make(dtype=torch.float32)(sample, 32))).max()
        model.compute = compute
        if np.std(scores) < 0.01:
            raise ValueError("scores are nearly the same for all pairs, so that nothing could be compared.")
        if difference > 1e-4:
            raise ValueError(f"scores differ by {difference:.2g} from those of {row}: not comparable.")
        theirs = make(**kind)
        seconds = {size: timed(lambda size=size, theirs=theirs: theirs(sample, size))() for size in BATCH_SIZES}
        best = min(seconds, key=lambda size: seconds[size])
        timed_pairs = paired(
            timed(lambda: ours(pairs)),
            timed(lambda theirs=theirs, best=best: theirs(pairs, best)),
            s.few,
            warmup=0,  # the sample was one
        )
        note = f"{len(pairs)} pairs, tokenising included; their batch size is {best}, the fastest of {BATCH_SIZES}"
        yield compared(row, GOALS[row], timed_pairs, unit="s", scale=1, note=note)


def _sequence_classifier(s: Settings, model: Model, settings: Recipe) -> Path:
    """A ``BertForSequenceClassification`` with the weights of ``model`` and its quora head."""
    import transformers

    folder, encoder = s.work / "sequence-classifier", s.work / "encoder"
    save_encoder(model.encoder, encoder)
    made = transformers.AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=1)
    made.classifier.load_state_dict(model.head("quora").layers[-1].state_dict())
    made.save_pretrained(folder)
    _copy_tokenizer(find_folder(settings.model.path), folder)
    return folder


def tokenising(s: Settings) -> Iterator[Row]:
    """Reading and tokenising the pairs of Quora train, the first time and again; in a cache of its own."""
    # Dev is 300 generated pairs, so that little but train is timed.
    changes = ["tasks.sst=null", "tasks.sts=null", "tasks.quora.dev={generated: quora, split: dev}"]
    note = "the file read and 300 more pairs included"
    if s.data is None:
        changes += [f"data.root={s.work}", "tasks.quora.train={path: quora.tsv, generated: null, split: null}"]
        _write_pairs(s.work / "quora.tsv")
        note += "; generated pairs with few different words, so the goal is not judged"
    settings = s.recipe("paper/base", *changes)
    folder = find_folder(settings.model.path)
    tokenizer = matching_tokenizer(folder, load_encoder(settings.model.path).encoder)
    seconds: dict[str, list[float]] = {"first": [], "cached": []}
    for _ in range(3):
        with TemporaryDirectory(dir=s.work) as cache, patch.dict(os.environ, MTBERT_CACHE=cache):
            for times in seconds.values():
                times.append(timed(lambda: prepare(settings, tokenizer))())
    for when, times in seconds.items():
        row = alone(f"tokenising/{when}", GOALS[f"tokenising/{when}"], median(times), note=note)
        yield row if s.data is not None else replace(row, reached=None)


def _write_pairs(file: Path) -> None:
    """As many generated pairs as Quora train has."""
    made = [e for split in ("train", "dev") for e in demo.examples("quora", split)]
    rng = np.random.default_rng(0)
    with file.open("w", encoding="utf-8") as out:
        out.write("id\tsentence1\tsentence2\tis_duplicate\n")
        for i in range(QUORA_PAIRS):
            a, b = (made[j].texts[k] for k, j in enumerate(rng.integers(len(made), size=2)))
            out.write(f"{i}\t{a}\t{b}\t{i % 2}\n")


HELP = """
import sys
sys.argv = ["mtbert", "--help"]
from mtbert.cli import main
try:
    main()
finally:
    sys.stderr.write(str("torch" in sys.modules))
"""


def help_(s: Settings) -> Iterator[Row]:
    """``mtbert --help`` as a process of its own."""
    told = [_python("-c", HELP).stderr.strip() for _ in range(2)]
    seconds = median(timed(lambda: _python("-c", HELP))() for _ in range(max(5, s.pairs)))
    row = alone("help", GOALS["help"], seconds, note=f"torch imported: {told[0]}")
    yield replace(row, reached=row.reached and told[0] == "False")


def memory(s: Settings) -> Iterator[Row]:
    """Peak memory of alternating steps, each side in processes of its own."""

    def side(name: str) -> Measure:
        chosen = ["--encoder", s.path(), "--threads", str(s.threads)]
        return lambda: float(_python("-m", "benchmarks.memory", name, *chosen).stdout)

    pairs = paired(side("ours"), side("theirs"), s.few, warmup=0)
    note = "3 rounds on generated data; growth over the process with its data, before the model is built"
    yield compared("memory", GOALS["memory"], pairs, unit="MiB", scale=2**-20, note=note)


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python process that finds the modules that this one finds."""
    found = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": found}
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)[:60]}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    return done


# Growth ----------------------------------------------------------------------------------------------------

TOKENS, LENGTH = 4096, 32  # of a step, and of its longest sequence, where they are not what grows
JUDGED_LENGTH = 128  # attention is quadratic, and shows beyond


def growth(s: Settings) -> Iterator[Row]:
    """Seconds of our joint steps against tokens, tasks and sequence length, on random words."""
    longest = read_config(find_folder(s.path()) / "config.json").max_length
    curves = {
        "tokens": _curve(s, {n: {"tokens": n} for n in (256, 512, 1024, 2048, 4096, 8192)}),
        "tasks": _curve(s, {n: {"tasks": n} for n in (1, 3, 10)}),
        "length": _curve(s, {n: {"length": n} for n in (16, 32, 64, 128, 256, 512) if n <= longest}),
    }
    counts, seconds = curves["tokens"]
    # Least squares of the relative error: a fixed part, which is the optimizer's, and a part per token.
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
    """The median seconds of a step at each point; points take turns, so that a slow spell hits them all."""
    runs = [Rounds(random_words(s, **changed)) for changed in points.values()]
    found = [[run() for run in runs] for _ in range(1 + s.few)][1:]
    return list(points), [median(times) for times in zip(*found, strict=True)]


def random_words(s: Settings, *, tokens: int = TOKENS, length: int = LENGTH, tasks: int = 1, base: bool = False) -> Run:
    """A run whose joint steps have exactly so many tokens, the same in each step, shared evenly by the tasks."""
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
        split = Dataset(task, [Example(str(i), ("x",), float(i % 5)) for i in range(len(flat))], (flat,), 0)
        data[name] = Prepared(task, split, split, (), {})
    return assemble(settings, loaded.encoder, data)


def assemble(settings: Recipe, encoder: Encoder, data: Mapping[str, Prepared]) -> Run:
    """A run on data that are there already."""
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
    """Draws the curves into ``file``; returns what became of it."""
    try:
        import matplotlib
    except ImportError:
        return 'plot left out: matplotlib is not installed, see extra "bench"'
    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = {"tokens": "tokens per step", "tasks": "tasks", "length": "longest sequence, tokens"}
    figure, panels = pyplot.subplots(1, 3, figsize=(10, 3.2), sharey=True, layout="constrained")
    for panel, (name, (x, y)) in zip(panels, curves.items(), strict=True):
        # What a cost by the token alone would be: proportional, or, where the tokens stay the same, flat.
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


# The list --------------------------------------------------------------------------------------------------

Group = Callable[[Settings], Iterator[Row]]
GROUPS: Mapping[str, Group] = {
    "alternating": alternating,
    "trainer": trainer,
    "alternating-base": alternating_base,
    "joint": joint,
    "smart": smart,
    "surgery": surgery,
    "pal": pal,
    "scoring": scoring,
    "tokenising": tokenising,
    "help": help_,
    "memory": memory,
    "growth": growth,
}


def rows_of(group: str) -> list[str]:
    """The names of a group's rows."""
    return [row for row in GOALS if row.split("/")[0] == group]
