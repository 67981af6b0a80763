"""Prints the peak memory, in bytes, that one side needs to build a model and train it for three rounds.

    python -m benchmarks.memory ours|theirs --encoder demo --threads 2

Each side is a process of its own. Data and packages are loaded before the count begins, so that it covers weights,
gradients, optimizer state and activations. Their side also holds a second copy of its tokens, as 64-bit numbers. The
copy is small.
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
from benchmarks.timing import resident
from mtbert import environment
from mtbert.data.tokenizer import load_tokenizer
from mtbert.model import heads
from mtbert.model.config import read_config
from mtbert.model.download import find_encoder
from mtbert.model.weights import load_encoder
from mtbert.prepare import prepare

ROUNDS = 3


def main() -> None:
    """Prints the number of bytes and nothing else."""
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
        folder = find_encoder(recipe.model.path)
        data = prepare(recipe, load_tokenizer(folder))
        device = environment.device("auto")
        _ = transformers.BertModel  # the first access imports its module
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak, which importing has raised
        if chosen.side == "ours":
            stepper = assemble(recipe, load_encoder(recipe.model.path, dropout=recipe.model.dropout).encoder, data)
        else:
            rate = recipe.model.dropout or 0.0
            config = replace(read_config(folder / "config.json"), hidden_dropout=rate, attention_dropout=rate)
            built = {name: heads.build_head(d.task, config.width, recipe.train.seed) for name, d in data.items()}
            model = Plain(folder, config, recipe, built).to(device)
            stepper = PlainLoop(recipe, data, model, device, environment.precision("auto", device))
        for _ in range(ROUNDS * len(data)):
            stepper.step()
    if device.type == "cuda":
        print(torch.cuda.max_memory_allocated())
    else:
        print(resident("VmHWM") - before)


if __name__ == "__main__":
    main()
