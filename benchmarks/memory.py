"""Prints how many bytes one side needs, at its peak, for building a model and training it for three rounds.

    python -m benchmarks.memory ours|theirs --encoder demo --threads 2

A process of its own for each side. Data and packages are there before the count begins, so that it is of weights,
gradients, optimizer and activations; theirs has its tokens once more, as 64-bit numbers, which is little.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers

from benchmarks.plain import Plain, PlainLoop
from benchmarks.rows_growth import assemble
from benchmarks.sides import Settings
from mtbert import environment
from mtbert.data.tokenizer import load_tokenizer
from mtbert.model import heads
from mtbert.model.config import read_config
from mtbert.model.hub import find_folder
from mtbert.model.weights import load_encoder
from mtbert.prepare import prepare

ROUNDS = 3


def main() -> None:
    """Prints the number and nothing else."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=["ours", "theirs"])
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--threads", type=int, required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    transformers.logging.disable_progress_bar()
    with TemporaryDirectory() as work:
        s = Settings(work=Path(work), encoder=chosen.encoder, threads=chosen.threads)
        recipe = s.recipe("paper/base")
        folder = find_folder(recipe.model.path)
        data = prepare(recipe, load_tokenizer(folder))
        device = environment.device("auto")
        _ = transformers.BertModel  # its module is imported when it is first asked for
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far, of importing, is forgotten
        if chosen.side == "ours":
            stepper = assemble(recipe, load_encoder(recipe.model.path, dropout=recipe.model.dropout).encoder, data)
        else:
            rate = recipe.model.dropout or 0.0
            config = replace(read_config(folder / "config.json"), hidden_dropout=rate, attention_dropout=rate)
            built = {name: heads.build(d.task, config.width, recipe.train.seed) for name, d in data.items()}
            model = Plain(folder, config, recipe, built).to(device)
            stepper = PlainLoop(recipe, data, model, device, environment.precision("auto", device))
        for _ in range(ROUNDS * len(data)):
            stepper.step()
    if device.type == "cuda":
        print(torch.cuda.max_memory_allocated())
    else:
        print(_resident("VmHWM") - before)


def _resident(key: str) -> int:
    """Bytes that the process has in memory now (``VmRSS``) or had at its peak (``VmHWM``); on Linux alone.

    Not ``ru_maxrss``: that of a new process begins at the size of the one that started it.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    main()
