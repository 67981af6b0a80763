"""Batching without a timer: when the worker is free, the requests that wait become the next batch.

The number of tokens in a batch is limited. A request with more tokens is answered in parts, and other requests get
their turn between one part and the next. Requests wait on the event loop; one thread answers them. The thread takes its
next batch itself, so it never waits for the event loop while there is work.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from mtbert.use.serve.errors import Refused
from mtbert.use.serve.limits import LOG, RETRY, crash_place
from mtbert.use.serve.together import Asked, BatchResult, join_results


class Told(Protocol):
    """The interface of an object that is told about each batch, such as the server's metrics."""

    def batch(self, requests: int, rows: int, tokens: int) -> None:
        """Records that a batch was answered. The arguments count its requests, rows and tokens."""
        ...


@dataclass(eq=False)
class _Request:
    """A request that waits for its result. ``results`` holds the results for the parts that have been answered."""

    parts: deque["_Part"]  # that wait
    missing: int  # parts without a result
    future: asyncio.Future[BatchResult]
    results: list[BatchResult] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows of one request that are answered in the same batch."""

    asked: Asked
    cost: int  # tokens, estimated
    request: _Request

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for the result."""
        return not self.request.future.done()


class Batcher:
    """Collects requests, and answers them in a thread of its own.

    A request is an :class:`~mtbert.use.serve.together.Asked`: rows of texts, and the tasks that answer them.

    Args:
        answer: A function that answers several requests together.
        budget: The largest number of tokens in a batch. A request with more tokens than ``budget`` is answered in
            several batches. A row with more tokens than ``budget`` becomes a batch of its own.
        longest: The largest number of tokens that a sequence may have. Longer sequences are cut.
        most: The largest number of requests that may wait. Further requests are refused.
        told: An object whose method :meth:`Told.batch` is called after each batch.
    """

    def __init__(
        self, answer: Callable[[Sequence[Asked]], list[BatchResult]], budget: int, longest: int, most: int, told: Told
    ) -> None:
        self._answer, self.budget, self._longest, self._most, self._told = answer, budget, longest, most, told
        self._requests: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self.broken = False  # whether an error has ended the thread
        self._thread = threading.Thread(target=self._work, name="mtbert-model", daemon=True)

    @property
    def waiting(self) -> int:
        """The number of requests that wait."""
        return len(self._requests)

    @property
    def ready(self) -> bool:
        """Whether the thread that answers requests is running and has not been told to stop."""
        return self._thread.is_alive() and not self._stopping and not self.broken

    def start(self) -> None:
        """Starts the thread that answers requests."""
        self._thread.start()

    def stop(self, seconds: float | None = None) -> None:
        """Tells the thread to end after it has answered all waiting requests.

        Returns when the thread has ended, or after ``seconds`` seconds.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(seconds)

    async def ask(self, asked: Asked) -> BatchResult:
        """Returns the result for one request. If the caller is cancelled, the request is dropped.

        Raises:
            Refused: If too many requests wait, or if the server is stopping.
        """
        request = _Request(deque(), 0, asyncio.get_running_loop().create_future())
        request.parts.extend(self._parts(asked, request))
        request.missing = len(request.parts)
        with self._changed:
            if self.broken:
                raise stopped()
            if not self.ready:
                raise Refused(503, "the server is stopping. Ask another one.")
            if len(self._requests) >= self._most:
                raise Refused(429, f"{self._most:,} requests wait already. Try again soon.", RETRY)
            self._requests.append(request)
            self._changed.notify()
        try:
            return await request.future
        except asyncio.CancelledError:
            with self._changed:
                if request in self._requests:
                    self._requests.remove(request)
            raise

    def _parts(self, asked: Asked, request: _Request) -> Iterator[_Part]:
        """Yields the parts of a request, in order. Each has as many rows as fit into a batch."""
        start, cost = 0, 0
        for i, row in enumerate(asked.rows):
            own = self._cost(row)
            if i > start and cost + own > self.budget:
                yield _Part(replace(asked, rows=asked.rows[start:i]), cost, request)
                start, cost = i, 0
            cost += own
        yield _Part(replace(asked, rows=asked.rows[start:]), cost, request)

    def _cost(self, row: Sequence[str]) -> int:
        """Returns roughly how many tokens a row has: one for every four bytes."""
        return sum(min(len(text.encode()) // 4 + 2, self._longest) for text in row)

    def _work(self) -> None:
        parts: list[_Part] = []
        try:
            while parts := self._next():
                try:
                    self._run(parts)
                except Exception as error:
                    LOG.error("a batch: %s", crash_place(error))
                    for part in parts:
                        _deliver(part.request, error)
        except BaseException as error:
            # The thread ends. Without this, all who wait would wait until their time is over.
            LOG.critical("the model has stopped: %s", crash_place(error))
            with self._changed:
                self.broken = True
                left, self._requests = self._requests, deque()
            for request in [*(part.request for part in parts), *left]:
                _deliver(request, stopped())

    def _next(self) -> list[_Part]:
        """Waits for a request, and returns the next batch: parts of waiting requests, up to ``budget`` tokens.

        A batch contains at most one part of each request. A request that has more parts goes to the end of the queue.
        Returns an empty list when the thread should end.
        """
        with self._changed:
            while not self._requests and not self._stopping:
                self._changed.wait()
            taken, cost, more = list[_Part](), 0, list[_Request]()
            while self._requests and (not taken or cost + self._requests[0].parts[0].cost <= self.budget):
                request = self._requests.popleft()
                taken.append(request.parts.popleft())
                cost += taken[-1].cost
                if request.parts:
                    more.append(request)
            self._requests.extend(more)
            return taken

    def _run(self, parts: Sequence[_Part]) -> None:
        """Answers parts of requests in one batch. If that fails, answers each part alone: only faulty parts fail."""
        parts = [part for part in parts if part.wanted]
        if not parts:
            return
        try:
            found = self._answer([part.asked for part in parts])
        except Exception as error:
            if len(parts) > 1:
                for part in parts:
                    self._run([part])
            else:
                _deliver(parts[0].request, error)
            return
        rows = sum(len(part.asked.rows) for part in parts)
        try:
            self._told.batch(len(parts), rows, sum(result.tokens for result in found))
        finally:
            for part, result in zip(parts, found, strict=True):
                part.request.results.append(result)
                part.request.missing -= 1
                if not part.request.missing:
                    _deliver(part.request, join_results(part.request.results))


def stopped() -> Refused:
    """Returns the exception that refuses a request after the model has crashed: status 503."""
    return Refused(503, "the model has stopped. The server must be started again.")


def _deliver(request: _Request, result: BatchResult | Exception) -> None:
    """Gives a request its result, on the event loop that waits for it."""

    def give() -> None:
        if request.future.done():
            return
        if isinstance(result, Exception):
            request.future.set_exception(result)
        else:
            request.future.set_result(result)

    with suppress(RuntimeError):  # the loop is closed, so nobody waits
        request.future.get_loop().call_soon_threadsafe(give)
