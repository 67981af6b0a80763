"""The report of a single run says nothing of seeds, of other rows, or of comparisons."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy_browser
import toy_report

from mtbert.batch import Examples
from mtbert.studying import report, tables
from mtbert.studying.results import Results

LONG = "long " * 2000
LABELS = ("<img src=x onerror=alert(1)>", "b" * 3000)

browser = toy_browser.browser
recipe = toy_report.recipe
results = toy_report.results


@pytest.fixture(scope="module")
def single(results: Results) -> Results:
    """One run of two tasks, with a hostile label, a label of 3,000 characters and texts of 10,000 characters."""
    quora, sts = results.dev["quora"], results.dev["sts"]
    first, second = map(list, quora.examples.texts)
    first[:31] = [LONG] * 31  # the report lists 30 examples of 60, so one of these at least
    examples = Examples(quora.examples.ids, (first, second), quora.examples.labels)
    named = replace(quora, task=quora.task.model_copy(update={"labels": LABELS}), examples=examples)
    run = results.runs["plain"][0]
    answers = {name: run.predicted[name] for name in ("quora", "sts")}
    return replace(
        results,
        outline=results.outline.model_copy(update={"rows": {"plain": None}, "seeds": (0,)}),
        dev={"quora": named, "sts": sts},
        runs={"plain": {0: replace(run, predicted=answers)}},
        missing=[],
        warnings=[],
    )


@pytest.fixture(scope="module")
def page(single: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write_page(report.make_report(single), tmp_path_factory.mktemp("single"))


@pytest.fixture
def opened(browser: Any, page: Path) -> Iterator[Any]:
    with toy_browser.visit(browser, page.as_uri()) as one:
        yield one.tab
    assert one.said == []


def test_a_single_run_is_not_described_as_several(page: Path):
    text = re.sub(r"<script.*?</script>|<style>.*?</style>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    said = re.findall(r"<(?:p|li|h3)[^>]*>([^<]*(?:seeds|each row|every run|Every run|each run|fixes)[^<]*)<", text)
    assert said == ["To compare settings, run a study with several seeds: a single run says little about a technique."]


def test_several_seeds_are_still_named(results: Results):
    made = report.make_report(results)
    said = " ".join([*(chart.alt for chart in made.charts), *(note for t in made.tables for note in t.notes)])
    for words in ("over all seeds", "mean score on dev over the seeds", "in the first seed of each recipe"):
        assert words in said
    assert "Mean over the seeds ± their standard deviation" in said


def test_a_long_list_of_labels_is_cut_in_the_table_of_data(single: Results):
    (labels, _) = [row[3] for row in tables.data_table(single).rows]
    assert labels == "<img src=x onerror=alert(1)>, …"


def test_the_environment_names_each_digest_on_a_line(single: Results):
    record = single.runs["plain"][0].record.model_copy(update={"data": {"a.csv": "12", "b.csv": "34"}})
    run = replace(single.runs["plain"][0], record=record)
    found = dict(report._environment(replace(single, runs={"plain": {0: run}})))
    assert found["SHA-256 of the data"] == ["a.csv 12", "b.csv 34"]
    assert "sealed" not in found


def test_what_only_several_runs_have_is_hidden(opened: Any):
    heads = opened.locator(".examples thead th:visible").all_inner_texts()
    assert [head.split()[0] for head in heads] == ["text", "label", "answer", "loss"]  # of scores, no probability
    opened.select_option("[name=task]", "quora")
    heads = opened.locator(".examples thead th:visible").all_inner_texts()
    assert [head.split()[0] for head in heads] == ["text", "label", "answer", "probability", "loss"]
    assert not opened.locator("[name=run]").is_visible()
    kinds = opened.locator("[name=kind] option").all_inner_texts()
    assert kinds == ["errors", "sure but wrong", "right answers", "everything listed"]


def test_marked_words_are_explained_beside_them(opened: Any):
    note = "marked: words that the other text does not have at this place"
    assert opened.locator("#example mark").count() > 1
    assert opened.locator("#example .note").inner_text() == note


@pytest.mark.parametrize("width", [1280, 390])
def test_long_texts_and_labels_stay_inside_the_window(browser: Any, page: Path, width: int):
    with toy_browser.visit(browser, page.as_uri(), viewport={"width": width, "height": 800}) as one:
        one.tab.select_option("[name=task]", "quora")
        one.tab.select_option("[name=kind]", "all")
        one.tab.fill("[name=text]", "long long")
        assert one.tab.locator("#example blockquote").first.inner_text().endswith("(5,000 more characters)")
        assert one.tab.evaluate("document.documentElement.scrollWidth") <= width
        cells = one.tab.locator(".examples tbody td:nth-child(2)").all_inner_texts()
        assert max(map(len, cells)) <= 62
        assert one.tab.locator("main img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_in_the_report_of_a_run(browser: Any, page: Path, scheme: str):
    with toy_browser.visit(browser, page.as_uri(), color_scheme=scheme) as one:
        assert toy_browser.faults(one.tab) == []


def test_a_long_name_of_a_recipe_leaves_room_for_the_numbers_on_a_phone(browser: Any, results: Results, tmp_path: Path):
    runs = {}
    for row, by_seed in results.runs.items():
        name = row if row == "plain" else f"{row}-{'word-' * 20}"
        runs[name] = {seed: replace(run, row=name) for seed, run in by_seed.items()}
    outline = results.outline.model_copy(update={"rows": {row: None if row == "plain" else "plain" for row in runs}})
    page = report.write_page(report.make_report(replace(results, outline=outline, runs=runs)), tmp_path)
    with toy_browser.visit(browser, page.as_uri(), viewport={"width": 390, "height": 800}) as one:
        heads = one.tab.evaluate("[...document.querySelectorAll('table.sortable tbody th')].map(th => th.scrollWidth)")
    assert max(heads) <= 256


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_no_word_of_a_chart_stands_outside_of_it_or_on_another(browser: Any, page: Path, width: int):
    with toy_browser.visit(browser, page.as_uri(), viewport={"width": width, "height": 800}) as one:
        found = one.tab.evaluate("""() => {
          const wrong = [];
          for (const chart of document.querySelectorAll(".chart")) {
            const outer = chart.getBoundingClientRect();
            for (const svg of chart.querySelectorAll("svg.plot, svg.axis")) {
              const texts = [...svg.querySelectorAll("text")];
              const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
              for (const [text, box] of boxes) if (box.left < outer.left - 1 || box.right > outer.right + 1)
                wrong.push(`${text} is outside`);
              for (const [i, [text, a]] of boxes.entries()) for (const [other, b] of boxes.slice(i + 1))
                if (a.left < b.right && b.left < a.right && a.top + 2 < b.bottom - 2 && b.top + 2 < a.bottom - 2)
                  wrong.push(`${text} is on ${other}`);
            }
          }
          return wrong;
        }""")
    assert found == []
