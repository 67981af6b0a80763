"""Several processes on one machine give the same bits as one, and end together."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_run
import toy_table
import toy_words
from rich.console import Console
from torch import distributed
from torch.distributed import DistError, DistNetworkError, FileStore, PrefixStore
from toy_processes import in_processes

from mtbert import api, processes, scoring
from mtbert.processes import ALONE, Connected, Lost, Processes
from mtbert.recipe.settings import validate_recipe
from mtbert.training.assemble import assemble
from mtbert.training.heartbeat import heartbeats
from mtbert.training.join import call_others, join_run, share_state
from mtbert.training.resume import resume_run
from mtbert.training.run import Run
from mtbert.training.signals import Stopped
from mtbert.training.start import start_run
from mtbert.yaml_files import merge

folder = toy_run.shared_folder
table_folder = toy_table.table_folder
SILENT = Console(quiet=True)
SEPARATE = {"inputs": "separate", "batch_size": 12}
# Together they hold every technique that reads more than one row, draws numbers or keeps a state.
RECIPES: Mapping[str, dict[str, Any]] = {
    "whole batches": {
        "tasks": {
            "sst": {"losses": ["ce", "simcse-unsup", "rdrop"], "batch_size": 9},
            "quora": SEPARATE | {"losses": ["bce", "mnrl", "smart"]},
            "sts": SEPARATE | {"head": "cosine", "losses": ["cosent"]},
        },
        "train": {"weighting": "uncertainty", "token_budget": 120},
    },
    "surgery": {"train": {"aggregation": {"kind": "pcgrad"}, "clip": 0.01}},
    "alternating": {"model": {"pal": {"width": 6, "heads": 2}}, "train": {"mode": "alternate"}},
    "own tops": {
        "model": {"unshare": 1},
        "tasks": {"quora": SEPARATE | {"losses": ["bce", "mnrl"]}},
        "train": {"aggregation": {"kind": "torchjd", "method": "Random"}},
    },
    "averages": {
        "model": {"lora": {"rank": 2}},
        "tasks": {"sst": {"losses": ["ce", "bregman"]}},
        "train": {"ema": {"decay": 0.9}, "conflicts": True},
    },
}


def run_of(folder: Path, together: Processes, change: Mapping[str, Any], **train: Any) -> Run:
    raw = merge(toy_run.raw_recipe(folder, **{"shards": 4} | train), {"model": {"dropout": 0.1}})
    return assemble(validate_recipe(merge(raw, change), "toy")).run(together)


def steps(run: Run) -> tuple[list[str], dict[str, bytes]]:
    """Makes three steps and scores dev. Returns what was shown of them, and the bits of the run."""
    return [*(repr(run.step()) for _ in range(3)), repr(run.evaluate(lambda _: None))], bits(run)


def bits(run: Run) -> dict[str, bytes]:
    """Returns every number that a run would save."""
    state = run.optimizer.state_dict()["state"]
    tensors = {f"{i}.{key}": value for i, entry in state.items() for key, value in entry.items()}
    for module in (run.model, run.predictor, run.objective.own):
        tensors |= {f"{id(module) == id(run.model)}.{key}": value for key, value in module.state_dict().items()}
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()} | {
        "generator": bytes(run.generator.get_state().tolist())
    }


def contents(out: Path) -> dict[str, bytes]:
    """Returns the files of a run that must not depend on the processes."""
    kept = [out / "metrics.jsonl", *(out / "last").iterdir(), *(out / "best").iterdir()]
    return {str(file.relative_to(out)): file.read_bytes() for file in kept}


def train(raw: Mapping[str, Any], out: Path, together: Processes) -> str:
    """Starts or resumes a run in ``out``; returns how it ended."""
    try:
        with heartbeats(together):
            if not together.first:
                join_run(together)
            elif out.exists():
                resume_run(out, SILENT, processes=together)
            else:
                start_run(validate_recipe(raw, "toy"), out, SILENT, processes=together)
    except (Stopped, Lost, FloatingPointError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


@pytest.mark.parametrize("name", RECIPES)
def test_any_number_of_processes_gives_the_same_bits(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(scoring, "TOKENS", 40)  # several batches of dev

    def work(together: Processes) -> tuple[list[str], dict[str, bytes]]:
        run = run_of(folder, together, RECIPES[name])
        shown = [repr(run.step()) for _ in range(3)]
        ticks: list[int] = []
        shown.append(repr(run.evaluate(ticks.append)))
        assert sum(ticks) == scoring.encoded(run.predictor, [data.dev for data in run.scored.values()])[0]
        return shown, bits(run)

    (alone,) = in_processes(1, work)
    for size in (2, 4) if name == "surgery" else (2,):
        for found in in_processes(size, work):
            assert found == alone


@pytest.mark.parametrize("change", [{"train": {"aggregation": {"kind": "pcgrad"}}}, {"model": {"unshare": 1}}])
def test_a_table_with_missing_labels_gives_the_same_bits(table_folder: Path, change: dict[str, Any]):
    raw = merge(toy_table.raw_table_recipe(table_folder, shards=4), {"model": {"dropout": 0.1}})
    recipe = validate_recipe(merge(raw, change), "toy")
    (alone,) = in_processes(1, lambda together: steps(assemble(recipe).run(together)))
    for found in in_processes(2, lambda together: steps(assemble(recipe).run(together))):
        assert found == alone


def test_rows_that_are_given_from_python_reach_every_process(folder: Path, tmp_path: Path):
    tags = [{"text": words, "label": tags} for words, tags in toy_words.sentences(30)]
    recipe = {
        "model": {"path": str(folder / "encoder"), "max_length": 24, "dropout": 0.1},
        "tasks": {"people": {"type": "tokens", "inputs": "single", "batch_size": 6}},
        "train": {"epochs": 2, "rounds": 3, "threads": 1, "precision": "fp32", "shards": 2, "checkpoint_every": 2},
    }

    def work(out: Path) -> Any:
        def train(together: Processes) -> str:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(api, "connect", lambda: together)
                given = (
                    {"data": {"people": tags}, "recipe": recipe, "out": out} if not out.exists() else {"resume": out}
                )
                return str(api.train(**given).path)

        return train

    in_processes(1, work(tmp_path / "whole"))
    assert in_processes(2, work(tmp_path / "run")) == [str(tmp_path / "run")] * 2
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert in_processes(2, work(tmp_path / "run")) == [str(tmp_path / "run")] * 2  # it has ended, and says so


def test_a_run_is_stopped_and_resumed_with_other_numbers_of_processes(folder: Path, tmp_path: Path):
    raw = merge(toy_run.raw_recipe(folder, shards=4), {"model": {"dropout": 0.1}})
    (whole,) = in_processes(1, lambda p: train(raw, tmp_path / "whole", p))

    def stopped_at(step: int, rank: int) -> Any:
        def work(together: Processes) -> str:
            real = Run.step

            def stop(run: Run) -> Any:
                made = real(run)
                if run.done == step and together.rank == rank:
                    os.kill(os.getpid(), signal.SIGTERM)
                return made

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Run, "step", stop)
                return train(raw, tmp_path / "parts", together)

        return work

    assert whole == "done"
    for size, step in ((2, 4), (4, 7)):
        found = in_processes(size, stopped_at(step, rank=1))
        assert (
            found
            == [f"Stopped: stopped at step {step}, and saved. Go on with: mtbert.train(resume='{tmp_path / 'parts'}')"]
            * size
        )
    assert in_processes(1, lambda p: train(raw, tmp_path / "parts", p)) == ["done"]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_ends_the_others_with_one_line_and_the_run_resumes(folder: Path, tmp_path: Path, lost: int):
    raw = toy_run.raw_recipe(folder, shards=2, checkpoint_every=3)
    out = tmp_path / "run"

    def work(together: Processes) -> tuple[str, bool]:
        real = Run.step

        def step(run: Run) -> Any:
            if run.done == 5 and together.rank == lost:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(run)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "step", step)
            ended = train(raw, out, together)
        assert isinstance(together, Connected)
        return ended, together.may_speak()

    left = in_processes(2, work)[1 - lost]
    assert left == (
        f"Lost: step 6: one of the 2 processes of this run was lost. Go on with: mtbert.train(resume='{out}')",
        True,
    )
    assert in_processes(2, lambda p: train(raw, out, p)) == ["done"] * 2
    in_processes(1, lambda p: train(raw, tmp_path / "whole", p))
    assert contents(out) == contents(tmp_path / "whole")


def test_a_loss_that_is_not_finite_in_one_process_ends_all_with_the_same_message(folder: Path):
    def work(together: Processes) -> str:
        run = run_of(folder, together, {}, shards=2)
        if together.rank == 1:
            next(run.model.head("sst").parameters()).data.fill_(torch.nan)
        with pytest.raises(FloatingPointError) as raised:
            run.step()
        return str(raised.value)

    first, second = in_processes(2, work)
    assert first == second
    assert first.startswith("step 1: loss sst.ce is nan for examples s")


def test_more_processes_than_shards_is_one_line_that_says_what_to_set():
    class Several(Processes):
        size = 4

    with pytest.raises(ValueError, match=r"train.shards: 2 cannot be divided among 4 processes. Set train.shards: 4, "):
        Several().check(2)
    Several().check(8)
    ALONE.check(1)
    Several.size = 3
    with pytest.raises(ValueError, match=r"among 3 processes, whose number must be a power of two. Start 2 "):
        Several().check(4)


def test_restarted_processes_do_not_read_what_those_before_them_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = FileStore(str(tmp_path / "store"), 1)
    given: list[PrefixStore] = []

    class Given(Processes):
        def __init__(self, store: PrefixStore, rank: int, size: int) -> None:
            given.append(store)

    monkeypatch.setattr(
        sys.modules["torch.distributed.rendezvous"], "rendezvous", lambda *_, **__: iter([(store, 1, 2)])
    )
    monkeypatch.setattr(processes, "Connected", Given)
    for name, value in {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}.items():
        monkeypatch.setenv(name, value)
    for restarts in ("0", "1"):
        monkeypatch.setattr(processes, "_connected", None)
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
        processes.connect()
    given[0].set("address", "stale")
    assert [each.check(["address"]) for each in given] == [True, False]


def test_one_process_is_not_connected(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert processes.connect() is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")  # other programs set WORLD_SIZE too
    assert processes.connect() is ALONE


def test_other_data_in_another_process_are_refused(folder: Path, tmp_path: Path):
    def work(together: Processes) -> str:
        if together.first:
            call_others(validate_recipe(toy_run.raw_recipe(folder, shards=2), "toy"), tmp_path, together)
            made = assemble(validate_recipe(toy_run.raw_recipe(folder, shards=2), "toy"), processes=together)
            share_state(made.run(together), {**made.digests, next(iter(made.digests)): "other"})
            return "waits"
        with pytest.raises(ValueError, match="not the data of the first process") as raised:
            join_run(together)
        return str(raised.value)

    assert "sst.csv" in in_processes(2, work)[1]


def test_values_tensors_and_flags_reach_every_process():
    def work(together: Processes) -> list[Any]:
        rank = together.rank
        return [
            [each["x"].tolist() for each in together.all({"x": torch.arange(6.0)[rank : rank + 2]})],
            together.any(rank == 1),
            together.any(False),
            together.from_first(f"from {rank}"),
            together.tensors_from_first({"w": torch.full((2,), rank + 5)} if rank == 0 else {})["w"].tolist(),
            together.trade(rank ^ 1, rank),
            together.trade_tensor(rank ^ 1, torch.full((rank + 1,), 7), 2 - rank).tolist(),
            together.partners,
            list(together.block(6)),
        ]

    first, second = in_processes(2, work)
    assert first[:5] == second[:5] == [[[0.0, 1.0], [1.0, 2.0]], True, False, "from 0", [5, 5]]
    assert first[5:] == [1, [7, 7], [1], [0, 1, 2]]
    assert second[5:] == [0, [7], [0], [3, 4, 5]]


def test_torchrun_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def rendezvous(*_: Any, **__: Any) -> Any:
        raise DistNetworkError("The client socket has timed out")
        yield

    monkeypatch.setattr(sys.modules["torch.distributed.rendezvous"], "rendezvous", rendezvous)
    monkeypatch.setattr(processes, "_connected", None)
    settings = {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "far", "MASTER_PORT": "29500"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Lost, match=r"^far:29500: torchrun does not answer there. Start it there, or give its --mas"):
        processes.connect()


def test_only_errors_of_connections_mean_that_a_process_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    together = Connected(FileStore(str(tmp_path / "store")), 0, 2)
    lost = RuntimeError("[/gloo/transport/tcp/pair.cc:534] Connection closed by peer"), DistNetworkError("reset")
    for error in lost:
        with pytest.raises(Lost, match="one of the 2 processes of this run was lost"), together._together():
            raise error
    for other in (RuntimeError("No backend type associated with device type mps"), DistError("CUDA out of memory")):
        with pytest.raises(RuntimeError) as raised, together._together():
            raise other
        assert raised.value is other
