"""Prints what training in several processes and bulk predictions cost: tables from rates, and the assumptions.

    python -m benchmarks.cost              the tables, from the rates below
    python -m benchmarks.cost --measure    prints the rates of this machine's processor, in about a minute

A step of N processes is simulated: each computes its part of the tokens, exchanges its gradients in rounds with one
partner after another, as ``training/shards.py`` does, and makes the whole optimizer step. Nothing overlaps.

The rates of a GPU are those of its data sheet, since no GPU was available: times that follow from them are floors. The
tables also have the times for a GPU that reaches the share ``REACHED`` of them, which is a goal.
"""

import argparse
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

ADAMW_BYTES = 28  # moved for each parameter, see benchmarks/timing.py
ADD_BYTES = 12  # moved for each number of a sum: two are read, one is written
COPY_BYTES = 8  # moved for each number that is copied
REACHED = 0.45  # the goal: share of the product rate in a training step
ANSWERED = 0.40  # the goal: the same for predictions
TEXTS, LENGTH = 1e9, 30  # texts of the last table, and tokens of each
DEMO = 981  # tokens of a step of the recipe demo


@dataclass(frozen=True)
class Encoder:
    """The sizes of an encoder.

    Attributes:
        multiplied: The parameters that every token is multiplied with.
        trained: All parameters.
        sent: The numbers of a gradient that a process sends.
    """

    name: str
    multiplied: float
    trained: float
    sent: float


# On a CPU, the rows of the word embeddings are sent sparsely: here 1,000 rows. A GPU sends the dense gradient.
MINILM_ON_CPU = Encoder("MiniLM", 10.6e6, 22.7e6, 22.7e6 - 30522 * 384 + 1000 * 386)
BERT_ON_GPU = Encoder("BERT-base", 85.1e6, 109.5e6, 109.5e6)


@dataclass(frozen=True)
class Machine:
    """A machine with one or more processes.

    Attributes:
        processes: How many processes share its network.
        flops: The product rate that a process reaches, per second.
        bandwidth: Bytes that a process moves in memory, per second.
        inside: Bytes per second from one process of the machine to another one, in each direction.
        network: Bytes per second from the machine to other ones, in each direction, of all processes together.
        latency: Seconds of a message.
    """

    name: str
    processes: int
    flops: float
    bandwidth: float
    inside: float
    network: float
    latency: float = 30e-6


H100 = Machine("8 H100, 400 Gbit/s", 8, 989e12, 3.35e12, 450e9, 50e9)
# Two processes on 2 cores of an AMD EPYC with AVX512-BF16, as benchmarks/processes_speed.py found them: each computes
# 491 tokens in 165 ms and exchanges its gradient in 19 ms. The network is assumed.
EPYC = Machine("2 cores of an AMD EPYC with AVX512-BF16, 10 Gbit/s", 2, 190e9, 38e9, 3.5e9, 1.25e9)
# By --measure, of one core of the same machine.
PREDICTED = {"MiniLM": 10400.0, "BERT-base": 1890.0}  # tokens per second
TOKENISED = 660000.0  # tokens per second


@dataclass(frozen=True)
class Step:
    """The parts of a simulated step, in seconds."""

    compute: float
    exchange: float
    optimizer: float

    @property
    def whole(self) -> float:
        """The time of the step."""
        return self.compute + self.exchange + self.optimizer


def simulate(encoder: Encoder, machine: Machine, processes: int, tokens: float) -> Step:
    """Returns the parts of a step with ``tokens`` tokens in all, shared by ``processes`` processes.

    In round ``k`` of the exchange, partners are ``2**k`` ranks apart. Both send all numbers and add those of the other.
    If partners are on different machines, all processes of a machine send over its network at the same time.
    """
    compute = 6 * encoder.multiplied * tokens / processes / machine.flops
    exchange = COPY_BYTES * encoder.sent / machine.bandwidth if processes > 1 else 0.0
    for level in range(int(math.log2(processes))):
        inside = 1 << level < machine.processes
        rate = machine.inside if inside else machine.network / min(machine.processes, processes)
        exchange += machine.latency + 4 * encoder.sent / rate + ADD_BYTES * encoder.sent / machine.bandwidth
    return Step(compute, exchange, ADAMW_BYTES * encoder.trained / machine.bandwidth)


def pays_from(encoder: Encoder, machine: Machine) -> float:
    """Returns the number of tokens of a step from which on two machines are faster than one."""
    one, two = (simulate(encoder, machine, n * machine.processes, 0).whole for n in (1, 2))
    saved = simulate(encoder, machine, machine.processes, 1).compute / 2  # for each token
    return (two - one) / saved


