"""Gradients that two processes exchange through shared memory, or without it, have the same sums."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_run
from test_processes import RECIPES, run_of, steps
from toy_processes import in_processes

from mtbert.processes import Processes
from mtbert.training import exchange, shared_memory
from mtbert.training.exchange import Exchange
from mtbert.training.shards import Sums

folder = toy_run.shared_folder
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["surgery", "alternating"])
def test_shared_memory_gives_the_same_bits(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(exchange, "WORTH_SHARING", 1)
    (alone,) = in_processes(1, lambda together: steps(run_of(folder, together, RECIPES[name])))

    def work(together: Processes) -> tuple[Any, bool]:
        run = run_of(folder, together, RECIPES[name])
        found = steps(run)
        shared = run.exchange._shared
        return found, set(shared) == set(together.partners) and None not in shared.values()

    for size in (2, 4):
        assert in_processes(size, work) == [(alone, True)] * size


def summed(together: Processes, *numbers: list[float]) -> list[Any]:
    """Returns, for each of ``numbers``, the sum over processes of these numbers plus the rank."""
    adding = Exchange(together, CPU)
    found = []
    for each in numbers:
        total = adding.sum(Sums([torch.tensor(each) + together.rank], {}, 1)).gradients[0]
        assert total is not None
        found.append(total.tolist())
    opened = [pair is not None for pair in adding._shared.values()]
    return [*found, opened]


def test_shared_memory_grows_and_is_used_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exchange, "WORTH_SHARING", 2)
    found = in_processes(2, lambda together: summed(together, [1.0, 2.0], [3.0], [1.0, 2.0, 3.0], [5.0, 6.0]))
    assert found == [[[3.0, 5.0], [7.0], [3.0, 5.0, 7.0], [11.0, 13.0], [True]]] * 2


def test_a_few_numbers_need_no_shared_memory():
    assert in_processes(2, lambda together: summed(together, [1.0, 2.0])) == [[[3.0, 5.0], []]] * 2


@pytest.mark.parametrize("missing", ["other machine", "other container", "no such memory", "refused by the kernel"])
def test_processes_that_cannot_share_memory_send_the_numbers(monkeypatch: pytest.MonkeyPatch, missing: str):
    monkeypatch.setattr(exchange, "WORTH_SHARING", 1)

    def work(together: Processes) -> list[Any]:
        if together.rank == 1:
            with pytest.MonkeyPatch.context() as patch:
                if missing == "other machine":
                    patch.setattr(shared_memory, "_machine", lambda: ("other", ""))
                elif missing == "other container":
                    patch.setattr(shared_memory.os, "open", refused)
                elif missing == "no such memory":
                    patch.delattr(os, "memfd_create")
                else:
                    patch.setattr(os, "memfd_create", refused)
                return summed(together, [1.0, 2.0], [4.0])
        return summed(together, [1.0, 2.0], [4.0])

    def refused(*_: object) -> int:
        raise PermissionError

    assert in_processes(2, work) == [[[3.0, 5.0], [9.0], [False]]] * 2


def test_several_processes_train_on_no_device_without_a_backend():
    class Two(Processes):
        size = 2

    with pytest.raises(ValueError, match=r"^train.device: several processes cannot train on 'mps'. Use cpu or cuda.$"):
        Exchange(Two(), torch.device("mps"))
    Exchange(Processes(), torch.device("mps"))
    Exchange(Two(), torch.device("cuda"))
