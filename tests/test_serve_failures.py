"""The server's queue when something fails or ends: nobody waits in vain, and the probes say so."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from toy_server import MOOD, predictor, serving, until

from mtbert.use.serve.app import STOP_SECONDS
from mtbert.use.serve.batching import Batcher
from mtbert.use.serve.engines import TorchEngine
from mtbert.use.serve.errors import Refused
from mtbert.use.serve.together import Asked, BatchResult


class Told:
    """Counts batches. Fails on the first batch if ``fails`` is true."""

    def __init__(self, fails: bool = False) -> None:
        self.rows, self._fails = list[int](), fails

    def batch(self, requests: int, rows: int, tokens: int) -> None:
        self.rows.append(rows)
        if self._fails and len(self.rows) == 1:
            raise ValueError("no room for a metric")


def plain(asked: Sequence[Asked]) -> list[BatchResult]:
    """Answers each row with its own text."""
    if any(row == ("exit",) for one in asked for row in one.rows):
        raise SystemExit
    if any(row == ("bird",) for one in asked for row in one.rows):
        raise FloatingPointError("not finite")
    return [BatchResult([{"mood": {"label": text}} for (text,) in one.rows], None, (), len(one.rows)) for one in asked]


def mood(*given: str) -> Asked:
    return Asked(("mood",), tuple((text,) for text in given))


def run(
    scene: Callable[[Batcher], Coroutine[Any, Any, None]],
    answer: Callable[[Sequence[Asked]], list[BatchResult]] = plain,
    told: Told | None = None,
) -> None:
    batcher = Batcher(answer, budget=9, longest=40, most=512, told=told or Told())
    batcher.start()
    try:
        asyncio.run(asyncio.wait_for(scene(batcher), 20))
    finally:
        batcher.stop(20)


def test_metrics_that_fail_cost_no_answer_and_are_logged_without_their_message(caplog: pytest.LogCaptureFixture):
    told = Told(fails=True)

    async def scene(batcher: Batcher) -> None:
        for text in ("cat", "dog"):
            assert (await batcher.ask(mood(text))).answers == [{"mood": {"label": text}}]
        assert batcher.ready

    run(scene, told=told)
    assert told.rows == [1, 1]
    assert "a batch: ValueError at test_serve_failures.py" in caplog.text
    assert "room" not in caplog.text


def test_when_the_thread_ends_by_an_error_everybody_who_waits_is_told_at_once():
    async def scene(batcher: Batcher) -> None:
        assert not batcher.broken
        asked = [batcher.ask(mood(*words)) for words in (["exit"], ["cat"] * 20)]
        for error in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(error, Refused)
            assert (error.status, error.message) == (
                503,
                "the model has stopped. The server must be started again.",
            )
        await asyncio.to_thread(until, lambda: batcher.broken)
        with pytest.raises(Refused, match="the model has stopped"):
            await batcher.ask(mood("cat"))

    run(scene)


def test_the_probes_of_life_fail_when_the_thread_of_the_model_has_ended():
    def ends(data: Any, *, vectors: bool) -> Any:
        raise SystemExit

    paths = ("/health", "/ready", "/v2/health/live", "/v2/health/ready")
    with serving(predictor(MOOD), engine=ends) as server:
        assert [server.client.get(path).status_code for path in paths] == [200] * 4
        status, kind, message = server.refused("/v1/predict", {"texts": ["the cat"]})
        assert (status, kind, message[:22]) == (503, "unavailable", "the model has stopped.")
        until(lambda: server.client.get("/health").status_code == 503)
        assert [server.client.get(path).status_code for path in paths] == [503] * 4
        assert server.client.get("/v2/health/live").json() == {"live": False}


def test_a_request_in_parts_fails_as_a_whole_if_one_part_fails_and_others_do_not():
    async def scene(batcher: Batcher) -> None:
        large = mood("cat", "dog", "cow", "bird", "cat", "dog")
        found = await asyncio.gather(batcher.ask(large), batcher.ask(mood("cat")), return_exceptions=True)
        assert isinstance(found[0], FloatingPointError)
        assert isinstance(found[1], BatchResult)

    run(scene)


def test_the_parts_of_a_request_that_nobody_waits_for_are_not_answered():
    entered, free, seen = threading.Event(), threading.Event(), list[tuple[tuple[str, ...], ...]]()

    def held(asked: Sequence[Asked]) -> list[BatchResult]:
        entered.set()
        assert free.wait(20)
        seen.extend(one.rows for one in asked)
        if len(asked) > 1:
            raise FloatingPointError("not finite")
        return plain(asked)

    async def scene(batcher: Batcher) -> None:
        large = asyncio.create_task(batcher.ask(mood(*["cat"] * 30)))
        await asyncio.to_thread(entered.wait, 20)
        large.cancel()  # its first part is with the model
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert batcher.waiting == 0
        free.set()
        assert (await batcher.ask(mood("dog"))).answers == [{"mood": {"label": "dog"}}]

    run(scene, held)
    assert seen == [(("cat",),) * 4, (("dog",),)]


def test_requests_of_a_failed_batch_are_not_asked_again_if_nobody_waits_for_them():
    entered, free, seen = threading.Event(), threading.Event(), list[str]()

    def held(asked: Sequence[Asked]) -> list[BatchResult]:
        if len(asked) > 1:
            entered.set()
            assert free.wait(20)
            raise FloatingPointError("not finite")
        seen.extend(text for (text,) in asked[0].rows)
        return plain(asked)

    async def scene(batcher: Batcher) -> None:
        with batcher._changed:  # both come into one batch
            tasks = [asyncio.create_task(batcher.ask(mood(text))) for text in ("cat", "dog")]
            await asyncio.sleep(0)
        await asyncio.to_thread(entered.wait, 20)
        tasks[0].cancel()
        await asyncio.sleep(0)
        free.set()
        await tasks[1]

    run(scene, held)
    assert seen == ["dog"]


def test_the_end_of_the_server_waits_for_a_stuck_model_for_some_seconds_only(monkeypatch: pytest.MonkeyPatch):
    assert STOP_SECONDS == 5
    monkeypatch.setattr("mtbert.use.serve.app.STOP_SECONDS", 0.05)
    made, entered, free = predictor(MOOD), threading.Event(), threading.Event()
    engine = TorchEngine(made.model)

    def stuck(data: Any, *, vectors: bool) -> Any:
        entered.set()
        assert free.wait(20)
        return engine(data, vectors=vectors)

    from mtbert.use.serve.app import create_app

    async def scene() -> None:
        gate = create_app(made, stuck)
        context = gate.app.router.lifespan_context(gate.app)  # type: ignore[attr-defined]
        async with asyncio.timeout(10):
            async with context:
                thread = next(each for each in threading.enumerate() if each.name == "mtbert-model" and each.is_alive())
                assert thread.daemon
                request = asyncio.create_task(_post(gate))
                await asyncio.to_thread(entered.wait, 20)
                request.cancel()
            await asyncio.gather(request, return_exceptions=True)

    try:
        asyncio.run(scene())
    finally:
        free.set()


async def _post(gate: Any) -> None:
    body = iter([{"type": "http.request", "body": b'{"texts": ["the cat"]}', "more_body": False}])

    async def receive() -> Any:
        message = next(body, None)
        if message is None:
            await asyncio.Event().wait()
        return message

    async def send(message: Any) -> None:
        pass

    path = "/v1/predict"
    headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(),
             "query_string": b"", "headers": headers, "scheme": "http", "root_path": ""}  # fmt: skip
    await gate(scope, receive, send)
