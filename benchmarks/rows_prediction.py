"""The rows of prediction and preparation: scoring, all tasks at once, tokenising, ``mtbert --help`` and memory."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.report import Row, alone, compared
from benchmarks.sides import GOALS, ROOT, Settings, copy_tokenizer
from benchmarks.timing import Measure, paired, timed
from mtbert import environment
from mtbert.data import demo
from mtbert.model.download import find_encoder
from mtbert.model.model import Model
from mtbert.model.weights import load_encoder, save_encoder
from mtbert.prepare import prepare
from mtbert.recipe.settings import Recipe
from mtbert.storage.model_folder import matching_tokenizer
from mtbert.task import Task
from mtbert.training.assemble import assemble
from mtbert.use.predictor import Predictor

QUORA_PAIRS = 47_213  # in the train file that the goal of tokenising refers to

BATCH_SIZES = (8, 32, 64, 128)

TEXTS, TASKS_TOGETHER = 500, 10
TYPES: Sequence[Mapping[str, Any]] = (
    {"type": "ordinal", "labels": tuple("01234")},
    {"type": "binary", "labels": ("no", "yes")},
    {"type": "regression", "range": (0, 1)},
)


def scoring(s: Settings) -> Iterator[Row]:
    """Yields the rows that compare scoring question pairs from text with two packages, each at its best batch size."""
    import sentence_transformers
    import transformers

    settings = s.recipe("paper/base", "tasks.quora.head={kind: linear}", "tasks.sst=null", "tasks.sts=null")
    made = assemble(settings)
    device, data, model = made.device, made.data, made.model
    rows = [e.texts for d in (data["quora"].dev, *([] if s.data else [data["quora"].train])) for e in d.examples]
    pairs = rows[: s.pairs_scored]
    with torch.no_grad():
        model.head("quora").layers[-1].weight.mul_(10)  # with new weights, all pairs would get nearly the same score
    folder = _sequence_classifier(s, model, settings)
    predictor = Predictor(model.to(device), made.tokenizer)
    kind = {"dtype": model.compute}  # they may use bfloat16 if ours does
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
            warmup=0,  # the sample was the warm-up
        )
        note = f"{len(pairs)} pairs, tokenising included; their batch size is {best}, the fastest of {BATCH_SIZES}"
        yield compared(row, GOALS[row], timed_pairs, unit="s", scale=1, note=note)


def together(s: Settings) -> Iterator[Row]:
    """Yields the row that compares ten tasks which answer the same texts with one of them."""
    loaded = load_encoder(s.path()).encoder
    names = [f"t{i}" for i in range(TASKS_TOGETHER)]
    tasks = {name: Task(name=name, inputs="single", **TYPES[i % len(TYPES)]) for i, name in enumerate(names)}
    made = Model(loaded, tasks, pooling="cls", max_length=min(128, loaded.config.max_length), seed=0)
    device = environment.device("auto")
    made.compute = environment.precision("auto", device)
    predictor = Predictor(made.to(device), matching_tokenizer(find_encoder(s.path()), loaded))
    texts = [example.texts[0] for split in ("train", "dev") for example in demo.examples("sst", split)][:TEXTS]
    alone, all_ = predictor.predict("t2", texts), predictor(texts)
    difference = max(abs(a["score"] - b["t2"]["score"]) for a, b in zip(alone, all_, strict=True))
    if difference > 1e-6:
        raise ValueError(f"a task answers together {difference:.2g} apart from alone: not comparable.")
    pairs = paired(timed(lambda: predictor(texts)), timed(lambda: predictor.predict("t2", texts)), s.pairs)
    note = f"{len(texts)} generated texts, tokenising included; {TASKS_TOGETHER} tasks over one of them"
    yield compared("together", GOALS["together"], pairs, note=note)


def _sequence_classifier(s: Settings, model: Model, settings: Recipe) -> Path:
    """Returns a ``BertForSequenceClassification`` with the weights of ``model`` and of its quora head."""
    import transformers

    folder, encoder = s.work / "sequence-classifier", s.work / "encoder"
    save_encoder(model.encoder, encoder)
    made = transformers.AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=1)
    made.classifier.load_state_dict(model.head("quora").layers[-1].state_dict())
    made.save_pretrained(folder)
    copy_tokenizer(find_encoder(settings.model.path), folder)
    return folder


def tokenising(s: Settings) -> Iterator[Row]:
    """Yields the rows of reading and tokenising the pairs of Quora train, with an empty cache and then a full one."""
    # Dev has only 300 generated pairs, so that the time is almost that of train.
    changes = ["tasks.sst=null", "tasks.sts=null", "tasks.quora.dev={generated: quora, split: dev}"]
    note = "the file read and 300 more pairs included"
    if s.data is None:
        changes += [f"data.root={s.work}", "tasks.quora.train={path: quora.tsv, generated: null, split: null}"]
        _write_pairs(s.work / "quora.tsv")
        note += "; generated pairs with few different words, so the goal is not judged"
    settings = s.recipe("paper/base", *changes)
    folder = find_encoder(settings.model.path)
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
    """Writes as many generated pairs as Quora train has."""
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
    """Yields the row of ``mtbert --help``, timed as a process of its own."""
    told = [_python("-c", HELP).stderr.strip() for _ in range(2)]
    seconds = median(timed(lambda: _python("-c", HELP))() for _ in range(max(5, s.pairs)))
    row = alone("help", GOALS["help"], seconds, note=f"torch imported: {told[0]}")
    yield replace(row, reached=row.reached and told[0] == "False")


def memory(s: Settings) -> Iterator[Row]:
    """Yields the row that compares the peak memory of alternating steps, each side in processes of its own."""

    def side(name: str) -> Measure:
        chosen = ["--encoder", s.path(), "--threads", str(s.threads)]
        return lambda: float(_python("-m", "benchmarks.memory", name, *chosen).stdout)

    pairs = paired(side("ours"), side("theirs"), s.few, warmup=0)
    note = "3 rounds on generated data; growth over the process with its data, before the model is built"
    yield compared("memory", GOALS["memory"], pairs, unit="MiB", scale=2**-20, note=note)


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Returns a Python process that can import the same modules as this one."""
    found = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": found}
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)[:60]}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    return done
