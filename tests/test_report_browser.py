"""The report of a study works in a browser and makes no requests."""

import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import toy_browser
import toy_report
import toy_run
import toy_study
from toy_report import HOSTILE

from mtbert.studying import plan, report
from mtbert.studying.results import Results

browser = toy_browser.browser
recipe = toy_report.recipe
results = toy_report.results
page = toy_report.page

SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", "build/screenshots"))


@pytest.fixture
def opened(browser: Any, page: Path) -> Iterator[Any]:
    yield from visit(browser, page)


def visit(browser: Any, page: Path, **context: Any) -> Iterator[Any]:
    """Opens the page; it must log no errors and request nothing but itself."""
    with toy_browser.visit(browser, page.as_uri(), **context) as one:
        yield one.tab
    assert one.said == []
    assert [url for url in one.asked if not url.startswith("data:")] == [page.as_uri()]


def column(tab: Any, number: int) -> list[str]:
    return [str(text) for text in tab.locator(f"#browser tbody td:nth-child({number})").all_inner_texts()]


def counted(tab: Any) -> int:
    return int(tab.locator("#count").inner_text().split()[0])


def test_filters_by_task_label_answer_text_and_run(opened: Any, results: Results):
    opened.select_option("[name=task]", "quora")
    labels = results.dev["quora"].task.labels or ()
    opened.select_option("[name=label]", "0")
    opened.select_option("[name=answer]", "1")
    assert counted(opened) > 0
    assert set(column(opened, 2)) == {labels[0]}
    assert set(column(opened, 3)) == {labels[1]}
    opened.select_option("[name=label]", "1")
    assert counted(opened) == 0  # only errors are shown, and label 1 with answer 1 is right
    opened.uncheck("[name=wrong]")
    assert counted(opened) > 0
    opened.select_option("[name=label]", "")
    opened.select_option("[name=answer]", "")
    everything = counted(opened)
    opened.fill("[name=text]", "QUORA0")
    assert counted(opened) == 1
    opened.fill("[name=text]", "")
    opened.check("[name=wrong]")
    before = column(opened, 3), counted(opened)
    opened.select_option("[name=run]", "3")  # strong, seed 0
    assert (column(opened, 3), counted(opened)) != before
    assert counted(opened) < before[1] <= everything


def test_text_of_the_data_is_shown_as_text(opened: Any):
    opened.uncheck("[name=wrong]")
    opened.fill("[name=text]", "onerror")
    found = []
    for task in ("sst", "quora", "sts"):
        opened.select_option("[name=task]", task)
        found += column(opened, 1)
    assert any(HOSTILE in text for text in found)
    assert opened.locator("#browser tbody img, #browser tbody b").count() == 0


def test_sorts_by_any_column_with_the_keyboard(opened: Any):
    opened.uncheck("[name=wrong]")
    losses = [float(x) for x in column(opened, 6)]
    assert losses == sorted(losses, reverse=True)
    button = opened.locator("#browser button[data-key=loss]")
    button.focus()
    opened.keyboard.press("Enter")
    assert button.locator("..").get_attribute("aria-sort") == "ascending"
    losses = [float(x) for x in column(opened, 6)]
    assert losses == sorted(losses)
    opened.keyboard.press("Shift+Tab")
    opened.keyboard.press("Enter")
    assert opened.locator("[aria-sort]").count() == 1
    distances = [float(x) for x in column(opened, 5)]
    assert distances == sorted(distances, reverse=True)


def test_more_examples_come_on_demand(opened: Any):
    opened.uncheck("[name=wrong]")
    assert len(column(opened, 1)) == 25
    opened.click("#more")
    assert len(column(opened, 1)) == min(50, counted(opened))


def test_everything_can_be_reached_with_tab(opened: Any):
    controls = opened.locator("select:enabled, input, #browser button, nav a, .scroll").count()
    reached = set()
    for _ in range(controls + 40):
        opened.keyboard.press("Tab")
        reached.add(opened.evaluate("e = document.activeElement, [...document.querySelectorAll('*')].indexOf(e)"))
    wanted = opened.evaluate(
        "[...document.querySelectorAll('select:enabled, input, #browser button, nav a, .scroll')]"
        ".map(e => [...document.querySelectorAll('*')].indexOf(e))"
    )
    assert set(wanted) <= reached


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("light", {}),
        ("dark", {"color_scheme": "dark"}),
        ("phone", {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}),
    ],
)
def test_nothing_sticks_out_of_the_window(browser: Any, page: Path, name: str, context: dict[str, Any]):
    for tab in visit(browser, page, **context):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=SCREENSHOTS / f"report-{name}.png", full_page=True)
        assert tab.evaluate("document.documentElement.scrollWidth") <= tab.viewport_size["width"]
        dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
        assert dark == (name == "dark")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the shipped study ``demo``, on a toy encoder, with one seed and two rounds."""
    folder = tmp_path_factory.mktemp("demo")
    shipped = (resources.files("mtbert") / "studies" / "demo.yaml").read_text(encoding="utf-8")
    assert "seeds: [0, 1, 2]" in shipped
    (folder / "demo.yaml").write_text(shipped.replace("seeds: [0, 1, 2]", "seeds: [0]"), encoding="utf-8")
    encoder = toy_run.encoder_folder(folder / "encoder")
    changes = ["train.rounds=2", "train.threads=1", f"model.path={encoder}", "model.max_length=32"]
    toy_study.run_here(plan.load_study(str(folder / "demo.yaml"), changes), folder / "out")
    return folder / "out" / report.REPORT_FILE


def test_the_demo_study_writes_its_report(demo: Path):
    assert "2 techniques were judged by overall" in demo.read_text(encoding="utf-8")
    assert {p.stem for p in (demo.parent / "figures").iterdir()} >= {"ablation", "losses", "conflict", "confusion-sst"}


def test_the_report_of_the_demo_study_opens(browser: Any, demo: Path):
    for tab in visit(browser, demo):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=SCREENSHOTS / "report-demo.png", full_page=True)
        assert "2 techniques" in tab.locator(".answer").inner_text()
        assert tab.locator("#findings + .scroll tbody tr").count() == 2
        assert counted(tab) > 0
