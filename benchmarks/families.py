"""Measures encoders of every family against ``transformers``, which gets the same rows in padded batches.

    python -m benchmarks.families                                every family, on generated sentences
    python -m benchmarks.families --family mpnet --data FOLDER   one of them, on the files of CS224N

All encoders have random weights and the same shape: 6 layers, 384 wide, and a small vocabulary, so that the layers take
nearly all of the time. A step is a joint training step of the three tasks (8, 16 and 8 rows), as in the row ``joint``.
Answers are one forward pass without gradients for 32 rows of each task. Matrices are multiplied in the precision
``auto``, and transformers chooses its attention: "sdpa" if the family has it, or else "eager". Before any timing, both
sides must agree on losses, gradient norms and predictions, in float32 without dropout.

The families are also rows of :mod:`benchmarks.bench`.
"""

import argparse
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from benchmarks.plain import PlainLoop
from benchmarks.report import Row, compared
from benchmarks.sides import GOALS, Settings, contest, write_random_encoder
from benchmarks.tables import line
from benchmarks.timing import paired, timed
from mtbert.collate import collate
from mtbert.data.tokenizer import load_tokenizer
from mtbert.model.download import find_encoder
from mtbert.model.families.known import FAMILIES

ANSWERED = 32  # rows of each task in a pass that answers


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder, whatever its family."""

    width: int = 384
    layers: int = 6
    heads: int = 12
    positions: int = 512
    vocabulary: int = 5000

    def config(self, family: str) -> dict[str, Any]:
        """Returns the ``config.json`` of an encoder: the keys of BERT, and those that ``family`` has instead."""
        intermediate = 4 * self.width
        (model_type, *_) = FAMILIES[family].types
        keys = {
            "model_type": model_type,
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": intermediate,
            "max_position_embeddings": self.positions,
            "pad_token_id": 0,
        }
        gated = {"intermediate_size": 2 * intermediate // 3}  # three matrices with as many weights as two
        others: Mapping[str, Mapping[str, Any]] = {
            "deberta-v2": {
                "max_relative_positions": -1,
                "norm_rel_ebd": "layer_norm",
                "pos_att_type": ["p2c", "c2p"],
                "position_biased_input": False,
                "position_buckets": self.positions // 2,
                "relative_attention": True,
                "share_att_key": True,
                "type_vocab_size": 0,
            },
            "distilbert": {
                "dim": self.width,
                "hidden_dim": intermediate,
                "n_heads": self.heads,
                "n_layers": self.layers,
            },
            "electra": {"embedding_size": self.width},
            **dict.fromkeys(("gte", "modernbert", "nomic_bert"), gated),
            "mpnet": {"max_position_embeddings": self.positions + 2},
            "roberta": {"max_position_embeddings": self.positions + 1},
        }
        return {**keys, **others.get(family, {})}


def family_group(name: str, shape: Shape = Shape()) -> Callable[[Settings], Iterator[Row]]:
    """Returns the function that measures the two rows of a family, for an encoder of the given shape."""
    return partial(_family, name, shape)


def _family(name: str, shape: Shape, s: Settings) -> Iterator[Row]:
    own = replace(s, encoder=str(_encoder(s, name, shape)))
    yield contest(own, f"{name}/step", PlainLoop.of, "train.mode=joint")
    yield _answers(own, f"{name}/answers")


def _encoder(s: Settings, name: str, shape: Shape) -> Path:
    """Returns the folder of a new encoder, with MiniLM's tokenizer without the pieces that it has no embedding for."""
    folder = s.work / name
    write_random_encoder(folder, shape.config(name))
    tokenizer = json.loads(load_tokenizer(find_encoder(s.small)).to_str())
    pieces = tokenizer["model"]["vocab"].items()
    tokenizer["model"]["vocab"] = {piece: number for piece, number in pieces if number < shape.vocabulary}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def _answers(s: Settings, row: str) -> Row:
    """Returns the row that compares a forward pass without gradients for all tasks with one padded pass for each."""
    run = s.run("paper/base")
    loop = PlainLoop.of(run)
    run.model.eval()
    loop.model.eval()
    with torch.no_grad():
        for name in run.data:  # with new weights, all rows would get nearly the same prediction
            head = run.model.head(name).layers[-1]
            for linear in (head, loop.model.heads[f"for_{name}"][-1]):
                linear.weight.mul_(10)
    rows = {name: np.arange(min(ANSWERED, len(data.train))) for name, data in run.data.items()}

    def ours() -> list[Tensor]:
        with torch.inference_mode():
            batch = collate([(run.data[name].train, chosen) for name, chosen in rows.items()], run.device)
            found = run.model(batch)
            return [found[name].prediction for name in rows]

    def theirs() -> list[Tensor]:
        found = []
        with torch.inference_mode(), loop.autocast():
            for name, chosen in rows.items():
                inputs = loop.batch(name, chosen.tolist())
                del inputs["labels"]
                found.append(loop.model.predict(name, loop.model.vectors(**inputs)))
        return found

    compute = run.model.compute
    run.model.compute = loop.compute = torch.float32
    difference = max(float((a - b).abs().max()) for a, b in zip(ours(), theirs(), strict=True))
    if difference > 1e-4:
        raise ValueError(f"{row}: predictions differ by {difference:.2g}: not comparable.")
    run.model.compute = loop.compute = compute
    note = f"{ANSWERED} rows of each task; their attention: {loop.model.encoder.config._attn_implementation}"
    return compared(row, GOALS[row], paired(timed(ours), timed(theirs), s.pairs), note=note)


def main() -> None:
    """Prints a table in Markdown: milliseconds of both sides, and how many times faster mtbert is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", action="append", choices=list(FAMILIES), help="this one; may be repeated")
    parser.add_argument("--pairs", type=int, default=7, help="of measurements, ours and theirs (default: 7)")
    parser.add_argument("--data", help="folder of the CS224N files (default: generated sentences)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")  # of packages about other packages
    sides = ("mtbert", "transformers", "ratio", "spread")
    print(line(["family", *(f"{what}: {side}" for what in ("step", "answers") for side in sides), "their attention"]))
    print(line(["---"] * (2 + 2 * len(sides))))
    for name in chosen.family or FAMILIES:
        with TemporaryDirectory() as work:
            os.environ["MTBERT_CACHE"] = str(Path(work) / "cache")
            settings = Settings(work=Path(work), pairs=chosen.pairs, data=chosen.data, threads=chosen.threads)
            step, answers = family_group(name)(settings)
        cells = [cell for row in (step, answers) for cell in _cells(row)]
        print(line([name, *cells, answers.note.split()[-1]]), flush=True)


def _cells(row: Row) -> list[str]:
    return [f"{row.ours:.0f} ms", f"{row.theirs:.0f} ms", f"{row.ratio:.2f}", f"{row.spread:.2f}"]


if __name__ == "__main__":
    main()
