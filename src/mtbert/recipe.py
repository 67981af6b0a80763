"""A recipe: everything a run is, as validated data.

``load`` reads YAML, follows ``extends``, applies ``--set`` overrides and checks all that can be checked
before any data is read.
"""

import copy
import hashlib
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from mtbert import files, metrics, yaml_text
from mtbert.messages import clean, few, near, shown
from mtbert.recipe_parts import DataRecipe, ModelRecipe, RangeOrChoices, TaskRecipe, TrainRecipe
from mtbert.settings import Settings, explain, tuples

FILE = "recipe.yaml"  # of a run, a tuning and a cell of a study

DEEPEST = 20  # keys of a path, recipes that extend each other


class Recipe(Settings):
    """A whole run."""

    control: str | None = Field(
        default=None,
        description="the recipe that lacks just what this one tries, for studies; not passed on by extends",
    )
    tasks: dict[str, TaskRecipe] = Field(min_length=1)
    data: DataRecipe = DataRecipe()
    model: ModelRecipe = ModelRecipe()
    train: TrainRecipe = TrainRecipe()
    tune: dict[str, RangeOrChoices] = Field(
        default={}, description="for mtbert tune: settings by their path, each with a range or a list of choices"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_tasks(cls, data: Any) -> Any:
        tasks = data.get("tasks") if isinstance(data, Mapping) else None
        if not isinstance(tasks, Mapping):
            return data
        named = {k: {**v, "name": k} if isinstance(v, Mapping) else v for k, v in tasks.items() if v is not None}
        return {**data, "tasks": named}

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for reserved in ("overall", "mean"):
            if reserved in self.tasks:
                raise ValueError(f"a task cannot be called '{reserved}': that is the name of an aggregate. Rename it.")
        scored = [name for name, task in self.tasks.items() if task.scored]
        if not scored:
            raise ValueError(
                "no task has a loss that trains its predictions, so nothing could be scored. Add bce, ce or mse."
            )
        if self.train.select not in metrics.aggregates(scored):
            known = few(metrics.aggregates(scored))
            raise ValueError(
                f"train.select: {shown(self.train.select)} is neither an aggregate nor a task. Use {known}."
            )
        return self

    @model_validator(mode="after")
    def _techniques_fit(self) -> Self:
        for name, task in self.tasks.items():
            for loss in task.losses:
                where = f"tasks.{name}: loss '{loss.kind}'"
                in_head = 0.0 if loss.needs.vectors or task.head.kind == "cosine" else task.head.dropout
                if loss.needs.dropout and self.model.dropout == 0 and in_head == 0:
                    raise ValueError(
                        f"{where} compares two passes that differ in dropout alone, found model.dropout 0. "
                        "Set model.dropout: 0.1, or leave it to the encoder's config (null)."
                    )
                if loss.needs.ema and self.train.ema is None:
                    raise ValueError(
                        f"{where} compares with averaged weights, found no train.ema. "
                        "Set train.ema: {decay: 0.99, predicts: false}."
                    )
        read = any(loss.needs.ema for task in self.tasks.values() for loss in task.losses)
        if self.train.ema is not None and not self.train.ema.predicts and not read:
            raise ValueError(
                "train.ema: with predicts: false only losses read the average, and none here does. "
                "Drop train.ema, or add loss 'bregman'."
            )
        if len(self.tasks) == 1:
            for setting, asked in (
                ("aggregation", self.train.aggregation.kind != "sum"),
                ("conflicts", self.train.conflicts),
                ("sampler", self.train.sampler.kind != "round_robin"),
            ):
                if asked:
                    raise ValueError(f"train.{setting} is about several tasks, found one. Drop it, or add a task.")
        unknown = [name for name in (self.model.pal and self.model.pal.tasks) or () if name not in self.tasks]
        if unknown:
            raise ValueError(
                f"model.pal.tasks: there is no task {shown(unknown[0])}. Known: {few(self.tasks)}. Mend the name."
            )
        if self.model.freeze == "all":
            for setting, asked in (
                ("aggregation", self.train.aggregation.kind != "sum"),
                ("conflicts", self.train.conflicts),
                ("layer_decay", self.train.layer_decay is not None),
            ):
                if asked:
                    raise ValueError(
                        f"train.{setting} is about weights that the tasks share, and model.freeze: all trains none of "
                        f"them. Freeze fewer layers, or drop train.{setting}."
                    )
            for name, task in self.tasks.items():
                adapted = self.model.pal is not None and name in (self.model.pal.tasks or self.tasks)
                if task.head.kind == "cosine" and not adapted:
                    raise ValueError(
                        f"tasks.{name}: head 'cosine' has no weights, so with model.freeze: all there is nothing to "
                        "train. Freeze fewer layers, or use head: linear."
                    )
        return self

    def aggregate(self, name: str, scores: Mapping[str, Mapping[str, float]]) -> float:
        """The named aggregate of each task's chosen metric, from all metrics by task."""
        chosen = {task: (self.tasks[task].metric, values[self.tasks[task].metric]) for task, values in scores.items()}
        return metrics.aggregate(name, chosen)

    def root(self) -> Path:
        """The folder that relative data paths start from."""
        return Path(self.data.root or ".")


def load(name: str, overrides: Sequence[str] = (), beside: Path | None = None) -> Recipe:
    """Returns the recipe of that name or path, with ``a.b=c`` overrides on top; paths start from ``beside``.

    Raises:
        FileNotFoundError: If there is no such recipe; the message lists those shipped.
        ValueError: With one line per mistake: file, path of the key, what was found, what to do.
    """
    raw = _resolve(name, beside, ())
    for override in overrides:
        raw = merge(raw, _long(_override(override)))
    return validate(_rooted(_anchor(raw, Path(), name), Path()), name)


def validate(raw: Mapping[str, Any], name: str) -> Recipe:
    """Returns ``raw`` as a recipe; ``name`` is what error messages call it.

    Raises:
        ValueError: With one line per mistake.
    """
    try:
        return Recipe.model_validate(tuples(raw))
    except ValidationError as error:
        raise ValueError("\n".join(f"recipe {clean(name)}, {line}" for line in explain(error, raw))) from None


def dump(recipe: Recipe) -> str:
    """Returns the recipe as YAML that ``load`` reads back to an equal one."""
    return yaml_text.dump(plain(recipe))


def identity(recipe: Recipe) -> str:
    """Returns the SHA-256 of every setting but the place of the data and the number of epochs, which may change.

    Settings that have their default are left out, so that a later version with more of them finds the same.
    """
    train = recipe.train.model_copy(update={"epochs": 1})
    fixed = recipe.model_copy(update={"data": DataRecipe(), "train": train})
    return _sha256(_changed(fixed))


def _changed(value: Any) -> Any:
    """Returns ``value`` as plain values, without the settings that have their default, but with every ``kind``."""
    if isinstance(value, Settings):
        each = {name: (getattr(value, name), field) for name, field in type(value).model_fields.items()}
        return {
            name: _changed(found)
            for name, (found, field) in each.items()
            if name == "kind" or found != field.get_default(call_default_factory=True)
        }
    if isinstance(value, Mapping):
        return {key: _changed(item) for key, item in value.items()}
    return [_changed(item) for item in value] if isinstance(value, tuple) else value


def digest(raw: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a recipe as a run's file holds it, but for what :func:`identity` leaves out too."""
    return digest_with_epochs(merge(raw, {"train": {"epochs": 1}}))


def digest_with_epochs(raw: Mapping[str, Any]) -> str:
    """Returns the digest that the records of older runs have, which counts the number of epochs too."""
    return _sha256({**raw, "data": {"root": None}})


def _sha256(raw: Mapping[str, Any]) -> str:
    return hashlib.sha256(yaml_text.dump(raw).encode()).hexdigest()


def plain(recipe: Recipe) -> dict[str, Any]:
    """Returns the recipe as mappings, lists and plain values, everything filled in."""
    raw = recipe.model_dump(mode="json")
    for task in raw["tasks"].values():
        del task["name"]
    return raw


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of a recipe file, for editors; no key is required, as a file may extend another."""
    result = Recipe.model_json_schema()
    definitions = result["$defs"]
    for part in (result, *definitions.values()):
        part.pop("required", None)
    result["properties"]["extends"] = {"type": "string", "description": "the recipe this one changes: a name or a path"}
    tasks = result["properties"]["tasks"]
    tasks["additionalProperties"] = {"anyOf": [tasks["additionalProperties"], {"type": "null"}]}  # null: not this task
    del tasks["minProperties"], definitions["TaskRecipe"]["properties"]["name"]
    several = {"type": "array", "items": {"type": "string"}}
    definitions["Source"] = {"anyOf": [{"type": "string"}, several, definitions["Source"]]}
    return result


def shipped() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    folder = Path(str(resources.files("mtbert") / "recipes"))
    return sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Returns ``base`` with ``change`` laid over it, key by key; anything but a mapping replaces what was there."""
    result = dict(copy.deepcopy(base))
    for key, value in change.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = merge(old, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def missing(what: str, name: str, path: Path, known: Sequence[str]) -> FileNotFoundError:
    """Returns the error about a recipe or study (``what``) that is neither the file ``path`` nor one of ``known``."""
    others = [Path(f"{path}.yaml"), path.with_suffix(".yaml"), path.with_suffix(".yml")] if path.name else []
    there = next((other.name for other in others if os.path.isfile(other)), None)
    if there is not None:
        hint = f" Did you mean {shown(str(Path(name).with_name(there)))}?"
    else:
        hint = near(name, known, f"Give a file, or one of: {', '.join(known)}.")
    return FileNotFoundError(f"{what} {few([name])}: no such file and no such shipped {what}.{hint}")


def _resolve(name: str, beside: Path | None, seen: tuple[Path, ...]) -> dict[str, Any]:
    path, is_shipped = _find(name, beside)
    if path in seen:
        chain = " -> ".join(p.name for p in (*seen, path))
        raise ValueError(f"recipe {clean(str(path))}: extends itself through {clean(chain)}.")
    if len(seen) == DEEPEST:
        raise ValueError(f"recipe {clean(str(path))}: the {DEEPEST}th that the one before extends. Extend fewer.")
    raw = yaml_text.read(path, "recipe", "tasks")
    base = raw.pop("extends", None)
    if base is not None and not isinstance(base, str):
        raise ValueError(f"recipe {clean(str(path))}, extends: a name or a path, found {shown(base)}.")
    raw = _long(raw)
    if not is_shipped:
        raw = _anchor(raw, path.parent, str(path))
    if base is not None:
        extended = _resolve(base, path.parent, (*seen, path))
        extended.pop("control", None)  # what lacks one technique of the base lacks two things of this
        raw = merge(extended, raw)
    return raw if is_shipped else _rooted(raw, path.parent)


def _find(name: str, beside: Path | None) -> tuple[Path, bool]:
    if name in shipped():
        return Path(str(resources.files("mtbert") / "recipes")) / f"{name}.yaml", True
    path = (beside or Path()) / name
    if name and os.path.exists(path):  # unlike Path.exists, no name is too long for it
        return files.resolved(path), False
    raise missing("recipe", name, path, shipped())


def _long(raw: dict[str, Any]) -> dict[str, Any]:
    """``raw`` with ``head: mlp`` written as ``head: {kind: mlp}``, so that changing its dropout keeps the kind."""
    tasks = raw.get("tasks")
    parts = [(task, "head") for task in tasks.values()] if isinstance(tasks, dict) else []
    parts += [(raw.get("model"), "pal"), (raw.get("train"), "sampler"), (raw.get("train"), "aggregation")]
    for part, key in parts:
        if isinstance(part, dict) and isinstance(part.get(key), str):
            part[key] = {"kind": part[key]}
    return raw


def _anchor(raw: dict[str, Any], folder: Path, name: str) -> dict[str, Any]:
    """``raw`` with its relative folders made absolute: those written in a file start from that file's folder."""
    raw = copy.deepcopy(raw)
    data, model = raw.get("data"), raw.get("model")
    try:
        key = "data.root"
        if isinstance(data, dict) and isinstance(data.get("root"), str):
            data["root"] = str(files.resolved(folder / data["root"]))
        key = "model.path"
        if isinstance(model, dict) and isinstance(model.get("path"), str) and model["path"] != "demo":
            local = folder / model["path"]
            if os.path.isdir(local) or os.path.islink(local):
                model["path"] = str(files.resolved(local))
    except ValueError as error:
        raise ValueError(f"recipe {clean(name)}, {key}: {error}") from None
    return raw


def _rooted(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``raw`` with its data in ``folder`` where it does not say."""
    data = raw.setdefault("data", {})
    if isinstance(data, dict) and data.get("root") is None:
        data["root"] = str(files.resolved(folder))
    return raw


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    parts = key.split(".")
    where = f"--set {few([text])}"
    if not equals or not all(parts):
        raise ValueError(f"{where}: give a.b=value, as in --set train.lr=2e-5.")
    if len(parts) > DEEPEST:
        raise ValueError(f"{where}: a path of {len(parts)} keys, and no setting has one of more than {DEEPEST}.")
    nested: Any = yaml_text.parse(value, where)
    for part in reversed(parts):
        nested = {part: nested}
    result: dict[str, Any] = nested
    return result
