"""Preparation of everything that a run needs before its first step: encoder, tokenizer, data and heads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from mtbert import environment, files, splits
from mtbert.advice import see, worded
from mtbert.data.check import DataReport, report_on_data, without_examples
from mtbert.data.leaks import leak_line, leaks
from mtbert.data.measure import TableData, TaskData, count_tokens, unknown_id
from mtbert.data.split import linking, separable
from mtbert.messages import Note, few
from mtbert.model import lora
from mtbert.model.config import parse_config, read_config
from mtbert.model.download import find_config
from mtbert.model.encoder import Encoder
from mtbert.model.freeze import freeze
from mtbert.model.model import Model
from mtbert.model.settings import Pal
from mtbert.model.unfilled import unwritten
from mtbert.model.weights import load_encoder
from mtbert.prepare import Prepared, prepare
from mtbert.processes import ALONE, Processes
from mtbert.progress_bar import progress_of
from mtbert.recipe.checks import check_config, check_with_encoder
from mtbert.recipe.settings import Recipe
from mtbert.storage.card import check_card, read_card
from mtbert.storage.model_folder import find_model_folder, load_tasks, matching_tokenizer
from mtbert.training.run import Run

# The settings of an encoder that depend on its weights or on the recipe too, not on its config.json alone.
DECIDED = ("pooler", "hidden_dropout", "attention_dropout", "embedding_dropout")


@dataclass(frozen=True)
class Assembled:
    """Everything that a run needs before its first step. ``notes`` are texts to print before training."""

    recipe: Recipe
    device: torch.device
    tokenizer: Tokenizer
    data: Mapping[str, Prepared]
    model: Model
    notes: tuple[Note, ...]

    def run(self, processes: Processes = ALONE) -> Run:
        """Moves the model to the device, and returns a run that has made no steps yet. ``processes`` train it."""
        return Run(self.recipe, self.model, self.data, self.device, processes)

    @property
    def data_notes(self) -> list[Note]:
        """The warnings about the data of all tasks."""
        longest = self.recipe.model.max_length
        tables = {prepared.table.name: prepared.table for prepared in self.data.values()}
        found = []
        for table in tables.values():
            kind = "table" if table.shared else "task"
            found += [Note(f"{kind} {table.name}: {line}", warning=True) for line in table.warnings]
        for name, prepared in self.data.items():
            found += [Note(f"task {name}: {line}", warning=True) for line in prepared.all_warnings(longest)]
            labels = prepared.task.answer.labels.distribution(prepared.task, prepared.train.examples.labels)
            found += [Note(line, warning=True) for line in without_examples(prepared.task, "train", labels)]
        for name, number in self.leaked.items():
            line = f"task {name}: {leak_line(number, len(self.data[name].dev))}{_together(self.recipe, name)}"
            found.append(Note(line, warning=True))
        return found

    @cached_property
    def leaked(self) -> dict[str, int]:
        """By task, how many of its dev examples have a text that some task trains on. Tasks with none are left out."""
        tables = {prepared.table.name: prepared.table for prepared in self.data.values()}
        split = next(iter(self.recipe.tasks.values()))
        if len(tables) == 1 and split.dev is None and split.dev_split == "texts":
            return {}  # without comparing millions of texts
        dev = {name: linking(prepared.dev.examples.texts) for name, prepared in self.data.items()}
        with progress_of("comparing train with dev"):
            return leaks([column for table in tables.values() for column in table.train], dev)

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each data source, keyed by the source's name."""
        return {name: digest for each in self.data.values() for name, digest in each.table.digests.items()}


def check_data(recipe: Recipe) -> DataReport:
    """Returns a report on the data of ``recipe``.

    Raises:
        ValueError, FileNotFoundError: If a run of the recipe could not start.
    """
    made = assemble(recipe)
    plan = made.run().plan
    longest, unknown = recipe.model.max_length, unknown_id(made.tokenizer)
    tables = {
        d.table.name: TableData(d.table.name, d.table.train, d.table.dev, d.table.warnings, _apart(recipe, name, d))
        for name, d in made.data.items()
        if d.table.shared
    }
    tasks = []
    for name, d in made.data.items():
        with progress_of(f"counting the tokens of {name}"):
            tokens = (
                count_tokens(made.tokenizer, d.train, longest, unknown),
                count_tokens(made.tokenizer, d.dev, longest, unknown),
            )
        table = tables.get(d.table.name)
        shared = (f"task {name}: {line}" for line in d.warnings)
        read = tuple(shared) if d.table.shared else (*d.table.warnings, *d.warnings)
        read = (*read, *_leaked_to_test(recipe, d))
        batch_size = recipe.tasks[name].batch_size
        held_out = 0 if d.held_out is None else len(d.held_out)
        tasks.append(
            TaskData(
                d.task,
                d.train,
                d.dev,
                batch_size,
                plan.passes[name],
                tokens,
                read,
                table,
                held_out,
                apart=_apart(recipe, name, d),
                together=_together(recipe, name),
                may_end_early=plan.may_end_early(recipe),
            )
        )
    return replace(report_on_data(tasks, longest), notes=made.notes)


