"""Trackers get the numbers of metrics.jsonl, without network and login, and no failure of theirs ends a run."""

import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import toy_run
from rich.console import Console
from typer.testing import CliRunner

from mtbert import cli
from mtbert.recipe.files import load_recipe
from mtbert.training import trackers
from mtbert.training.resume import resume_run
from mtbert.training.run import Run
from mtbert.training.signals import Stopped
from mtbert.training.start import start_run
from mtbert.training.trackers import Tracker, Tracking

folder = toy_run.folder

SILENT = Console(quiet=True)
NUMBERS = {1: {"losses/sst/ce": 0.5, "lr": 0.25}, 2: {"losses/sst/ce": 0.375, "aggregates/overall": 0.75}}
SETTINGS = {"train.lr": 1e-05, "tasks.sst.losses": '[{"kind": "ce"}]', "model.lora": None, "train.mode": "joint"}

# Each library runs in a process of its own, because it may warn and start threads and servers. The process tracks a run
# of two steps, which is opened again for the second step, and then prints what the library itself reads.
WRITE = """
import json, sys, time
from pathlib import Path
from rich.console import Console
from mtbert.training import trackers

name, folder = sys.argv[1], Path("runs/toy")
folder.mkdir(parents=True)
for step, numbers in json.loads(sys.argv[2]).items():
    with trackers.tracker(name, Console(quiet=True))(folder, json.loads(sys.argv[3])) as log:
        log(int(step), numbers)
    time.sleep(1.1)  # wandb names its folders by the second
"""
READ = {
    "tensorboard": """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(str(folder)).Reload()
found = [(e.step, tag, e.value) for tag in events.Tags()["scalars"] for e in events.Scalars(tag)]
text = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
settings = dict(line.strip().split(": ", 1) for line in text.splitlines())
states = []
""",
    "wandb": """
import struct
from wandb.proto.wandb_internal_pb2 import Record

def records(data):  # LevelDB's log format: blocks of 32 KiB, each record with checksum, length and kind
    at, part = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(part)
            yield record
            part = b""

found, states, settings, ids = [], [], {}, set()
for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
    for record in records(file.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            found += [(row["_step"], k, v) for k, v in row.items() if not k.startswith("_")]
        if kind == "run":
            ids.add(record.run.run_id)
            settings |= {
                "/".join(u.nested_key) or u.key: json.loads(u.value_json) for u in record.run.config.update
            }
        if kind == "exit":
            states.append(record.exit.exit_code)
assert len(ids) == 1, ids
""",
    "mlflow": """
from mlflow.tracking import MlflowClient
from sqlalchemy import URL
client = MlflowClient(URL.create("sqlite", database=str(folder.resolve() / "mlflow.db")).render_as_string())
(run,) = client.search_runs([client.get_experiment_by_name("mtbert").experiment_id])
found = [(m.step, m.key, m.value) for k in run.data.metrics for m in client.get_metric_history(run.info.run_id, k)]
settings, states = run.data.params, [run.info.status]
""",
    "trackio": """
import sqlite3
store = sqlite3.connect("trackio/mtbert.db")
assert len(store.execute("select distinct run_id from metrics").fetchall()) == 1
rows = store.execute("select step, metrics from metrics").fetchall()
found = [(step, k, v) for step, numbers in rows for k, v in json.loads(numbers).items()]
((settings,),) = store.execute("select config from configs").fetchall()
settings, states = json.loads(settings), []
""",
}


