"""Debian's Chromium without a window, and pages that tests open in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for all tests of a file."""
    if CHROMIUM is None:
        pytest.skip("no chromium here: install Debian's package chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@dataclass(frozen=True)
class Visit:
    """A page that is open: what it has written to the console or opened as a dialog, and the addresses it asked."""

    tab: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@contextmanager
def visit(browser: Any, address: str, **context: Any) -> Iterator[Visit]:
    """Opens a page for the length of a block."""
    within = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | context))
    within.set_default_timeout(10_000)
    one = Visit(within.new_page())
    one.tab.on("console", lambda message: one.said.append(message.text))
    one.tab.on("pageerror", lambda error: one.said.append(str(error)))
    one.tab.on("dialog", lambda dialog: (one.said.append("dialog"), dialog.dismiss()))
    one.tab.on("request", lambda request: one.asked.append(request.url))
    one.tab.goto(address)
    try:
        yield one
    finally:
        within.close()


def faults(tab: Any) -> list[str]:
    """Returns the serious faults that axe-core finds on a page for readers who cannot see, hear or use a mouse.

    Each fault is the name of axe-core's rule and the first element that breaks it.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")
    found = axe.Axe().run(tab).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]
