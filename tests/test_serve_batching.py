"""The queue of the server: what goes together, what is dropped or refused, and that answers are each request's own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest
import toy_server
from toy_server import MOOD, SAME, Passes, near, predictor, serving, texts, until

from mtbert.model.settings import Pal
from mtbert.use.predictor import Predictor
from mtbert.use.serve.batching import Batcher
from mtbert.use.serve.engines import TorchEngine
from mtbert.use.serve.errors import Refused
from mtbert.use.serve.limits import Limits
from mtbert.use.serve.together import Asked, BatchResult, answer_all

server = toy_server.server


class Told:
    """Remembers what a batcher says about its batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, int]] = []

    def batch(self, requests: int, rows: int, tokens: int) -> None:
        self.batches.append((requests, rows, tokens))


class Held:
    """Answers like :func:`answer_all`, but holds the first batch back until :meth:`release` is called."""

    def __init__(self, made: Predictor) -> None:
        self._answer = partial(answer_all, made, TorchEngine(made.model))
        self.entered, self._free = threading.Event(), threading.Event()
        self.release = self._free.set

    def __call__(self, asked: Sequence[Asked]) -> list[BatchResult]:
        self.entered.set()
        assert self._free.wait(20)
        return self._answer(asked)


def run(scene: Callable[[Batcher, Held, Told], Coroutine[Any, Any, None]], made: Predictor, **more: int) -> Told:
    """Runs a scene with a batcher whose first batch is held back, and returns what the batcher said of its batches."""
    held, told = Held(made), Told()
    batcher = Batcher(held, **{"budget": 4096, "longest": 40, "most": 512, "told": told} | more)
    batcher.start()
    try:
        asyncio.run(scene(batcher, held, told))
    finally:
        held.release()
        batcher.stop()
    return told


async def first(batcher: Batcher, held: Held) -> "asyncio.Task[BatchResult]":
    """Sends a request that keeps the worker busy until the batch is released."""
    task = asyncio.create_task(batcher.ask(mood("a cat")))
    await asyncio.to_thread(held.entered.wait, 20)
    return task


def mood(*given: str) -> Asked:
    return Asked(("mood",), tuple((text,) for text in given))


def test_what_waits_goes_through_the_encoder_in_one_pass_whatever_tasks_it_asks():
    made = predictor()
    passes = Passes(made)
    asked = [
        mood("the cat"),
        Asked(("topics", "mood"), (("a dog",), ("a bird sings",))),
        Asked(("names",), (("the dog runs",),)),
        Asked(("topics",), (("very fast",),), vectors=True),
    ]

    async def scene(batcher: Batcher, held: Held, told: Told) -> None:
        busy = await first(batcher, held)
        others = [asyncio.create_task(batcher.ask(each)) for each in asked]
        await asyncio.sleep(0)
        held.release()
        await busy
        passes.tokens.clear()
        results = [await other for other in others]
        assert near(results[0].answers, [{"mood": made.predict("mood", ["the cat"])[0]}])
        assert near(results[1].answers, made.predict(["mood", "topics"], ["a dog", "a bird sings"]))
        assert near(results[2].answers, [{"names": made.predict("names", ["the dog runs"])[0]}])
        np.testing.assert_allclose(results[3].vectors[:, 0], made.vectors("topics", ["very fast"]), atol=1e-5)
        assert [one.tokens for one in results] == [2, 5, 3, 2]

    # One pass for all four: its twelve tokens are rounded up for the kernels.
    told = run(scene, made)
    assert told.batches == [(1, 1, 2), (4, 5, 12)]


def passes_of(made: Predictor, *asked: Asked) -> list[int]:
    """Returns the number of tokens of each pass that a batch takes."""
    passes = Passes(made)
    answer_all(made, TorchEngine(made.model), asked)
    return passes.tokens


def test_each_form_of_rows_takes_one_pass():
    pair = (("the cat", "a dog"),)
    made = predictor()
    assert len(passes_of(made, mood("a"), Asked(("topics",), (("b",),)))) == 1
    assert len(passes_of(made, Asked(("same",), pair), Asked(("same",), pair))) == 1
    assert len(passes_of(made, Asked(("like", "search"), pair), Asked(("alike",), pair))) == 1
    assert len(passes_of(made, Asked(("like", "same"), pair))) == 2  # two texts apart, and both in one sequence
    assert len(passes_of(made, Asked(("search",), (("a", "b", "c"),)), Asked(("search",), pair))) == 2


