"""A recipe: everything a run is, as validated data.

``load`` reads YAML, follows ``extends``, applies ``--set`` overrides and checks all that can be checked
before any data is read.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

import yaml
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from mtbert import metrics
from mtbert.data.sources import Columns, Source
from mtbert.gradients import AggregationSettings, Sum
from mtbert.losses import LossSettings
from mtbert.losses.classification import CrossEntropy
from mtbert.losses.known import LOSSES
from mtbert.messages import near
from mtbert.model.lora import Lora
from mtbert.model.pal import Pal
from mtbert.optim import Ema
from mtbert.sampling import RoundRobin, SamplerSettings
from mtbert.task import Pooling, Settings, Task, tuples

if not TYPE_CHECKING:  # a checker reads what all losses have in common, pydantic what each of them takes
    LossSettings = Annotated[Union[LOSSES], Field(discriminator="kind")]  # noqa: UP007 - a tuple of them


def _by_kind(value: Any) -> Any:
    """Settings may be given as the name of their kind alone."""
    return {"kind": value} if isinstance(value, str) else value


MOST_VALUES = 100_000  # of a recipe file

_DEFAULT_LOSS = {"classification": "ce", "ordinal": "ce", "binary": "bce", "regression": "mse", "cosine": "mse"}


Share = Annotated[float, Field(ge=0, lt=1)]


class TaskRecipe(Task):
    """A task, where its data are, and how it is trained."""

    train: Source
    dev: Source | None = Field(default=None, description="null: dev_fraction of train, grouped by shared text")
    dev_fraction: float = Field(default=0.1, gt=0, lt=1)
    dev_seed: int = Field(default=0, ge=0, description="of that split; apart from train.seed, so that seeds compare")
    columns: Columns = Columns(text=("text",))
    losses: tuple[LossSettings, ...] = ()
    weight: float = Field(default=1.0, ge=0, description="of this task's losses in the sum")
    batch_size: int = Field(default=16, gt=0, le=10**6)
    no_duplicates: bool = Field(default=False, description="no batch holds two texts that mean the same, if possible")
    metric: str = ""

    @field_validator("losses", mode="before", json_schema_input_type=tuple[LossSettings | str, ...])
    @classmethod
    def _losses_by_name(cls, value: Any) -> Any:
        return tuple(map(_by_kind, value)) if isinstance(value, tuple) else value

    @model_validator(mode="after")
    def _fits_the_type(self) -> Self:
        predicts = "cosine" if self.head.kind == "cosine" else self.type
        if not self.losses:
            default = TypeAdapter(LossSettings).validate_python({"kind": _DEFAULT_LOSS[predicts]})
            object.__setattr__(self, "losses", (default,))
        kinds = [loss.kind for loss in self.losses]
        for loss in self.losses:
            if (self.type if loss.needs.vectors else predicts) not in loss.needs.types:
                raise ValueError(
                    f"loss '{loss.kind}' needs {loss.needs.because}, which type '{self.type}' with head "
                    f"'{self.head.kind}' does not give. Use {_DEFAULT_LOSS[predicts]}, or another type or head."
                )
            if self.inputs not in loss.needs.inputs:
                raise ValueError(
                    f"loss '{loss.kind}' needs {loss.needs.because}, which inputs '{self.inputs}' do not give. "
                    f"Use inputs: {' or '.join(loss.needs.inputs)}, or add a task of such inputs on the same file."
                )
            if kinds.count(loss.kind) > 1:
                raise ValueError(
                    f"loss '{loss.kind}' stands {kinds.count(loss.kind)} times. Name it once, with a weight."
                )
        if not self.metric:
            object.__setattr__(self, "metric", metrics.names(self)[0])
        if self.metric not in metrics.names(self):
            raise ValueError(
                f"metric '{self.metric}' does not fit type '{self.type}'. Use {' or '.join(metrics.names(self))}."
            )
        if self.train.generated is None and len(self.columns.text) != self.texts:
            raise ValueError(
                f"inputs '{self.inputs}' takes {self.texts} text column(s), found {list(self.columns.text)}. "
                "Name as many in columns.text."
            )
        return self

    @model_validator(mode="after")
    def _weights_fit_the_labels(self) -> Self:
        for loss in self.losses:
            weights = loss.class_weights if isinstance(loss, CrossEntropy) else None
            if weights is not None and len(weights) != len(self.labels or ()):
                raise ValueError(
                    f"loss 'ce': class_weights must be one number per class, found {len(weights)} for "
                    f"{len(self.labels) if self.labels else 'unnamed'} labels. Name the labels in their order."
                )
        return self

    @property
    def scored(self) -> bool:
        """Whether its predictions are trained: a loss reads labels, and the head, if not only the vectors under it.

        The cosine head has no weights, so for it vectors are enough.
        """
        return any(loss.needs.labels and (not loss.needs.vectors or self.head.kind == "cosine") for loss in self.losses)

    @property
    def task(self) -> Task:
        """The part that the model keeps."""
        return Task(**{name: getattr(self, name) for name in Task.model_fields})


class DataRecipe(Settings):
    """Where files are."""

    root: str | None = Field(default=None, description="folder of relative paths; null: the folder of the recipe file")


class ModelRecipe(Settings):
    """The encoder and what is common to all tasks."""

    path: str = Field(default="demo", description="a folder, a hub id, a finished run, or 'demo' (the packaged MiniLM)")
    pooling: Pooling = Field(default="cls", description="cls: the checkpoint's pooled [CLS]; mean: over all tokens")
    max_length: int = Field(default=128, ge=8)
    dropout: float | None = Field(default=None, ge=0, lt=1, description="of the encoder; null: as in its config")
    pal: Annotated[Pal | None, BeforeValidator(_by_kind, json_schema_input_type=Pal | str | None)] = Field(
        default=None, description="projected attention layers of each task"
    )
    lora: Lora | None = Field(default=None, description="train low-rank changes of the encoder's layers alone")
    freeze: Literal["all"] | Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="0: the embeddings; a number: the lowest layers too; all: the whole encoder"
    )

    @model_validator(mode="after")
    def _trains_something(self) -> Self:
        if self.lora is not None and self.freeze is not None:
            raise ValueError(
                f"freeze: {self.freeze} beside lora, which freezes all of the encoder's own weights. Drop one of them."
            )
        return self


class TrainRecipe(Settings):
    """The optimizer, the schedule and the order of steps."""

    mode: Literal["alternate", "joint"] = Field(
        default="joint", description="alternate: one task per optimizer step; joint: all in each step"
    )
    sampler: Annotated[SamplerSettings, BeforeValidator(_by_kind, json_schema_input_type=SamplerSettings | str)] = (
        Field(default=RoundRobin(), description="alternate mode: which task's step it is")
    )
    aggregation: Annotated[
        AggregationSettings, BeforeValidator(_by_kind, json_schema_input_type=AggregationSettings | str)
    ] = Field(default=Sum(), description="joint mode: how the tasks' gradients become one")
    conflicts: bool = Field(default=False, description="joint mode: log the cosines between the tasks' gradients")
    weighting: Literal["fixed", "uncertainty"] = Field(
        default="fixed", description="of the tasks; uncertainty: learned"
    )
    rounds: Literal["min", "max", "paper"] | Annotated[int, Field(gt=0, le=10**7)] = Field(
        default="min",
        description="batches of each task per epoch: as the smallest or largest task has, or 'paper': the "
        "largest's in every fourth epoch, else the smallest's",
    )
    epochs: int = Field(default=3, gt=0, le=10**4)
    lr: float = Field(default=5e-5, gt=0)
    betas: tuple[Share, Share] = (0.9, 0.999)
    layer_decay: float | None = Field(
        default=None, gt=0, le=1, description="of the rate, from each layer to the next below"
    )
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=1e-3, ge=0)
    schedule: Literal["linear", "constant"] = "linear"
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of all steps")
    clip: float | None = Field(default=1.0, gt=0, description="largest gradient norm")
    accumulate: int = Field(
        default=1, gt=0, le=10**4, description="batches of each task taken together in one optimizer step"
    )
    ema: Ema | None = Field(default=None, description="also keep averaged weights")
    token_budget: int | None = Field(default=None, gt=0, description="most tokens of one forward pass in training")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int | None = Field(default=None, gt=0, le=4096, description="of the CPU; null: PyTorch's choice, recorded")
    seed: int = Field(default=0, ge=0, lt=2**63)
    evaluate_every: Literal["epoch"] | Annotated[int, Field(gt=0)] = Field(
        default="epoch", description="or a number of rounds"
    )
    checkpoint_every: int = Field(default=200, gt=0, description="rounds between saves, beside each evaluation")
    patience: int | None = Field(default=None, gt=0, description="stop after so many evaluations without a better one")
    select: str = Field(default="overall", description="what 'best' means: overall, mean, or a task's name")

    @model_validator(mode="after")
    def _fits_the_mode(self) -> Self:
        if self.mode == "alternate":
            for name, asked in (("aggregation", self.aggregation.kind != "sum"), ("conflicts", self.conflicts)):
                if asked:
                    raise ValueError(
                        f"{name} compares the gradients of all tasks in a step, and mode 'alternate' has one task in "
                        f"each. Use mode: joint, or drop {name}."
                    )
        elif self.sampler.kind != "round_robin":
            raise ValueError(
                f"sampler '{self.sampler.kind}' chooses the one task of a step, and mode 'joint' has all tasks in "
                "each, so it would change nothing. Use mode: alternate, or drop sampler."
            )
        return self


class Range(Settings):
    """Numbers that ``mtbert tune`` may choose from; integers where both ends are."""

    low: int | float
    high: int | float
    log: bool = Field(default=False, description="as likely between 1e-5 and 1e-4 as between 1e-4 and 1e-3")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, found {self.low:g} and {self.high:g}.")
        if self.log and self.low <= 0:
            raise ValueError(f"with log low must be more than 0, found {self.low:g}.")
        return self


RangeOrChoices = Annotated[
    Annotated[Range, Tag("[range]")] | Annotated[tuple[Any, ...], Field(min_length=2), Tag("[choices]")],
    Discriminator(lambda value: "[choices]" if isinstance(value, tuple) else "[range]"),
]


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
            known = ", ".join(metrics.aggregates(scored))
            raise ValueError(f"train.select: '{self.train.select}' is neither an aggregate nor a task. Use {known}.")
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
                f"model.pal.tasks: there is no task '{unknown[0]}'. Known: {', '.join(self.tasks)}. Mend the name."
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
    """The recipe of that name or path, with ``a.b=c`` overrides applied on top; paths start from ``beside``.

    Raises:
        FileNotFoundError: If there is no such recipe; the message lists those shipped.
        ValueError: With one line per mistake: file, path of the key, what was found, what to do.
    """
    raw = _resolve(name, beside, ())
    for override in overrides:
        raw = merge(raw, _long(_override(override)))
    return validate(_rooted(_anchor(raw, Path()), Path()), name)


def validate(raw: Mapping[str, Any], name: str) -> Recipe:
    """``raw`` as a recipe; ``name`` is what error messages call it."""
    try:
        return Recipe.model_validate(tuples(raw))
    except ValidationError as error:
        raise ValueError("\n".join(f"recipe {name}, {line}" for line in explain(error, raw))) from None


def dump(recipe: Recipe) -> str:
    """The recipe as YAML that ``load`` reads back to an equal one."""
    return str(yaml.dump(plain(recipe), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as mappings, lists and plain values, everything filled in."""
    raw = recipe.model_dump(mode="json")
    for task in raw["tasks"].values():
        del task["name"]
    return raw


