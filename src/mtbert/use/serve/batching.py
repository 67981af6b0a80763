"""Batching without a timer: when the worker is free, the requests that wait become the next batch.

The number of tokens in a batch is limited. A larger question is answered in pieces, and others get their turn between
two of them. Requests wait on the event loop; one thread answers them. The thread takes its next batch itself, so it
never waits for the event loop while there is work.
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
class _Question:
    """A question that waits, and the results of those of its pieces that have been answered."""

    pieces: deque["_Piece"]  # that wait
    missing: int  # pieces without a result
    future: asyncio.Future[BatchResult]
    results: list[BatchResult] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some rows of a question, which are answered in one batch."""

    asked: Asked
    cost: int  # tokens, estimated
    question: _Question

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for the result."""
        return not self.question.future.done()


class Batcher:
    """Collects questions, and answers them in a thread of its own.

    Args:
        answer: A function that answers several questions together.
        budget: The largest number of tokens that a batch may have. A question with more tokens is answered in several
            batches. A row with more tokens becomes a batch of its own.
        longest: The largest number of tokens that a sequence may have. Longer sequences are cut.
        most: The largest number of questions that may wait. Further questions are refused.
        told: An object whose method :meth:`Told.batch` is called after each batch.
    """

    def __init__(
        self, answer: Callable[[Sequence[Asked]], list[BatchResult]], budget: int, longest: int, most: int, told: Told
    ) -> None:
        self._answer, self.budget, self._longest, self._most, self._told = answer, budget, longest, most, told
        self._questions: deque[_Question] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self.broken = False  # whether an error has ended the thread
        self._thread = threading.Thread(target=self._work, name="mtbert-model", daemon=True)

    @property
    def waiting(self) -> int:
        """The number of questions that wait."""
        return len(self._questions)

    @property
    def ready(self) -> bool:
        """Whether the thread that answers questions is running and has not been told to stop."""
        return self._thread.is_alive() and not self._stopping and not self.broken

    def start(self) -> None:
        """Starts the thread that answers questions."""
        self._thread.start()

    def stop(self, seconds: float | None = None) -> None:
        """Ends the thread after it has answered everything that waits. Waits for that, at most ``seconds`` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(seconds)

    async def ask(self, asked: Asked) -> BatchResult:
        """Returns the result for one question. If the caller is cancelled, the question is dropped.

        Raises:
            Refused: If too many questions wait, or if the server is stopping.
        """
        question = _Question(deque(), 0, asyncio.get_running_loop().create_future())
        question.pieces.extend(self._pieces(asked, question))
        question.missing = len(question.pieces)
        with self._changed:
            if self.broken:
                raise stopped()
            if not self.ready:
                raise Refused(503, "the server is stopping. Ask another one.")
            if len(self._questions) >= self._most:
                raise Refused(429, f"{self._most:,} requests wait already. Try again soon.", RETRY)
            self._questions.append(question)
            self._changed.notify()
        try:
            return await question.future
        except asyncio.CancelledError:
            with self._changed:
                if question in self._questions:
                    self._questions.remove(question)
            raise

    def _pieces(self, asked: Asked, question: _Question) -> Iterator[_Piece]:
        """Yields the parts of a request, in order. Each has as many rows as fit into a batch."""
        start, cost = 0, 0
        for i, row in enumerate(asked.rows):
            own = self._cost(row)
            if i > start and cost + own > self.budget:
                yield _Piece(replace(asked, rows=asked.rows[start:i]), cost, question)
                start, cost = i, 0
            cost += own
        yield _Piece(replace(asked, rows=asked.rows[start:]), cost, question)

    def _cost(self, row: Sequence[str]) -> int:
        """Returns roughly how many tokens a row has: one for every four bytes."""
        return sum(min(len(text.encode()) // 4 + 2, self._longest) for text in row)

    def _work(self) -> None:
        pieces: list[_Piece] = []
        try:
            while pieces := self._next():
                try:
                    self._run(pieces)
                except Exception as error:
                    LOG.error("a batch: %s", crash_place(error))
                    for piece in pieces:
                        _deliver(piece.question, error)
        except BaseException as error:
            # The thread ends. Without this, all who wait would wait until their time is over.
            LOG.critical("the model has stopped: %s", crash_place(error))
            with self._changed:
                self.broken = True
                left, self._questions = self._questions, deque()
            for question in [*(piece.question for piece in pieces), *left]:
                _deliver(question, stopped())

    def _next(self) -> list[_Piece]:
        """Waits for a request, and returns the next batch: parts of waiting requests, up to ``budget`` tokens.

        A batch has at most one part of each request. A request that has more parts goes to the end of the queue.
        Returns an empty list when the thread should end.
        """
        with self._changed:
            while not self._questions and not self._stopping:
                self._changed.wait()
            taken, cost, more = list[_Piece](), 0, list[_Question]()
            while self._questions and (not taken or cost + self._questions[0].pieces[0].cost <= self.budget):
                question = self._questions.popleft()
                taken.append(question.pieces.popleft())
                cost += taken[-1].cost
                if question.pieces:
                    more.append(question)
            self._questions.extend(more)
            return taken

    def _run(self, pieces: Sequence[_Piece]) -> None:
        """Answers parts of requests in one batch. If that fails, answers each alone, so that only faulty parts fail."""
        pieces = [piece for piece in pieces if piece.wanted]
        if not pieces:
            return
        try:
            found = self._answer([piece.asked for piece in pieces])
        except Exception as error:
            if len(pieces) > 1:
                for piece in pieces:
                    self._run([piece])
            else:
                _deliver(pieces[0].question, error)
            return
        rows = sum(len(piece.asked.rows) for piece in pieces)
        try:
            self._told.batch(len(pieces), rows, sum(result.tokens for result in found))
        finally:
            for piece, result in zip(pieces, found, strict=True):
                piece.question.results.append(result)
                piece.question.missing -= 1
                if not piece.question.missing:
                    _deliver(piece.question, join_results(piece.question.results))


def stopped() -> Refused:
    """Returns the refusal of a server whose model has stopped by an error."""
    return Refused(503, "the model has stopped. The server must be started again.")


def _deliver(question: _Question, result: BatchResult | Exception) -> None:
    """Gives a question its result, on the event loop that waits for it."""

    def give() -> None:
        if question.future.done():
            return
        if isinstance(result, Exception):
            question.future.set_exception(result)
        else:
            question.future.set_result(result)

    with suppress(RuntimeError):  # the loop is closed, so nobody waits
        question.future.get_loop().call_soon_threadsafe(give)