def test_rows_are_encoded_only_for_tasks_that_a_request_asks():
    pair = (("the cat", "a dog"),)
    made, asked = predictor(), [Asked(("same",), pair), Asked(("like",), pair * 2)]
    assert passes_of(made, *asked) == [4, 8]
    assert [one.tokens for one in answer_all(made, TorchEngine(made.model), asked)] == [4, 8]


def test_a_task_with_an_adapter_has_a_pass_of_its_own_and_its_own_answers():
    made = predictor(MOOD, toy_server.TOPICS, adapters=Pal(kind="attention", width=4, heads=2, tasks=("mood",)))
    asked = Asked(("mood", "topics"), (("the cat",), ("a dog runs",)))
    assert len(passes_of(made, asked)) == 2
    (found,) = answer_all(made, TorchEngine(made.model), [asked])
    assert near(found.answers, made.predict(["mood", "topics"], ["the cat", "a dog runs"]))


def test_a_batch_ends_at_the_budget_of_tokens_and_a_larger_request_gives_others_their_turn_between_its_parts():
    made, large = predictor(), texts(20)

    async def scene(batcher: Batcher, held: Held, told: Told) -> None:
        busy = await first(batcher, held)
        waiting = [mood(*["the cat"] * 3)] * 3 + [mood(*["a dog sings"] * 20), mood("the cat"), mood(*["the cat"] * 5)]
        others = [asyncio.create_task(batcher.ask(each)) for each in waiting]
        await asyncio.sleep(0)
        assert batcher.waiting == 6  # requests, not parts
        held.release()
        await asyncio.gather(busy, *others)

    # About 3 tokens for a text of 7 bytes, 4 for one of 11: at most 5 rows of the large request fit.
    told = run(scene, made, budget=20)
    sizes = [(requests, rows) for requests, rows, _ in told.batches]
    assert sizes == [(1, 1), (2, 6), (1, 3), (1, 5), (2, 6), (1, 5), (1, 5), (1, 5)]

    async def whole(batcher: Batcher, held: Held, told: Told) -> None:
        held.release()
        found = await batcher.ask(mood(*large))
        assert near(found.answers, [{"mood": answer} for answer in made.predict("mood", large)])
        assert found.tokens == sum(len(text.split()) for text in large)
        long = "the cat " * 100
        assert (await batcher.ask(mood("a dog", long, *["a dog"] * 20, long))).cut == (1, 22)
        found = await batcher.ask(Asked(("topics",), (("a dog",), (long,), ("a dog",), (long,)), vectors=True))
        assert found.cut == (1, 3)
        pairs = list(zip(large[::2], large[1::2], strict=True))
        read = (await batcher.ask(Asked(("like",), tuple(pairs), vectors=True))).vectors
        assert read is not None
        np.testing.assert_allclose(read, made.vectors("like", pairs), atol=1e-5)

    assert len(run(whole, made, budget=20).batches) > 4


def test_a_long_text_counts_as_no_more_tokens_than_the_model_reads():
    async def scene(batcher: Batcher, held: Held, told: Told) -> None:
        busy = await first(batcher, held)
        others = [asyncio.create_task(batcher.ask(mood("the cat " * 500))) for _ in range(3)]
        await asyncio.sleep(0)
        held.release()
        await asyncio.gather(busy, *others)

    assert [requests for requests, _, _ in run(scene, predictor(), budget=80).batches] == [1, 2, 1]


def test_a_cancelled_request_is_dropped_and_the_others_are_answered():
    async def scene(batcher: Batcher, held: Held, told: Told) -> None:
        busy = await first(batcher, held)
        tasks = [asyncio.create_task(batcher.ask(mood(text))) for text in ("the cat", "a dog", "a bird")]
        await asyncio.sleep(0)
        assert batcher.waiting == 3
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        assert batcher.waiting == 2
        busy.cancel()  # the worker has it already: only its result is dropped
        held.release()
        assert [len((await task).answers) for task in (tasks[0], tasks[2])] == [1, 1]

    assert [(requests, rows) for requests, rows, _ in run(scene, predictor()).batches] == [(1, 1), (2, 2)]


