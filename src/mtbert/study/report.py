"""The report of a study or run: one page that needs no network."""

import base64
import difflib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2

from mtbert import files, metrics
from mtbert.recipe.files import dump_recipe
from mtbert.study import tables
from mtbert.study.errors import Errors
from mtbert.study.figures import study_figures
from mtbert.study.held_out_scores import read_held_out
from mtbert.study.results import Results
from mtbert.study.summary import Against, Comparison, Summary, summarise
from mtbert.study.text_table import TextTable

REPORT_FILE = "report.html"
WRITTEN = (".md", ".csv", ".tex", ".png", ".svg")  # endings of tables and figures
VERDICTS = {"better": "helps", "worse": "hurts", "cannot be told apart": "cannot be told apart"}


def write_report(results: Results, out: Path) -> list[TextTable]:
    """Writes ``report.html``, ``tables/`` and ``figures/`` into ``out``; returns the tables for a terminal."""
    summary = summarise(results)
    errors = Errors(results)
    drawn = study_figures(results, summary)
    found = tables.study_tables(results, summary, read_held_out(out))
    each, analysis = tables.run_table(results, summary), errors.tables()
    for name, parts in (("tables", [*found, each, *analysis]), ("figures", drawn)):
        (out / name).mkdir(exist_ok=True)
        for old in (out / name).iterdir():  # of rows that are no more, nothing stays
            if old.suffix in WRITTEN:
                old.unlink()
        for part in parts:
            with files.naming(out / name / part.name):
                part.write(out / name)
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(
        (resources.files("mtbert.study") / REPORT_FILE).read_text(encoding="utf-8")
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
    """Returns a warning for each task whose metric is undefined on the answers of a run."""
    found = (
        metrics.undefined(dev.task, dev.metric, predicted.read_by(dev.scored_by), dev.labels)
        for by_seed in results.runs.values()
        for result in by_seed.values()
        for name, predicted in result.predicted.items()
        for dev in [results.dev[name]]
    )
    return list(dict.fromkeys(filter(None, found)))


def conclusion(results: Results, summary: Summary) -> str:
    """Returns the result of the study or run in two or three sentences."""
    against = _against(summary)
    found = [c for by in summary.comparisons[against].values() if (c := _main(summary, by)) is not None]
    if not found:
        return _one_row(results, summary)
    counts = {verdict: sum(c.verdict == verdict for c in found) for verdict in VERDICTS}
    what, helps, hurts, without = (
        ("techniques", "help", "hurt", "doing without")
        if against == "control"
        else ("rows", f"are better than {results.outline.reference}", "are worse", "it")
    )
    sentences = [
        f"By {summary.main}, {counts['better']} of {len(found)} {what} {helps}, {counts['worse']} {hurts}, and "
        f"{counts['cannot be told apart']} cannot be told apart from {without}."
    ]
    others = len(summary.comparisons[against]) - len(found)
    if others:
        sentences.append(f"{others} more have no {summary.main} in common with what they are compared with.")
    single = sum(c.difference.seeds == 1 for c in found)
    if single:
        sentences.append(f"{single} of these compare one seed each: they tell two runs apart, not two techniques.")
    least = summary.detectable(against, summary.main)
    if least is not None:
        sentences.append(f"Half of the comparisons would find a true difference of {least:.3f} four times in five.")
    return " ".join(sentences)


def _one_row(results: Results, summary: Summary) -> str:
    row = results.outline.reference if results.outline.reference in summary.rows else next(iter(summary.rows))
    scores = summary.rows[row].scores
    if not scores:
        return "No task was scored."
    score = summary.main if summary.main in scores else next(iter(scores))
    low, high = scores[score].interval
    said = (
        f"{row}: {score} is {scores[score].mean:.4f} on dev, 95% interval {low:.4f} to {high:.4f}; the best constant "
        f"answer has {summary.baseline[score]:.4f}."
    )
    first = next(iter(results.runs[row].values()))
    if first.step is not None:
        said += f" This is the model that predicts, best/, of step {first.step}."
    if first.newest is not None:
        said += f" Beside it, {first.newest}."
    return said


def _against(summary: Summary) -> Against:
    """Returns the comparison that the page begins with: against controls, or the reference where no row has one."""
    return "control" if summary.comparisons["control"] else "reference"


def _main(summary: Summary, by_score: Mapping[str, Comparison]) -> Comparison | None:
    score = summary.judged_by(by_score)
    return None if score is None else by_score[score]


def _findings(summary: Summary) -> list[Mapping[str, Any]]:
    """A line for each technique, those told apart first, then by size."""
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
                    "main": _told(main),
                    "p": tables.p_value(main.corrected),
                    "tasks": [
                        (_told(by_score[name]), by_score[name].verdict) if name in by_score else ("", "")
                        for name in summary.main_first[1:]
                    ],
                    "order": (main.verdict == "cannot be told apart", -main.difference.mean),
                }
            )
    return sorted(found, key=lambda line: line["order"])


def _told(comparison: Comparison) -> str:
    low, high = comparison.difference.interval
    return f"{comparison.difference.mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _unfinished(results: Results) -> list[str]:
    ended = sum(len(by_seed) for by_seed in results.runs.values())
    return [] if results.complete else [f"{ended} of {ended + len(results.missing)} runs have ended."]


def _picture(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode("ascii")


def _json(value: Mapping[str, Any]) -> str:
    """JSON that can stand in a script element: nothing in it ends that."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _recipes(results: Results) -> list[tuple[str, str]]:
    """By row its recipe: the reference in full, the others as what differs from their control."""
    runs = {row: next(iter(by_seed.values())) for row, by_seed in results.runs.items()}
    texts = {row: dump_recipe(run.recipe).splitlines() for row, run in runs.items()}
    found = []
    for row, lines in texts.items():
        other = results.outline.rows[row]
        if other is None or other not in texts:
            found.append((row, "\n".join(lines)))
        else:
            found.append((f"{row}, against {other}", _difference(texts[other], lines)))
    return found


def _difference(before: Sequence[str], after: Sequence[str]) -> str:
    return "\n".join(
        line for line in difflib.unified_diff(before, after, lineterm="", n=2) if line[:3] not in ("---", "+++")
    )


def _environment(results: Results) -> list[tuple[str, str]]:
    record = next(iter(next(iter(results.runs.values())).values())).record
    told = record.model_dump()
    return [
        (name, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value))
        for name, value in told.items()
    ]