def _leaked_to_test(recipe: Recipe, data: Prepared) -> Iterator[str]:
    """Yields a warning if test examples of a task have a text that is also in train."""
    name = data.task.name
    if recipe.tasks[name].test is not None:
        with splits.rooted(recipe):
            side, _ = splits.read_test_table(recipe, [data.task])
        test = side.tasks[name].examples
        for number in leaks(linking(data.train.examples.texts), {name: linking(test.texts)}).values():
            yield f"{name}, {leak_line(number, len(test), split='test')}"


def _apart(recipe: Recipe, name: str, data: Prepared) -> str:
    """Returns advice on how to keep texts of the task's train out of the task's dev. The advice begins with a space."""
    settings = recipe.tasks[name]
    if settings.dev is None:
        return " Name a dev file with other texts."
    if separable(data.table.train, settings.dev_fraction):
        return " Without dev, a part of train would be held out as dev, and share no text with it."
    return " Name another dev file, with other texts."


def _together(recipe: Recipe, name: str) -> str:
    """Returns advice for the case that another task trains on dev texts of the task ``name``.

    The advice begins with a space. If the task has a dev file, or if its ``dev_split`` is not ``texts``, returns an
    empty string.
    """
    settings = recipe.tasks[name]
    if settings.dev is not None or settings.dev_split != "texts":
        return ""
    topic = worded(see("recipes/tables"), see("python/several-questions-about-the-same-rows"))
    return f" Let tasks about the same rows read one table, whose dev is drawn once for all of them. {topic}"


def assemble(recipe: Recipe, checkpointed: Path | None = None, processes: Processes = ALONE) -> Assembled:
    """Returns everything that a run of ``recipe`` needs before its first step.

    Args:
        recipe: The recipe. If it sets a number of threads, this number is set for the whole process.
        checkpointed: The model folder from which all weights are loaded. If it is None, the encoder that the recipe
            names is loaded. If this encoder comes from a trained model, its heads are loaded too.
        processes: The processes that train the run together. Only the first process loads weights. The other processes
            get the tokenizer and the shape of the encoder from the first process. Their weights are unset until
            :func:`~mtbert.training.join.share_state` is called.

    Raises:
        ValueError, FileNotFoundError: If the recipe, the data or the encoder cannot be used.
    """
    if recipe.train.threads is not None:
        torch.set_num_threads(recipe.train.threads)
    device = environment.device(recipe.train.device)
    finished = (checkpointed or _finished(recipe)) if processes.first else None
    encoder, tokenizer, notes = _encoder(recipe, finished, processes)
    if recipe.model.lora is not None:
        lora.add(encoder, recipe.model.lora, recipe.train.seed)
    if recipe.model.freeze is not None:
        freeze(encoder, recipe.model.freeze)
    check_with_encoder(recipe.tasks, recipe.model, recipe.train, encoder)
    data = prepare(recipe, tokenizer)
    model = Model(
        encoder,
        {name: d.task for name, d in data.items()},
        pooling=recipe.model.pooling,
        max_length=recipe.model.max_length,
        seed=recipe.train.seed,
        adapters=recipe.model.pal,
        fitted={name: recipe.fitted(name) for name in data},
        unshare=recipe.model.unshare,
    )
    model.compute = environment.precision(recipe.train.precision, device)
    by_pooling = [task for task in model.tasks.values() if not task.head_kind.native]
    if not encoder.config.pooler and any(model.pooling_of(task) == "cls" for task in by_pooling):
        line = f"{recipe.model.path} has no pooler: pooling 'cls' takes the [CLS] token's last hidden state as is"
        notes.append(Note(line))
    if finished is not None and finished == checkpointed:
        load_tasks(model, finished, list(model.tasks), check_card(model, finished).saved_numbers)
    elif finished is not None:
        notes.append(_go_on_with_heads(model, finished))
    return Assembled(recipe, device, tokenizer, data, model, tuple(notes))


