"""The ``README.md`` of a model on the Hugging Face Hub: metadata, tasks, use, scores, data and recipe."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtbert import yaml_text
from mtbert.messages import clean, count, few
from mtbert.model.download import Origin
from mtbert.model.model import Model
from mtbert.task import Task
from mtbert.use.export.card import answers, base, markdown
from mtbert.use.export.stock import form_of
from mtbert.use.predictor import Predictor

MOST = 20  # fitted numbers of a task that its card lists

_OWN_USE = """\
```
pip install mtbert
mtbert predict {name} {question}
```

```python
import mtbert

print(mtbert.load("{name}").predict("{task}", {texts}))
```
"""


@dataclass(frozen=True)
class OverSeeds:
    """The mean of a score over runs of a study that differ only in their seed.

    ``interval`` holds the lower and upper end of the mean's 95% interval; it is None if it is not known.
    """

    seeds: int
    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class ScoreLine:
    """One score of a model on dev.

    ``interval`` holds the lower and upper end of the score's 95% interval; it is None if it is not known.
    """

    task: str
    metric: str
    score: float
    constant: float  # the score of the best constant answer
    examples: int
    interval: tuple[float, float] | None = None
    over_seeds: OverSeeds | None = None


@dataclass(frozen=True)
class Training:
    """The facts in a model card about how the model was trained. Paths of folders on the user's machine are left out.

    Attributes:
        recipe: The recipe as YAML.
        scores: The scores on dev.
        data: The name and the SHA-256 of each data source.
        packages: The versions of the packages that the run used.
        origin: The encoder that the run started from.
        hub_id: The name of this encoder on the Hub; None if it is not known to be there.
    """

    recipe: str
    scores: Sequence[ScoreLine]
    data: Sequence[tuple[str, str]]
    packages: Mapping[str, str]
    origin: Origin
    hub_id: str | None


def hub_card(
    name: str,
    predictor: Predictor,
    tasks: Sequence[str],
    training: Training,
    *,
    to: str | None = None,
    exported: str = "",
) -> str:
    """Returns the text of a model's ``README.md`` on the Hub.

    Args:
        name: The model's name on the Hub.
        predictor: The model.
        tasks: The names of the tasks that are pushed.
        training: Facts about how the model was trained.
        to: The format of the export; None if the model is pushed in mtbert's own form.
        exported: The text of the ``README.md`` in the exported folder. Not used if ``to`` is None.
    """
    chosen = [predictor.task(task) for task in tasks]
    trained = f"Trained with mtbert {training.packages.get('mtbert', 'of an unknown version')}"
    torch = f" and torch {training.packages['torch']}" if "torch" in training.packages else ""
    steps = "" if predictor.step is None else f" for {count(predictor.step, 'step')}"
    lines = [
        "---",
        *yaml_text.dump(_metadata(chosen, training, to)).splitlines(),
        "---",
        "",
        f"# {markdown(name.partition('/')[2])}",
        "",
        f"{markdown(trained + torch)}{steps}. {base(training.origin)}".rstrip(),
        "",
        "## Tasks",
        "",
        "| task | type | inputs | answers | head |",
        "|---|---|---|---|---|",
        *(f"| `{t.name}` | {t.type} | {t.inputs} | {answers(t)} | {t.head.kind} |" for t in chosen),
        "",
        *(_own(name, predictor.model, chosen) if to is None else _exported(name, exported)),
        "",
        *_scores(training.scores),
        *_data(training.data),
        "## Recipe",
        "",
        *_fenced(training.recipe, "yaml"),
        "",
    ]
    return "\n".join(lines)


def _metadata(tasks: Sequence[Task], training: Training, to: str | None) -> dict[str, object]:
    alone = to in ("transformers", "sentence-transformers") and len(tasks) == 1  # the folder itself is such a model
    found: dict[str, object] = {"library_name": to if alone else "mtbert"}
    if training.origin.licence is not None:
        found["license"] = training.origin.licence
    if training.hub_id is not None:
        found["base_model"] = training.hub_id
    kinds = list(dict.fromkeys(_pipeline(task) for task in tasks))
    if len(kinds) == 1:
        found["pipeline_tag"] = kinds[0]
    return found | {"tags": ["mtbert", *kinds, *([to] if to else [])]}


def _pipeline(task: Task) -> str:
    """Returns the Hub's name for tasks of this kind, such as ``text-classification``."""
    if task.reads_words:
        return "token-classification"
    return {None: "text-ranking", "separate": "sentence-similarity"}.get(
        None if task.texts is None else task.inputs, "text-classification"
    )


