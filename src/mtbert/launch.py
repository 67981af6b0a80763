"""Starting a run in a folder, and going on with one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from mtbert import checkpoint, environment, files, history, locks, optim, tracking, yaml_text
from mtbert import recipe as recipes
from mtbert import state as states
from mtbert.data.check import report
from mtbert.data.measure import TaskData, count_tokens, unknown_id
from mtbert.display import Display, score_table
from mtbert.environment import Record
from mtbert.evaluate import Evaluation
from mtbert.losses import ClassWeighted
from mtbert.messages import count, few, warn
from mtbert.model import lora
from mtbert.model.encoder import Encoder, EncoderConfig
from mtbert.model.freeze import freeze
from mtbert.model.model import Model
from mtbert.model.pal import Pal
from mtbert.model.weights import load_encoder
from mtbert.prepare import Prepared, prepare
from mtbert.profiling import Profile
from mtbert.recipe import Recipe
from mtbert.tracking import Tracker
from mtbert.train import Plan, Run, fit

RECIPE, ENVIRONMENT = recipes.FILE, "environment.json"  # what makes a folder a run


def start(
    recipe: Recipe,
    out: Path,
    console: Console,
    *,
    overwrite: bool = False,
    profile: bool = False,
    track: Tracker | None = None,
) -> dict[str, Evaluation]:
    """Trains ``recipe`` into the new folder ``out`` and returns the scores on dev at the end.

    From the first moment on no other process can train in ``out``. A run that is there is overwritten only when
    nothing in the recipe and the data can fail any more; a start that fails leaves no new folder.

    Raises:
        ValueError, FileNotFoundError: If the recipe, the data or the encoder cannot be used, ``out`` exists, or
            another process trains there.
    """
    _check_place(out, overwrite=True)  # before anything, also a lock, is put into a folder that is no run
    with locks.alone(out, "train") as held:
        _check_place(out, overwrite)
        device, tokenizer, data, model = build(recipe, console)
        for name, prepared in data.items():
            for warning in prepared.all_warnings(recipe.model.max_length):
                warn(console, f"task {name}: {warning}")
        run = Run(recipe, model, data, device)
        record = environment.record(device, _digests(data), recipes.digest(recipes.plain(recipe)))

        def write(folder: Path) -> None:
            (folder / ENVIRONMENT).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
            (folder / RECIPE).write_text(recipes.dump(recipe), encoding="utf-8")

        held.replace(write)
        return _go(run, tokenizer, out, console, profile, track)


def resume(
    out: Path,
    console: Console,
    *,
    overrides: Sequence[str] = (),
    epochs: int | None = None,
    profile: bool = False,
    track: Tracker | None = None,
) -> dict[str, Evaluation]:
    """Goes on with the run in ``out`` from its last checkpoint, on the CPU bitwise as if it had never stopped.

    With ``epochs`` the run, finished or not, is trained for that many epochs in all: ``recipe.yaml`` says so from then
    on, the learning rate and a sampler follow the schedule of the longer run, and patience counts anew. Data that were
    moved are found with ``data.root=FOLDER`` in ``overrides``, which ``recipe.yaml`` says from then on. Returns the
    scores on dev of the model that predicts.

    Raises:
        ValueError, FileNotFoundError: If ``overrides`` change anything else, ``out`` is no run, another process trains
            it, or its data, threads or checkpoint changed or broke.
    """
    for override in overrides:
        if override.partition("=")[0] != "data.root":
            raise ValueError(f"--set {few([override])}: with --resume only data.root may change. Leave it out.")
    found = locks.find_held(out)
    if found is None or not (found / RECIPE).is_file():
        raise FileNotFoundError(f"{out}: no run here (no {RECIPE}). Start one with: mtbert train RECIPE --out {out}")
    with locks.alone(out, "train"):
        for name in ("best", "last", RECIPE, ENVIRONMENT, tracking.IDENTITY):
            files.settle(out / name)
        run, tokenizer = _restored(out, console, overrides, epochs)
        console.print(f"going on at step {run.done} of {run.plan.steps}")
        return _go(run, tokenizer, out, console, profile, track)


def _check_place(out: Path, overwrite: bool) -> None:
    """Raises ValueError unless a new run can be in ``out``: it is free, or a run that ``overwrite`` lets go."""
    found = locks.find_held(out)
    if found is None or locks.is_free(out):
        return
    if not all((found / name).is_file() for name in (RECIPE, ENVIRONMENT)):
        raise ValueError(f"{out}: exists. It is no run, so give another --out.")
    if not overwrite:
        raise ValueError(
            f"{out}: exists. Go on with: mtbert train --resume {out}; or give another --out, or --overwrite."
        )


def _restored(out: Path, console: Console, overrides: Sequence[str], epochs: int | None) -> tuple[Run, Tokenizer]:
    """Returns the run in ``out`` as its last checkpoint left it; what was logged since goes."""
    begun = recipes.load(str(out / RECIPE), overrides)
    recipe = begun if epochs is None else _longer(begun, epochs)
    record = environment.read(out / ENVIRONMENT)
    last = files.find_folder(out / "last")
    _check_origin(out, last, record, begun, console)
    torch.set_num_threads(record.threads)
    device, tokenizer, data, model = build(recipe, console, last)
    found = _digests(data)
    if record.data.keys() != found.keys():
        raise ValueError(f"{out / ENVIRONMENT}: names other data than {RECIPE}: {few(record.data)}. {states.REPAIR}")
    for name, digest in found.items():
        if record.data[name] != digest:
            raise ValueError(
                f"{name}: changed since the run in {out} began. Put the old file back, or start a new run."
            )
    now = environment.record(device, {}, record.recipe)
    for key, before, today in (
        *((key, getattr(record, key), getattr(now, key)) for key in ("cpu", "device", "threads")),
        ("torch", record.packages.get("torch"), now.packages["torch"]),
    ):
        if before != today:
            warn(console, f"{key} was {before}, now {today}: the last bits may differ.")
    run = Run(recipe, model, data, device)
    if last is not None:
        checkpoint.check_card(model, last)
        state = states.load(last)
        try:
            run.restore(state)
        except ValueError as error:
            raise ValueError(f"{last}/{error}. {states.REPAIR}") from None
    elif _saved_before(out / history.METRICS):
        raise FileNotFoundError(
            f"{out / 'last'}: not there, although this run had saved it. Put it back, or start again."
        )
    else:
        state = run.state()
    history.cut(out, state.values, recipe)
    if epochs is not None:
        if run.stale:  # patience counts anew, also after a kill before the next checkpoint
            run.stale = 0
            states.replace_values(out / "last", state.values.model_copy(update={"stale": 0}), recipes.identity(recipe))
        _tell_of_rate(run, begun, console)
    if overrides or epochs is not None:
        _rewrite(recipe, record, out)
    return run, tokenizer


def _check_origin(out: Path, last: Path | None, record: Record, begun: Recipe, console: Console) -> None:
    """Raises an error unless recipe, record and ``last`` are as they were saved, by one run."""
    sealed = None if last is None else states.check_seal(last)
    if last is not None and sealed is None:
        if record.sealed:
            raise FileNotFoundError(f"{last / states.SEAL}: not there. {states.REPAIR}")
        warn(console, f"{last / states.SEAL}: not there, as in older runs: a changed weight would not be noticed.")
    ours = recipes.identity(begun)
    kept = _kept(out)
    if record.recipe not in (recipes.digest(kept), recipes.digest_with_epochs(kept)):
        if sealed is None:
            wrong = f"{out / RECIPE}: changed since the run began, or {ENVIRONMENT} beside it is of another run"
        else:
            wrong = f"{out / (ENVIRONMENT if sealed == ours else RECIPE)}: changed since the run began"
        raise ValueError(f"{wrong}. Undo that, or start a new run.")
    if last is not None and sealed not in (None, ours):
        raise ValueError(f"{last / states.SEAL}: of another run than {RECIPE}. {states.REPAIR}")


def _kept(out: Path) -> dict[str, Any]:
    """Returns the recipe as it is written in the run ``out``: an older version had fewer settings."""
    return yaml_text.read(out / RECIPE, "recipe", "tasks")


def _longer(recipe: Recipe, epochs: int) -> Recipe:
    """Returns the recipe for ``epochs`` epochs."""
    if epochs <= recipe.train.epochs:
        raise ValueError(f"--epochs {epochs}: the run has {recipe.train.epochs} already. Give more, or leave it out.")
    train = recipe.train.model_copy(update={"epochs": epochs})
    return recipe.model_copy(update={"train": train})


def _tell_of_rate(run: Run, begun: Recipe, console: Console) -> None:
    """Prints what more epochs than the run was begun with do to the learning rate."""
    settings = run.recipe.train
    before = Plan.of(begun, {name: len(d.train) for name, d in run.data.items()})
    lr, then = (
        settings.lr
        * optim.rate(min(run.done, plan.steps), steps=plan.steps, warmup=settings.warmup, schedule=settings.schedule)
        for plan in (run.plan, before)
    )
    console.print(
        f"{settings.epochs} epochs in place of {begun.train.epochs}: the learning rate follows the {settings.schedule} "
        f"schedule of {run.plan.steps} steps, so here it is {lr:.2g}, where it was {then:.2g}",
        soft_wrap=True,
    )


def _rewrite(recipe: Recipe, record: Record, out: Path) -> None:
    """Puts the epochs and the place of the data of ``recipe`` into the run's file; all else there stays."""
    kept = _kept(out)
    # First, so that after a kill between the two the run goes on: this digest fits the old file and the new one.
    same = recipes.digest(kept)
    if record.recipe != same:
        written = record.model_copy(update={"recipe": same}).model_dump_json(indent=2) + "\n"
        files.write_text(out / ENVIRONMENT, written)
    now = {"data": {"root": recipe.data.root}, "train": {"epochs": recipe.train.epochs}}
    files.write_text(out / RECIPE, yaml_text.dump(recipes.merge(kept, now)))