def schema() -> dict[str, Any]:
    """The JSON Schema of a recipe file, for editors; no key is required in a file that may extend another."""
    result = Recipe.model_json_schema()
    definitions = result["$defs"]
    for part in (result, *definitions.values()):
        part.pop("required", None)
    result["properties"]["extends"] = {"type": "string", "description": "the recipe this one changes: a name or a path"}
    tasks = result["properties"]["tasks"]
    tasks["additionalProperties"] = {"anyOf": [tasks["additionalProperties"], {"type": "null"}]}  # null: not this task
    del tasks["minProperties"], definitions["TaskRecipe"]["properties"]["name"]
    definitions["Source"] = {"anyOf": [{"type": "string"}, definitions["Source"]]}
    return result


def shipped() -> list[str]:
    """The names of the recipes that come with the package."""
    folder = Path(str(resources.files("mtbert") / "recipes"))
    return sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``change`` laid over it, key by key; anything but a mapping replaces what was there."""
    result = dict(copy.deepcopy(base))
    for key, value in change.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = merge(old, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values (``no`` is a word, ``1e-5`` a number, ``010`` ten), and no key twice."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own name and type

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            return super().construct_mapping(node, deep)
        keys = [k.value for k, _ in node.value]
        for i, (k, _) in enumerate(node.value):
            if k.value in keys[:i]:
                raise yaml.constructor.ConstructorError(None, None, f"key '{k.value}' stands twice", k.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes text that this module's loader, or one of YAML 1.1, would take for something else."""


