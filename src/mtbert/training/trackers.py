"""Experiment trackers: TensorBoard, Weights & Biases, MLflow and Trackio, in addition to ``metrics.jsonl``.

A tracker is a function that takes the folder and the settings of a run and returns an open :class:`Tracking`. The
:class:`Tracking` receives every number that is written to ``metrics.jsonl``. By default, no tracker needs a network
connection or a login. The id of a run is stored in its folder, so that a resumed run continues under its old id.
"""

import importlib.util
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mtbert import files
from mtbert.advice import call, option
from mtbert.messages import few, near, reason, shown, warn

Value = str | int | float | bool | None
LogStep = Callable[[int, Mapping[str, float]], object]  # takes the number of an optimizer step, and its numbers by name

IDENTITY = "tracking-id.txt"  # in a run's folder
SECONDS_BETWEEN_SENDS = 2.0  # to MLflow: each send is a database transaction or a request to a server
AT_ONCE = {"metrics": 1000, "params": 100}  # limits of one request to MLflow
LONGEST_SETTING = 6000  # characters of a setting's value in MLflow


@dataclass(frozen=True)
class Tracking:
    """An open tracker: ``log`` logs the numbers of a step, and ``close`` closes the tracker.

    The argument of ``close`` says whether the run ended normally.
    """

    log: LogStep
    close: Callable[[bool], object]

    def __enter__(self) -> LogStep:
        return self.log

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.close(error is None)


Tracker = Callable[[Path, Mapping[str, Value]], Tracking]


def numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers in a line of ``metrics.jsonl``, keyed by their paths in it; the step number is left out.

    In a path, a single ``/`` replaces each sequence of characters other than letters, digits, ``_`` and ``-``. A ``/``
    at the beginning or end of a path is removed.

    >>> numbers({"step": 7, "lr": 0.1, "losses": {"sst.ce": 2.0}, "diagnostics": {"cos(sst, sts)": -0.5}})
    {'lr': 0.1, 'losses/sst/ce': 2.0, 'diagnostics/cos/sst/sts': -0.5}
    """
    named = {re.sub(r"[^\w-]+", "/", path).strip("/"): value for path, value in _leaves(line).items()}
    return {name: float(value) for name, value in named.items() if isinstance(value, int | float) and name != "step"}


def settings(raw: Mapping[str, Any]) -> dict[str, Value]:
    """Returns the settings of a recipe, keyed by their paths as in ``--set``, such as ``train.lr``.

    Lists become JSON texts.
    """
    return {
        path: json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
        for path, value in _leaves(raw).items()
    }


def _leaves(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= _leaves(item, f"{path}{key}.") if isinstance(item, Mapping) and item else {path + key: item}
    return found


def tracker(name: str, console: Console) -> Tracker:
    """Returns a function that opens the tracker called ``name``.

    If the opened tracker fails while it logs, it warns once and logs nothing more, and the run goes on.

    Raises:
        ValueError: If no tracker has this name, or if its package is not installed. The returned function, too, raises
            a ValueError if it cannot open the tracker.
    """
    if name not in TRACKERS:
        raise ValueError(
            f"{option('track', name)}: there is no such tracker.{near(name, TRACKERS, f'Known: {few(TRACKERS)}.')}"
        )
    if importlib.util.find_spec(name) is None:
        raise ValueError(f'{option("track", name)}: its package is not installed. Run: pip install "mtbert[tracking]"')

    def opened(folder: Path, settings: Mapping[str, Value]) -> Tracking:
        try:
            tracking = TRACKERS[name](folder, settings)
        except Exception as error:  # each library has exceptions of its own
            if isinstance(error, OSError) and error.errno in files.FULL:
                raise
            raise ValueError(
                f"{option('track', name)}: cannot be opened: {reason(error)}. Mend that; then, with or without "
                f"{option('track')}: {call('train', resume=folder)}"
            ) from error
        broken = False

        def careful(call: Callable[..., object]) -> Callable[..., object]:
            def called(*arguments: Any) -> None:
                nonlocal broken
                try:
                    if not broken:
                        call(*arguments)
                except Exception as error:  # no failure of a tracker is a reason to lose the run
                    broken = True
                    if call is not tracking.close:
                        with suppress(Exception):  # some trackers keep a run open until they are closed
                            tracking.close(False)
                    warn(
                        console,
                        f"{name} failed, so it logs nothing more of this run; metrics.jsonl continues: {error!r}",
                    )

            return called

        return Tracking(careful(tracking.log), careful(tracking.close))

    return opened


def _tensorboard(folder: Path, settings: Mapping[str, Value]) -> Tracking:
    """Writes event files for TensorBoard into the run's folder; ``tensorboard --logdir runs`` can then compare runs."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), flush_secs=10)
    writer.add_text("settings", "\n".join(f"    {key}: {value}" for key, value in settings.items()))

    def log(step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)

    return Tracking(log, lambda ended: writer.close())


