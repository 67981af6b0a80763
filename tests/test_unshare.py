"""Tasks with their own top layers, against plain models that share the lower layers by hand.

Dimension key: M tokens, S sequences, D width.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tiny import CPU, dataset, model
from torch.testing import assert_close
from toy_passes import PLAIN, gradients, passed

from mtbert.batch import Dataset, Example, Examples, StepBatch
from mtbert.collate import collate
from mtbert.losses import Pass
from mtbert.losses.smart import Smart
from mtbert.model.freeze import freeze
from mtbert.model.model import Model
from mtbert.model.settings import Pal
from mtbert.scoring import predict_together
from mtbert.task import Task
from mtbert.training.optim import factors

LAYERS = 3
FIRST = Task(name="first", type="ordinal", inputs="single", labels=("a", "b", "c"), head=PLAIN)
MEAN = Task(name="mean", type="regression", inputs="single", range=(0, 1), head=PLAIN, pooling="mean")
PAIR = Task(name="pair", type="regression", inputs="separate", range=(0, 1), head=PLAIN, pooling="mean")
PAL = Pal(width=4, heads=2, dropout=0.0, tasks=("first",))
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def unshared(*tasks: Task, unshare: int, adapters: Pal | None = None, dropout: float = 0.0) -> Model:
    """Returns a model in float64 in which each task's copy of the top layers has moved away from the others."""
    made = model(*tasks, layers=LAYERS, unshare=unshare, adapters=adapters, dropout=dropout).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in [*made.tops.parameters(), *made.adapters.parameters(), *made.heads.parameters()]:
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return made


def plain_of(made: Model, name: str) -> Model:
    """Returns a plain model of one task: the shared lower layers of ``made``, and the task's copy of those above."""
    adapters = made.pal if made.adapted(name) else None
    plain = model(made.tasks[name], layers=LAYERS, adapters=adapters).double()
    plain.load_state_dict({ours: made.state_dict()[theirs] for ours, theirs in places(made, plain, name).items()})
    return plain


def places(made: Model, plain: Model, name: str) -> dict[str, str]:
    """Returns a dict from the name of each parameter in ``plain`` to the name of the same parameter in ``made``."""
    found = {}
    for ours in plain.state_dict():
        part = ours.removeprefix("encoder.")
        layer = int(part.split(".")[1]) if part.startswith("layers.") else None
        lower = LAYERS - made.unshare
        if ours == part or not made.unshare:
            found[ours] = ours
        elif layer is not None and layer >= lower:
            found[ours] = f"tops.for_{name}.layers.{layer - lower}.{part.split('.', 2)[2]}"
        else:
            found[ours] = f"tops.for_{name}.{part}" if part.startswith(("pooler", "final_norm")) else ours
    return found


def table(*tasks: Task) -> list[Dataset]:
    """Returns data sets over one table of six rows; each task but the first has labels in some rows only."""
    whole = dataset(tasks[0], [7, 2, 5, 3, 9, 1], labels=[0.0] * 6)
    found = [whole]
    for task, rows in zip(tasks[1:], ([5, 1, 4], [2, 0]), strict=False):
        rows = sorted(rows)
        examples = Examples.of(Example(f"a{row}", ("x",), 0.5) for row in rows)
        found.append(Dataset(task, examples, whole.sequences, np.array(rows)))
    return found


def batch_of(data: Sequence[Dataset], made: Model) -> StepBatch:
    return collate([(one, np.arange(len(one))[::-1].copy()) for one in data], CPU, made.apart)


def passes(made: Model, batch: StepBatch) -> dict[str, Pass]:
    return {name: passed(made, batch, name=name) for name in made.tasks}


def own_data(*tasks: Task) -> list[Dataset]:
    """Returns data sets with tokens of their own."""
    return [
        dataset(
            task, *[[4, 1, 6 + t + i] for t in range(1 + (task.inputs == "separate"))], labels=[0.5, 0.0, 1.0], seed=i
        )
        for i, task in enumerate(tasks)
    ]


