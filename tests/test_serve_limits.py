"""The gate of the server: token, size of bodies, time, slow clients, failures, and what is logged of them."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import toy_server
from toy_server import MOOD, Server, predictor, serving, until

from mtbert.use.serve.engines import TorchEngine
from mtbert.use.serve.errors import Refused
from mtbert.use.serve.limits import Gate, Limits, Message, Receive, Scope, Send
from mtbert.use.serve.running import one_line, sweep

server = toy_server.server

BODY = {"texts": ["the cat"]}
TOKEN = "0123456789abcdef"


# Token -----------------------------------------------------------------------------------------------------


def test_with_a_token_only_probes_and_the_page_answer_without_it():
    with serving(predictor(MOOD), token=TOKEN) as made:
        for path in ("/", "/health", "/ready", "/v2/health/live", "/v2/health/ready"):
            assert made.client.get(path).status_code == 200, path
        for path in ("/metrics", "/v1/tasks", "/info", "/v1/models", "/openapi.json", "/v2", "/nothing"):
            assert made.client.get(path).status_code == 401, path
        found = made.client.post("/v1/predict", json=BODY)
        assert found.headers["www-authenticate"] == "Bearer"
        assert found.json()["error"]["type"] == "unauthorized"
        for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", TOKEN, f"Basic {TOKEN}", ""):
            assert made.client.post("/v1/predict", json=BODY, headers={"authorization": wrong}).status_code == 401
        wrong_bytes = made.client.post("/v1/predict", json=BODY, headers={"authorization": "Bearer é".encode()})
        assert wrong_bytes.status_code == 401
        for right in (f"Bearer {TOKEN}", f"bearer {TOKEN}"):
            assert made.client.post("/v1/predict", json=BODY, headers={"authorization": right}).status_code == 200
        described = made.client.get("/openapi.json", headers={"authorization": right}).json()
        assert described["components"]["securitySchemes"] == {"HTTPBearer": {"type": "http", "scheme": "bearer"}}


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch):
    seen = []

    def compare(a: bytes, b: bytes) -> bool:
        seen.append((a, b))
        return a == b

    monkeypatch.setattr("mtbert.use.serve.limits.secrets.compare_digest", compare)
    with serving(predictor(MOOD), token=TOKEN) as made:
        made.client.post("/v1/predict", json=BODY, headers={"authorization": "Bearer guess"})
    assert seen == [(b"guess", TOKEN.encode())]


# Bodies ----------------------------------------------------------------------------------------------------


def endless(chunk: bytes, sent: list[int], most: int) -> Iterator[bytes]:
    for _ in range(most):
        sent.append(len(chunk))
        yield chunk


def test_a_body_without_a_length_is_refused_once_it_is_too_large(server: Server):
    sent: list[int] = []
    content = endless(b"x" * 2**16, sent, 64)
    status, kind, message = server.refused("/v1/predict", content=content)
    assert (status, kind) == (413, "too_large")
    assert message == "the body may have 1,048,576 bytes. Send fewer texts at a time."


def test_a_body_with_a_huge_length_is_refused_before_it_is_sent(server: Server):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_hundred_megabytes_cost_no_memory(server: Server):
    import psutil

    before = psutil.Process().memory_info().rss
    status, _, _ = server.refused("/v1/predict", content=endless(b"x" * 2**20, [], 100))
    assert status == 413
    assert psutil.Process().memory_info().rss - before < 20 * 2**20


@contextmanager
def slow_server(limits: Limits) -> Iterator[tuple[Server, threading.Event]]:
    """Runs a server whose model waits for an event."""
    made, free = predictor(MOOD), threading.Event()
    engine = TorchEngine(made.model)

    def slow(data: Any, *, vectors: bool) -> Any:
        assert free.wait(20)
        return engine(data, vectors=vectors)

    with serving(made, limits, engine=slow) as running:
        try:
            yield running, free
        finally:
            free.set()


def test_all_bodies_together_hold_no_more_than_they_may():
    body = {"texts": ["the cat " * 50]}
    with slow_server(Limits(held=1200, seconds=10)) as (running, free):
        codes: list[int] = []
        threads = [
            threading.Thread(
                target=lambda: codes.append(httpx.post(f"{running.url}/v1/predict", json=body).status_code)
            )
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        until(lambda: codes)  # two bodies of 413 bytes with two values fit, and the third is refused at once
        free.set()
        for thread in threads:
            thread.join(10)
        assert sorted(codes) == [200, 200, 429]
        assert running.post("/v1/predict", body)["answers"]  # what was held has been given back


# Time ------------------------------------------------------------------------------------------------------


def test_a_request_that_takes_too_long_is_refused_and_leaves_the_queue():
    with slow_server(Limits(seconds=0.3)) as (running, free):
        found = [running.refused("/v1/predict", BODY) for _ in range(2)]
        message = "the answer took longer than 0.3 seconds. Send fewer texts, or try later."
        assert found == [(504, "timeout", message)] * 2
        assert running.metric("mtbert_waiting_requests") == 0
        free.set()
        assert running.post("/v1/predict", BODY)["answers"]


def test_a_body_that_comes_too_slowly_is_refused():
    with serving(predictor(MOOD), Limits(seconds=0.3)) as made:
        host, port = made.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            raw.sendall(b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n{")
            assert raw.recv(100).startswith(b"HTTP/1.1 504 ")


class Cycle:
    """A request and its response as uvicorn keeps them."""

    def __init__(self, complete: bool) -> None:
        self.response_complete = complete


class Connection:
    """A connection as uvicorn keeps it: with a request in work, between two requests, or closing."""

    def __init__(self, complete: bool | None, closing: bool = False) -> None:
        self.cycle = None if complete is None else Cycle(complete)
        self.aborted = False
        self.transport = SimpleNamespace(is_closing=lambda: closing, abort=self.abort)

    def abort(self) -> None:
        self.aborted = True


def test_connections_that_send_no_request_or_take_no_answer_are_aborted():
    idle, done, busy, stuck = Connection(None), Connection(True), Connection(False), Connection(False, closing=True)
    server: Any = SimpleNamespace(server_state=SimpleNamespace(connections={idle, done, busy, stuck}))

    async def scene() -> None:
        sweeper = asyncio.create_task(sweep(server, seconds=0.1, every=0.01))
        await asyncio.sleep(0.05)
        fresh = Connection(None)
        server.server_state.connections.add(fresh)
        assert not idle.aborted
        await asyncio.sleep(0.08)
        assert [each.aborted for each in (idle, done, busy, stuck, fresh)] == [True, True, False, True, False]
        sweeper.cancel()

    asyncio.run(scene())


def test_a_connection_that_is_used_again_and_again_stays_open_however_often_it_is_seen_between_two_requests():
    used = Connection(True)
    server: Any = SimpleNamespace(server_state=SimpleNamespace(connections={used}))

    async def scene() -> None:
        sweeper = asyncio.create_task(sweep(server, seconds=0.3, every=0.01))
        for _ in range(10):
            await asyncio.sleep(0.06)
            used.cycle = Cycle(complete=True)  # the next request, which has been answered already
        assert not used.aborted
        await asyncio.sleep(0.4)
        assert used.aborted
        sweeper.cancel()

    asyncio.run(scene())


# Failures and logs -----------------------------------------------------------------------------------------


def test_a_failure_of_the_model_is_a_500_without_a_traceback_and_logged_without_texts(
    caplog: pytest.LogCaptureFixture,
):
    def broken(data: Any, *, vectors: bool) -> Any:
        raise RuntimeError(f"cannot read {data[0].examples[0].texts}")

    with caplog.at_level(logging.INFO), serving(predictor(MOOD), engine=broken) as made:
        found = made.refused("/v1/predict/mood", {"texts": ["the secret cat"]})
        assert found == (500, "internal", "the server failed on this request. Its log says where.")
        assert made.client.get("/health").status_code == 200
    (line,) = [record.getMessage() for record in caplog.records if record.name == "mtbert.serve"]
    assert line.startswith("POST /v1/predict/{task}: RuntimeError at test_serve_limits.py:")
    assert " < together.py:" in line
    assert "secret" not in caplog.text


def ask(app: Callable[..., Awaitable[None]], *, body: bytes = b"", **scope: Any) -> list[Message]:
    """Returns the messages of a response of a gate around ``app``."""
    found: list[Message] = []
    given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if given:
            return given.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        found.append(message)

    gate = Gate(app, Limits(seconds=5), None, lambda scope, status, seconds: None)
    whole = {"type": "http", "method": "GET", "path": "/", "headers": [], **scope}
    asyncio.run(gate(whole, receive, send))
    return found


@pytest.mark.parametrize("length", [b"-1", b"x", b"1" * 5000, b"\xb2"])
def test_an_odd_length_is_refused(length: bytes):
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    start, _ = ask(never, headers=[(b"content-length", length)])
    assert start["status"] == 413


def test_a_failure_after_the_answer_has_begun_sends_nothing_more():
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    assert [message["type"] for message in ask(half)] == ["http.response.start"]


def test_a_client_that_leaves_after_its_whole_answer_has_not_left_early():
    seen: list[int] = []
    answered = asyncio.Event()

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        answered.set()
        await asyncio.sleep(0.01)
        seen.append(1)

    given: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if given:
            return given.pop()
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    gate = Gate(answering, Limits(), None, lambda scope, status, seconds: seen.append(status))
    asyncio.run(gate({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send))
    assert seen == [1, 200]


def test_a_message_of_a_refusal_has_no_control_characters():
    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        raise Refused(422, "a\x1b[2J\u202eb")

    start, body = ask(refusing)
    assert json.loads(body["body"])["error"]["message"] == "a\\x1b[2J\\u202eb"
    assert (b"content-length", str(len(body["body"])).encode()) in start["headers"]


def test_a_log_line_is_one_line_without_control_characters_and_traceback():
    try:
        raise ValueError("a text")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "x.py", 1, "path %s\n", ("a\nb\x1b[2J",), (ValueError, error, None)
        )
    assert one_line(record)
    assert logging.Formatter("%(message)s").format(record) == "path a\\nb\\x1b[2J (ValueError)"


def test_metrics_count_requests_by_route_and_never_by_what_a_client_wrote(server: Server):
    for path in ("/secret1", "/v1/predict/secret2", "/v1/predict/mood"):
        server.client.post(path, json=BODY)
    text = server.client.get("/metrics").text
    assert 'mtbert_requests_total{route="/v1/predict/{task}",status="404"} 1.0' in text
    assert 'mtbert_requests_total{route="/v1/predict/{task}",status="200"} 1.0' in text
    assert 'mtbert_requests_total{route="none",status="404"} 1.0' in text
    assert "secret" not in text
    assert server.metric("mtbert_tokens_total") == 2
    assert server.metric('mtbert_request_seconds_count{route="/v1/predict/{task}"}') == 2


def test_the_page_may_load_nothing_from_elsewhere(server: Server):
    found = server.client.get("/")
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    policy = found.headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert {"frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "connect-src 'self'"} <= set(policy)
    assert "http" not in found.text.replace("</html>", "")


def test_the_time_of_a_request_is_measured(server: Server):
    begin = time.perf_counter()
    server.client.get("/v1/tasks")
    assert 0 < server.metric('mtbert_request_seconds_sum{route="/v1/tasks"}') < time.perf_counter() - begin
