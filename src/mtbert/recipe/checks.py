"""Checks whether the parts of a recipe fit each other, and whether they fit the encoder and the data.

Each check runs as soon as possible: with the recipe alone, with the loaded encoder, or with the number of train rows.
Checks that concern a single part, such as whether a loss fits its task, are in ``parts.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mtbert import metrics
from mtbert.advice import see
from mtbert.losses import Averaged
from mtbert.messages import few, shown
from mtbert.recipe.parts import ModelRecipe, TaskRecipe
from mtbert.recipe.tables import TableRecipe
from mtbert.recipe.train_settings import TrainRecipe

if TYPE_CHECKING:
    from mtbert.model.encoder import Encoder, EncoderConfig

Tasks = Mapping[str, TaskRecipe]

# Before data: when a recipe is read ------------------------------------------------------------------------


def check_tables(tables: Mapping[str, TableRecipe], tasks: Tasks) -> None:
    """Raises ValueError if a table is read by no task, or has the same name as a task with files of its own."""
    for name in tables:
        if all(task.table != name for task in tasks.values()):
            raise ValueError(f"tables.{name}: no task reads it. Write table: {name} in a task, or drop the table.")
        if name in tasks and tasks[name].table is None:
            raise ValueError(
                f"tables.{name}: a task of this name has files of its own, so the name would mean two tables. "
                "Rename one of them."
            )


def check_recipe(tasks: Tasks, model: ModelRecipe, train: TrainRecipe) -> None:
    """Raises ValueError if the parts of a recipe do not fit each other."""
    _check_scores(tasks, train)
    _check_dropout(tasks, model)
    _check_average(tasks, train)
    _check_several(tasks, model, train)
    _check_pal(tasks, model)
    _check_calibration(tasks, train)
    if model.freeze == "all":
        _check_frozen(tasks, model, train)


def _check_scores(tasks: Tasks, train: TrainRecipe) -> None:
    """Raises ValueError if no task is scored, a task has a reserved name, or ``train.select`` does not name a score."""
    for reserved in ("overall", "mean"):
        if reserved in tasks:
            raise ValueError(f"a task cannot be called '{reserved}': that is the name of an aggregate. Rename it.")
    scored = [name for name, task in tasks.items() if task.scored]
    if not scored:
        raise ValueError(
            "no task has a loss that trains its predictions, so nothing could be scored. Add bce, ce or mse."
        )
    known = metrics.aggregates(scored)
    if train.select not in known:
        raise ValueError(f"train.select: {shown(train.select)} is neither an aggregate nor a task. Use {few(known)}.")


def _check_dropout(tasks: Tasks, model: ModelRecipe) -> None:
    """Raises ValueError if a loss compares forward passes that differ only in dropout, but all dropout is off."""
    for name, task in tasks.items():
        for loss in task.losses:
            other = (task.head_dropout(loss), model.adapter_dropout(name))
            if loss.needs.dropout and model.dropout == 0 and not any(other):
                raise ValueError(
                    f"tasks.{name}: loss '{loss.kind}' compares two passes that differ in dropout alone, found "
                    "model.dropout 0. Set model.dropout: 0.1, or leave it to the encoder's config (null)."
                )


def _check_average(tasks: Tasks, train: TrainRecipe) -> None:
    """Raises ValueError if the setting ``train.ema`` is needed but missing, or given but not used."""
    reading = [(name, loss) for name, task in tasks.items() for loss in task.losses if isinstance(loss, Averaged)]
    if reading and train.ema is None:
        name, loss = reading[0]
        raise ValueError(
            f"tasks.{name}: loss '{loss.kind}' compares with averaged weights, found no train.ema. "
            "Set train.ema: {decay: 0.99, predicts: false}."
        )
    if not reading and train.ema is not None and not train.ema.predicts:
        raise ValueError(
            "train.ema: with predicts: false only losses read the average, and none here does. "
            "Drop train.ema, or add loss 'bregman'."
        )


def _check_several(tasks: Tasks, model: ModelRecipe, train: TrainRecipe) -> None:
    """Raises ValueError if a setting needs more tasks or more tables than the recipe has."""
    settings = [f"train.{name}" for name in train.read_gradients] + ["model.unshare"] * (model.unshare > 0)
    if settings and len(tasks) == 1:
        raise ValueError(f"{settings[0]} is about several tasks, found one. Drop it, or add a task.")
    tables = {task.source_name for task in tasks.values()}
    if train.chooses_tasks and len(tables) == 1:
        of = "tasks, found one. Drop it, or add a task." if len(tasks) == 1 else "tables, found one. Drop it."
        raise ValueError(f"train.sampler is about several {of}")


def _check_calibration(tasks: Tasks, train: TrainRecipe) -> None:
    """Raises ValueError if ``train.calibrate`` is set, but no task can be calibrated or no rows are held out."""
    if not train.calibrate:
        return
    kinds = [task.predicts for task in tasks.values() if task.scored]
    by = [kind.fits.calibrations for kind in kinds if kind.gives_probability]
    if not by:
        raise ValueError(
            "train.calibrate: no task gives probabilities that could be calibrated. Drop it, or use a task of classes, "
            "yes/no or sets with head: linear."
        )
    if train.calibrate == "isotonic" and all(c.get("isotonic") is c.get(True) for c in by):
        raise ValueError(
            "train.calibrate: 'isotonic' is for yes/no tasks, found none. Use train.calibrate: true, which fits a "
            "temperature."
        )
    if not train.held_out:
        raise ValueError("train.calibrate needs held-out rows, found train.held_out 0. Set train.held_out: 0.1.")


def _check_pal(tasks: Tasks, model: ModelRecipe) -> None:
    """Raises ValueError if ``model.pal.tasks`` names a task that the recipe does not have."""
    unknown = [name for name in (model.pal and model.pal.tasks) or () if name not in tasks]
    if unknown:
        raise ValueError(f"model.pal.tasks: there is no task {shown(unknown[0])}. Known: {few(tasks)}. Mend the name.")


def _check_frozen(tasks: Tasks, model: ModelRecipe, train: TrainRecipe) -> None:
    """Raises ValueError if a setting or a task needs trainable weights in the encoder.

    Call this only if the recipe freezes the whole encoder.
    """
    settings = [*train.read_gradients, *([] if train.layer_decay is None else ["layer_decay"])]
    if settings:
        raise ValueError(
            f"train.{settings[0]} is about weights that the tasks share, and model.freeze: all trains none of them. "
            f"Freeze fewer layers, or drop train.{settings[0]}."
        )
    for name, task in tasks.items():
        if not task.head_kind.has_weights and not model.adapts(name):
            raise ValueError(
                f"tasks.{name}: head '{task.head.kind}' has no weights, so with model.freeze: all there is nothing to "
                "train. Freeze fewer layers, or use head: linear."
            )


# With the encoder: before data are read --------------------------------------------------------------------


def check_config(model: ModelRecipe, config: EncoderConfig) -> None:
    """Raises ValueError if a setting needs more positions or more layers than the encoder has."""
    if model.max_length > config.max_length:
        raise ValueError(
            f"model.max_length: {model.max_length} is more than the {config.max_length} positions of {model.path}. "
            f"Use at most {config.max_length}."
        )
    if isinstance(model.freeze, int) and model.freeze > config.layers:
        raise ValueError(
            f"model.freeze: {model.freeze} is more than the encoder's {config.layers} layers. Use fewer, or all."
        )
    if model.unshare > config.layers:
        raise ValueError(
            f"model.unshare: {model.unshare} is more than the encoder's {config.layers} layers. "
            f"Use at most {config.layers}."
        )
    shared = config.layers - model.unshare
    if model.unshare and isinstance(model.freeze, int) and model.freeze > shared:
        raise ValueError(
            f"model.freeze: {model.freeze} reaches into the top {model.unshare} of {config.layers} layers, of which "
            f"model.unshare: {model.unshare} gives each task a copy: frozen copies would stay equal. "
            f"Use freeze: {shared} or fewer, or unshare: {config.layers - model.freeze}."
        )


def check_with_encoder(tasks: Tasks, model: ModelRecipe, train: TrainRecipe, encoder: Encoder) -> None:
    """Raises ValueError if the encoder or the installed packages do not support what the recipe asks for.

    The caller must already have frozen the parameters of ``encoder`` that the recipe freezes.
    """
    from mtbert.model.heads import reads_pooler

    train.aggregation.check_installed()
    config = encoder.config
    lower = [p for p, depth in encoder.depths().items() if depth <= config.layers - model.unshare or not model.unshare]
    if train.read_gradients and not any(p.requires_grad for p in lower):
        raise ValueError(
            f"train.{train.read_gradients[0]} is about weights that the tasks share, and model.freeze: {model.freeze} "
            f"with model.unshare: {model.unshare} trains none of them. Freeze or unshare fewer layers, or drop "
            f"train.{train.read_gradients[0]}."
        )
    for name, task in tasks.items():
        pooled = reads_pooler(task, model.pooling, config)
        shared = any(p.requires_grad for p in encoder.behind(pooled=pooled))
        if not shared and not model.adapts(name) and (not task.head_kind.has_weights or not task.scored):
            raise ValueError(
                f"tasks.{name}: with model.freeze: {model.freeze} there is nothing left to train for this task. "
                "Freeze fewer layers, or give it a head and a loss that trains it."
            )
        for loss in task.losses:
            own = (task.head_dropout(loss), model.adapter_dropout(name))
            rates = (config.hidden_dropout, config.attention_dropout, config.embedding_dropout, *own)
            if loss.needs.dropout and not any(rates):
                raise ValueError(
                    f"tasks.{name}: loss '{loss.kind}' compares two passes that differ in dropout alone, and "
                    f"{model.path} has none in its config. Set model.dropout: 0.1."
                )


# With the rows: before they are tokenised ------------------------------------------------------------------


def check_rows(task: TaskRecipe, rows: int) -> None:
    """Raises ValueError if ``no_duplicates`` is set and the number of train rows, ``rows``, is below ``batch_size``."""
    if task.no_duplicates and rows < task.batch_size:
        kind = "task" if task.table is None else "table"
        raise ValueError(
            f"{kind} {task.source_name}: no_duplicates cuts a pass to whole batches, and {rows} train rows are less "
            f"than one of {task.batch_size}. Lower batch_size. {see('techniques/no-duplicates-in-a-batch')}"
        )
