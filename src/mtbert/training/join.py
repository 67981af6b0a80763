"""Several processes of one run: the first one starts or resumes it, and the others join it.

The first process reads and writes the run's folder, and loads the encoder. The others need only the data that the
recipe names: they get the recipe, the tokenizer, the weights and the state of the run from the first process.
"""

import warnings
from pathlib import Path

import torch
from rich.console import Console

from mtbert.environment import ENVIRONMENT_FILE, read_record
from mtbert.messages import MtbertWarning
from mtbert.processes import Processes
from mtbert.recipe.files import RECIPE_FILE
from mtbert.recipe.identity import same_settings
from mtbert.recipe.settings import Recipe
from mtbert.scores import Scores
from mtbert.storage.run_state import RunState
from mtbert.training import session
from mtbert.training.agreement import check_same_start
from mtbert.training.assemble import assemble
from mtbert.training.run import Run
from mtbert.training.snapshot import restore, snapshot

MODEL = "trained."  # prefix of the model's tensors, beside those of the run state


def call_others(recipe: Recipe, out: Path, processes: Processes) -> None:
    """Tells the other processes which run to join, so that they can prepare it. Only the first process calls this.

    Raises:
        ValueError: If the setting ``train.shards`` is not a multiple of the number of processes.
    """
    processes.check(recipe.train.shards)
    processes.from_first((recipe, out))


def join_run(processes: Processes) -> tuple[Path, Scores]:
    """Trains a run together with the first process. Returns the run's folder, and the scores of its best model on dev.

    Raises:
        ValueError, FileNotFoundError: If the data cannot be read here, or differ from those of the first process, or if
            this process would compute differently.
    """
    recipe, out = processes.from_first((None, None))
    assert isinstance(recipe, Recipe)
    assert isinstance(out, Path)
    made = assemble(recipe, processes=processes)
    run = made.run(processes)
    share_state(run, made.digests)
    silent = Console(quiet=True)
    with warnings.catch_warnings(action="ignore", category=MtbertWarning):  # the first process warns
        return out, session.lead(run, made.tokenizer, out, silent, profile=False, track=None, notes=())


def continues(out: Path, recipe: Recipe, processes: Processes) -> bool:
    """Returns whether ``out`` has a run of ``recipe`` that these processes began before ``torchrun`` restarted them."""
    return (
        processes.restarted
        and all((out / name).is_file() for name in (RECIPE_FILE, ENVIRONMENT_FILE))
        and read_record(out / ENVIRONMENT_FILE).launch == processes.launch
        and same_settings(out / RECIPE_FILE, recipe)
    )


def share_state(run: Run, digests: dict[str, str]) -> None:
    """Gives all processes the weights, the state and the number of threads of the first process.

    ``digests`` holds the SHA-256 of each data source.

    Raises:
        ValueError: If this process has other data, another device, another precision or other package versions than the
            first process.
    """
    if run.processes.size == 1:
        return
    check_same_start(run, digests)
    state = snapshot(run)
    threads, values = run.processes.from_first((torch.get_num_threads(), state.values))
    weights = {f"{MODEL}{name}": tensor for name, tensor in run.model.state_dict().items()}
    tensors = run.processes.tensors_from_first(weights | state.tensors)
    if run.processes.first:
        return
    torch.set_num_threads(threads)
    run.model.load_state_dict({name.removeprefix(MODEL): tensors.pop(name) for name in weights})
    restore(run, RunState(values, tensors))