def _plain_values() -> None:
    for tag, pattern, first in (
        ("null", r"~|null|", "~n\0"),
        ("bool", r"true|false", "tf"),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
    ):
        for reader in (_Loader, _Dumper):
            reader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))
    _Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])
    _Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))


_plain_values()


def _parse(text: str, where: str) -> Any:
    try:
        value = yaml.load(text, Loader=_Loader)
        _check_size(value)
        return value
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{where}{line}: not YAML: {error.problem}. Mend the line.") from None
    except (yaml.YAMLError, ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: not YAML: {str(error).splitlines()[0]}.") from None


def read_yaml(path: Path, what: str, key: str) -> dict[str, Any]:
    """The mapping in a file of one of our formats, called ``what``, that must have ``key``.

    Raises:
        ValueError: If it is no UTF-8, no YAML or no mapping; the message names the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} {path}: not UTF-8 at byte {error.start}. Save the file as UTF-8.") from None
    raw = _parse(text, f"{what} {path}")
    if not isinstance(raw, dict):
        raise ValueError(f"{what} {path}: a {what} is a mapping with the key '{key}', found {type(raw).__name__}.")
    return raw


def _check_size(value: Any) -> None:
    """Raises ValueError where aliases make a few lines endless: a list that holds itself, or lists of lists of them."""
    left, waiting = MOST_VALUES, [value]
    while waiting:
        item = waiting.pop()
        left -= 1
        if left < 0:
            raise ValueError(f"more than {MOST_VALUES} values, or one that holds itself")
        waiting.extend(item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())


def _resolve(name: str, beside: Path | None, seen: tuple[Path, ...]) -> dict[str, Any]:
    path, is_shipped = _find(name, beside)
    if path in seen:
        raise ValueError(f"recipe {path}: extends itself through {' -> '.join(p.name for p in (*seen, path))}.")
    raw = read_yaml(path, "recipe", "tasks")
    base = raw.pop("extends", None)
    if base is not None and not isinstance(base, str):
        raise ValueError(f"recipe {path}, extends: a name or a path, found {base!r}.")
    raw = _long(raw)
    if not is_shipped:
        raw = _anchor(raw, path.parent)
    if base is not None:
        extended = _resolve(base, path.parent, (*seen, path))
        extended.pop("control", None)  # what lacks one technique of the base lacks two things of this
        raw = merge(extended, raw)
    return raw if is_shipped else _rooted(raw, path.parent)


def _find(name: str, beside: Path | None) -> tuple[Path, bool]:
    if name in shipped():
        return Path(str(resources.files("mtbert") / "recipes")) / f"{name}.yaml", True
    path = (beside or Path()) / name
    if path.is_file():
        return path.resolve(), False
    hint = near(name, shipped(), f"Give a file, or one of: {', '.join(shipped())}.")
    raise FileNotFoundError(f"recipe {name}: no such file and no such shipped recipe.{hint}")


def _long(raw: dict[str, Any]) -> dict[str, Any]:
    """``raw`` with ``head: mlp`` written as ``head: {kind: mlp}``, so that changing its dropout keeps the kind."""
    tasks = raw.get("tasks")
    parts = [(task, "head") for task in tasks.values()] if isinstance(tasks, dict) else []
    parts += [(raw.get("model"), "pal"), (raw.get("train"), "sampler"), (raw.get("train"), "aggregation")]
    for part, key in parts:
        if isinstance(part, dict) and isinstance(part.get(key), str):
            part[key] = {"kind": part[key]}
    return raw


def _anchor(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``raw`` with its relative folders made absolute: those written in a file start from that file's folder."""
    raw = copy.deepcopy(raw)
    data, model = raw.get("data"), raw.get("model")
    if isinstance(data, dict) and isinstance(data.get("root"), str):
        data["root"] = str((folder / data["root"]).resolve())
    if isinstance(model, dict) and isinstance(model.get("path"), str) and model["path"] != "demo":
        local = folder / model["path"]
        model["path"] = str(local.resolve()) if local.is_dir() else model["path"]
    return raw


def _rooted(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``raw`` with its data in ``folder`` where it does not say."""
    data = raw.setdefault("data", {})
    if isinstance(data, dict) and data.get("root") is None:
        data["root"] = str(folder.resolve())
    return raw


def _override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ValueError(f"--set {text}: give a.b=value, as in --set train.lr=2e-5.")
    nested: Any = _parse(value, f"--set {text}")
    for part in reversed(key.split(".")):
        nested = {part: nested}
    result: dict[str, Any] = nested
    return result


# What pydantic says of Python, said of YAML.
_MUST = {
    "missing": "must be given",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping, or the name of a kind",
    "tuple_type": "must be a list",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "string_type": "must be text; quote what looks like a number",
    "string_pattern_mismatch": "must be of letters, digits, - and _",
    "union_tag_invalid": "must be one of {expected_tags}",
    "union_tag_not_found": "must have a kind",
}
_MEMBER = re.compile(r"literal\[.*\]|constrained-\w+|\[\w+\]")  # pydantic's name of a part of a type, not a key


def explain(error: ValidationError, raw: Mapping[str, Any]) -> list[str]:
    """One line per mistake in ``raw``: path, what must hold, what was found.

    All that a value might have been is one mistake.
    """
    mistakes: dict[str, list[str]] = {}
    found: dict[str, str] = {}
    for e in error.errors():
        if e["type"] == "too_short" and len(e["input"]) >= e["ctx"]["min_length"]:
            continue  # without its items that are wrong: of them another line tells
        where = ".".join(_keys(e["loc"], raw))
        value = json.dumps(e["input"], default=str, ensure_ascii=False)
        found[where] = f", found {value if len(value) < 80 else value[:77] + '...'}."
        if e["type"] == "value_error":  # one of ours: a whole sentence
            said, found[where] = e["msg"].removeprefix("Value error, "), ""
        elif e["type"] == "too_short" and not e["input"]:
            said = "must not be empty"
        elif e["type"] in _MUST:
            said = _MUST[e["type"]].format(**e.get("ctx", {}))
        else:
            said = e["msg"].replace("Input should", "must")
        if e["type"] == "missing":
            found[where] = "."
        mistakes.setdefault(where, []).append(said)
    return [
        (f"{where}: " if where else "") + " or ".join(said).replace(" or must be ", " or ") + found[where]
        for where, said in mistakes.items()
    ]


def _keys(location: Sequence[str | int], raw: Any) -> Iterator[str]:
    """The keys of ``location`` that a person wrote: not the types that it names, nor the kind of a value."""
    at_kind = False
    for part in location:
        if _MEMBER.fullmatch(str(part)):
            continue
        if isinstance(raw, Mapping) and raw.get("kind") == part and not at_kind:
            at_kind = True
            continue
        at_kind = False
        yield str(part)
        listed = isinstance(raw, list | tuple) and isinstance(part, int)
        raw = raw[part] if listed or (isinstance(raw, Mapping) and part in raw) else None
