"""The report of a study, or of a single run: one HTML page that needs no network."""

import base64
import difflib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2

from mtbert import files, metrics
from mtbert.messages import count, few
from mtbert.recipe.files import dump_recipe
from mtbert.studying import tables
from mtbert.studying.errors import Errors
from mtbert.studying.figures import study_figures
from mtbert.studying.held_out_scores import read_held_out
from mtbert.studying.results import Results
from mtbert.studying.sets import label_tables
from mtbert.studying.summary import Against, Comparison, Summary, Verdict, summarise
from mtbert.studying.text_table import TextTable

REPORT_FILE = "report.html"
WRITTEN = (".md", ".csv", ".tex", ".png", ".svg")  # endings of tables and figures
VERDICTS: Mapping[Verdict, str] = {"better": "helps", "worse": "hurts", "unclear": "no clear effect"}


def write_report(results: Results, out: Path) -> list[TextTable]:
    """Writes the report of a study, its tables and its figures into ``out``. Returns the tables to print."""
    summary = summarise(results)
    errors = Errors(results)
    drawn = study_figures(results, summary)
    found = tables.study_tables(results, summary, read_held_out(out))
    each, analysis = tables.run_table(results, summary), [*label_tables(results, summary), *errors.tables()]
    for name, parts in (("tables", [*found, each, *analysis]), ("figures", drawn)):
        (out / name).mkdir(exist_ok=True)
        for old in (out / name).iterdir():  # tables and figures of rows that the study no longer has
            if old.suffix in WRITTEN:
                old.unlink()
        for part in parts:
            with files.naming(out / name / part.name):
                part.write(out / name)
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(
        (resources.files("mtbert.studying") / REPORT_FILE).read_text(encoding="utf-8")
    )
    page = template.render(
        title=out.resolve().name,
        answer=conclusion(results, summary),
        findings=_findings(summary),
        scores=summary.main_first,
        warnings=[*results.warnings, *undefined_metrics(results), *_unfinished(results)],
        tables=[*found, each],
        analysis=analysis,
        figures=[(part, _picture(out / "figures" / f"{part.name}.svg")) for part in drawn],
        browser=_json(errors.browser()),
        recipes=_recipes(results),
        environment=_environment(results),
        version=metadata.version("mtbert"),
    )
    files.write_text(out / REPORT_FILE, page)
    return found


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


def conclusion(results: Results, summary: Summary) -> str:
    """Returns a few plain sentences that state the result of the study or run."""
    against = _against(summary)
    compared = summary.comparisons[against]
    judged = {row: main for row, by_score in compared.items() if (main := _main(summary, by_score)) is not None}
    if not judged:
        return _one_row(results, summary)
    number = len(judged)
    if against == "control":
        other, was = "its control", f"{count(number, 'technique')} {_were(number)} judged by {summary.main}"
        verbs = {"better": ("helps", "help"), "worse": ("hurts", "hurt")}
        verbs["unclear"] = ("shows no clear effect", "show no clear effect")
    else:
        other = results.outline.reference
        was = f"{count(number, 'row')} {_were(number)} compared with {other} by {summary.main}"
        verbs = {verdict: (f"is {verdict}", f"are {verdict}") for verdict in ("better", "worse")}
        verbs["unclear"] = ("is not clearly different", "are not clearly different")
    said = []
    for verdict, (one, several) in verbs.items():
        rows = [row for row, comparison in judged.items() if comparison.verdict == verdict]
        said.append(f"{len(rows)} {one if len(rows) == 1 else several} ({few(rows, 5)})" if rows else f"none {one}")
    sentences = [f"{was}: {said[0]}, {said[1]}, and {said[2]}."]
    left = len(compared) - number
    if left:
        has = "has" if left == 1 else "have"
        sentences.append(f"{count(left, 'more row')} {has} no {summary.main} that {other} has too, and so no verdict.")
    single = sum(comparison.difference.seeds == 1 for comparison in judged.values())
    if single:
        with_one = f"{single} of these comparisons {'has' if single == 1 else 'have'} one seed"
        sentences.append(f"{with_one}, which compares two runs and says little about the technique.")
    least = summary.detectable(against, summary.main)
    if least is not None:
        sentences.append(
            f"A study like this one finds a true difference of {least:.3f} four times out of five; it may well miss a "
            "smaller one."
        )
    return " ".join(sentences)


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _one_row(results: Results, summary: Summary) -> str:
    """Returns a few sentences about the scores of one recipe of a study in which no two recipes can be compared.

    This is the reference recipe or, if no run of the reference recipe has ended, the first recipe of the study.
    """
    row = results.outline.reference if results.outline.reference in summary.rows else next(iter(summary.rows))
    scores = summary.rows[row].scores
    if not scores:
        return "No task was scored."
    score = summary.main if summary.main in scores else next(iter(scores))
    low, high = scores[score].interval
    sentences = [
        f"{row} has {score} {scores[score].mean:.4f} on dev, with a 95% interval from {low:.4f} to {high:.4f}.",
        f"The best constant answer would have {summary.baseline[score]:.4f}.",
    ]
    first = next(iter(results.runs[row].values()))
    if first.step is not None:
        sentences.append(f"The scores are those of best/, the model after step {first.step}, which predicts.")
    if first.newest is not None:
        sentences.append(f"{first.newest}.")
    return " ".join(sentences)


def _against(summary: Summary) -> Against:
    """Returns ``"control"`` or ``"reference"``: the comparison that the top of the report shows.

    This is ``"control"`` if any recipe of the study can be compared with its control, otherwise ``"reference"``.
    """
    return "control" if summary.comparisons["control"] else "reference"


def _main(summary: Summary, by_score: Mapping[str, Comparison]) -> Comparison | None:
    score = summary.judged_by(by_score)
    return None if score is None else by_score[score]


def _findings(summary: Summary) -> list[Mapping[str, Any]]:
    """Returns the findings at the top of the report: one for each recipe of the study that is compared with another.

    Clear effects come before unclear ones; in both groups, the largest improvement comes first.
    """
    found = []
    for row, by_score in summary.comparisons[_against(summary)].items():
        main = _main(summary, by_score)
        if main is not None:
            found.append(
                {
                    "row": row + summary.collapse_mark(row),
                    "other": main.other + summary.collapse_mark(main.other),
                    "seeds": main.difference.seeds,
                    "verdict": main.verdict,
                    "said": VERDICTS[main.verdict],
                    "by": summary.judged_by(by_score),
                    "main": _with_interval(main),
                    "p": tables.p_value(main.corrected),
                    "tasks": [
                        (_with_interval(by_score[name]), by_score[name].verdict) if name in by_score else ("", "")
                        for name in summary.main_first[1:]
                    ],
                    "order": (main.verdict == "unclear", -main.difference.mean),
                }
            )
    return sorted(found, key=lambda line: line["order"])


def _with_interval(comparison: Comparison) -> str:
    low, high = comparison.difference.interval
    return f"{comparison.difference.mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _unfinished(results: Results) -> list[str]:
    """Returns a list with one warning if some runs have not ended, and otherwise an empty list."""
    ended = sum(len(by_seed) for by_seed in results.runs.values())
    return [] if results.complete else [f"Only {ended} of {ended + len(results.missing)} runs have ended."]


def _picture(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode("ascii")


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


def _environment(results: Results) -> list[tuple[str, str]]:
    record = next(iter(next(iter(results.runs.values())).values())).record
    found = record.model_dump()
    return [
        (name, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value))
        for name, value in found.items()
    ]
