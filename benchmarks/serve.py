"""Measures ``mtbert serve``: many connections at once, beside a plain server and beside a process for each task.

    python -m benchmarks.serve --seconds 60 --out serve.json

Three tasks with new heads on MiniLM answer generated texts in float32, here and in the pipelines of transformers, with
the same weights. The client is a process of its own, pinned to one core for all servers. It checks every answer.
Servers are measured one after the other. The last rows ask for one text at a time, and compare that with a bare pass of
the same model with tokenising, alternately.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import psutil
import torch
import transformers

from benchmarks.timing import paired, timed
from mtbert.model.download import find_encoder
from mtbert.model.model import Model
from mtbert.model.weights import load_encoder
from mtbert.storage.model_folder import matching_tokenizer, save_model
from mtbert.task import Task
from mtbert.use.predictor import Predictor, load

TASKS = tuple(
    Task(name=name, type="classification", inputs="single", labels=tuple(f"{name}{i}" for i in range(classes)))
    for name, classes in (("topic", 5), ("mood", 3), ("spam", 2))
)
MAX_LENGTH = 128
TEXTS = 2000
LARGEST = 256  # texts of the largest request that the server allows
PATH = "/v1/predict"
REST = 0.1  # seconds
BLOCK = 20  # single requests in a row
TOLERANCES = {"torch": 1e-3, "onnx": 1e-3, "onnx-int8": 0.2}  # of a probability in float32, in batches of other forms


def texts(number: int) -> list[str]:
    """Returns texts of 5 to 30 words from a small vocabulary."""
    words = (
        "the a of and to in is was it for on with as by at from this that film book city river train weather music "
        "old new good bad long short very quite never always people women men children think say go come take make "
        "slowly quickly morning evening house garden table water paper story question answer number year"
    ).split()
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(words, rng.integers(5, 31))) + "." for _ in range(number)]


def write_models(folder: Path) -> None:
    """Writes the model of all tasks, one for each task, and the same as folders of transformers."""
    encoder_folder = find_encoder("demo")
    encoder = load_encoder(str(encoder_folder), dropout=0.0).encoder
    tokenizer = matching_tokenizer(encoder_folder, encoder)
    model = Model(encoder, {task.name: task for task in TASKS}, pooling="cls", max_length=MAX_LENGTH, seed=0)
    for task in TASKS:
        layer = model.head(task.name).layers[-1]
        torch.nn.init.normal_(layer.weight, std=0.2, generator=torch.Generator().manual_seed(len(task.labels or ())))
    for tasks in (TASKS, *((task,) for task in TASKS)):
        made = Model(encoder, {task.name: task for task in tasks}, pooling="cls", max_length=MAX_LENGTH, seed=0)
        for task in tasks:
            made.head(task.name).load_state_dict(model.head(task.name).state_dict())
        own = folder / ("all" if len(tasks) > 1 else tasks[0].name)
        own.mkdir()
        save_model(made, tokenizer, own)
    for task in TASKS:
        labels = dict(enumerate(task.labels or ()))
        plain = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder / "all", num_labels=len(labels), id2label=labels, dtype=torch.float32
        )
        plain.classifier.load_state_dict(model.head(task.name).layers[-1].state_dict())
        plain.save_pretrained(folder / "plain" / task.name)
        made_tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            model_max_length=MAX_LENGTH,
            pad_token="[PAD]",
            cls_token="[CLS]",
            sep_token="[SEP]",
        )
        made_tokenizer.save_pretrained(folder / "plain" / task.name)


@contextmanager
def server(command: Sequence[str], port: int) -> Iterator[psutil.Process]:
    """Starts a server, waits until it answers, and ends it after the block."""
    process = subprocess.Popen([sys.executable, "-m", *command], env=os.environ | {"TRANSFORMERS_VERBOSITY": "error"})
    try:
        for _ in range(600):
            try:
                httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False, timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, "the server has ended"
                time.sleep(0.2)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        code = process.wait(60)
        print(f"{' '.join(command[:2])} ended with {code}", file=sys.stderr)


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def under_load(
    folder: Path,
    urls: Sequence[str],
    processes: Sequence[psutil.Process],
    right: Any,
    connections: int,
    seconds: float,
    tolerance: float = TOLERANCES["torch"],
) -> dict[str, Any]:
    """Runs the client. Returns its numbers, the memory of the servers at its start, and how much this memory grows.

    The memory at the start includes that of the largest batch, because each server has answered the largest request.
    """
    spec = {"urls": urls, "texts": texts(TEXTS), "answers": right, "tolerance": tolerance}
    spec |= {"connections": connections, "seconds": seconds}
    file = folder / "spec.json"
    file.write_text(json.dumps(spec | {"connections": 8, "seconds": 2}))
    command = [
        "taskset",
        "-c",
        str((os.cpu_count() or 1) - 1),
        sys.executable,
        "-m",
        "benchmarks.serve_load",
        str(file),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # warms the servers up
    for url in urls:
        largest = sorted(texts(TEXTS), key=len)[-LARGEST:]
        httpx.post(url, json={"texts": largest}, trust_env=False, timeout=60).raise_for_status()
    file.write_text(json.dumps(spec))
    before = most = sum(process.memory_info().rss for process in processes)
    busy = _busy(processes)
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while client.poll() is None:
        most = max(most, sum(process.memory_info().rss for process in processes))
        time.sleep(0.2)
    assert client.stdout is not None
    found: dict[str, Any] = json.loads(client.stdout.read())
    # Unlike the rate, the processor time for a text does not depend much on what else the machine does.
    found["cpu_ms_per_text"] = 1000 * (_busy(processes) - busy) / max(found["texts"], 1)
    return found | {"rss_mb": before / 2**20, "rss_growth_mb": (most - before) / 2**20}


def _busy(processes: Sequence[psutil.Process]) -> float:
    """Returns the processor time of the servers until now, in seconds."""
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def alone(url: str, predictor: Predictor, pairs: int) -> dict[str, float]:
    """Returns the medians of one request at a time and of a bare pass, in ms, and their ratio.

    Requests and passes take turns of ``BLOCK``, with a rest before each turn: threads spin for a while when their work
    is done, and those of one process would take the cores of the other.
    """
    given = texts(BLOCK)
    names = list(predictor.tasks)
    with httpx.Client(base_url=url, trust_env=False) as client:

        def ask(text: str) -> None:
            assert client.post(PATH, json={"texts": [text]}).status_code == 200

        def turn(action: Callable[[str], object]) -> float:
            time.sleep(REST)
            return float(np.median([timed(partial(action, text))() for text in given]))

        bare = partial(predictor.predict, names)
        found = paired(lambda: turn(ask), lambda: turn(lambda text: bare([text])), pairs // BLOCK)
    p50, alone_ms = (float(np.median(side)) * 1000 for side in (found.ours, found.theirs))
    return {"p50_ms": p50, "bare_ms": alone_ms, "ratio": found.cost()[0], "over_ms": p50 - alone_ms}


def main() -> None:
    """Measures all servers, and prints and writes the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="for each server")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=300, help="of single requests and bare passes")
    parser.add_argument("--only", nargs="*", default=None, help="some of: together, plain, apart, alone")
    parser.add_argument("--engine", nargs="*", default=["torch"], help="engines of mtbert serve")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    wanted = arguments.only or ["together", "plain", "apart", "alone"]
    rows: dict[str, Mapping[str, Any]] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_models(folder)
        predictor = load(folder / "all")
        predictor.model.compute = torch.float32
        right = predictor.predict(list(predictor.tasks), texts(TEXTS))
        size = (arguments.connections, arguments.seconds)

        def ours(model: str, port: int, engine: str) -> list[str]:
            return ["mtbert", "serve", str(folder / model), "--port", str(port), "--engine", engine]

        for engine in arguments.engine:
            port = free_port()
            if {"together", "alone"} & set(wanted):
                with server(ours("all", port, engine), port) as process:
                    url = f"http://127.0.0.1:{port}"
                    if "alone" in wanted:
                        rows[f"alone, {engine}"] = alone(url, predictor, arguments.pairs)
                    if "together" in wanted:
                        rows[f"together, {engine}"] = under_load(
                            folder, [url + PATH], [process], right, *size, TOLERANCES[engine]
                        )
        if "apart" in wanted:
            with ExitStack() as stack:
                ports = [free_port() for _ in TASKS]
                processes = [
                    stack.enter_context(server(ours(task.name, port, "torch"), port))
                    for task, port in zip(TASKS, ports, strict=True)
                ]
                urls = [f"http://127.0.0.1:{port}{PATH}" for port in ports]
                rows["a process for each task"] = under_load(folder, urls, processes, right, *size)
        if "plain" in wanted:
            port = free_port()
            with server(["benchmarks.serve_plain", str(folder / "plain"), str(port)], port) as process:
                url = f"http://127.0.0.1:{port}{PATH}"
                rows["three pipelines"] = under_load(folder, [url], [process], right, *size)
    for row, numbers in rows.items():
        told = {key: round(value, 2) if isinstance(value, float) else value for key, value in numbers.items()}
        print(f"{row:24} {told}")
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1))
    failed = [
        row for row, found in rows.items() if found.get("wrong") or set(found.get("statuses", ())) - {"200", "429"}
    ]
    if failed:
        sys.exit(f"requests failed or had wrong answers: {', '.join(failed)}")


if __name__ == "__main__":
    main()