def _own(name: str, model: Model, tasks: Sequence[Task]) -> list[str]:
    first = min(tasks, key=lambda task: task.texts or 3)
    texts, question = {
        1: ('["A text."]', '--text "A text."'),
        2: ('[("A text.", "Another text.")]', '--text "A text." --text-pair "Another text."'),
    }.get(first.texts or 3, ('[("A query.", "A candidate.", "Another candidate.")]', "--input queries.csv"))
    use = _OWN_USE.format(name=name, task=first.name, texts=texts, question=f"--task {first.name} {question}")
    fitted = [line for task in tasks for line in _fitted(model, task)]
    held = ["", "Fitted numbers, which the answers contain:", "", *fitted] if fitted else []
    return ["## Use", "", *use.splitlines(), *held]


def _fitted(model: Model, task: Task) -> list[str]:
    """Returns a line for each fitted number of a task, such as a threshold."""
    lines = []
    for name, number in model.fitted(task.name).items():
        if name == "knots":
            said = f"isotonic calibration with {number.shape[-1]} knots"
        elif name == "threshold" and form_of(task) == "labels":
            limits = zip(task.labels or (), number.sigmoid().tolist(), strict=True)
            said = f"a label is chosen above the probability {few([f'{label} {p:.4g}' for label, p in limits], MOST)}"
        else:
            said = f"{name} {few([f'{one:.6g}' for one in number.flatten().tolist()], MOST)}"
        lines.append(f"- `{task.name}`: {markdown(said)}")
    return lines


def _exported(name: str, readme: str) -> list[str]:
    """Returns the lines of ``readme``, the ``README.md`` of an exported folder, without its title.

    A line that says how to download the folder is added below the heading ``Use``.
    """
    body = readme.partition("\n\n")[2].rstrip()
    load = f"Download the folder first: `hf download {name} --local-dir FOLDER`."
    return body.replace("## Use\n", f"## Use\n\n{load}\n", 1).splitlines()


def _scores(scores: Sequence[ScoreLine]) -> list[str]:
    if not scores:
        return []
    lines = ["## Scores on dev", ""]
    columns = ["task", "metric", "score", "95% interval", "best constant", "examples"]
    seeds = any(line.over_seeds for line in scores)
    columns += ["mean over seeds"] * seeds
    lines += [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for line in scores:
        ends = _ends(line.interval)
        cells = [f"`{line.task}`", line.metric, f"{line.score:.4f}", ends, f"{line.constant:.4f}", str(line.examples)]
        if seeds:
            cells.append("" if line.over_seeds is None else _mean(line.over_seeds))
        lines.append(f"| {' | '.join(cells)} |")
    why = "The interval is that of the choice of examples."
    why += " The mean over seeds is that of the study that this run is part of." * seeds
    return [*lines, "", why, ""]


def _ends(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _mean(over: OverSeeds) -> str:
    ends = _ends(over.interval)
    return f"{over.mean:.4f}{f' ({ends})' if ends else ''}, {over.seeds} seeds"


def _data(data: Sequence[tuple[str, str]]) -> list[str]:
    if not data:
        return []
    hashes = [f"- {markdown(source)}: `{markdown(digest)}`" for source, digest in data]
    return ["## Data", "", "SHA-256 of the files and data sets that the run read:", "", *hashes, ""]


def _fenced(text: str, language: str) -> list[str]:
    """Returns the lines of a Markdown code block with ``text``.

    The fence is longer than any sequence of backticks in ``text``.
    """
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [fence + language, *clean(text, lines=True).rstrip("\n").split("\n"), fence]
