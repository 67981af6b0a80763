"""The report of a study, or of a single run: one HTML page that needs no network."""

import base64
import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from mtbert import files, metrics
from mtbert.messages import clean
from mtbert.recipe.files import dump_recipe
from mtbert.studying import tables
from mtbert.studying.charts import Chart, interval_text, signed
from mtbert.studying.conclusion import Conclusion, conclude, judged_rows, recipe_to_take, shown_against
from mtbert.studying.costs import cost_table
from mtbert.studying.errors import WORST, Errors
from mtbert.studying.figures import study_charts
from mtbert.studying.held_out_scores import HeldOutScores
from mtbert.studying.markup import chart_markup
from mtbert.studying.results import Results
from mtbert.studying.sets import label_tables
from mtbert.studying.summary import Against, Comparison, Summary, Verdict, summarise
from mtbert.studying.text_table import TextTable

REPORT_FILE = "report.html"
WRITTEN = (".md", ".csv", ".tex", ".png", ".svg")  # endings of tables and figures
SCRIPTS = ("report.js", "report_examples.js")
RECORDED = {"git_commit": "commit of mtbert", "data": "SHA-256 of the data", "recipe": "SHA-256 of the recipe"}
VERDICTS: Mapping[Against, Mapping[Verdict, str]] = {
    "control": {"better": "helps", "worse": "hurts", "unclear": "no clear effect"},
    "reference": {"better": "better", "worse": "worse", "unclear": "no clear difference"},
}


@dataclass(frozen=True)
class Report:
    """Everything that a report shows, before it is written."""

    results: Results
    summary: Summary
    errors: Errors
    charts: Sequence[Chart]
    tables: Sequence[TextTable]  # those that are printed too
    analysis: Sequence[TextTable]  # tables about errors

    @property
    def conclusion(self) -> Conclusion:
        """Returns the words at the top of the report: the answer, how sure it is, and what to do next."""
        return conclude(self.results, self.summary, self.errors)

    @property
    def each(self) -> TextTable:
        """Returns the table of the scores of every run."""
        return tables.run_table(self.results, self.summary)


def make_report(results: Results, test: HeldOutScores | None = None) -> Report:
    """Returns the report of a study or of a single run. ``test`` has the scores on test data, if there are any."""
    summary = summarise(results)
    errors = Errors(results)
    return Report(
        results,
        summary,
        errors,
        study_charts(results, summary, errors),
        tables.study_tables(results, summary, test),
        [*label_tables(results, summary), *errors.tables()],
    )


def write_parts(report: Report, out: Path) -> None:
    """Writes the tables of a report into ``out/tables``, and its charts as figures into ``out/figures``."""
    from mtbert.studying.drawing import write_figure  # matplotlib takes seconds to import

    for name in ("tables", "figures"):
        (out / name).mkdir(exist_ok=True)
        for old in (out / name).iterdir():  # tables and figures of rows that the study no longer has
            if old.suffix in WRITTEN:
                old.unlink()
    for table in (*report.tables, report.each, *report.analysis):
        with files.naming(out / "tables" / table.name):
            table.write(out / "tables")
    for chart in report.charts:
        with files.naming(out / "figures" / chart.name):
            write_figure(chart, out / "figures")


def write_page(report: Report, out: Path) -> Path:
    """Writes the page of a report, ``report.html``, into ``out``, and returns its path."""
    results, summary = report.results, report.summary
    folder = resources.files("mtbert.studying")
    style, *scripts = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("report.css", *SCRIPTS))
    findings, against = _findings(summary), shown_against(summary)
    others = (
        "Which techniques help" if against == "control" else f"Which recipes differ from {results.outline.reference}"
    )
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_printable
    ).from_string(folder.joinpath("report.html").read_text(encoding="utf-8"))
    taken = recipe_to_take(results, summary)
    page = template.render(
        policy=Markup(_policy(style, scripts)),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        title=out.resolve().name,
        conclusion=report.conclusion,
        findings_title=others,
        findings_heads=[
            "row",
            "compared with",
            "seeds",
            "verdict",
            *summary.main_first[:1],
            "p (Holm)",
            *summary.main_first[1:],
        ],
        findings=findings,
        main=summary.main,
        most_listed=WORST,
        warnings=[*results.warnings, *undefined_metrics(results), *_unfinished(results)],
        charts=report.charts,
        markup=chart_markup,
        tables=report.tables,
        each=report.each,
        analysis=report.analysis,
        costs=[cost_table(results)],
        browser=Markup(_json(report.errors.browser(next(iter(results.runs)) if taken is None else taken[0]))),
        recipes=_recipes(results),
        environment=_environment(results),
        version=metadata.version("mtbert"),
    )
    files.write_text(out / REPORT_FILE, page)
    return out / REPORT_FILE