def check(recipe: Recipe, console: Console) -> list[str]:
    """Prints what is in the data of ``recipe``; returns the warnings.

    Raises:
        ValueError, FileNotFoundError: Whatever would keep a run from its first step.
    """
    device, tokenizer, data, model = build(recipe, console)
    passes = Run(recipe, model, data, device).plan.passes
    longest, unknown = recipe.model.max_length, unknown_id(tokenizer)
    tasks = []
    for name, d in data.items():
        tokens = (
            count_tokens(tokenizer, d.train, longest, unknown),
            count_tokens(tokenizer, d.dev, longest, unknown),
        )
        batch_size = recipe.tasks[name].batch_size
        tasks.append(TaskData(d.task, d.train, d.dev, batch_size, passes[name], tokens, d.warnings))
    return report(tasks, longest, console)


def _go(
    run: Run, tokenizer: Tokenizer, out: Path, console: Console, profile: bool, track: Tracker | None
) -> dict[str, Evaluation]:
    console.print(_plan_table(run))
    precision = str(run.model.compute).removeprefix("torch.")
    console.print(
        f"{run.plan.steps} steps ({run.recipe.train.mode}), {len(run.plan.rounds)} epochs, on {run.device.type} "
        f"with {torch.get_num_threads()} threads, {precision}"
    )
    for line in _class_weights(run):
        console.print(line, soft_wrap=True)
    if run.model.pal is not None:
        tasks, encoder = len(run.model.adapters), _size(run.model.encoder)
        each = _size(run.model.adapters) // tasks
        more = (encoder + tasks * each) / encoder
        console.print(
            f"PAL: {each:,} parameters for each of {tasks} tasks; encoder and PAL: {more:.2f} times the encoder",
            soft_wrap=True,
        )
    trained, whole = sum(p.numel() for p in run.trained), _size(run.model) + _size(run.objective.own)
    if trained < whole:
        console.print(f"training {trained:,} of {whole:,} parameters")
    looking = Profile(console, run.model.multiplied, run.device, run.model.compute) if profile else None
    settings = tracking.settings(recipes.plain(run.recipe)) | {"steps": run.plan.steps}
    with track(out, settings) if track is not None else nullcontext() as log:
        fit(run, tokenizer, out, Display(console), looking, log)
    return _finish(run, out, console)


