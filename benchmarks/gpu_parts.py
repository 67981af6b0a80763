"""The parts of ``python -m benchmarks.gpu``; each one yields the lines that ``gpu.json`` gets from it."""

import hashlib
import json
import os
import platform
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.profiler import ProfilerActivity, profile

from benchmarks import rows_growth, sides
from benchmarks.report import alone
from benchmarks.timing import limits, timed
from mtbert import environment, scoring
from mtbert.model.config import read_config
from mtbert.model.download import TOKENIZER_FILES, find_encoder
from mtbert.recipe.files import load_recipe
from mtbert.training.assemble import assemble
from mtbert.training.run import Run

Line = Mapping[str, Any]

PAPER_ROUNDS = 41_418
GOALS = {
    "step/minilm": "<= 4 ms",
    "protocol/minilm": "<= 12 min",
    "step/base": "<= 4 ms",
    "protocol/base": "<= 12 min",
    "base": ">= 45 %",
    "scoring": ">= 40 %",
}
# Largest accepted relative difference between mean losses here and on the CPU. Weights that differ by 1e-6 give losses
# that differ by 1e-6 (measured on a CPU), but products in bfloat16 change the losses by 3% there.
NEAR = {"fp32": 0.02, "bf16": 0.05}
SYNCHRONISING = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the measured steps and runs are."""

    shape: Mapping[str, Any]  # the config of the large encoder
    tokens: int  # in a large step
    scored: int  # tokens to score
    length: int  # of the longest sequence, in tokens
    warm: int  # steps or rounds before the measured ones
    timed: int  # steps or rounds that are measured
    rounds: int  # of learning
    every: int  # rounds that one mean loss covers


SIZES = {
    "cuda": Sizes(
        shape=sides.BERT_BASE, tokens=2**14, scored=2**20, length=128, warm=10, timed=30, rounds=300, every=50
    ),
    "cpu": Sizes(
        shape=sides.BERT_BASE | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
        tokens=256,
        scored=512,
        length=16,
        warm=1,
        timed=2,
        rounds=4,
        every=2,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of all parts."""

    device: str
    encoder: Path  # folder of the small encoder
    out: Path  # folder of the files to keep
    sizes: Sizes

    def rows(self, work: Path) -> sides.Settings:
        """Returns the settings for rows of ``benchmarks.bench``, with ``work`` as their folder."""
        threads = torch.get_num_threads()
        return sides.Settings(work=work, threads=threads, small=str(self.encoder), shape=self.sizes.shape)


# Machine and tests -----------------------------------------------------------------------------------------


def machine(s: Settings, reference: Path) -> Iterator[Line]:
    """Yields the hardware, the speed that it reaches, and the versions of packages."""
    device = environment.device("auto")
    if device.type != s.device:
        raise ValueError(f"--device {s.device}: this machine's is {device.type}.")
    record = environment.make_record(device, {}, "")
    compute = environment.precision("auto", device)
    reached = limits(device, compute)
    yield {
        "device": record.device,
        "cpu": record.cpu,
        "cores": record.cores,
        "packages": record.packages | {"python": platform.python_version(), "cuda": torch.version.cuda},
        "precision": str(compute).removeprefix("torch."),
        "tflop_per_s": round(reached.flops / 1e12, 2),
        "gb_per_s": round(reached.bandwidth / 1e9, 1),
    }