def _wandb(folder: Path, settings: Mapping[str, Value]) -> Tracking:
    """Logs to Weights & Biases, by default offline, into files in the run's folder. To upload them, run ``wandb sync``.

    The environment variable ``WANDB_MODE`` can choose another mode.
    """
    import wandb

    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "mtbert"),
        name=os.environ.get("WANDB_NAME", folder.resolve().name),
        id=_identity(folder),
        resume="allow",
        dir=folder,
        config=dict(settings),
        mode=None if "WANDB_MODE" in os.environ else "offline",
        settings=wandb.Settings(console="off"),  # otherwise wandb would record the progress bar
    )
    return Tracking(
        lambda step, numbers: run.log(dict(numbers), step=step), lambda ended: run.finish(exit_code=0 if ended else 1)
    )


def _mlflow(folder: Path, settings: Mapping[str, Value]) -> Tracking:
    """Logs to MLflow, by default into ``mlflow.db`` in the run's folder.

    The environment variable ``MLFLOW_TRACKING_URI`` can name another store.
    """
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient
    from sqlalchemy import URL

    store = URL.create("sqlite", database=str(folder.resolve() / "mlflow.db")).render_as_string()
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or store)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "mtbert")
    experiment = client.get_experiment_by_name(name)
    where = experiment.experiment_id if experiment else client.create_experiment(name)
    identity = _identity(folder)
    known = client.search_runs([where], f"tags.mtbert = '{identity}'")
    if known:
        run = known[0].info.run_id
        client.update_run(run, status="RUNNING")
    else:
        run = client.create_run(where, run_name=folder.resolve().name, tags={"mtbert": identity}).info.run_id
        params = [Param(key, str(value)[:LONGEST_SETTING]) for key, value in settings.items()]
        for i in range(0, len(params), AT_ONCE["params"]):
            client.log_batch(run, params=params[i : i + AT_ONCE["params"]])
    waiting: list[Metric] = []
    sent = time.monotonic()

    def send() -> None:
        nonlocal sent
        for i in range(0, len(waiting), AT_ONCE["metrics"]):
            client.log_batch(run, metrics=waiting[i : i + AT_ONCE["metrics"]])
        waiting.clear()
        sent = time.monotonic()

    def log(step: int, numbers: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        waiting.extend(Metric(name, value, now, step) for name, value in numbers.items())
        if time.monotonic() - sent > SECONDS_BETWEEN_SENDS:
            send()

    def close(ended: bool) -> None:
        send()
        client.set_terminated(run, "FINISHED" if ended else "FAILED")

    return Tracking(log, close)


def _trackio(folder: Path, settings: Mapping[str, Value]) -> Tracking:
    """Logs to the user's local Trackio store, which ``trackio show`` displays.

    The environment variable ``TRACKIO_DIR`` can name another folder for the store.
    """
    import trackio

    name = f"{folder.resolve().name}-{_identity(folder)}"  # Trackio finds an earlier run by its name alone
    run: Any = trackio.init("mtbert", name=name, resume="allow", config=dict(settings), embed=False)
    return Tracking(lambda step, numbers: run.log(dict(numbers), step=step), lambda ended: run.finish())


def _identity(folder: Path) -> str:
    """Returns the id that trackers get for the run in ``folder``. The first call makes an id and saves it in a file."""
    file = folder / IDENTITY
    if not file.exists():
        files.write_text(file, uuid.uuid4().hex[:8] + "\n")
    found = files.read_bytes(file, 100).decode(errors="replace").strip()
    if re.fullmatch("[0-9a-f]{8}", found) is None:
        raise ValueError(
            f"{file}: must hold 8 hex digits, found {shown(found)}; without that file the tracker takes the run for a "
            "new one"
        )
    return found


TRACKERS: Mapping[str, Tracker] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