def scaling(encoder: Encoder, machine: Machine, counts: Sequence[int], tokens: float) -> Iterator[str]:
    """Yields the lines of a table: steps of ``tokens`` tokens in all, and of as many for each process."""
    yield f"{encoder.name}; a machine: {machine.name}"
    heads = ("processes", "machines", "compute", "exchange", "AdamW", "steps/s", "speed-up", "more tokens")
    yield " | ".join(f"{head:>11}" for head in heads)
    alone = simulate(encoder, machine, 1, tokens).whole
    for count in counts:
        step, more = simulate(encoder, machine, count, tokens), simulate(encoder, machine, count, tokens * count)
        cells = [
            str(count),
            str(-(-count // machine.processes)),
            *(f"{1e3 * part:.3g} ms" for part in (step.compute, step.exchange, step.optimizer)),
            f"{1 / step.whole:.3g}",
            f"{alone / step.whole:.2f}",
            f"{count * alone / more.whole:.2f}",
        ]
        yield " | ".join(f"{cell:>11}" for cell in cells)
    yield f"two machines are faster than one from {pays_from(encoder, machine):,.0f} tokens a step on"


def bulk() -> Iterator[str]:
    """Yields lines: how long the answers to a billion texts take."""
    tokens = TEXTS * LENGTH
    yield f"{TEXTS:,.0f} texts of {LENGTH} tokens"
    for name, rate in PREDICTED.items():
        yield f"{name}, one core, measured: {tokens / rate / 3600:,.0f} core hours"
    for encoder in (MINILM_ON_CPU, BERT_ON_GPU):
        floor = 2 * encoder.multiplied * tokens / H100.flops / 3600
        yield f"{encoder.name}, one H100, not measured: at least {floor:.2f} hours, {floor / ANSWERED:.2f} at the goal"
    yield f"making the tokens, measured: {tokens / TOKENISED / 3600:,.0f} core hours"


def measure() -> Iterator[str]:
    """Yields lines: the rates of one core of this machine."""
    import torch

    from benchmarks.sides import Settings
    from benchmarks.timing import limits
    from mtbert import scoring
    from mtbert.data.tokenizer import load_tokenizer
    from mtbert.model.download import find_encoder

    torch.set_num_threads(1)
    os.environ["RAYON_NUM_THREADS"] = "1"  # of the tokenizer
    with TemporaryDirectory() as work:
        settings = Settings(work=Path(work), threads=1)
        for base in (False, True):
            run = settings.run("demo", base=base)
            dev = [data.dev for data in run.scored.values()][: 1 if base else 3]
            tokens = scoring.encoded(run.predictor, dev)[1]
            seconds = []
            for _ in range(2):  # the first one compiles kernels
                begun = time.perf_counter()
                scoring.predict_together(run.predictor, dev)
                seconds.append(time.perf_counter() - begun)
            yield f"predict, {'BERT-base' if base else 'MiniLM'}: {tokens / min(seconds):,.0f} tokens a second"
            found = limits(torch.device("cpu"), run.model.compute)
        yield f"{run.model.compute}: {found.flops / 1e9:,.0f} GFLOP/s; memory: {found.bandwidth / 1e9:.0f} GB/s"
        texts = [" ".join(f"word{i} film a good dog".split() * (LENGTH // 6)) for i in range(20000)]
        begun = time.perf_counter()
        tokens = sum(len(row.ids) for row in load_tokenizer(find_encoder("demo")).encode_batch(texts))
        rate = len(texts) / (time.perf_counter() - begun)
        yield f"making tokens: {rate:,.0f} texts a second, of {tokens / len(texts):.0f} tokens"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="print the rates of one core of this machine")
    parser.add_argument("--tokens", type=int, default=16384, help="of a step (default: 16384)")
    chosen = parser.parse_args()
    if chosen.measure:
        for line in measure():
            print(line, flush=True)
        return
    counts = [1 << level for level in range(7)]
    goal = replace(H100, name=f"{H100.name}, {REACHED:.0%} of the product rate", flops=REACHED * H100.flops)
    for encoder, machine in ((BERT_ON_GPU, H100), (BERT_ON_GPU, goal)):
        print(*scaling(encoder, machine, counts, chosen.tokens), "", sep="\n")
    print(*scaling(MINILM_ON_CPU, EPYC, counts[:5], DEMO), "", sep="\n")
    print(*bulk(), sep="\n")


if __name__ == "__main__":
    main()