def _encoder(recipe: Recipe, finished: Path | None, processes: Processes) -> tuple[Encoder, Tokenizer, list[Note]]:
    """Returns three things: the encoder, its tokenizer, and notes for the user.

    The first process loads them from the model folder ``finished``, or from the folder that ``recipe`` names. All other
    processes get the tokenizer from the first one, and make an encoder of the same shape, without weights.
    """
    if not processes.first:
        nothing: tuple[Any, dict[str, Any], str] = (None, {}, "")
        source, decided, text = processes.from_first(nothing)
        config = replace(parse_config(source, Path(recipe.model.path)), **decided)
        return unwritten(config), Tokenizer.from_str(text), []
    loaded = load_encoder(str(finished or recipe.model.path), dropout=recipe.model.dropout)
    check_config(recipe.model, loaded.encoder.config)
    tokenizer = matching_tokenizer(loaded.folder, loaded.encoder)
    if processes.size > 1:
        config = loaded.encoder.config
        processes.from_first((config.source, {name: getattr(config, name) for name in DECIDED}, tokenizer.to_str()))
    weights = (("missing", loaded.missing), ("unexpected", loaded.unexpected))
    notes = [Note(f"{recipe.model.path}: {what} weights: {few(names, most=5)}") for what, names in weights if names]
    return loaded.encoder, tokenizer, notes


def check_encoder(recipe: Recipe) -> None:
    """Checks that the recipe's encoder is of a known family and has the positions and layers that the recipe needs.

    Only the encoder's ``config.json`` is read.

    Raises:
        FileNotFoundError: If there is no such encoder, or if the encoder has no ``config.json``.
        ValueError: If the encoder is not of a known family, or has too few positions or layers.
    """
    check_config(recipe.model, read_config(find_config(str(_finished(recipe) or recipe.model.path))))


def _finished(recipe: Recipe) -> Path | None:
    """Returns the folder of the trained model that the recipe uses as its encoder; None if it uses no trained model."""
    path = Path(recipe.model.path)
    return find_model_folder(path) if path.is_dir() else None


def _go_on_with_heads(model: Model, folder: Path) -> Note:
    """Copies the heads of the trained model in ``folder`` into ``model``, for the tasks that both models have.

    Returns a note for the user that lists these tasks, and the tasks that only ``model`` has.
    """
    card = read_card(folder)
    known = card.tasks
    both = [name for name in model.tasks if name in known]
    for name in both:
        if known[name] != model.tasks[name]:
            fields = [
                f for f in type(known[name]).model_fields if getattr(known[name], f) != getattr(model.tasks[name], f)
            ]
            raise ValueError(
                f"task {name}: {folder} has a head of this name for another {' and '.join(fields)}. "
                "Rename the task, or give it the same settings."
            )
        if known[name].pooled(card.pooling) != model.pooling_of(known[name]):
            raise ValueError(
                f"task {name}: the head in {folder} reads pooling '{known[name].pooled(card.pooling)}', found "
                f"'{model.pooling_of(known[name])}'. Set model.pooling, or rename the task."
            )
        before, now = (_adapter(pal, name) for pal in (card.pal, model.pal))
        if before != now:
            raise ValueError(
                f"task {name}: {folder} was trained with model.pal {before}, found {now}. "
                "Set model.pal as it was, or rename the task."
            )
        if card.unshare not in (0, model.unshare):  # from 0, each copy starts with the layers that the tasks shared
            raise ValueError(
                f"task {name}: {folder} was trained with model.unshare {card.unshare}, found {model.unshare}. "
                "Set model.unshare as it was, or rename the task."
            )
    load_tasks(model, folder, both, card.saved_numbers, tops=card.unshare > 0)
    new = [name for name in model.tasks if name not in known]
    return Note(f"{files.meant(folder)}: heads going on: {', '.join(both) or 'none'}; new: {', '.join(new) or 'none'}")


def _adapter(pal: Pal | None, name: str) -> str:
    """Returns the settings of a task's adapter as JSON; ``null`` if the task has no adapter."""
    if pal is None or not pal.adapts(name):
        return "null"
    return pal.model_dump_json(exclude={"tasks"})
