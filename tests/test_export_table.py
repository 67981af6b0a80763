"""The tables in docs/export.md, which say what each format holds, are those that follow from the code."""

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import toy_stock
from pydantic import ValidationError
from toy_stock import FAMILIES, TAGS, TYPES, predictor, set_fitted, task

from mtbert.model.settings import Pal
from mtbert.task import Task
from mtbert.use.export.known import EXPORTERS
from mtbert.use.predictor import Predictor

DOCUMENT = Path(__file__).parents[1] / "docs/export.md"
HEADS, INPUTS, POOLINGS = ("native", "linear", "mlp", "cosine"), ("single", "packed", "separate"), ("cls", "mean")


def tasks() -> Iterator[Task]:
    """Yields all tasks that there are, by head, inputs, pooling and answer type."""
    for head, inputs, pooling, type_ in product(HEADS, INPUTS, POOLINGS, (*TYPES, "tokens", "ranking")):
        changes: dict[str, Any] = {"labels": TAGS.labels} if type_ == "tokens" else {"pooling": pooling}
        try:
            yield task(type_, head, inputs, name=f"{type_}-{head}-{inputs}-{pooling}", **changes)
        except ValidationError:
            continue  # there is no such task


def there_is(one: Task, kind: str) -> bool:
    """Returns whether an encoder of the family can have the task.

    Some families have no native head, and some native heads read first tokens alone.
    """
    native = toy_stock.encoder(kind).config.native
    if one.head_kind.native:
        return native is not None and (one.pooled("cls") == "cls" or native.pooling_key is not None)
    return True


def held(name: str, made: Mapping[str, Predictor], one: Task) -> str:
    """Returns the families for which the format ``name`` holds the task ``one``: ``yes`` for all, ``no`` for none."""
    able = [each.model for each in made.values() if one.name in each.tasks]
    found = [model.encoder.config.source["model_type"] for model in able if not EXPORTERS[name].refusal(model, one)]
    return "yes" if len(found) == len(FAMILIES) else ", ".join(found) or "no"


def table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (heading, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(heading), *lines[1:]])


def joined(rows: list[tuple[str, ...]], column: int) -> list[tuple[str, ...]]:
    """Merges rows that differ only in ``column`` into one row, where ``column`` holds all cells, joined by commas."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        found.setdefault((*row[:column], *row[column + 1 :]), []).append(row[column])
    return [(*rest[:column], ", ".join(dict.fromkeys(parts)), *rest[column:]) for rest, parts in found.items()]


def stands_in_the_document(made: str) -> None:
    assert made in DOCUMENT.read_text(encoding="utf-8"), f"docs/export.md must hold this table:\n\n{made}\n"


def test_the_table_of_tasks_is_that_of_the_code():
    every = list(tasks())
    made = {kind: predictor(kind, *(one for one in every if there_is(one, kind))) for kind in FAMILIES}
    rows = [
        (one.head.kind, one.inputs, one.pooled("cls"), one.type, *(held(name, made, one) for name in EXPORTERS))
        for one in every
    ]
    for column in (3, 1, 2):
        rows = joined(rows, column)
    stands_in_the_document(table(("head", "inputs", "pooling", "answer types", *EXPORTERS), rows))


def test_the_table_of_parts_is_that_of_the_code():
    scaled, knots = {"scale": 0.5, "bias": 0.5}, {"knots": [[*range(256)], [0.001 + i / 300 for i in range(256)]]}
    parts: dict[str, Predictor] = {
        "own top layers (`model.unshare`)": predictor("bert", task("ordinal"), unshare=1),
        "projected attention layers (`model.pal`)": predictor("bert", task("ordinal"), adapters=Pal(width=4, heads=2)),
        "temperature": set_fitted(predictor("bert", task("ordinal"), fitted={"t": ("scale",)}), scale=0.5),
        "Platt scaling": set_fitted(predictor("bert", task("binary"), fitted={"t": tuple(scaled)}), **scaled),
        "isotonic calibration": set_fitted(predictor("bert", task("binary"), fitted={"t": ("knots",)}), **knots),
        "thresholds of sets": set_fitted(
            predictor("bert", task("multilabel"), fitted={"t": ("threshold",)}), threshold=[0.0, 1.0, 0.0]
        ),
        "clamp of scores": predictor("bert", task("regression")),
        "threshold of a cosine": predictor("bert", task("binary", "cosine", "separate")),
        "range and clamp of a cosine": predictor("bert", task("regression", "cosine", "separate")),
    }
    rows = [(what, *(kept(name, made) for name in EXPORTERS)) for what, made in parts.items()]
    stands_in_the_document(table(("part of a model", *EXPORTERS), rows))


def kept(name: str, made: Predictor) -> str:
    """Returns where a format has a part of the model ``made``."""
    exporter, one = EXPORTERS[name], made.tasks["t"]
    if exporter.refusal(made.model, one) is not None:
        return "refused"
    return "a note in README.md" if exporter.lost(made.model, one) else "in the model"


def test_the_list_of_refusals_is_that_of_the_code():
    made = predictor("bert", *(one for one in tasks() if there_is(one, "bert")))
    adapted = predictor("bert", task("ordinal"), adapters=Pal(width=4, heads=2))
    refused = [
        f"- `{exporter.name}`: {why}"
        for exporter in EXPORTERS.values()
        for each in (made, adapted)
        for one in each.tasks.values()
        if (why := exporter.refusal(each.model, one)) is not None
    ]
    stands_in_the_document("\n".join(dict.fromkeys(refused)))