def tests(s: Settings, reference: Path) -> Iterator[Line]:
    """Runs the tests marked ``gpu`` and yields how many passed, and the names and messages of those that did not."""
    with TemporaryDirectory() as work:
        report = Path(work) / "tests.xml"
        # Plugins that the machine happens to have are not loaded, and warnings are not errors here.
        environ = os.environ | {"MTBERT_GPU_DEVICE": s.device, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        command = [sys.executable, "-m", "pytest", "tests/test_gpu.py", "-m", "gpu", "-W", "default", "--tb=short"]
        subprocess.run([*command, "-p", "no:cacheprovider", f"--junit-xml={report}"], cwd=sides.ROOT, env=environ)
        found = outcome(report)
    yield found
    if found["failed"] or found["skipped"] or not found["passed"]:
        raise RuntimeError(f"{len(found['failed'])} tests failed, {found['skipped']} were skipped")


def outcome(report: Path) -> Line:
    """Returns how many tests in a JUnit report passed and were skipped, and the names and messages of the others."""
    cases = ET.parse(report).getroot().findall(".//testcase")
    wrong = [
        (case, found) for case in cases for found in (case.find("failure"), case.find("error")) if found is not None
    ]
    failed = {case.get("name"): str(found.get("message"))[:300] for case, found in wrong}
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {"passed": len(cases) - len(failed) - skipped, "skipped": skipped, "failed": failed}


# Speed -----------------------------------------------------------------------------------------------------


def speed(s: Settings, reference: Path) -> Iterator[Line]:
    """Yields the rows that have goals for GPUs, each beside its goal."""
    with TemporaryDirectory() as work:
        made = s.rows(Path(work))
        for name, base in (("minilm", False), ("base", True)):
            run = made.run("paper/base", base=base)
            rounds = sides.Rounds(run)
            seconds = median([rounds() for _ in range(s.sizes.warm + s.sizes.timed)][s.sizes.warm :])
            yield _row(
                f"step/{name}", 1e3 * seconds / run.plan.steps_per_round, "steps of 8 sst, 16 quora, 8 sts in turn"
            )
            yield _row(
                f"protocol/{name}", PAPER_ROUNDS * seconds / 60, f"{PAPER_ROUNDS} such rounds, without evaluations"
            )
        large = rows_growth.random_words(made, tokens=s.sizes.tokens, length=s.sizes.length, base=True)
        rate = limits(large.device, large.model.compute).flops
        rounds = sides.Rounds(large)
        seconds = median([rounds() for _ in range(s.sizes.warm + s.sizes.timed)][s.sizes.warm :])
        share = 6 * large.model.multiplied * s.sizes.tokens / seconds / rate
        yield _row("base", 100 * share, f"a step of {s.sizes.tokens:,} tokens, {1e3 * seconds:.1f} ms")
        many = rows_growth.random_words(made, tokens=s.sizes.scored, length=s.sizes.length, base=True)
        dev = many.data["t0"].dev
        seconds = median([timed(lambda: scoring.predict_examples(many.model, dev))() for _ in range(4)][1:])
        share = 2 * many.model.multiplied * s.sizes.scored / seconds / rate
        yield _row("scoring", 100 * share, f"{len(dev):,} texts of {s.sizes.scored:,} tokens, {seconds:.2f} s")


def _row(name: str, value: float, note: str) -> Line:
    row = asdict(alone(name, GOALS[name], value, note=note))
    return {key: row[key] for key in ("name", "ours", "unit", "reach", "reached", "note")}


# Profile ---------------------------------------------------------------------------------------------------


def profiled(s: Settings, reference: Path) -> Iterator[Line]:
    """Yields where the time of the paper's small steps goes: kernels, gaps between them, and waits of the host."""
    on_device = [ProfilerActivity.CUDA] if s.device == "cuda" else []
    with TemporaryDirectory() as work:
        run = s.rows(Path(work)).run("paper/base")
        steps = 3 * run.plan.steps_per_round
        for _ in range(s.sizes.warm * run.plan.steps_per_round):
            run.step()
        yield {"waits by line": _waits(run, steps)}
        whole = timed(lambda: [run.step() for _ in range(steps)])() / steps
        with profile(activities=[ProfilerActivity.CPU, *on_device], acc_events=True) as seen:
            timed(lambda: [run.step() for _ in range(steps)])()
    seen.export_chrome_trace(str(s.out / "trace.json.gz"))
    events = list(seen.events() or [])
    kernels = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA and not e.is_user_annotation]
    spans = [(e.time_range.start, e.time_range.end) for e in kernels]
    calls = Counter(e.name for e in events if e.name.startswith("cu"))
    busy = covered(spans) / 1e3 / steps
    yield {
        "step ms": round(1e3 * whole, 3),
        "kernels": len(kernels) / steps,
        "kernels ms": round(busy, 3),
        "gaps ms": round(1e3 * whole - busy, 3),
        "launches": sum(count for name, count in calls.items() if "LaunchKernel" in name) / steps,
        "synchronisations": sum(calls[name] for name in SYNCHRONISING) / steps,
        "copies to the host": sum("DtoH" in e.name for e in kernels) / steps,
        "copies to the device": sum("HtoD" in e.name for e in kernels) / steps,
    }
    by_name: Counter[str] = Counter()
    for event, (start, end) in zip(kernels, spans, strict=True):
        by_name[event.name[:100]] += end - start
    yield {"longest kernels, ms a step": {name: round(us / 1e3 / steps, 4) for name, us in by_name.most_common(20)}}


