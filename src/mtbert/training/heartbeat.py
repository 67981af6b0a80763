"""Heartbeats: each process of a run regularly increases a counter, so that the other processes notice if it hangs.

If a process ends, its connections are closed, and the other processes notice at once. But a process that was stopped,
or whose machine or network has failed, keeps its connections. The other processes then wait for it in a call that
nothing can interrupt. So each process has two more threads. One thread increases the counter of this process in the
store of ``torchrun``. The other thread reads the counters of all processes, and ends this process if another process
hangs.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event, Thread, current_thread, main_thread

from mtbert.messages import clean, few
from mtbert.processes import LONGEST_WAIT, Connected, Processes

EVERY = 3.0  # seconds from one beat to the next
MISSED = 6  # beats in a row that a process misses before the others give it up
LATE = 20  # beats of the others from one line about a process that has not begun to the next
# A process may be late for good reasons: it imports PyTorch from a slow disk, or its script prepares data first.
GIVEN_UP = LONGEST_WAIT.total_seconds()  # seconds until the others give up a process that has not begun


@contextmanager
def heartbeats(processes: Processes) -> Iterator[Processes]:
    """Yields ``processes``, and ends this process with code 1 if another process of the run no longer answers.

    Inside the ``with`` block, every process regularly signals that it is alive. A process that is not yet in the block,
    or has left it normally, counts as alive; a process that has left it by an error does not. If this process leaves
    the block by an error, it ignores SIGTERM from then on, so that it can still report the error.

    If one process no longer answers, all other processes end, but only one of them prints the reason.
    :meth:`Processes.telling` sets the wording of the reason. If the run has a single process, nothing is done.
    """
    if not isinstance(processes, Connected):
        yield processes
        return
    ended, alone, heard = Event(), Event(), [0] * processes.size
    processes.failed = False  # a script may train again after a failure
    threads = [
        Thread(target=_beat, args=(processes, ended, alone, heard), daemon=True),
        Thread(target=_listen, args=(processes, ended, alone, heard), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield processes
    except BaseException:
        if current_thread() is main_thread():  # others cannot set signals
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it as soon as another process has ended
        processes.fail()
        raise
    finally:
        ended.set()
        for thread in threads:
            thread.join(EVERY)  # longer only if the store does not answer


def _beat(processes: Connected, ended: Event, alone: Event, heard: list[int]) -> None:
    """Adds 1 to this process's count of beats every ``EVERY`` seconds, until ``ended`` is set.

    With each beat, stores the counts of all processes in ``heard``. When ``ended`` is set, resets the count of this
    process to 0. After a call of :meth:`Connected.fail`, the count is neither increased nor reset.

    ``torchrun`` holds the counts. If it cannot be reached, this function sets ``alone``.
    """
    while True:
        try:
            heard[:] = processes.beat(1)
            alone.clear()
        except RuntimeError:
            alone.set()
        if ended.wait(EVERY):
            break
    with suppress(RuntimeError):
        processes.beat(-heard[processes.rank])  # 0 again: not taking part


def _listen(processes: Connected, ended: Event, alone: Event, heard: list[int]) -> None:
    """Ends this process if another process has stopped sending heartbeats, or is too late with its first heartbeat.

    ``heard`` holds the number of heartbeats of each process so far. Time in which the machine is suspended does not
    count. Until all processes are connected, a message on standard error regularly names the processes that have not
    sent a heartbeat yet. Only the process with the lowest rank of all that have sent a heartbeat prints the message.
    """
    before, missed, looks = list(heard), [0] * processes.size, 0
    while not ended.wait(EVERY):
        now, looks = list(heard), looks + 1
        missed, before = _missed(missed, before, now), now
        lost = [rank for rank, beats in enumerate(missed) if beats >= MISSED and rank != processes.rank]
        if lost:
            who = "torchrun" if alone.is_set() else f"rank {lost[0]} of this run"
            _end(processes, processes.told(f"{who} has not answered for {MISSED * EVERY:.0f} seconds."))
        late = [] if processes.met else [f"rank {rank}" for rank, beats in enumerate(now) if not beats]
        sentence = f"{few(late)}: not begun after {looks * EVERY:.0f} seconds."
        if late and looks * EVERY >= GIVEN_UP:
            _end(processes, processes.told(sentence))
        if late and looks % LATE == 0 and not any(now[: processes.rank]):
            _say(f"{sentence} The others wait.")


def _missed(missed: Sequence[int], before: Sequence[int], now: Sequence[int]) -> list[int]:
    """Returns, for each process, the number of heartbeats in a row that it has missed.

    ``missed`` holds these numbers at the last look. ``before`` holds how many heartbeats each process had sent at the
    last look, and ``now`` how many it has sent now. A process that has sent 0 heartbeats takes no part, and misses
    none.
    """
    return [beats + 1 if then == count > 0 else 0 for beats, then, count in zip(missed, before, now, strict=True)]


def _end(processes: Connected, line: str) -> None:
    """Prints ``line``, and ends this process at once with code 1, whatever its other threads do.

    If another process of the run has already said that it will print why the run ended, ``line`` is not printed.
    """
    speaks: list[bool] = []
    asking = Thread(target=lambda: speaks.append(processes.may_speak()), daemon=True)
    asking.start()
    asking.join(EVERY)  # without a store there is no answer
    if speaks != [False]:
        _say(line)
    os._exit(1)


def _say(line: str) -> None:
    print(f"mtbert: {clean(line)}", file=sys.stderr, flush=True)
