"""A client for the measurement of servers: many connections at a time, each answer checked.

    python -m benchmarks.serve_load SPECIFICATION

The specification is a JSON file with ``urls`` (each text is sent to all of them), ``texts``, ``answers`` (the right
answers), ``tolerance`` (of a probability), ``connections`` and ``seconds``. The numbers are printed as JSON. HTTP is
written by hand, so that the client costs little of the time that both share.
"""

import asyncio
import itertools
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import numpy as np


@dataclass
class Counts:
    """The answers, statuses and times that the connections of a client have seen."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    seconds: list[float] = field(default_factory=list)  # of each right answer


async def load(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Asks for some seconds, and returns the numbers."""
    counts, turn = Counts(), itertools.count()
    stop = time.perf_counter() + spec["seconds"]
    begin = time.perf_counter()
    await asyncio.gather(*(_connection(spec, counts, turn, stop) for _ in range(spec["connections"])))
    took = time.perf_counter() - begin
    times = np.array(counts.seconds or [np.nan]) * 1000
    return {
        "statuses": dict(counts.statuses),
        "wrong": counts.wrong,
        "texts": len(counts.seconds),
        "texts_per_second": len(counts.seconds) / took,
        "p50_ms": float(np.percentile(times, 50)),
        "p99_ms": float(np.percentile(times, 99)),
    }


async def _connection(spec: Mapping[str, Any], counts: Counts, turn: "itertools.count[int]", stop: float) -> None:
    """Asks one text after the other, each of all servers, until the time is over."""
    places = [urlsplit(url) for url in spec["urls"]]
    streams: list[Any] = [None] * len(places)
    while time.perf_counter() < stop:
        i = next(turn) % len(spec["texts"])
        begin, answer = time.perf_counter(), dict[str, Any]()
        for at, place in enumerate(places):
            try:
                status, body = await _ask_kept(streams, at, place, spec["texts"][i])
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                counts.statuses[type(error).__name__] += 1
                streams[at] = None
                break
            counts.statuses[str(status)] += 1
            if status == 429:
                await asyncio.sleep(1)
            if status != 200:
                break
            answer |= json.loads(body)["answers"][0]
        else:
            counts.wrong += not _same(answer, spec["answers"][i], spec["tolerance"])
            counts.seconds.append(time.perf_counter() - begin)
    for stream in filter(None, streams):
        stream[1].close()


async def _ask_kept(streams: list[Any], at: int, place: SplitResult, text: str) -> tuple[int, bytes]:
    """Asks over the connection ``streams[at]``, or over a new one if the server has closed it in the meantime."""
    if streams[at] is not None:
        try:
            return await _ask(*streams[at], place.path, text)
        except (asyncio.IncompleteReadError, ConnectionResetError) as error:
            if getattr(error, "partial", b""):
                raise
    streams[at] = await asyncio.open_connection(place.hostname, place.port)
    return await _ask(*streams[at], place.path, text)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, text: str) -> tuple[int, bytes]:
    body = json.dumps({"texts": [text]}).encode()
    headers = f"host: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    writer.write(f"POST {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + body)
    found = await reader.readuntil(b"\r\n\r\n")
    lines = found.decode().lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
    return int(lines[0].split()[1]), await reader.readexactly(length)


def _same(found: Mapping[str, Any], wanted: Mapping[str, Mapping[str, Any]], tolerance: float) -> bool:
    return all(
        abs(found[task][key] - value) < tolerance
        for task, answer in wanted.items()
        for key, value in answer.items()
        if isinstance(value, float)
    )


def main(arguments: Sequence[str]) -> None:
    """Runs the client on a specification."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection is an open file
    print(json.dumps(asyncio.run(load(json.loads(Path(arguments[0]).read_text())))))


if __name__ == "__main__":
    main(sys.argv[1:])
