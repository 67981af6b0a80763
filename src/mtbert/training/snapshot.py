"""Saving and restoring the state of a run: everything that the next step needs in addition to the model folder.

The model folder holds the weights with which the run predicts. In most runs, these are also the weights that the run
trains, so the state does not repeat them. In a run that averages weights or uses LoRA, the trained weights are not in
the model folder, so the state holds them.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from mtbert.storage import run_state
from mtbert.storage.run_state import RunState, Values
from mtbert.training.best import BestSoFar
from mtbert.training.run import Run


def snapshot(run: Run) -> RunState:
    """Returns everything that the next step of ``run`` needs, except the weights of ``run.predictor``.

    These weights, with which the run predicts, are saved separately, as a model folder.
    """
    tensors = _tensors(run) | {
        f"optimizer.{i}.{key}": value
        for i, entry in run.optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }
    return RunState(
        values=Values(
            done=run.done,
            taken=tuple(run.taken),
            evaluated=run.evaluated,
            best=run.best.score if math.isfinite(run.best.score) else None,
            stale=run.best.since,
            sure=run.best.sure if math.isfinite(run.best.sure) else None,
            conflicting=run.conflicting,
            generator=run_state.generator_state(run.generator),
            tensors=len(tensors),
        ),
        tensors=tensors,
    )


def restore(run: Run, state: RunState) -> None:
    """Puts ``run`` into a state that :func:`snapshot` returned.

    The weights of ``run.predictor``, with which the run predicts, must be loaded separately.

    Raises:
        ValueError: If the state does not fit this run; the message names the file in ``last/`` and the value.
    """
    values, tensors = state.values, _without_unread(run, state.tensors)
    joint = run.recipe.train.mode == "joint"
    with _named(run_state.VALUES):
        run_state.check_values(values, run.plan.steps, len(run.streams), joint)
        run_state.set_generator_state(run.generator, values.generator)
    with _named(run_state.TENSORS):
        moments = _moments(run, tensors)
    run.done, run.taken, run.evaluated = values.done, list(values.taken), values.evaluated
    score, sure = (-math.inf if number is None else number for number in (values.best, values.sure))
    run.best = BestSoFar(score, values.stale, sure)
    run.conflicting = values.conflicting
    for name, module in _modules(run).items():
        prefix = f"{name}."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _moments(run: Run, tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Checks all tensors of a saved state, and returns Adam's moments, keyed by the index of their parameter.

    A parameter that has never had a gradient has no moments.
    """
    expected = _tensors(run)
    moments = {}
    for i, parameter in enumerate(p for group in run.optimizer.param_groups for p in group["params"]):
        entry = {"step": torch.tensor(0.0), "exp_avg": parameter, "exp_avg_sq": parameter}
        if any(f"optimizer.{i}.{key}" in tensors for key in entry):
            expected |= {f"optimizer.{i}.{key}": tensor for key, tensor in entry.items()}
            moments[i] = {key: tensors.get(f"optimizer.{i}.{key}", tensor) for key, tensor in entry.items()}
    run_state.check_tensors(tensors, expected)
    return moments


def _without_unread(run: Run, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns ``tensors`` without thresholds that no head of ``run`` has. Older versions saved these thresholds."""
    known = _tensors(run)
    return {name: tensor for name, tensor in tensors.items() if name in known or not name.endswith(".threshold")}


def _tensors(run: Run) -> dict[str, Tensor]:
    """Returns a dict of named tensors that must be saved in addition to a model, so that a run can be resumed.

    Adam's moments must be saved too, but the dict does not contain them.
    """
    return {f"{n}.{key}": value for n, module in _modules(run).items() for key, value in module.state_dict().items()}


def _modules(run: Run) -> dict[str, torch.nn.Module]:
    """Returns a dict with the modules whose weights are saved beside the model folder, so that a run can be resumed.

    The dict has up to three keys:

    - ``own``: the weights that belong to losses.
    - ``average``: the model with averaged weights. Only if the run averages weights.
    - ``model``: the model that is trained. Only if the run averages weights or uses LoRA.
    """
    modules: dict[str, torch.nn.Module] = {"own": run.objective.own}
    if run.ema is not None:
        modules["average"] = run.ema
    # A saved model holds the averaged weights, or plain weights in place of low-rank changes.
    if run.ema is not None or run.recipe.model.lora is not None:
        modules["model"] = run.model
    return modules


@contextmanager
def _named(file: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