def _waits(run: Run, steps: int) -> dict[str, float]:
    """Returns how often per step each line of code makes the host wait for the GPU."""
    if run.device.type != "cuda":
        return {}
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for _ in range(steps):
                run.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in seen if "synchroniz" in str(w.message))
    return {line: count / steps for line, count in found.most_common()}


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Returns the length of the union of the time spans."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


# Learning --------------------------------------------------------------------------------------------------


def learning(s: Settings, reference: Path) -> Iterator[Line]:
    """Yields mean losses of training beside those of the CPU, with products in float32 and in bfloat16."""
    expected = json.loads(reference.read_text(encoding="utf-8"))
    if expected["weights"] != _digest(s.encoder):
        raise ValueError(f"{reference}: is of other weights than those in {s.encoder}. Make it again.")
    cpu = expected["losses"]
    if (expected["every"], len(cpu)) != (
        s.sizes.every,
        s.sizes.rounds // s.sizes.every,
    ):  # a small trial has other rounds
        cpu = losses(replace(s, device="cpu"), "fp32")
    far = []
    for precision, near in NEAR.items():
        begun = perf_counter()
        found = losses(s, precision)
        apart = max(abs(a / b - 1) for a, b in zip(found, cpu, strict=True))
        far += [f"{precision} by {apart:.1%}"] if apart > near else []
        yield {
            "precision": precision,
            "losses": found,
            "cpu": cpu,
            "largest difference": round(apart, 5),
            "limit": near,
            "seconds": round(perf_counter() - begun, 1),
        }
    if far:
        raise RuntimeError(f"mean losses are too far from those of the CPU: in {' and '.join(far)}")


def losses(s: Settings, precision: str) -> list[float]:
    """Trains the recipe demo from the small encoder; returns mean losses of a step, one per ``every`` rounds."""
    longest = min(64, read_config(s.encoder / "config.json").max_length)
    changes = [
        f"model={{path: '{s.encoder}', max_length: {longest}, dropout: 0}}",
        f"train.rounds={s.sizes.rounds}",
        "train.lr=2e-5",  # at the recipe's own rate, runs that differ only in rounding drift apart
        f"train.precision={precision}",
        f"train.device={s.device}",
        "train.threads=1",
    ]
    settings = load_recipe("demo", changes)
    run = assemble(settings).run()
    sums = [sum(run.step().losses.values()) for _ in range(s.sizes.rounds)]
    every = s.sizes.every
    return [sum(sums[i : i + every]) / every for i in range(0, len(sums), every)]


def refer(s: Settings, file: Path) -> None:
    """Writes the CPU's losses, which :func:`learning` compares with, into ``file``."""
    record = environment.make_record(torch.device("cpu"), {}, "")
    told = {
        "weights": _digest(s.encoder),
        "losses": losses(s, "fp32"),
        "every": s.sizes.every,
        "cpu": record.cpu,
        "torch": record.packages["torch"],
    }
    file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def round_weights(folder: Path) -> None:
    """Writes MiniLM into ``folder``, with weights rounded to bfloat16 so that the file has half the size."""
    source = find_encoder("demo")
    folder.mkdir(parents=True, exist_ok=True)
    rounded = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor
        for name, tensor in load_file(source / "model.safetensors").items()
    }
    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", *TOKENIZER_FILES):
        if (source / name).is_file():
            (folder / name).write_bytes((source / name).read_bytes())


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


PARTS: Mapping[str, Callable[[Settings, Path], Iterator[Line]]] = {
    "machine": machine,
    "tests": tests,
    "speed": speed,
    "profile": profiled,
    "learning": learning,
}