def _finish(run: Run, out: Path, console: Console) -> dict[str, Evaluation]:
    """Prints how the run ended and what its model scores; returns the scores of the model that predicts."""
    lines = history.read(out / history.METRICS)
    best, last = history.best(lines, run.recipe), history.last(lines)
    if best is None or last is None:
        raise ValueError(f"{out / history.METRICS}: has no evaluation, although the run has ended. Start it again.")
    if run.done < run.plan.steps:
        console.print(
            f"stopped early at step {run.done} of {run.plan.steps}: the last {count(run.stale, 'evaluation')} did not "
            f"beat that of step {best['step']} (train.patience: {run.recipe.train.patience})",
            soft_wrap=True,
        )
    scores = history.scores(best)
    title = f"dev: the model that predicts, best/, of step {best['step']}"
    other = None if best is last else (f"last/, step {last['step']}", history.scores(last))
    console.print(score_table(run.recipe, scores, title, other))
    console.print(
        f"done: {out}  (predict and evaluate use {out / 'best'}; train longer with: "
        f"mtbert train --resume {out} --epochs N)",
        soft_wrap=True,
    )
    return scores


def build(
    recipe: Recipe, console: Console, checkpointed: Path | None = None
) -> tuple[torch.device, Tokenizer, dict[str, Prepared], Model]:
    """Everything a run starts from; weights from ``checkpointed`` where given, else from the recipe's encoder."""
    if recipe.train.threads is not None:
        torch.set_num_threads(recipe.train.threads)
    device = environment.device(recipe.train.device)
    finished = checkpointed or _finished(recipe)
    loaded = load_encoder(str(finished or recipe.model.path), dropout=recipe.model.dropout)
    _check_length(recipe, loaded.encoder.config)
    if recipe.model.lora is not None:
        lora.add(loaded.encoder, recipe.model.lora, recipe.train.seed)
    if recipe.model.freeze is not None:
        freeze(loaded.encoder, recipe.model.freeze)
    _check_techniques(recipe, loaded.encoder)
    for what, names in (("missing", loaded.missing), ("unexpected", loaded.unexpected)):
        if names:
            console.print(f"{recipe.model.path}: {what} weights: {few(names, most=5)}", soft_wrap=True)
    tokenizer = checkpoint.matching_tokenizer(loaded.folder, loaded.encoder)
    data = prepare(recipe, tokenizer)
    model = Model(
        loaded.encoder,
        {name: d.task for name, d in data.items()},
        pooling=recipe.model.pooling,
        max_length=recipe.model.max_length,
        seed=recipe.train.seed,
        adapters=recipe.model.pal,
    )
    model.compute = environment.precision(recipe.train.precision, device)
    if not loaded.encoder.config.pooler and any(model.pooling_of(t) == "cls" for t in model.tasks.values()):
        console.print(
            f"{recipe.model.path} has no pooler: pooling 'cls' takes the [CLS] token's last hidden state as is"
        )
    if checkpointed is not None:
        checkpoint.load_tasks(model, checkpointed, list(model.tasks))
    elif finished is not None:
        _go_on_with_heads(model, finished, console)
    return device, tokenizer, data, model


