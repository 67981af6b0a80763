"""Writing guessed tasks as a recipe with comments, and choosing its encoder and its training settings."""

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtbert import files
from mtbert.advice import command_line
from mtbert.answers.seen import SeenColumn
from mtbert.columns import TextColumn
from mtbert.data.cells import readable
from mtbert.data.split import linking, separable
from mtbert.drafting.comments import Setting, commented
from mtbert.drafting.guessing import TableGuess, TaskGuess
from mtbert.drafting.language import looks_english
from mtbert.drafting.looking import SeenFile
from mtbert.drafting.roles import is_likely_text, is_pair
from mtbert.messages import count, few
from mtbert.model.download import DEMO_MODEL, DEMO_PACKAGE

SEEN = 20_000  # examples that training should see, which takes about ten minutes on two cores
MOST_EPOCHS = 10
PATIENCE = 3  # evaluations
DEV_FRACTION = 0.1  # of train, as recipes have it by default
SMALL_BATCH, LARGE_BATCH, MANY = 16, 32, 5_000  # from MANY rows on, a batch has LARGE_BATCH rows
CUTS = (64, 128, 256)  # tokens that a text is cut to
TOKENS_OF_A_WORD = 1.5  # a guess for English; and a few for special tokens
FAR = 10  # tables of which one has so many times the rows of another do not get max as rounds
MOST_UNUSED = 20  # unused columns that a table names
SAMPLED = 1000  # texts of each column that show the language
MULTILINGUAL = "jhu-clsp/mmBERT-base (many languages)"
OTHER_ENCODERS = f"answerdotai/ModernBERT-base (English, larger) or {MULTILINGUAL}"


def recipe_text(tables: Sequence[TableGuess], out: Path, seeds: Mapping[str, int] | None = None) -> str:
    """Returns the text of a recipe for ``tables``, to be written to the file ``out``.

    ``seeds`` holds the values of ``dev_seed`` to write. A key is the name of a table that several tasks read, or the
    name of a task that has a table to itself.
    """
    folder = files.resolved(out.parent)  # as the recipe's paths are read
    seen = [file for table in tables for file in (*table.group.train, *table.group.dev, *table.group.test)]
    told = few([f"{readable(file.place.name)} ({_rows(file)})" for file in seen], 4)
    shared = [table for table in tables if len(table.tasks) > 1]
    settings = [
        Setting("", why=f"mtbert init guessed this recipe from {told}."),
        Setting("", why="A comment says why a setting was guessed, and what it may be instead. Change what is wrong."),
        Setting("", why=f"Then: {command_line('data', 'check', out)}; {command_line('train', out)}"),
    ]
    if shared:
        inside = [Setting(table.name, inside=list(_table(table, folder, seeds or {}))) for table in shared]
        settings.append(Setting("tables", why="files that several tasks read", inside=inside))
    tasks = [
        Setting(task.name, inside=list(_task(table, task, folder, seeds or {})))
        for table in tables
        for task in table.tasks
    ]
    settings += [
        Setting("tasks", inside=tasks),
        Setting("model", inside=list(_model(tables))),
        Setting("train", inside=list(_train(tables))),
    ]
    return commented(settings)


def _table(table: TableGuess, folder: Path, seeds: Mapping[str, int]) -> Iterator[Setting]:
    yield from _files(table, folder, seeds.get(table.name))
    columns = [Setting("text", _names(table.texts), _instead(table, table.texts))]
    yield Setting("columns", inside=[*columns, *_id(table)])
    yield Setting("batch_size", batch_size(table))
    yield from _unused(table)


