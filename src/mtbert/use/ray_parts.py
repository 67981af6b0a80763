"""Making parts on Ray Data: actors on a cluster make them, each with a model of its own.

Every machine of the cluster must see the run, the input files and the output folder under the same paths.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mtbert.messages import clean, reason
from mtbert.use.making import Maker, Plan
from mtbert.use.part_files import InputFile

LOCAL = "local"


@dataclass(frozen=True)
class Item:
    """The work of one call of an actor: one part of an input file, or all of them if ``part`` is None."""

    given: InputFile
    part: int | None


class PartActor:
    """Makes parts in a process of its own. Ray calls it with one item at a time."""

    def __init__(self, plan: Plan) -> None:
        torch.set_num_threads(1)  # there is an actor for each core
        self._maker = plan.maker()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Makes the part or parts of the item in ``batch``. Returns how many parts and rows that was."""
        (item,) = batch["item"]
        rows = parts = 0

        def tick(number: int, share: float) -> None:
            nonlocal rows
            rows += number

        self._maker.tick = tick
        for _ in self._maker.make(item.given, item.part, wait=True):
            parts += 1
        return {"parts": [parts], "rows": [rows]}


def make_all(
    plan: Plan, maker: Maker, found: Sequence[InputFile], address: str, made: Callable[[int, int], None]
) -> None:
    """Makes the missing parts of all input files on a Ray cluster.

    Args:
        plan: What the actors do.
        maker: Knows which parts are missing.
        found: The input files.
        address: The address of the cluster, or ``local``, which starts one on this machine.
        made: Called after each item with its number of parts and of rows.

    Raises:
        ValueError: If Ray is not installed, if there is no cluster at the address, or if an input file cannot be used.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy
    except ImportError:
        raise ValueError("--ray: Ray is not installed. Run: pip install 'mtbert[ray]'") from None
    there = [replace(given, path=given.path.absolute()) for given in found]
    items = [{"item": Item(given, part)} for given in there for part in maker.pending(given)]
    if not items:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if address == LOCAL:
            ray.init(include_dashboard=False, log_to_driver=False)
        else:
            ray.init(address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"--ray {clean(address)}: no cluster answers ({reason(error)}). Give its address, or local."
        ) from None
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        on_gpu = ray.cluster_resources().get("GPU", 0) >= 1
        each = {"num_gpus": 1} if on_gpu else {"num_cpus": 1}
        actors = int(ray.cluster_resources()["GPU" if on_gpu else "CPU"])
        done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            PartActor,
            fn_constructor_args=(replace(plan, run=Path(plan.run).absolute(), folder=plan.folder.absolute()),),
            batch_size=1,
            compute=ActorPoolStrategy(size=min(actors, len(items))),
            **each,
        )
        for row in done.iter_rows():
            made(row["parts"], row["rows"])
    except ray.exceptions.RayTaskError as error:
        raise _own(error) from None
    finally:
        ray.shutdown()


def _own(error: Any) -> BaseException:
    """Returns the error that an actor raised."""
    cause = error
    while getattr(cause, "cause", None) is not None:
        cause = cause.cause
    return cause if isinstance(cause, BaseException) else ValueError(reason(error))