def _check_techniques(recipe: Recipe, encoder: Encoder) -> None:
    """Raises ValueError where the encoder, or the packages that are there, cannot do what the recipe asks for."""
    recipe.train.aggregation.check_installed()
    config, pal = encoder.config, recipe.model.pal
    layers = any(p.requires_grad for name, p in encoder.named_parameters() if not name.startswith("pooler."))
    pooler = encoder.pooler is not None and encoder.pooler.weight.requires_grad
    for name, task in recipe.tasks.items():
        shared = layers or (pooler and task.pooled(recipe.model.pooling) == "cls")
        adapted = pal is not None and name in (pal.tasks or recipe.tasks)
        if not shared and not adapted and (task.head.kind == "cosine" or not task.scored):
            raise ValueError(
                f"tasks.{name}: with model.freeze: {recipe.model.freeze} there is nothing left to train for this task. "
                "Freeze fewer layers, or give it a head and a loss that trains it."
            )
        for loss in task.losses:
            in_head = 0.0 if loss.needs.vectors or task.head.kind == "cosine" else task.head.dropout
            if loss.needs.dropout and not (config.hidden_dropout or config.attention_dropout or in_head):
                raise ValueError(
                    f"tasks.{name}: loss '{loss.kind}' compares two passes that differ in dropout alone, and "
                    f"{recipe.model.path} has none in its config. Set model.dropout: 0.1."
                )