def written(name: str, folder: Path) -> dict[str, Any]:
    """Returns the numbers of a tracked run as the tracker's library reads them; its files must all be in ``folder``."""
    pytest.importorskip(name)
    if name == "mlflow":
        pytest.importorskip("sqlalchemy")
    own = {"HOME": folder / "home", "XDG_CACHE_HOME": folder / "home", "TMPDIR": folder, "TRACKIO_DIR": "trackio"}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false", "HF_HUB_OFFLINE": "1"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "MLFLOW", "TRACKIO"))}
    script = WRITE + READ[name] + "Path('found.json').write_text(json.dumps([found, dict(settings), states]))"
    done = subprocess.run(
        [sys.executable, "-c", script, name, json.dumps(NUMBERS), json.dumps(SETTINGS)],
        cwd=folder,
        env=kept | {k: str(v) for k, v in own.items()} | quiet | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found, settings, states = json.loads((folder / "found.json").read_text())
    return {"found": found, "settings": settings, "states": states}


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_what_was_tracked_is_read_back_as_one_run(name: str, tmp_path: Path):
    folder = tmp_path / "what?%41"  # these characters have a meaning in a URL
    folder.mkdir()
    read = written(name, folder)
    expected = [[step, key, value] for step, numbers in NUMBERS.items() for key, value in numbers.items()]
    assert sorted(read["found"]) == sorted(expected)
    as_text = name in ("tensorboard", "mlflow")
    for key, value in SETTINGS.items():
        assert read["settings"][key] == (str(value) if as_text else value), key
    assert read["states"] == {"wandb": [0, 0], "mlflow": ["FINISHED"]}.get(name, [])
    left = {p.name for p in folder.iterdir()} - {"home", "found.json"}
    assert {n for n in left if not n.startswith("tmp")} == {"runs"} | ({"trackio"} if name == "trackio" else set())
    assert (folder / "runs/toy/mlflow.db").is_file() == (name == "mlflow")


# What a run gives to its tracker -------------------------------------------------------------------


class Heard:
    """A tracker that records what it gets."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.settings: Mapping[str, Any] = {}
        self.ends: list[bool] = []

    def __call__(self, folder: Path, settings: Mapping[str, Any]) -> Tracking:
        assert (folder / "recipe.yaml").is_file()
        self.settings = settings
        return Tracking(lambda step, numbers: self.lines.append((step, dict(numbers))), self.ends.append)


def test_a_tracker_gets_every_line_of_the_metrics_and_the_settings(folder: Path):
    heard = Heard()
    start_run(load_recipe(str(folder / "toy.yaml")), folder / "run", SILENT, track=heard)
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert [step for step, _ in heard.lines] == [line["step"] for line in lines]
    first, last = heard.lines[0][1], heard.lines[-1][1]
    assert first["losses/sst/oll"] == lines[0]["losses"]["sst.oll"]
    assert first["lr"] == lines[0]["lr"]
    assert first["grad_norm"] == lines[0]["grad_norm"]
    assert last["aggregates/overall"] == lines[-1]["aggregates"]["overall"]
    assert last["evaluation/sts/metrics/pearson"] == lines[-1]["evaluation"]["sts"]["metrics"]["pearson"]
    assert not any("step" in numbers for _, numbers in heard.lines)
    assert heard.settings["train.lr"] == 1e-3
    assert heard.settings["tasks.sst.columns.text"] == '["sentence"]'
    assert heard.settings["steps"] == 18
    assert heard.ends == [True]


def test_a_resumed_run_is_tracked_from_where_it_resumes(folder: Path, monkeypatch: pytest.MonkeyPatch):
    settings = load_recipe(str(folder / "toy.yaml"))
    whole, parts = Heard(), Heard()
    start_run(settings, folder / "whole", SILENT, track=whole)
    real = Run.step

    def step(self: Run) -> Any:
        if self.done == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            monkeypatch.setattr(Run, "step", real)
        return real(self)

    monkeypatch.setattr(Run, "step", step)
    with pytest.raises(Stopped):
        start_run(settings, folder / "parts", SILENT, track=parts)
    assert parts.ends == [False]
    resume_run(folder / "parts", SILENT, track=parts)
    assert parts.ends == [False, True]
    assert parts.lines == whole.lines


# Mistakes and failures -----------------------------------------------------------------------------


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch) -> Callable[[Tracker], None]:
    """Replaces the tracker tensorboard by another one."""

    def put(tracker: Tracker) -> None:
        monkeypatch.setitem(trackers.TRACKERS, "tensorboard", tracker)
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)

    return put


@pytest.mark.parametrize("fails", ["log", "close"])
def test_a_tracker_that_fails_causes_one_warning_and_the_run_continues(
    fails: str, folder: Path, in_place: Callable[[Tracker], None]
):
    calls = []

    def log(step: int, numbers: Mapping[str, float]) -> None:
        calls.append(step)
        if fails == "log" and step == 3:
            raise ConnectionError("no [red]route[/red] to host")

    def close(ended: bool) -> None:
        calls.append("closed")
        raise ConnectionError("no [red]route[/red] to host")

    in_place(lambda *_: Tracking(log, close))
    run = folder / "run"
    done = CliRunner().invoke(cli.app, ["train", str(folder / "toy.yaml"), "--out", str(run), "--track", "tensorboard"])
    assert done.exit_code == 0, done.output
    assert done.output.count("warning: tensorboard failed, so it logs nothing more of this run") == 1
    assert "ConnectionError('no [red]route[/red] to host')" in done.output
    assert calls.count("closed") == 1
    assert calls[-1] == "closed"
    assert calls[:3] == [1, 2, 3]
    assert (len(calls) == 4) == (fails == "log")
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 20


def test_a_tracker_that_cannot_be_opened_is_one_line_and_the_run_can_be_resumed(
    folder: Path, in_place: Callable[[Tracker], None]
):
    def refuse(*_: object) -> Tracking:
        raise ConnectionError("no route to host")

    in_place(refuse)
    run = folder / "run"
    with pytest.raises(
        ValueError, match=rf"track='tensorboard': cannot be opened: no route to host\. .*\(resume='{run}'\)$"
    ):
        start_run(load_recipe(str(folder / "toy.yaml")), run, SILENT, track=trackers.tracker("tensorboard", SILENT))
    heard = Heard()
    in_place(heard)
    done = CliRunner().invoke(cli.app, ["train", "--resume", str(run), "--track", "tensorboard"])
    assert done.exit_code == 0, done.output
    assert len(heard.lines) == len((run / "metrics.jsonl").read_text().splitlines()) == 20


def test_the_id_of_a_run_is_made_once_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*tracking-id\.txt'"):
            trackers._identity(tmp_path)
    assert list(tmp_path.iterdir()) == []
    found = trackers._identity(tmp_path)
    assert trackers._identity(tmp_path) == found
    for text in ("", "no id\x1b", found[:-1]):
        (tmp_path / "tracking-id.txt").write_text(text)
        with pytest.raises(ValueError, match=r"tracking-id\.txt: must hold 8 hex digits, found '"):
            trackers._identity(tmp_path)


def test_a_full_disk_is_not_called_a_mistake_of_the_tracker(tmp_path: Path, in_place: Callable[[Tracker], None]):
    def full(*_: object) -> Tracking:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")

    in_place(full)
    with pytest.raises(OSError, match="No space left"):
        trackers.tracker("tensorboard", SILENT)(tmp_path, {})


def test_an_unknown_tracker_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"^track='wandbb': there is no such tracker\. Did you mean 'wandb'\?$"):
        trackers.tracker("wandbb", SILENT)
    with pytest.raises(ValueError, match=r"Known: tensorboard, wandb, mlflow, trackio\.$"):
        trackers.tracker("comet", SILENT)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"^track='trackio': .* Run: pip install \"mtbert\[tracking\]\"$"):
        trackers.tracker("trackio", SILENT)
