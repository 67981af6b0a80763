"""An interrupt during the first call of a process waits until torch is imported, because half of torch is of no use."""

import ast
import signal
import sys
import threading
from pathlib import Path

import pytest

import mtbert
from mtbert import api_studies

INTERRUPTED = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
load = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that is interrupted while ``mtbert.load`` imports it."""
    name = "interrupted_while_imported"
    (tmp_path / f"{name}.py").write_text(INTERRUPTED)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(mtbert._MODULES, "load", name)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_an_interrupt_comes_after_an_import_that_is_whole(module: str):
    with pytest.raises(KeyboardInterrupt):
        _ = mtbert.load
    assert sys.modules[module].load == 3
    assert mtbert.load == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_is_not_lost_where_the_import_fails(module: str, tmp_path: Path):
    (tmp_path / f"{module}.py").write_text(f"{INTERRUPTED}\nraise ImportError('no')")
    with pytest.raises(KeyboardInterrupt):
        _ = mtbert.load
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_thread_imports_without_a_handler_which_it_may_not_set(module: str, tmp_path: Path):
    (tmp_path / f"{module}.py").write_text("load = 4")
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(mtbert.load))
    thread.start()
    thread.join()
    assert found == [4]


def test_studies_import_torch_with_their_module_and_not_in_a_call():
    functions = [node for node in ast.parse(Path(api_studies.__file__).read_text()).body if hasattr(node, "args")]
    assert [function.name for function in functions] == ["study", "tune"]
    assert not [node for function in functions for node in ast.walk(function) if isinstance(node, ast.ImportFrom)]
