"""The command ``serve`` as a process of its own: it starts, answers, ends well by a signal, and refuses in one line."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import toy_server
from toy_server import near

from mtbert import load
from mtbert.use.serve import running

TOKEN = "0123456789abcdef"


class Process:
    """A server process; :attr:`err` is what it has printed on standard error."""

    def __init__(self, run: Path, *arguments: str, **environment: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "mtbert", "serve", str(run), "--port", "0", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self.err = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        toy_server.until(lambda: "http://" in self.err or self.popen.poll() is not None, 60)
        (self.url,) = re.findall(r"http://127\.0\.0\.1:\d+", self.err)

    def _read(self) -> None:
        assert self.popen.stderr is not None
        with self.popen.stderr:
            for line in self.popen.stderr:
                self.err += line

    def waited(self) -> int:
        """Waits for the end, and returns the exit code."""
        code = self.popen.wait(30)
        self._reader.join(10)
        return code


@pytest.fixture(scope="module")
def process(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    file = tmp_path_factory.mktemp("token") / "token.txt"
    file.write_text(f"{TOKEN}\n")
    made = Process(toy / "run", "--token-file", str(file), "--max-texts", "64")
    yield made
    made.popen.kill()
    made.waited()


def refuses(address: tuple[str, int]) -> bool:
    """Returns whether nobody listens at an address."""
    try:
        socket.create_connection(address).close()
    except ConnectionRefusedError:
        return True
    return False


def ask(url: str, texts: list[Any]) -> Any:
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=url, timeout=60, trust_env=False, headers=headers) as client:
        found = client.post("/v1/predict", json={"texts": texts})
        assert found.status_code == 200, found.text
        return found.json()["answers"]


def test_a_process_answers_as_the_predictor_of_the_run_does_and_ends_well(toy: Path, process: Process):
    predictor = load(toy / "run")
    predictor.model.compute = torch.float32
    texts = ["the dog runs", "a very dull film"]
    answered = ask(process.url, texts)
    assert near(answered, predictor.predict(["sst"], texts))
    assert f"{toy}/run/best, step 2 answers sst, quora, sts at {process.url}" in process.err
    # A garbled request, one from a client that leaves, and one that never sends its head, change nothing.
    address = ("127.0.0.1", int(process.url.rpartition(":")[2]))
    quiet = socket.create_connection(address)
    for garbled in (
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET /a\x1b[2J HTTP/1.1\r\n\r\n",
        b"GET /secret HTTP/1.1\r\n",
    ):
        with socket.create_connection(address) as raw:
            raw.sendall(garbled)
    # A request whose body is on its way when the signal arrives gets its answer; then nobody may connect any more.
    body = json.dumps({"texts": texts}).encode()
    head = (
        f"POST /v1/predict HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(address, timeout=30) as raw:
        raw.sendall(head.encode() + body[:5])
        time.sleep(0.3)
        process.popen.send_signal(signal.SIGTERM)
        toy_server.until(lambda: refuses(address))
        assert process.popen.poll() is None
        raw.sendall(body[5:])
        found = raw.makefile("rb").read()
    assert found.startswith(b"HTTP/1.1 200 ")
    assert json.loads(found.partition(b"\r\n\r\n")[2])["answers"] == answered
    assert process.waited() == 0
    quiet.close()
    lines = process.err.splitlines()
    assert lines[-1].endswith("INFO every request that was accepted has been answered")
    assert len(lines) == 2, process.err
    assert "secret" not in process.err
    assert TOKEN not in process.err
    assert "\x1b" not in process.err


def test_a_run_that_is_not_there_a_taken_port_and_an_odd_address_are_one_line(toy: Path, mtbert, tmp_path: Path):
    assert mtbert("serve", tmp_path / "none", "--port", 0).mistake.startswith(f"{tmp_path / 'none'}: ")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = mtbert("serve", toy / "run", "--port", port).mistake
        assert (
            said == f"cannot listen on '127.0.0.1', port {port}: Address already in use. Give another --host or --port."
        )
    assert mtbert("serve", toy / "run", "--host", "no.such.host.invalid").mistake.startswith(
        "cannot listen on 'no.such.host.invalid', port 8000: "
    )


def test_the_two_parts_of_an_answer_are_sent_without_delay():
    async def scene() -> int:
        loop = asyncio.get_running_loop()
        found = loop.create_future()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            found.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = running.listen("127.0.0.1", 0)
        async with await asyncio.start_server(connected, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            delayed = await found
            writer.close()
            await writer.wait_closed()
            return delayed

    assert asyncio.run(scene()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("short", "a token has 16 or more visible ASCII characters"),
        ("", "a token has 16 or more visible ASCII characters"),
        ("0123456789 abcdefghi", "a token has 16 or more visible ASCII characters"),
        ("0123456789abcdefé", "a token has 16 or more visible ASCII characters"),
        ("x" * 5000, "has 5,000 bytes, but at most 4,096 are read."),
    ],
)
def test_an_odd_token_is_refused_without_showing_it(toy: Path, mtbert, tmp_path: Path, content: str, message: str):
    file = tmp_path / "token"
    file.write_text(content)
    said = mtbert("serve", toy / "run", "--token-file", file).mistake
    assert said.startswith(f"{file}: ")
    assert message in said
    assert not content or content not in said


def test_a_missing_token_file_is_one_line(toy: Path, mtbert, tmp_path: Path):
    said = mtbert("serve", toy / "run", "--token-file", tmp_path / "token").mistake
    assert said.startswith(f"--token-file {tmp_path / 'token'}: there is no such file. Make one with: openssl rand")


def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("MTBERT_TOKEN", raising=False)
    assert running.read_token(None) is None
    monkeypatch.setenv("MTBERT_TOKEN", f"{TOKEN}b")
    assert running.read_token(None) == f"{TOKEN}b"
    (tmp_path / "token").write_text(f" {TOKEN}\n")
    assert running.read_token(tmp_path / "token") == TOKEN
    monkeypatch.setenv("MTBERT_TOKEN", "")
    with pytest.raises(ValueError, match="MTBERT_TOKEN: a token has 16 or more"):
        running.read_token(None)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, toy: Path, mtbert):
    find = running.find_spec
    monkeypatch.setattr(running, "find_spec", lambda name: None if name in ("uvicorn", "fastapi") else find(name))
    said = mtbert("serve", toy / "run").mistake
    assert (
        said
        == 'mtbert serve: fastapi, uvicorn is not installed. Run: pip install "mtbert[serve]" (mtbert docs install)'
    )
