"""Settings of all tests: one thread, no network, and a cache of their own.

With tiny tensors, one thread is ten times faster than several.
"""

import os
import time
from collections.abc import Callable

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start

import psutil
import pytest
import torch
from commands import mtbert, run_copy, said, toy  # noqa: F401 - fixtures of the tests of commands
from toy_hub import hub  # noqa: F401

torch.set_num_threads(1)

collect_ignore = ["old_model/make.py"]  # it runs only with the sources of an older version


# The scope is the session, because fixtures of a module, some of which train, are set up before those of a test.
@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTBERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _idle():
    """Hides other programs that use the cores, because commands would mention them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psutil, "getloadavg", lambda: (0.0, 0.0, 0.0))
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Replaces the clock by one that only moves when the returned function is called."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes
