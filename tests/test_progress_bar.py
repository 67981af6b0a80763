"""The progress bar: live on a terminal and in a notebook, lines elsewhere, nothing where quiet."""

import io
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from mtbert.messages import plain_console
from mtbert.progress_bar import LiveBar, bar_line, followed, progress_of


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


def test_a_file_gets_a_line_when_its_seconds_have_passed(clock: Callable[[float], None]):
    file = io.StringIO()
    bar = LiveBar(Console(file=file), frame, line, 5.0)
    bar.start()
    for _ in range(12):
        clock(1.0)
        bar.moved()
    bar.stop()
    assert file.getvalue() == "1 of 2\n1 of 2\n"


def test_a_terminal_shows_the_frame_and_prints_no_line(clock: Callable[[float], None]):
    file = io.StringIO()
    bar = LiveBar(Console(file=file, force_terminal=True, _environ={"TERM": "xterm"}), frame, line, 0.0)
    bar.start()
    clock(1.0)
    bar.moved()
    bar.stop()
    assert "half <done>" in file.getvalue()
    assert "1 of 2" not in file.getvalue()


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(clock: Callable[[float], None]):
    file = io.StringIO()
    bar = LiveBar(Console(file=file, force_terminal=True, _environ={"TERM": "dumb"}), frame, line, 1.0)
    bar.start()
    clock(1.0)
    bar.moved()
    bar.stop()
    assert file.getvalue() == "1 of 2\n"


def test_a_notebook_shows_one_output_that_is_replaced_and_empty_at_the_end(
    notebook: Notebook, clock: Callable[[float], None]
):
    file = io.StringIO()
    bar = LiveBar(Console(file=file, force_jupyter=True), frame, line, 60.0)
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
    bar = LiveBar(Console(file=file, quiet=True, **where), frame, line, 1.0)
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
    # Shown from the first second on, then a line every five seconds.
    assert told_of_work(clock, 3000, 1.0) == "reading a\\x1b.csv  1,800/3,000 rows  0:04 left\n"
    assert told_of_work(clock, None, 1.0) == "reading a\\x1b.csv  1,800 rows\n"


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
    assert file.getvalue() == "outer  2/2 rows  0:00 left\n"


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
