"""The progress bar: live on a terminal and in a notebook, lines elsewhere, nothing where quiet."""

import io
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from mtbert import progress_bar
from mtbert.messages import plain_console
from mtbert.progress_bar import STOPPING, LiveBar, bar_line, followed, progress_of, stopping_shown


class Notebook:
    """Replaces ``IPython.display``: records what is shown, and every later content of it."""

    def __init__(self) -> None:
        self.contents: list[str] = []

    def display(self, content: str, display_id: bool) -> "Notebook":
        assert display_id
        assert not self.contents
        self.contents.append(content)
        return self

    def update(self, content: str) -> None:
        self.contents.append(content)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    one = Notebook()
    module: Any = ModuleType("IPython.display")
    module.HTML, module.display = str, one.display
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return one


def frame() -> RenderableType:
    return Text("half <done>")


def line() -> str:
    return "1 of 2"


def test_a_file_gets_a_line_after_two_seconds_and_then_every_ten_if_it_is_new(clock: Callable[[float], None]):
    file, shown = io.StringIO(), ["0"]
    bar = LiveBar(Console(file=file), frame, lambda: shown[-1])
    bar.start()
    for second in range(1, 70):
        if second <= 22 or second == 50:
            shown.append(str(second))
        clock(1.0)
        bar.moved()
    bar.stop()
    assert file.getvalue().split() == ["2", "12", "22", "50"]


def test_a_file_gets_lines_while_the_work_is_in_one_long_call(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress_bar, "SECONDS_BEFORE_LINE", 0.02)
    monkeypatch.setattr(progress_bar, "SECONDS_BETWEEN_FRAMES", 0.01)
    file = Written()
    with followed(Console(file=file)), progress_of("splitting"):
        assert file.wrote.wait(10)
    assert file.getvalue() == "splitting  0:00\n"


@pytest.mark.parametrize("where", ["file", "terminal"])
def test_a_signal_is_answered_at_once(where: str, clock: Callable[[float], None]):
    file, asked = io.StringIO(), []
    console = Console(file=file, width=80, force_terminal=where == "terminal", _environ={"TERM": "xterm"})
    bar = LiveBar(console, frame, line)
    with bar.shown(), stopping_shown(lambda: bool(asked)):
        bar.moved()
        assert STOPPING not in file.getvalue()
        asked.append(1)
        bar.moved()
        if bar.live is not None:
            bar.live.refresh()
        assert file.getvalue().count(STOPPING) == 1
        clock(1.0)
        bar.moved()
    said = file.getvalue()
    assert where == "terminal" or said.count(STOPPING) == 1
    bar.start()
    bar.stop()
    assert file.getvalue().removeprefix(said).count(STOPPING) == 0  # the signal is over


