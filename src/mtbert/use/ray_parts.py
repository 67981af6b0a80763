"""Answers many texts with Ray Data: actors, which are processes on a cluster, write the output files.

Each actor has a model of its own.

Every machine of the cluster must see the run, the input files and the output folder under the same paths.
"""

import logging
import os
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from mtbert.messages import clean, reason
from mtbert.use.making import Maker, PartPlan
from mtbert.use.part_files import InputFile

LOCAL = "local"
ALL = -1
RESTARTS = 2  # of a process that dies; Ray's default would start it again for ever


class PartActor:
    """A Ray actor with a process of its own. It answers rows of input files, and writes the answers to output files."""

    def __init__(self, plan: PartPlan) -> None:
        torch.set_num_threads(1)  # there is an actor for each core
        self._plan = plan

    @cached_property
    def _maker(self) -> Maker:
        """The maker of output files. It is created when the actor gets its first batch, not together with the actor.

        So :meth:`__call__` can return an error that occurs while the maker is created.
        """
        return self._plan.maker()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Makes output files, called parts, from one input file: all its parts, or only the one that ``batch`` names.

        The part number ``ALL`` stands for all parts. Returns the number of parts, the number of their rows, and the
        pickled error, or ``b""`` if there was none. An error is returned, not raised, because Ray would wrap a raised
        error, and the user would see another message than without Ray.
        """
        ((path,), (place,), (number,), (part,)) = (batch[key] for key in ("path", "place", "number", "part"))
        given = InputFile(Path(path), Path(place), int(number))
        rows = parts = 0
        raised = b""

        def tick(more: int, share: float) -> None:
            nonlocal rows
            rows += more

        try:
            self._maker.tick = tick
            for _ in self._maker.make(given, None if part == ALL else int(part), wait=True):
                parts += 1
        except Exception as error:
            raised = pickle.dumps(error)
        return {"parts": [parts], "rows": [rows], "error": [raised]}


def make_all(
    plan: PartPlan, maker: Maker, found: Sequence[InputFile], address: str, made: Callable[[int, int, float], None]
) -> None:
    """Makes the output files (parts) that do not exist yet. The work is done on a Ray cluster.

    Args:
        plan: What the processes on the cluster need to make parts.
        maker: Knows which parts are missing.
        found: The input files.
        address: The address of the cluster, or ``local``, which starts one on this machine.
        made: Called each time when the cluster has made some more parts. The arguments are the number of new parts, the
            number of rows in the new parts, and the share of all work that is done.

    Raises:
        ValueError: If Ray is not installed, if there is no cluster at the address, or if an input file cannot be used.
        ConnectionError: If a process of the cluster dies, for example because the system killed it for its memory.
        Exception: Any error that occurs while a part is made. The error is the same as in a command without Ray.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy
        from ray.exceptions import RayError
    except ImportError:
        raise ValueError("--ray: Ray is not installed. Run: pip install 'mtbert[ray]'") from None
    items = [
        {
            "path": str(given.path.absolute()),
            "place": str(given.place),
            "number": given.number,
            "part": ALL if part is None else part,
        }
        for given in found
        for part in maker.pending(given)
    ]
    if not items:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # on the terminal; Ray's files keep every line and traceback
            handler.setLevel(logging.CRITICAL)
    try:
        if address == LOCAL:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="warning")
        else:
            ray.init(address, log_to_driver=False, logging_level="warning")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"--ray {clean(address)}: no cluster answers ({reason(error)}). Give its address, or local."
        ) from None
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        on_gpu = ray.cluster_resources().get("GPU", 0) >= 1
        each = {"num_gpus": 1} if on_gpu else {"num_cpus": 1}
        actors = int(ray.cluster_resources()["GPU" if on_gpu else "CPU"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about the numbers of restarts, see pyproject.toml
            done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
                PartActor,
                fn_constructor_args=(replace(plan, run=Path(plan.run).absolute(), folder=plan.folder.absolute()),),
                batch_size=1,
                compute=ActorPoolStrategy(size=min(actors, len(items))),
                max_restarts=RESTARTS,
                max_task_retries=RESTARTS,
                **each,
            )
        for number, row in enumerate(done.iter_rows()):
            if row["error"]:
                raise pickle.loads(row["error"])  # of our own actor; Ray itself unpickles all that its actors send
            made(row["parts"], row["rows"], (number + 1) / len(items))
    except RayError as error:
        raise ConnectionError(
            f"--ray {clean(address)}: a process of the cluster died ({reason(error)}). If memory ran out, give Ray "
            "fewer CPUs. Run the command again: finished parts are kept."
        ) from None
    finally:
        ray.shutdown()
