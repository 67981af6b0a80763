"""Batching without a timer: when the worker is free, the requests that wait become the next batch.

The number of tokens in a batch is limited. Requests wait on the event loop; one thread answers them. The thread takes
its next batch itself, so it never waits for the event loop while there is work.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mtbert.use.serve.errors import Refused
from mtbert.use.serve.limits import RETRY
from mtbert.use.serve.together import Asked, BatchResult


class Told(Protocol):
    """The interface of an object that is told about each batch, such as the server's metrics."""

    def batch(self, requests: int, rows: int, tokens: int) -> None:
        """Records that a batch was answered. The arguments count its requests, rows and tokens."""
        ...


@dataclass(frozen=True)
class _Job:
    asked: Asked
    cost: int  # tokens, estimated
    future: asyncio.Future[BatchResult]


class Batcher:
    """Collects questions, and answers them in a thread of its own.

    Args:
        answer: A function that answers several questions together.
        budget: The largest number of tokens that a batch may have. A question with more tokens becomes a batch of its
            own.
        longest: The largest number of tokens that a sequence may have. Longer sequences are cut.
        most: The largest number of questions that may wait. Further questions are refused.
        told: An object whose method :meth:`Told.batch` is called after each batch.
    """

    def __init__(
        self, answer: Callable[[Sequence[Asked]], list[BatchResult]], budget: int, longest: int, most: int, told: Told
    ) -> None:
        self._answer, self.budget, self._longest, self._most, self._told = answer, budget, longest, most, told
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="mtbert-model", daemon=True)

    @property
    def waiting(self) -> int:
        """The number of questions that wait."""
        return len(self._jobs)

    @property
    def ready(self) -> bool:
        """Whether the thread that answers questions is running and has not been told to stop."""
        return self._thread.is_alive() and not self._stopping

    def start(self) -> None:
        """Starts the thread that answers questions."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after it has answered everything that waits."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    async def ask(self, asked: Asked) -> BatchResult:
        """Returns the result for one question. If the caller is cancelled, the question is dropped.

        Raises:
            Refused: If too many questions wait, or if the server is stopping.
        """
        job = _Job(asked, self._cost(asked), asyncio.get_running_loop().create_future())
        with self._changed:
            if not self.ready:
                raise Refused(503, "the server is stopping. Ask another one.")
            if len(self._jobs) >= self._most:
                raise Refused(429, f"{self._most:,} requests wait already. Try again soon.", RETRY)
            self._jobs.append(job)
            self._changed.notify()
        try:
            return await job.future
        except asyncio.CancelledError:
            with self._changed:
                if job in self._jobs:
                    self._jobs.remove(job)
            raise

    def _cost(self, asked: Asked) -> int:
        """Returns roughly how many tokens a question has: one for every four bytes."""
        sizes = (len(text.encode()) // 4 + 2 for row in asked.rows for text in row)
        return sum(min(size, self._longest) for size in sizes)

    def _work(self) -> None:
        while jobs := self._next():
            self._run(jobs)

    def _next(self) -> list[_Job]:
        """Waits for a question, then removes waiting questions from the queue, up to the budget, and returns them.

        Returns an empty list when the thread should end.
        """
        with self._changed:
            while not self._jobs and not self._stopping:
                self._changed.wait()
            taken, cost = list[_Job](), 0
            while self._jobs and (not taken or cost + self._jobs[0].cost <= self.budget):
                taken.append(self._jobs.popleft())
                cost += taken[-1].cost
            return taken

    def _run(self, jobs: Sequence[_Job]) -> None:
        """Answers questions together. If that fails, each is asked alone, so that one cannot spoil the others."""
        try:
            found = self._answer([job.asked for job in jobs])
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._run([job])
            else:
                _deliver(jobs, [error])
            return
        self._told.batch(len(jobs), sum(len(job.asked.rows) for job in jobs), sum(one.tokens for one in found))
        _deliver(jobs, found)


def _deliver(jobs: Sequence[_Job], results: Sequence[BatchResult | Exception]) -> None:
    """Gives each question its result, on the event loop that waits for it."""

    def give() -> None:
        for job, result in zip(jobs, results, strict=True):
            if job.future.done():
                continue
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

    jobs[0].future.get_loop().call_soon_threadsafe(give)