class Written(io.StringIO):
    """A file that says when something has been written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.wrote = threading.Event()

    def flush(self) -> None:
        if self.getvalue():
            self.wrote.set()


def test_nothing_is_drawn_before_the_bar_starts():
    LiveBar(Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"}), pytest.fail, pytest.fail)


def test_a_terminal_shows_the_frame_and_prints_no_line(clock: Callable[[float], None]):
    file = io.StringIO()
    bar = LiveBar(Console(file=file, force_terminal=True, _environ={"TERM": "xterm"}), frame, line)
    bar.start()
    clock(1.0)
    bar.moved()
    bar.stop()
    assert "half <done>" in file.getvalue()
    assert "1 of 2" not in file.getvalue()


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(clock: Callable[[float], None]):
    file = io.StringIO()
    bar = LiveBar(Console(file=file, force_terminal=True, _environ={"TERM": "dumb"}), frame, line)
    bar.start()
    clock(2.0)
    bar.moved()
    bar.stop()
    assert file.getvalue() == "1 of 2\n"


def test_a_notebook_shows_one_output_that_is_replaced_and_empty_at_the_end(
    notebook: Notebook, clock: Callable[[float], None]
):
    file = io.StringIO()
    bar = LiveBar(Console(file=file, force_jupyter=True), frame, line)
    bar.start()
    for _ in range(10):
        clock(0.125)
        bar.moved()
    bar.stop()
    assert notebook.contents == [*["<pre>half &lt;done&gt;\n</pre>"] * 5, ""]
    assert file.getvalue() == ""


@pytest.mark.parametrize("where", [{"force_terminal": True}, {"force_jupyter": True}, {}])
def test_a_quiet_console_shows_nothing_and_leaves_standard_output_alone(
    where: dict[str, bool], notebook: Notebook, clock: Callable[[float], None]
):
    file, out = io.StringIO(), sys.stdout
    bar = LiveBar(Console(file=file, quiet=True, **where), frame, line)
    bar.start()
    assert sys.stdout is out
    clock(60.0)
    bar.moved()
    bar.stop()
    assert file.getvalue() == ""
    assert notebook.contents == []


def printed(width: int, last: str = "") -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(bar_line("first", 1, 2, ["middle"], width, last))
    return file.getvalue().rstrip()


def test_the_bar_and_the_last_part_are_left_out_where_there_is_no_room():
    assert printed(40, "last") == f"first  {'━' * 9 + '╸':19}  middle  last"
    assert printed(27, "last") == "first  ━━━     middle  last"
    assert printed(26, "last") == f"first  {'━' * 5 + '╸':11}  middle"
    assert printed(20) == "first  middle"


def test_a_console_for_a_file_prints_there_from_a_notebook_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert plain_console().is_jupyter
    file = io.StringIO()
    plain_console(file).print("[b]:smile:")
    assert file.getvalue() == "[b]:smile:\n"


# Work ----------------------------------------------------------------------------------------------


def told_of_work(clock: Callable[[float], None], total: int | None, seconds: float, **kind: bool) -> str:
    """Returns what ten pieces of 300 rows print, if each takes this many seconds."""
    file = io.StringIO()
    with followed(Console(file=file, width=70, **kind)), progress_of("reading a\x1b.csv", total) as tick:
        for _ in range(10):
            clock(seconds)
            tick(300)
    return file.getvalue()


def test_a_file_gets_lines_about_long_work_with_the_time_left(clock):
    assert told_of_work(clock, 3000, 1.0) == "reading a\\x1b.csv  600/3,000 rows  0:08 left\n"
    assert told_of_work(clock, None, 1.0) == "reading a\\x1b.csv  600 rows  0:02\n"


def test_without_a_first_piece_the_time_left_is_not_known(clock):
    file = io.StringIO()
    with followed(Console(file=file)), progress_of("writing", 2, "file") as tick:
        clock(3.0)
        tick(0)
    assert file.getvalue() == "writing  0/2 files  -:-- left\n"


def test_short_work_is_not_shown_at_all(clock):
    assert told_of_work(clock, 3000, 0.01, force_terminal=True, force_interactive=True) == ""
    assert "\x1b" in told_of_work(clock, 3000, 1.0, force_terminal=True, force_interactive=True)


def test_work_that_no_command_follows_is_not_shown(clock, capsys):
    with progress_of("reading") as tick:
        clock(100.0)
        tick(1)
    assert capsys.readouterr() == ("", "")


def test_work_inside_of_work_is_part_of_it(clock):
    file = io.StringIO()
    with followed(Console(file=file)), progress_of("outer", 2) as outer:
        with progress_of("inner") as inner:
            clock(9.0)
            inner(1)
            clock(9.0)
            inner(1)
        outer(1)
        clock(6.0)
        outer(1)
    assert file.getvalue() == "outer  1/2 rows  0:18 left\n"


def test_work_that_fails_takes_its_bar_away(clock):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, force_interactive=True)
    with followed(console), pytest.raises(ValueError, match="damaged"), progress_of("reading") as tick:
        clock(1.0)
        tick(1)
        raise ValueError("damaged")
    assert not console._live_stack
    with followed(console), progress_of("reading") as tick:
        clock(1.0)
        tick(1)
