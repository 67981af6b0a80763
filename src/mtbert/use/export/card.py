"""The files that every exported folder contains: ``export.json`` for programs, and ``README.md`` for people."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mtbert.messages import clean, count
from mtbert.model.download import READ_ME, Origin
from mtbert.task import Task
from mtbert.use.export import Compared, Exporter, Wanted
from mtbert.use.hub_runs import EXPORT_FILE

EXPORT_FORMAT = 1
LONGEST_SUMMARY = 2000  # characters of the labels of a task in a card


def write_about(exporter: Exporter, wanted: Wanted, compared: Mapping[str, Compared], folder: Path) -> None:
    """Writes ``export.json`` into an exported folder.

    ``compared`` says how far the exported model's answers differ from the original's. A task that has not been compared
    yet is missing from ``compared``.
    """
    predictor, model = wanted.predictor, wanted.predictor.model
    facts = exporter.facts(wanted)
    written = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    about = {
        "format": EXPORT_FORMAT,
        "to": exporter.name,
        "mtbert": version("mtbert"),
        "step": predictor.step,
        "max_length": model.max_length,
        "base": None if wanted.origin is None else asdict(wanted.origin),
        "files": sorted(written | {EXPORT_FILE, READ_ME}),
        "tasks": {
            name: _facts(exporter, wanted, name) | dict(facts[name]) | _as_json(compared.get(name))
            for name in wanted.tasks
        },
    }
    (folder / EXPORT_FILE).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _facts(exporter: Exporter, wanted: Wanted, name: str) -> dict[str, Any]:
    task, model = wanted.predictor.task(name), wanted.predictor.model
    facts: dict[str, Any] = {"type": task.type, "inputs": task.inputs, "texts": task.texts}
    optional = {"labels": task.labels, "range": task.range, "splitter": task.splitter}
    facts |= {key: value for key, value in optional.items() if value is not None}
    fitted = {key: number.tolist() for key, number in model.fitted(name).items()}
    return facts | {"fitted": fitted, "lost": exporter.lost(model, task)}


def _as_json(compared: Compared | None) -> dict[str, Any]:
    if compared is None:
        return {}
    found: dict[str, Any] = {"answers": compared.answers, "largest_difference": compared.largest}
    if compared.scores is not None:
        found |= {"metric": compared.metric, "dev": compared.scores[0], "dev_of_export": compared.scores[1]}
    return {"compared": found}


def write_card(exporter: Exporter, wanted: Wanted, compared: Mapping[str, Compared], folder: Path) -> None:
    """Writes the ``README.md`` of an exported folder."""
    lines = [
        f"# {', '.join(wanted.tasks)}",
        "",
        f"Exported by mtbert {version('mtbert')} in the format `{exporter.name}`. {base(wanted.origin)}"
        "`export.json` says for programs what this file says.",
        "",
        "| task | answers | compared | largest difference |",
        "|---|---|---|---|",
    ]
    for name in wanted.tasks:
        task, one = wanted.predictor.task(name), compared[name]
        what = f"{task.type}, {task.inputs}: {answers(task)}"
        lines.append(f"| `{name}` | {what} | {count(one.answers, 'answer')} | {one.largest:.1e} |")
    rounded = [f"- `{name}`, int8: {one}" for name, one in compared.items() if one.scores is not None]
    lines += ["", *rounded] if rounded else []
    lost = [
        f"- `{name}`: {_escaped(note, wanted.predictor.task(name))}"
        for name in wanted.tasks
        for note in exporter.lost(wanted.predictor.model, wanted.predictor.task(name))
    ]
    lines += ["", "Not in this format:", "", *lost] if lost else []
    (folder / READ_ME).write_text("\n".join([*lines, "", exporter.usage(wanted).strip(), ""]), encoding="utf-8")


def answers(task: Task) -> str:
    """Returns, in Markdown, which answers a task can have: its labels (cut off if the list is long) or its range."""
    summary = task.answer.labels.summary(task)
    return markdown(summary[:LONGEST_SUMMARY]) + "..." * (len(summary) > LONGEST_SUMMARY)


def markdown(text: str) -> str:
    """Returns Markdown that shows ``text`` as it is, on one line, also in the cell of a table.

    >>> print(markdown("a|b <i>`c`"))
    a\\|b \\<i\\>\\`c\\`
    """
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", clean(text))


def _escaped(note: str, task: Task) -> str:
    """Returns ``note`` as Markdown. Special characters are escaped, except between backticks, where the text is code.

    If any label of the task contains a backtick, backticks are escaped too, so nothing becomes code.
    """
    if any("`" in label for label in task.labels or ()):
        return markdown(note)
    return "".join(part if part.startswith("`") else markdown(part) for part in re.split("(`[^`]*`)", note))


def base(origin: Origin | None) -> str:
    """Returns text that names the encoder that was fine-tuned, and the licence of this encoder."""
    if origin is None:
        return ""
    licence = "see there for its licence" if origin.licence is None else f"its licence is {origin.licence}"
    return f"The encoder was fine-tuned from {code(origin.name)}; {licence}. "


def code(text: str) -> str:
    """Returns Markdown that shows ``text`` as code, on one line. The Markdown is not suited for the cell of a table.

    >>> print(code("a`b"))
    ``a`b``
    """
    text = clean(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " * (text[:1] == "`" or text[-1:] == "`")
    return f"{fence}{pad}{text}{pad}{fence}"