def test_more_than_the_allowed_number_of_requests_are_refused_and_later_ones_are_not():
    async def scene(batcher: Batcher, held: Held, told: Told) -> None:
        busy = await first(batcher, held)
        others = [asyncio.create_task(batcher.ask(mood("a dog"))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refused, match=r"2 requests wait already\. Try again soon\.") as refused:
            await batcher.ask(mood("a dog"))
        assert (refused.value.status, refused.value.headers) == (429, {"retry-after": "1"})
        held.release()
        await asyncio.gather(busy, *others)
        assert len((await batcher.ask(mood("a dog"))).answers) == 1

    run(scene, predictor(), most=2)


def test_one_request_that_fails_does_not_spoil_the_others_of_its_batch():
    made = predictor()
    answer = partial(answer_all, made, TorchEngine(made.model))

    def failing(asked: Sequence[Asked]) -> list[BatchResult]:
        if any("bird" in row[0] for one in asked for row in one.rows):
            raise FloatingPointError("not finite")
        return answer(asked)

    async def scene(batcher: Batcher) -> list[Any]:
        given = ("the cat", "a bird", "a dog")
        return await asyncio.gather(*(batcher.ask(mood(text)) for text in given), return_exceptions=True)

    batcher = Batcher(failing, budget=4096, longest=40, most=512, told=Told())
    batcher.start()
    found = asyncio.run(scene(batcher))
    batcher.stop()
    assert near(
        [found[0].answers, found[2].answers], [[{"mood": a}] for a in made.predict("mood", ["the cat", "a dog"])]
    )
    assert isinstance(found[1], FloatingPointError)


def test_stopping_answers_what_waits_and_refuses_what_comes():
    async def scene(batcher: Batcher, held: Held, told: Told) -> None:
        busy = await first(batcher, held)
        other = asyncio.create_task(batcher.ask(mood("a dog")))
        await asyncio.sleep(0)
        stopped = asyncio.create_task(asyncio.to_thread(batcher.stop))
        while batcher.ready:
            await asyncio.sleep(0)
        with pytest.raises(Refused, match="the server is stopping") as refused:
            await batcher.ask(mood("a dog"))
        assert refused.value.status == 503
        held.release()
        await asyncio.gather(busy, other, stopped)
        assert near(other.result().answers, [{"mood": a} for a in predictor().predict("mood", ["a dog"])])

    run(scene, predictor())


def test_two_hundred_requests_at_a_time_each_get_their_own_answers():
    made = predictor()
    singles, pairs = texts(150), list(zip(texts(50, seed=1), texts(50, seed=2), strict=True))

    async def ask_all(url: str) -> list[Any]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False) as client:

            async def ask(row: Any) -> Any:
                found = await client.post("/v1/predict", json={"texts": [row]})
                assert found.status_code == 200, found.text
                return found.json()["answers"][0]

            return await asyncio.gather(*map(ask, [*singles, *pairs]))

    passes = Passes(made)
    with serving(made) as running:
        found = asyncio.run(ask_all(running.url))
        assert len(passes.tokens) < 100  # far fewer passes than requests
        assert running.metric("mtbert_batch_requests_sum") == 200
    wanted = [*made.predict(["mood", "topics", "names"], singles), *made.predict(made.taking(2), pairs)]
    for row, answers, own in zip([*singles, *pairs], found, wanted, strict=True):
        assert near(answers, own), row


def test_a_client_that_leaves_is_dropped_from_the_queue():
    made = predictor(MOOD, SAME)
    held = threading.Event()
    engine = TorchEngine(made.model)

    def slow(data: Any, *, vectors: bool) -> Any:
        assert held.wait(20)
        return engine(data, vectors=vectors)

    with serving(made, Limits(), engine=slow) as running:
        body = {"texts": ["the cat"]}
        with httpx.Client(base_url=running.url, timeout=0.3, trust_env=False) as impatient:
            for _ in range(2):  # the first is with the model, the second waits
                with pytest.raises(httpx.ReadTimeout):
                    impatient.post("/v1/predict/mood", json=body)
        until(lambda: running.metric("mtbert_waiting_requests") == 0)
        held.set()
        assert running.post("/v1/predict/mood", body)["answers"]
        assert running.metric('mtbert_requests_total{route="/v1/predict/{task}",status="499"}') == 2
        assert running.metric("mtbert_batch_requests_sum") == 2  # the one that waited never reached the model