def _size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _check_length(recipe: Recipe, config: EncoderConfig) -> None:
    if recipe.model.max_length > config.max_length:
        raise ValueError(
            f"model.max_length: {recipe.model.max_length} is more than the {config.max_length} positions of "
            f"{recipe.model.path}. Use at most {config.max_length}."
        )


def _finished(recipe: Recipe) -> Path | None:
    """The model folder that the recipe's encoder is, if it is one of ours."""
    path = Path(recipe.model.path)
    return checkpoint.model_folder(path) if path.is_dir() else None


def _go_on_with_heads(model: Model, folder: Path, console: Console) -> None:
    """Loads the heads of the tasks that the finished model in ``folder`` has too."""
    card = checkpoint.read_card(folder)
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
    checkpoint.load_tasks(model, folder, both)
    new = [name for name in model.tasks if name not in known]
    console.print(
        f"{files.meant(folder)}: heads going on: {', '.join(both) or 'none'}; new: {', '.join(new) or 'none'}",
        soft_wrap=True,
    )


def _adapter(pal: Pal | None, name: str) -> str:
    """The settings of one task's adapter, as a recipe may have them; null if it has none."""
    if pal is None or name not in (pal.tasks or (name,)):
        return "null"
    return pal.model_dump_json(exclude={"tasks"})


def _saved_before(metrics: Path) -> bool:
    """Whether a checkpoint must have been there: a run saves one before it goes on from its first evaluation."""
    lines = metrics.read_bytes().splitlines() if metrics.is_file() else []
    evaluated = (i for i, line in enumerate(lines) if b'"evaluation"' in line)
    return next(evaluated, len(lines)) < len(lines) - 1


def _plan_table(run: Run) -> Table:
    table = Table("task", "type", "inputs", "losses")
    for heading in ("train", "dev", "batch", "passes"):
        table.add_column(heading, justify="right")
    for (name, data), passes in zip(run.data.items(), run.plan.passes.values(), strict=True):
        settings = run.recipe.tasks[name]
        losses = " + ".join(loss.kind for loss in settings.losses)
        batch = settings.batch_size * run.recipe.train.accumulate
        table.add_row(
            name,
            settings.type,
            settings.inputs,
            losses,
            str(len(data.train)),
            str(len(data.dev)),
            str(batch),
            f"{passes:.2f}",
        )
    return table


def _class_weights(run: Run) -> Iterator[str]:
    """A line for each loss whose class weights follow from the data."""
    for name, task in run.objective.recipe.tasks.items():
        for loss, written in zip(task.losses, run.recipe.tasks[name].losses, strict=True):
            if isinstance(loss, ClassWeighted) and loss != written:
                pairs = zip(run.data[name].task.labels or (), loss.class_weights or (), strict=True)
                weights = few([f"{label} {weight:.4g}" for label, weight in pairs])
                yield f"task {name}, loss {loss.kind}: balanced class weights: {weights}"


def _digests(data: Mapping[str, Prepared]) -> dict[str, str]:
    return {name: digest for prepared in data.values() for name, digest in prepared.digests.items()}
