"""Signals that stop a run: the first asks it to stop, a later one ends the process, and two at once count as one."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mtbert.training.signals import signals

PROGRAM = """
import sys, time
import mtbert.training.signals
mtbert.training.signals.SECOND_SIGNAL = float(sys.argv[1])
with mtbert.training.signals.signals() as stopping:
    print("ready", flush=True)
    while not stopping():
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(30 if float(sys.argv[1]) == 0 else 0.5)
print("ended", flush=True)
"""


def test_two_signals_at_once_count_as_one_because_timeout_sends_two(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(number))
    with signals() as stopping:
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        assert not stopping()
        handler(signal.SIGTERM, None)
        assert stopping()
        now[0] += 0.9
        handler(signal.SIGTERM, None)
        assert killed == []
        now[0] += 0.2
        handler(signal.SIGTERM, None)
        assert killed == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_further_signals_to_one_of_several_processes_are_ignored(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "kill", lambda pid, number: pytest.fail("killed"))
    with signals(several=True) as stopping:
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        for seconds in (0.0, 0.3, 5.0, 25.0):
            now[0] = 100.0 + seconds
            handler(signal.SIGTERM, None)
        assert stopping()
        assert signal.getsignal(signal.SIGTERM) == handler


def test_a_signal_that_is_sent_along_with_the_first_one_before_a_long_computation_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("mtbert.training.signals.SECOND_SIGNAL", 0.1)
    monkeypatch.setattr(os, "kill", lambda pid, number: pytest.fail("killed"))
    along = threading.Timer(0.02, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM))
    with signals() as stopping:
        along.start()
        signal.raise_signal(signal.SIGTERM)
        sum(range(10**7))  # Python handles no signal meanwhile
        assert stopping()
    along.join()


@pytest.mark.parametrize(("apart", "code"), [(10.0, 0), (0.0, -signal.SIGTERM)])
def test_a_second_signal_ends_a_process_unless_it_comes_at_once(apart: float, code: int):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(apart)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == code
    process.stdout.close()
