"""Tiny tensors are ten times faster on one thread; no test may reach for the network, or the user's cache folder."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start

import pytest
import torch
from commands import mtbert, run_copy, toy  # noqa: F401 - fixtures of the tests of commands

torch.set_num_threads(1)

collect_ignore = ["old_model/make.py"]  # only the sources of an older version can import it


# Of the session: fixtures of a module that train are set up before those of a single test.
@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTBERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
