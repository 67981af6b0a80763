"""The report of a study works in a browser and makes no requests."""

import os
import re
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
from mtbert.studying.errors import Errors
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
    return [str(text) for text in tab.locator(f"#browser .examples tbody td:nth-child({number})").all_inner_texts()]


def counted(tab: Any) -> int:
    return int(tab.locator("#count").inner_text().split()[0])


def choose(tab: Any, **filters: str) -> None:
    for name, value in filters.items():
        tab.select_option(f"[name={name}]", value)


def test_filters_by_task_label_answer_text_kind_and_run(opened: Any, results: Results):
    labels = results.dev["quora"].task.labels or ()
    choose(opened, task="quora", run="0", kind="errors", label="0", answer="1")
    assert counted(opened) > 0
    assert set(column(opened, 2)) == {labels[0]}
    assert set(column(opened, 3)) == {labels[1]}
    choose(opened, label="1")
    assert counted(opened) == 0  # label 1 with answer 1 is right
    choose(opened, kind="right")
    assert counted(opened) > 0
    choose(opened, kind="all", label="", answer="")
    everything = counted(opened)
    opened.fill("[name=text]", "QUORA0")
    assert counted(opened) == 1
    opened.fill("[name=text]", "")
    choose(opened, kind="errors")
    before = column(opened, 3), counted(opened)
    choose(opened, run="3")  # strong, seed 0
    assert (column(opened, 3), counted(opened)) != before
    assert counted(opened) < before[1] <= everything


def test_kinds_of_errors_are_those_of_the_answers(opened: Any, results: Results):
    errors = Errors(results)
    given = [e for e in errors.browser("strong")["examples"] if e["task"] == "quora"]
    choose(opened, task="quora", run="3")
    for kind, expected in {
        "fixed": sum(e["change"][1] == 1 for e in given),
        "broken": sum(e["change"][1] == -1 for e in given),
        "always": sum(all(e["wrong"]) for e in given),
        "some": sum(any(e["wrong"]) and not all(e["wrong"]) for e in given),
        "sure": sum(e["wrong"][3] and e["answers"][3][1] >= 0.9 for e in given),
    }.items():
        choose(opened, kind=kind)
        assert counted(opened) == expected, kind
    assert sum(e["change"][1] == 1 for e in given) > 0


def test_text_of_the_data_is_shown_as_text(opened: Any):
    choose(opened, kind="all")
    opened.fill("[name=text]", "onerror")
    found = []
    for task in ("sst", "quora", "sts"):
        choose(opened, task=task)
        found += [*column(opened, 1), opened.locator("#example").inner_text()]
    assert any(HOSTILE in text for text in found)
    assert opened.locator("#browser img, #browser b").count() == 0


def test_the_chosen_example_is_shown_beside_the_list_with_the_words_that_differ(opened: Any):
    choose(opened, task="quora", kind="all")
    opened.locator(".examples tbody button").nth(2).focus()
    shown = opened.locator("#example blockquote").all_inner_texts()
    assert column(opened, 1)[2].startswith(shown[0])
    first, second = (text.split() for text in shown)
    marked = opened.locator("#example blockquote mark").all_inner_texts()
    kept = [len(words) - sum(word in marked for word in words) for words in (first, second)]
    assert marked
    assert kept[0] == kept[1]  # what is not marked stands in both
    assert opened.locator("#example tbody tr").count() == 9


def test_marked_words_are_those_outside_a_longest_common_subsequence(opened: Any):
    found = opened.evaluate("differing(['The', 'cat', 'sat', 'down'], ['the', 'dog', 'sat', 'up', 'down'])")
    assert found == [[False, True, False, False], [False, True, False, True, False]]


def test_sorts_by_any_column_with_the_keyboard(opened: Any):
    choose(opened, kind="all")
    losses = [float(x) for x in column(opened, 5)]
    assert losses == sorted(losses, reverse=True)
    button = opened.locator("#browser button[data-key=loss]")
    button.focus()
    opened.keyboard.press("Enter")
    assert button.locator("..").get_attribute("aria-sort") == "ascending"
    losses = [float(x) for x in column(opened, 5)]
    assert losses == sorted(losses)
    opened.keyboard.press("Shift+Tab")
    opened.keyboard.press("Enter")
    assert opened.locator("[aria-sort]").count() == 1
    probabilities = [float(x) for x in column(opened, 4) if x]
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_table_is_sorted_by_its_numbers_and_comes_back_to_its_order(opened: Any):
    table = opened.locator("h3:has-text('Scores on dev') + .scroll table")

    def cells() -> list[str]:
        return [str(text) for text in table.locator("tbody tr td:nth-child(3)").all_inner_texts()]

    before, head = cells(), table.locator("thead th:nth-child(3)")
    numbers = [float(text.split()[0]) for text in before]
    head.locator("button").focus()
    for order, sort in ((sorted(numbers, reverse=True), "descending"), (sorted(numbers), "ascending"), (numbers, None)):
        opened.keyboard.press("Enter")
        assert [float(text.split()[0]) for text in cells()] == order
        assert head.get_attribute("aria-sort") == sort


