"""The rows of training: rounds of steps against other loops, and techniques against training without them."""

from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from benchmarks.plain import PlainLoop, SmartLoop, TorchJDLoop, TrainerLoop
from benchmarks.report import Row, compared
from benchmarks.sides import GOALS, Rounds, Settings, Told, check, contest, steps_of, technique
from benchmarks.timing import paired
from mtbert.collate import collate
from mtbert.model.download import find_encoder
from mtbert.training.run import Run


def alternating(s: Settings) -> Iterator[Row]:
    """Yields the row that compares rounds of three optimizer steps with those of the plain padded loop."""
    yield contest(s, "alternating", PlainLoop.of, note="a round is 3 optimizer steps of 8 sst, 16 quora, 8 sts")


def trainer(s: Settings) -> Iterator[Row]:
    """Yields the row that compares rounds of three optimizer steps with the steps of ``transformers.Trainer``."""
    yield contest(s, "trainer", lambda run: _trainer(s, run), note=TRAINER_NOTE)


def alternating_base(s: Settings) -> Iterator[Row]:
    """Yields the rows of :func:`alternating` and :func:`trainer` for an encoder of BERT-base's shape."""
    yield contest(s, "alternating-base/loop", PlainLoop.of, base=True)
    yield contest(s, "alternating-base/trainer", lambda run: _trainer(s, run), base=True, note=TRAINER_NOTE)


TRAINER_NOTE = (
    "Trainer's collator, training_step, clipping and optimizer; without its data loader, callbacks, schedule and "
    "logging, which would take more time. float32, its default, on any machine"
)


def _trainer(s: Settings, run: Run) -> TrainerLoop:
    return TrainerLoop(run, find_encoder(run.recipe.model.path), s.work / "trainer")


def joint(s: Settings) -> Iterator[Row]:
    """Yields the row that compares joint steps of all three tasks with a plain loop that adds up three gradients."""
    yield contest(s, "joint", PlainLoop.of, "train.mode=joint")


def smart(s: Settings) -> Iterator[Row]:
    """Yields the rows that compare SMART on all tasks with training without it, and with smart-pytorch."""
    yield technique(s, "smart/plain", "paper/smart", note="ours against ours, rounds of 3 steps")
    bare = s.exact("paper/smart")
    check(bare, SameNoise(bare, SmartLoop.of(bare)), bare.plan.steps_per_round)
    del bare
    run = s.run("paper/smart")
    ours = Rounds(run)
    pairs = paired(ours, steps_of(SmartLoop.of(run), run.plan.steps_per_round), s.pairs)
    note = "theirs is the plain padded loop; SMART's value and gradient checked for equal noise"
    yield compared("smart/smart-pytorch", GOALS["smart/smart-pytorch"], pairs, note=note)


class SameNoise:
    """Makes smart-pytorch start from the noise that ``run`` will draw in its next step."""

    def __init__(self, run: Run, loop: SmartLoop) -> None:
        self.run, self.loop = run, loop

    def step(self) -> Told:
        run, turn = self.run, self.loop.done % len(self.run.streams)
        stream, draws = run.streams[turn], torch.Generator(run.device)
        draws.set_state(run.generator.get_state())
        batch = collate([(run.data[stream.name].train, stream.rows(run.taken[turn]))], run.device)

        def randn_like(x_BLD: Tensor, requires_grad: bool) -> Tensor:
            noise_MD = torch.randn(batch.layout.offsets[-1], x_BLD.shape[-1], generator=draws, device=run.device)
            sorted_by_length = noise_MD.split(np.diff(batch.layout.offsets).tolist())
            pieces = [sorted_by_length[i] for i in batch.places[stream.name].order_S.tolist()]
            return pad_sequence(pieces, batch_first=True).requires_grad_(requires_grad)

        with patch.object(torch, "randn_like", randn_like):
            return self.loop.step()


def surgery(s: Settings) -> Iterator[Row]:
    """Yields the rows that compare PCGrad in joint steps with plain addition, and with torchjd's PCGrad."""
    from torchjd import aggregation

    mode, pcgrad = "train.mode=joint", "train.aggregation=pcgrad"
    yield technique(s, "surgery/joint", "paper/base", mode, pcgrad, against=[mode], note="ours against ours")

    # torchjd differentiates all losses at once or one after another; the faster way that works is compared with.
    seconds: dict[int | None, float] = {}
    for chunk in (None, 1):
        try:
            check(s.exact("paper/base", mode), TorchJDLoop(s.exact("paper/base", mode), aggregation.Sum(), chunk))
            loop = TorchJDLoop(s.run("paper/base", mode), aggregation.PCGrad(), chunk)
            loop.step()
            seconds[chunk] = steps_of(loop, 2)()
        except RuntimeError:  # raised by vmap, which cannot differentiate everything
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
    """Yields the row that compares training with projected attention layers and without, in BERT-base's shape."""
    yield technique(s, "pal", "paper/pal", base=True, note="ours against ours, rounds of 3 steps")
