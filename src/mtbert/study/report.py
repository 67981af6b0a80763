"""The report of a study or run: one page that needs no network."""

import base64
import difflib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2

from mtbert import recipe as recipes
from mtbert.study import held_out, tables
from mtbert.study.errors import Errors
from mtbert.study.figures import figures
from mtbert.study.results import Results
from mtbert.study.summary import Comparison, Summary, summarise

FILE = "report.html"
VERDICTS = {"better": "helps", "worse": "hurts", "cannot be told apart": "cannot be told apart"}


def write(results: Results, out: Path) -> list[tables.Table]:
    """Writes ``report.html``, ``tables/`` and ``figures/`` into ``out``; returns the tables."""
    summary = summarise(results)
    errors = Errors(results)
    drawn = figures(results, summary)
    found = tables.tables(results, summary, held_out.read(out))
    analysis = errors.tables()
    for name, parts in (("tables", [*found, *analysis]), ("figures", drawn)):
        (out / name).mkdir(exist_ok=True)
        for part in parts:
            part.write(out / name)
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(
        (resources.files("mtbert.study") / FILE).read_text(encoding="utf-8")
    )
    page = template.render(
        title=out.resolve().name,
        answer=answer(results, summary),
        findings=_findings(summary),
        score=summary.main,
        warnings=[*results.warnings, *_unfinished(results)],
        tables=found,
        analysis=analysis,
        figures=[(part, _picture(out / "figures" / f"{part.name}.svg")) for part in drawn],
        browser=_json(errors.browser()),
        recipes=_recipes(results),
        environment=_environment(results),
        version=metadata.version("mtbert"),
    )
    unfinished = out / f".{FILE}.new"
    unfinished.write_text(page, encoding="utf-8")
    unfinished.replace(out / FILE)
    return found


def answer(results: Results, summary: Summary) -> str:
    """What the study or run says, in two or three sentences."""
    found = [by[summary.main] for by in summary.comparisons["control"].values() if summary.main in by]
    if not found:
        of_reference = summary.rows[next(iter(summary.rows))].scores
        if summary.main not in of_reference:
            return "No task was scored."
        own = of_reference[summary.main]
        low, high = own.interval
        return (
            f"{summary.main} is {own.mean:.4f} on dev, 95% interval {low:.4f} to {high:.4f}; the best constant answer "
            f"has {summary.baseline[summary.main]:.4f}."
        )
    counts = {verdict: sum(c.verdict == verdict for c in found) for verdict in VERDICTS}
    least = summary.detectable("control", summary.main)
    said = (
        f"By {summary.main}, {counts['better']} of {len(found)} techniques help, {counts['worse']} hurt, and "
        f"{counts['cannot be told apart']} cannot be told apart from doing without."
    )
    return said + f" A difference of {least:.3f} would be found in four studies of five like this one."


def _findings(summary: Summary) -> list[Mapping[str, Any]]:
    """A line for each technique, those told apart first, then by size."""
    found = []
    for row, by_score in summary.comparisons["control"].items():
        if summary.main in by_score:
            main = by_score[summary.main]
            found.append(
                {
                    "row": row,
                    "other": main.other,
                    "verdict": main.verdict,
                    "said": VERDICTS[main.verdict],
                    "main": _told(main),
                    "p": "< 0.001" if main.corrected < 0.001 else f"{main.corrected:.3f}",
                    "tasks": [(name, _told(c), c.verdict) for name, c in by_score.items() if name != summary.main],
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
    texts = {row: recipes.dump(run.recipe).splitlines() for row, run in runs.items()}
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