def _task(table: TableGuess, task: TaskGuess, folder: Path, seeds: Mapping[str, int]) -> Iterator[Setting]:
    shared = len(table.tasks) > 1
    given = dict(task.settings)
    columns: dict[str, Any] = dict(given.pop("columns", None) or {"label": task.columns[0].name})
    yield Setting("type", task.type, "; or ".join([task.because, *_others(task)]))
    if shared and columns.get("text") == _names(table.texts):
        del columns["text"]
    read = task.texts if "text" not in task.suits.columns else ()
    inputs = given.pop("inputs", "packed" if len(read) > 1 else "single")
    yield Setting("inputs", inputs, _why_packed(read) if inputs == "packed" else "")
    if shared:
        yield Setting("table", table.name)
    else:
        yield from _files(table, folder, seeds.get(task.name))
    inside = (
        [Setting("text", _names(read), _instead(table, read))] if read and (not shared or read != table.texts) else []
    )
    inside += [Setting(key, value, task.suits.notes.get(key, "")) for key, value in columns.items()]
    inside += [] if shared else _id(table)
    alone = [setting.key for setting in inside] == ["label"] and isinstance(inside[0].value, str)
    yield inside[0] if alone else Setting("columns", inside=inside)
    yield from (Setting(key, value, task.suits.notes.get(key, "")) for key, value in given.items())
    if not shared:
        yield Setting("batch_size", batch_size(table))
        yield from _unused(table)


def _files(table: TableGuess, folder: Path, seed: int | None) -> Iterator[Setting]:
    group = table.group
    why = "one table, as their names and columns are alike" * (len(group.train) > 1)
    yield Setting("train", _source(group.train, folder), why)
    if group.dev:
        yield Setting("dev", _source(group.dev, folder), "by its name")
    elif _linked(table):
        why = (
            "chains of shared texts link nearly all rows, so the same texts are in train and dev, and scores on dev are"
        )
        yield Setting("dev_split", "rows", f"{why} too good. A dev file with other texts is better: dev: FILE")
    else:
        yield Setting("", why="dev: FILE  (without one, dev is a tenth of train that shares no text with the rest)")
    if seed is not None:
        yield Setting("dev_seed", seed, "draws each class about evenly; 0, the default, does not")
    if group.test:
        yield Setting("test", _source(group.test, folder), "by its name; only mtbert evaluate --split test reads it")
    yield from (Setting("", why=remark) for remark in table.remarks)


def _linked(table: TableGuess) -> bool:
    """Returns whether shared texts link so many rows that no dev of the usual size can be split off."""
    seen = (*table.texts, *table.other_texts, *(c for task in table.tasks for c in (*task.texts, *task.columns)))
    by_name = {column.name: column for column in seen}
    linked = dict.fromkeys(name for task in table.tasks for name in linking(_texts_of(task)))
    labels = table.tasks[0].columns if len(table.tasks) == 1 else ()  # all rows of a table take part in the split
    rows = [i for i in range(table.rows) if not labels or any(column.cells[i] is not None for column in labels)]
    texts = [TextColumn.of(str(by_name[name].cells[i] or "") for i in rows) for name in linked]
    return len(rows) > 1 and not separable(texts, DEV_FRACTION)


def _texts_of(task: TaskGuess) -> Sequence[str]:
    """Returns the names of the text columns that a task reads."""
    named = task.suits.columns.get("text")
    if named is None:
        return [text.name for text in task.texts]
    return [named] if isinstance(named, str) else named


def _source(seen: Sequence[SeenFile], folder: Path) -> Any:
    found = [os.path.relpath(_place(file.place.path), folder) for file in seen]
    if seen[0].place.is_data_set:
        return {"hub": found[0]}
    return found[0] if len(found) == 1 else found


def _place(path: Path) -> Path:
    """Returns ``path`` with the symbolic links in its folder part resolved.

    If the file is a symbolic link too, the file's link is kept. The user may later let the link point to another file.
    """
    return files.resolved(path.parent) / path.name if path.name not in ("", "..") else files.resolved(path)


def _others(task: TaskGuess) -> list[str]:
    return [f"{name}, {suits.when}" for name, suits in task.others if suits.when]


def _why_packed(texts: Sequence[SeenColumn]) -> str:
    """Returns the comment beside ``inputs: packed`` in a drafted recipe.

    The setting ``packed`` means that both texts of a row go into one sequence, and the comment says so.
    ``texts`` holds the columns of the two texts.
    """
    if is_pair(texts[0], texts[1]):
        return "both texts in one sequence; or separate, for a vector of each"
    return f"{texts[0].name} and {texts[1].name} of a row are read as one input, in one sequence"