@pytest.mark.parametrize("unshare", [1, 2, LAYERS])
@pytest.mark.parametrize("adapters", [None, PAL], ids=["", "pal"])
@pytest.mark.parametrize("shared", [False, True], ids=["files", "table"])
def test_losses_and_gradients_equal_those_of_plain_models_that_share_their_lower_layers(
    unshare: int, adapters: Pal | None, shared: bool
):
    tasks = (FIRST, MEAN) if shared else (FIRST, MEAN, PAIR)
    made = unshared(*tasks, unshare=unshare, adapters=adapters)
    data = table(*tasks) if shared else own_data(*tasks)
    smart = Smart(weight=1.0, step_size=0.5, noise_std=0.1, mode="paper", radius=0.1)
    total, expected = torch.zeros(()).double(), {}
    found_passes = passes(made, batch_of(data, made))
    for one in data:
        name = one.task.name
        plain = plain_of(made, name)
        (theirs,) = passes(plain, batch_of([one], plain)).values()
        ours = found_passes[name]
        assert_close(ours.out.prediction, theirs.out.prediction, **EXACT)
        assert_close(ours.out.first_SD, theirs.out.first_SD, **EXACT)
        losses = [p.out.prediction.square().mean() + smart(p) for p in (ours, theirs)]  # SMART makes more passes
        assert_close(losses[0], losses[1], **EXACT)
        assert smart(ours) > 1e-5
        total = total + losses[0]
        where = places(made, plain, name)
        for parameter, gradient in gradients(losses[1], plain).items():
            expected[where[parameter]] = expected.get(where[parameter], 0) + gradient
    found = gradients(total, made)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_close(found[name], gradient, **EXACT, msg=name)
    trained = {name for name, parameter in made.named_parameters() if parameter.requires_grad}
    assert found.keys() <= trained
    lower = {f"encoder.layers.{i}" for i in range(LAYERS - unshare)}
    assert {".".join(n.split(".")[:3]) for n in trained if n.startswith("encoder.layers")} == lower


def test_copies_start_as_the_layers_of_the_encoder_and_a_model_without_them_has_none():
    shared, own = model(FIRST, MEAN, layers=LAYERS), model(FIRST, MEAN, layers=LAYERS, unshare=2)
    assert len(shared.tops) == 0
    assert all(p.requires_grad for p in shared.parameters())
    assert [name for name, _ in shared.named_parameters()] == [
        name for name, _ in own.named_parameters() if not name.startswith("tops.")
    ]
    batch = batch_of(table(FIRST, MEAN), own)
    for name in ("first", "mean"):
        assert_close(own(batch)[name].prediction, shared(batch)[name].prediction, rtol=1e-5, atol=1e-6)
    first, mean = (dict(own.tops[f"for_{name}"].named_parameters()) for name in ("first", "mean"))
    assert all(torch.equal(first[name], mean[name]) and first[name] is not mean[name] for name in first)
    assert {name.partition(".")[0] for name in first} == {"layers", "pooler"}


class Rows:
    """Records the number of rows that modules get."""

    def __init__(self, made: Model) -> None:
        self.seen: dict[str, list[int]] = {}
        for name, module in made.named_modules():
            if name.endswith(("qkv", "output", "pooler")):
                module.register_forward_hook(lambda _, given, out, n=name: self.seen.setdefault(n, []).append(len(out)))


