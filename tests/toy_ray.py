"""A stand-in for Ray, which is not installed with the tests: actors run in this process, one after the other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest


class RayError(Exception):
    """Stands for ``ray.exceptions.RayError``, which Ray raises if a process of the cluster dies."""


class Dataset:
    """Stands for ``ray.data.Dataset``: its items are given to one actor, one item at a time."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items

    def map_batches(self, kind: Callable[..., Any], *, fn_constructor_args: tuple[Any, ...], **given: Any) -> Dataset:
        assert given["batch_size"] == 1
        # Without these, Ray would start an actor that dies again for ever.
        assert given["max_restarts"] == given["max_task_retries"] == 2
        self.actor = kind(*fn_constructor_args)
        return self

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        for item in self.items:
            found = self.actor({key: [value] for key, value in item.items()})
            yield {key: values[0] for key, values in found.items()}


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets ``import ray`` find the stand-in."""
    ray: Any = ModuleType("ray")
    ray.data, ray.exceptions = ModuleType("ray.data"), ModuleType("ray.exceptions")
    ray.init = lambda *_, **__: None
    ray.shutdown = lambda: None
    ray.cluster_resources = lambda: {"CPU": 2.0}
    ray.exceptions.RayError = RayError
    ray.data.ActorPoolStrategy = lambda size: size
    ray.data.DataContext = type("DataContext", (), {"get_current": staticmethod(lambda: ModuleType("context"))})
    ray.data.from_items = lambda items, override_num_blocks: Dataset(items)
    for name, module in (("ray", ray), ("ray.data", ray.data), ("ray.exceptions", ray.exceptions)):
        monkeypatch.setitem(sys.modules, name, module)