def test_numbers_of_cells_are_read_with_signs_commas_and_limits(opened: Any):
    cells = ["-0.012 [-0.020, -0.004]", "+1,234.5", "< 0.001", "57.3%", "plain"]
    assert opened.evaluate("cells => cells.map(numberOf).map(String)", cells) == [
        "-0.012",
        "1234.5",
        "0.001",
        "57.3",
        "NaN",
    ]


def test_more_examples_come_on_demand(opened: Any):
    choose(opened, kind="all")
    assert len(column(opened, 1)) == 25
    opened.click("#more")
    assert len(column(opened, 1)) == min(50, counted(opened))


def test_a_chart_says_what_the_pointer_is_on(opened: Any, results: Results):
    chart = opened.locator(".chart[aria-labelledby=chart-effects]")
    chart.locator(".mark").nth(0).hover()
    assert chart.locator(".details").inner_text().startswith("strong: +0.")
    assert ", compared with plain, 3 seeds" in chart.locator(".details").inner_text()
    curves = opened.locator(".chart[aria-labelledby=chart-losses]")
    curves.locator("svg.plot").first.hover()
    assert re.match(r"(plain|strong|same), seed \d: 0\.\d+ at \d+", curves.locator(".details").inner_text())
    opened.locator("h1").hover()
    assert curves.locator(".details").inner_text() == ""


def test_the_points_of_a_curve_are_reached_with_the_arrow_keys(opened: Any):
    chart = opened.locator(".chart[aria-labelledby=chart-losses]")
    chart.locator(".mark").first.focus()
    assert chart.locator(".details").inner_text().startswith("plain, seed 0: from 0.")
    told = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowRight", "ArrowLeft"):
        opened.keyboard.press(key)
        told.append(opened.evaluate("document.activeElement.getAttribute('aria-label')"))
        assert told[-1] == chart.locator(".details").inner_text()
    x = [float(re.search(r"at ([\d.]+)", text)[1]) for text in told if " at " in text and "from" not in text]
    assert x[0] < x[1]
    assert x[2] == x[3] == x[0]  # the first point of the second curve
    assert told[2].startswith("plain, seed 1: from ")


def test_the_cells_of_a_matrix_are_reached_with_the_arrow_keys(opened: Any):
    chart = opened.locator(".chart[aria-labelledby=chart-confusion-quora]")
    chart.locator(".mark").first.focus()
    for key, said in (
        ("ArrowRight", "true label 0, answer 1: "),
        ("ArrowDown", "true label 1, answer 1: "),
        ("ArrowLeft", "true label 1, answer 0: "),
    ):
        opened.keyboard.press(key)
        assert chart.locator(".details").inner_text().startswith(said)
        assert chart.locator(".mark[tabindex='0']").count() == len(chart.locator(".plot").all())


def test_everything_can_be_reached_with_tab(opened: Any):
    wanted = "select:enabled, input, #browser th button, nav a, main > .scroll, .plot .mark[tabindex='0']"
    find = f"[...document.querySelectorAll({wanted!r})].filter(e => e.checkVisibility())"
    names = opened.evaluate(f"{find}.map(e => e.dataset.test = Math.random().toString())")
    opened.locator("h1").click()
    reached = set()
    for _ in range(len(names) + 120):
        opened.keyboard.press("Tab")
        reached.add(opened.evaluate("document.activeElement.dataset.test"))
    assert set(names) <= reached


def test_the_page_can_be_read_without_a_script(browser: Any, page: Path):
    for tab in visit(browser, page, java_script_enabled=False):
        assert tab.locator(".answer").is_visible()
        assert tab.locator("svg.curves path").first.is_visible()
        assert tab.locator("noscript").first.is_visible()
        assert not tab.locator("#filters").is_visible()
        assert not tab.locator(".details").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_in_a_report(browser: Any, page: Path, scheme: str):
    for tab in visit(browser, page, color_scheme=scheme):
        assert toy_browser.faults(tab) == []


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("light", {}),
        ("dark", {"color_scheme": "dark"}),
        ("phone", {"viewport": {"width": 390, "height": 740}, "is_mobile": True, "has_touch": True}),
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
    assert "2 techniques" in demo.read_text(encoding="utf-8")
    assert {p.stem for p in (demo.parent / "figures").iterdir()} >= {"effects", "losses", "conflict", "confusion-sst"}


def test_the_report_of_the_demo_study_opens(browser: Any, demo: Path):
    for tab in visit(browser, demo):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=SCREENSHOTS / "report-demo.png", full_page=True)
        assert "2 techniques" in tab.locator(".answer").inner_text()
        assert tab.locator("[aria-labelledby=findings] tbody tr").count() == 2
        assert counted(tab) > 0
