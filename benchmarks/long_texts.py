"""Measures how time and memory of a training pass grow with the length of a text, and draws the growth.

    python -m benchmarks.long_texts --out FOLDER
    python -m benchmarks.long_texts --out FOLDER --longest 2048

Three encoders read one text at a time, forwards and backwards, in float32. The first is a BERT of the shape of MiniLM,
for texts of up to 512 tokens. The second is a ModernBERT of the shape of Ettin with 32 million parameters, for texts of
up to 8,192 tokens. The third is the same ModernBERT without the code that makes its memory linear, for texts of up to
2,048 tokens. Each point is measured in a process of its own, whose memory before the first pass is taken off. Times are
those of a single thread's processor, so other programs hardly change them. The results are ``long_texts.json`` and
``long-texts.svg`` in FOLDER.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.timing import resident
from mtbert.batch import Layout, Span
from mtbert.model import attention, mix
from mtbert.model.attention import Groups
from mtbert.model.encoder import Encoder, EncoderConfig
from mtbert.model.families import bert, modernbert

VOCAB, SECONDS = 1000, 4.0  # passes are repeated for about this long, at least once and at most PASSES times
PASSES = 9
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
# The longest text of each encoder. All scores of one text of 2,048 tokens take 100 MB in each layer.
ENCODERS = {"BERT": 512, "ModernBERT": 8192, "ModernBERT, all scores kept": 2048}
COLOURS = {"BERT": "#c1503a", "ModernBERT": "#2b6cb0", "ModernBERT, all scores kept": "#a0aec0"}


def config_of(name: str) -> EncoderConfig:
    """Returns the architecture of an encoder in :data:`ENCODERS`."""
    if name == "BERT":
        return bert.encoder(
            bert.BertConfig(
                vocab_size=VOCAB, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
            )
        )
    return modernbert.encoder(
        modernbert.ModernBertConfig(
            vocab_size=VOCAB, hidden_size=384, num_hidden_layers=10, num_attention_heads=6, intermediate_size=576
        )
    )


def measure(name: str, length: int) -> dict[str, Any]:
    """Returns the median seconds of a training pass over a text, and the bytes of memory that it adds at its peak."""
    if name.endswith("all scores kept"):
        mix.LONG = length
        attention.takes_blocks = lambda length, window: False
    torch.manual_seed(0)
    encoder = Encoder(config_of(name))
    ids_N = torch.randint(5, VOCAB, (length,))
    groups = Groups(Layout((0, length), {"t": Span(0, 1, 0, length)}), torch.device("cpu"))

    def once() -> float:
        begun = time.process_time()
        x_ND = encoder.embed(ids_N, torch.zeros_like(ids_N), groups.positions_N, None)
        encoder.encode(x_ND, groups, None).square().mean().backward()
        return time.process_time() - begun

    # The gradients are as large as the weights whatever the length, so they are there before the count begins.
    for parameter in encoder.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    times = [once()]
    while len(times) < PASSES and sum(times) < SECONDS:
        times.append(once())
    return {"seconds": median(times), "bytes": resident("VmHWM") - before, "passes": len(times)}


def points(longest: int) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yields an encoder, a length and what :func:`measure` returns for them in a new process."""
    for name, most in ENCODERS.items():
        for length in LENGTHS:
            if length <= min(most, longest):
                command = [sys.executable, "-m", "benchmarks.long_texts", "--point", name, str(length)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                yield name, length, json.loads(done.stdout)


def draw(found: Mapping[str, Mapping[int, Mapping[str, Any]]], file: Path) -> None:
    """Draws time and memory against the length, both axes on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcParams["svg.fonttype"] = "none"  # texts stay texts, so that the file is small
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for panel, (key, unit, what) in zip(
        panels, (("seconds", 1.0, "seconds of a pass on one core"), ("bytes", 2**20, "MiB at the peak")), strict=True
    ):
        for name, by_length in found.items():
            values = [each[key] / unit for each in by_length.values()]
            panel.plot(list(by_length), values, "o-", label=name, color=COLOURS[name], markersize=4)
        panel.set(xscale="log", yscale="log", xlabel="tokens of the text", title=what)
        panel.set_xticks([n for n in LENGTHS if n >= 64], [f"{n:,}" for n in LENGTHS], fontsize=8)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all points, prints each, and writes the numbers and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the folder for numbers and picture")
    parser.add_argument("--longest", type=int, default=max(LENGTHS), help="the most tokens of a text")
    parser.add_argument("--point", nargs=2, metavar=("ENCODER", "LENGTH"), help="measure one point in this process")
    chosen = parser.parse_args(arguments)
    if chosen.point:
        torch.set_num_threads(1)
        print(json.dumps(measure(chosen.point[0], int(chosen.point[1]))))
        return
    if chosen.out is None:
        parser.error("--out is missing")
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for name, length, point in points(chosen.longest):
        found.setdefault(name, {})[length] = point
        print(f"{name}, {length:,} tokens: {point['seconds']:.3g} s, {point['bytes'] / 2**20:,.0f} MiB", flush=True)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "long_texts.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, chosen.out / "long-texts.svg")


if __name__ == "__main__":
    main()
