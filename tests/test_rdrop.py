"""R-Drop: half the divergence from a second pass with other dropout masks.

Dimension key: B examples, K classes, M tokens, D width, L tokens of a sequence.
"""

import pytest
import torch
from toy_passes import OTHER, TASKS, assert_same, batch_of, examples, loud, passed, slow_divergence

from mtbert.losses.rdrop import RDrop


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("kind", TASKS)
def test_rdrop_is_half_the_mean_divergence_from_a_second_pass_with_its_own_masks(kind: str, joint: bool):
    task = TASKS[kind]
    made, alone = loud(task, OTHER, dropout=0.1), batch_of(examples(task))
    batch = batch_of(examples(OTHER), examples(task)) if joint else alone
    p = passed(made, batch)
    twin = torch.Generator()
    twin.set_state(p.generator.get_state())
    again = made(alone, twin)["t"].prediction
    parts = [slow_divergence(task, a, b, detached=False) for a, b in zip(p.out.prediction, again, strict=True)]
    assert_same(RDrop()(p), torch.stack(parts).mean() / 2, made, 1e-4 if "cosine" in kind else 1e-9)


def test_rdrop_is_0_without_dropout():
    made, batch = loud(TASKS["ordinal"]), batch_of(examples(TASKS["ordinal"]))
    assert RDrop()(passed(made, batch)).item() == 0.0