def _instead(table: TableGuess, texts: Sequence[SeenColumn]) -> str:
    others = [column.name for column in table.other_texts if is_likely_text(column)]
    if len(texts) > 1:
        longest = max(texts, key=lambda text: text.mean_words)
        alone = f"for one of them alone: text: {longest.name}, and inputs: single"
        return alone + f"; other texts: {few(others)}" * bool(others)
    filled, rows = len(texts[0].filled), len(texts[0].cells)
    why = [f"filled in {filled:,} of {count(rows, 'row')}, and no others are read"] if filled < rows else []
    return "; ".join([*why, *([f"most words; or {few(others)}"] if others else [])])


def _names(columns: Sequence[SeenColumn]) -> Any:
    return columns[0].name if len(columns) == 1 else [column.name for column in columns]


def _id(table: TableGuess) -> list[Setting]:
    return [] if table.id is None else [Setting("id", table.id.name, "different in every row")]


def _unused(table: TableGuess) -> Iterator[Setting]:
    for column, why in table.unused[:MOST_UNUSED]:
        yield Setting("", why=f"not used: {column.name} ({why})")
    if more := table.unused[MOST_UNUSED:]:
        yield Setting("", why=f"not used: {count(len(more), 'more column')}")


def _rows(file: SeenFile) -> str:
    return count(file.rows, "row") if file.whole else f"the first {count(file.rows, 'row')}"


def batch_size(table: TableGuess) -> int:
    """Returns the number of rows in a batch of a table."""
    return LARGE_BATCH if table.rows >= MANY else SMALL_BATCH


def all_english(tables: Sequence[TableGuess]) -> bool:
    """Returns whether the texts in the tables look English. The encoder in a new recipe is for English texts."""
    cells = (cell for table in tables for column in table.texts for cell in column.filled[:SAMPLED])
    return looks_english(" ".join(map(str, cell)) if isinstance(cell, list) else str(cell) for cell in cells)


def _model(tables: Sequence[TableGuess]) -> Iterator[Setting]:
    hint = "" if all_english(tables) else ". The texts do not look English, so take one for their language"
    if importlib.util.find_spec(DEMO_PACKAGE) is not None:
        path, what = "demo", "MiniLM, small and English"
    else:
        path, what = DEMO_MODEL, "small and English, from the Hugging Face hub"
    yield Setting("path", path, f"{what}; or {OTHER_ENCODERS}{hint}")
    yield Setting("pooling", "mean", "as MiniLM was trained; cls for most others")
    words = sorted(sum(lengths) for table in tables for lengths in zip(*(c.words for c in table.texts), strict=True))
    tokens = TOKENS_OF_A_WORD * words[len(words) * 19 // 20] + 4
    longest = next((length for length in CUTS if length >= tokens), CUTS[-1])
    yield Setting("max_length", longest, f"tokens; about nineteen of twenty texts have at most {round(tokens)}")


def _train(tables: Sequence[TableGuess]) -> Iterator[Setting]:
    batches = [-(-table.rows // batch_size(table)) for table in tables]
    most = max(table.rows for table in tables)
    if len(tables) > 1:
        if max(batches) <= FAR * min(batches):
            yield Setting("rounds", "max", "an epoch is a pass over the largest table; or min, over the smallest")
        else:
            yield Setting(
                "rounds", FAR * min(batches), f"an epoch has {FAR} passes over the smallest table; or max, or min"
            )
            most = min(most, FAR * min(table.rows for table in tables))
    epochs = max(1, min(MOST_EPOCHS, round(SEEN / most)))
    patient = epochs > PATIENCE + 1  # otherwise patience would change nothing
    yield Setting("epochs", epochs, "at most; " * patient + "more if dev still improves at the end")
    if patient:
        why = f"training ends after {PATIENCE} epochs in a row without a higher score on dev; null: never early"
        yield Setting("patience", PATIENCE, why)
    yield Setting("lr", 1e-4, "for a small encoder such as MiniLM; 2e-5 to 5e-5 for a larger one")