def test_lower_layers_run_once_for_all_tasks_of_a_table_and_top_layers_once_for_each():
    made = unshared(FIRST, MEAN, unshare=1)
    rows = Rows(made)
    made(batch_of(table(FIRST, MEAN), made))
    assert rows.seen["encoder.layers.0.qkv"] == rows.seen["encoder.layers.1.output"] == [27]
    assert rows.seen["tops.for_first.layers.0.qkv"] == [27]
    assert rows.seen["tops.for_first.layers.0.output"] == [6]  # first tokens alone
    assert rows.seen["tops.for_mean.layers.0.qkv"] == rows.seen["tops.for_mean.layers.0.output"] == [12]
    assert rows.seen["tops.for_first.pooler"] == [6]
    assert not {"encoder.layers.2.qkv", "encoder.pooler", "tops.for_mean.pooler"} & rows.seen.keys()
    rows.seen.clear()
    together = predict_together(made, table(FIRST, MEAN))
    assert rows.seen["encoder.layers.0.qkv"] == [27]
    for one in table(FIRST, MEAN):
        assert_close(together[one.task.name], predict_together(made, [one])[one.task.name])


def test_every_top_draws_dropout_masks_and_a_pass_of_one_task_repeats_them():
    made = unshared(FIRST, MEAN, unshare=LAYERS, dropout=0.5)  # so no layer below a top draws masks
    for one in table(FIRST, MEAN):
        name = one.task.name
        batch = batch_of([one], made)
        p = passed(made, batch, name=name)
        assert p.repeats
        again = p.finish(p.out.embeddings_MD, p.twin())
        assert torch.equal(again.prediction, p.out.prediction)
        quiet = p.finish(p.out.embeddings_MD, None)
        assert not torch.allclose(quiet.prediction, p.out.prediction)


def test_a_copy_has_the_learning_rate_of_its_layer_and_is_frozen_as_its_layer_would_be():
    made = unshared(FIRST, MEAN, unshare=2)
    rates = {name: factors(made, 0.5).get(parameter) for name, parameter in made.named_parameters()}
    for name in ("first", "mean"):
        assert rates[f"tops.for_{name}.layers.0.qkv.weight"] == 0.5
        assert rates[f"tops.for_{name}.layers.1.qkv.weight"] == rates[f"tops.for_{name}.pooler.weight"] == 1.0
    assert rates["encoder.layers.0.output.bias"] == 0.25
    assert rates["encoder.word_embedding.weight"] == 0.125
    assert rates["encoder.layers.1.output.bias"] is rates["encoder.pooler.bias"] is None

    encoder = model(FIRST, layers=LAYERS).encoder
    freeze(encoder, 2)
    frozen = Model(encoder, {"first": FIRST, "mean": MEAN}, pooling="cls", max_length=9, seed=0, unshare=2)
    for name in ("first", "mean"):
        lower, upper = frozen.tops[f"for_{name}"].layers
        assert not any(p.requires_grad for p in lower.parameters())
        assert all(p.requires_grad for p in [*upper.parameters(), *frozen.tops[f"for_{name}"].pooler.parameters()])
    assert not any(p.requires_grad for p in frozen.encoder.parameters())


def test_parameters_that_every_token_is_multiplied_with_are_the_lower_layers_and_the_mean_top():
    # A layer has 600 parameters; with first tokens alone, the last layer applies 216 of them to every token.
    assert model(FIRST, MEAN, layers=LAYERS, unshare=2).multiplied == 600 + (600 + 216 + 600 + 600) // 2
    assert model(FIRST, FIRST.model_copy(update={"name": "b"}), layers=LAYERS, unshare=LAYERS).multiplied == 1416


def test_in_bfloat16_top_layers_run_on_rounded_shapes_and_give_the_same_numbers():
    made = unshared(FIRST, MEAN, unshare=2, adapters=PAL).float()
    made.compute = torch.bfloat16
    data = table(FIRST, MEAN)
    found = made(batch_of(data, made))
    for one in data:
        plain = plain_of(made, one.task.name).float()
        plain.compute = torch.bfloat16
        (expected,) = plain(batch_of([one], plain)).values()
        assert_close(found[one.task.name].vectors[0].float(), expected.vectors[0].float(), rtol=0.02, atol=0.02)