def _policy(style: str, scripts: Sequence[str]) -> str:
    """Returns the content security policy of the page: it may run its own scripts and request nothing."""

    def digests(texts: Sequence[str]) -> str:
        found = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in found)

    return (
        f"default-src 'none'; img-src data:; style-src {digests([style])}; script-src {digests(scripts)}; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _printable(value: object) -> object:
    """Returns ``value`` as the template prints it: control characters are escaped in a text; other values stay."""
    return clean(value, lines=True) if type(value) is str else value


def undefined_metrics(results: Results) -> list[str]:
    """Returns a warning for each task whose metric is undefined in some run.

    A correlation, for example, is undefined if all answers are the same.
    """
    found = (
        metrics.undefined(dev.task, dev.metric, predicted.read_by(dev.scored_by), dev.labels)
        for by_seed in results.runs.values()
        for result in by_seed.values()
        for name, predicted in result.predicted.items()
        for dev in [results.dev[name]]
    )
    return list(dict.fromkeys(filter(None, found)))


def _findings(summary: Summary) -> list[Mapping[str, Any]]:
    """Returns the findings at the top of the report. Each finding compares a recipe of the study with its control.

    The control is another recipe, which usually lacks only one technique. If no recipe can be compared with a control,
    each finding compares a recipe with the study's reference recipe instead. Clear effects come before unclear effects.
    In both groups, the largest improvement comes first.
    """
    against = shown_against(summary)
    found: list[Mapping[str, Any]] = []
    for row, (score, main) in judged_rows(summary, against).items():
        by_score = summary.comparisons[against][row]
        found.append(
            {
                "row": row + summary.collapse_mark(row),
                "other": main.other + summary.collapse_mark(main.other),
                "seeds": main.difference.seeds,
                "verdict": main.verdict,
                "said": VERDICTS[against][main.verdict],
                "by": score,
                "main": _with_interval(main),
                "p": tables.p_value(main.corrected),
                "tasks": [
                    (_with_interval(by_score[name]), by_score[name].verdict) if name in by_score else ("", "")
                    for name in summary.main_first[1:]
                ],
            }
        )
    return found


def _with_interval(comparison: Comparison) -> str:
    return f"{signed(comparison.difference.mean)} {interval_text(comparison.difference.interval, signed)}"


def _unfinished(results: Results) -> list[str]:
    """Returns a list with one warning if some runs have not ended, and otherwise an empty list."""
    ended = sum(len(by_seed) for by_seed in results.runs.values())
    return [] if results.complete else [f"Only {ended} of {ended + len(results.missing)} runs have ended."]


def _json(value: Mapping[str, Any]) -> str:
    """Returns ``value`` as JSON text that is safe inside an HTML script element: ``&``, ``<`` and ``>`` are escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _recipes(results: Results) -> list[tuple[str, str]]:
    """Returns a pair (heading, text) for each recipe of the study.

    If the recipe has a control, the text lists the differences between the recipe and its control. If the recipe has no
    control, the text is the whole recipe.
    """
    runs = {row: next(iter(by_seed.values())) for row, by_seed in results.runs.items()}
    texts = {row: dump_recipe(run.recipe).splitlines() for row, run in runs.items()}
    found = []
    for row, lines in texts.items():
        other = results.outline.rows[row]
        if other is None or other not in texts:
            found.append((row, "\n".join(lines)))
        else:
            found.append((f"{row}, differences from {other}", _difference(texts[other], lines)))
    return found


def _difference(before: Sequence[str], after: Sequence[str]) -> str:
    return "\n".join(
        line for line in difflib.unified_diff(before, after, lineterm="", n=2) if line[:3] not in ("---", "+++")
    )


def _environment(results: Results) -> list[tuple[str, list[str]]]:
    record = next(iter(next(iter(results.runs.values())).values())).record
    found = record.model_dump(exclude={"leaked", "sealed"}, exclude_none=True)  # leaked: said near the scores
    return [
        (RECORDED.get(name, name), [f"{k} {v}" for k, v in value.items()] if isinstance(value, dict) else [str(value)])
        for name, value in found.items()
    ]
