"""The base class of all settings, and functions that turn pydantic's validation errors into plain words."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails

from mtbert.messages import LONGEST, clean, count, few, near, nearest, shown

MOST_MISTAKES = 20  # listed in one message

# Names of settings in Hugging Face's trainer and configs, and the equivalent settings here.
HUGGING_FACE = {
    "adam_beta1": "train.betas",
    "adam_beta2": "train.betas",
    "adam_epsilon": "train.eps",
    "bf16": "train.precision: bf16",
    "classifier_dropout": "tasks.NAME.head.dropout",
    "early_stopping_patience": "train.patience",
    "eval_steps": "train.evaluate_every",
    "eval_strategy": "train.evaluate_every",
    "evaluation_strategy": "train.evaluate_every",
    "fp16": "train.precision: bf16",
    "gradient_accumulation_steps": "tasks.NAME.batch_size, and train.token_budget for the memory",
    "hidden_dropout_prob": "model.dropout",
    "label_smoothing": "tasks.NAME.losses: [{kind: ce, smoothing: 0.1}]",
    "label_smoothing_factor": "tasks.NAME.losses: [{kind: ce, smoothing: 0.1}]",
    "learning_rate": "train.lr",
    "lr_scheduler_type": "train.schedule",
    "max_grad_norm": "train.clip",
    "max_length": "model.max_length",
    "max_seq_length": "model.max_length",
    "max_steps": "train.rounds",
    "metric_for_best_model": "train.select",
    "model_name": "model.path",
    "model_name_or_path": "model.path",
    "no_cuda": "train.device: cpu",
    "num_epochs": "train.epochs",
    "num_train_epochs": "train.epochs",
    "output_dir": "the option --out, out from Python",
    "overwrite_output_dir": "the option --overwrite, overwrite from Python",
    "per_device_train_batch_size": "tasks.NAME.batch_size",
    "per_gpu_train_batch_size": "tasks.NAME.batch_size",
    "problem_type": "tasks.NAME.type",
    "report_to": "the option --track, track from Python",
    "resume_from_checkpoint": "the option --resume, resume from Python",
    "save_steps": "train.checkpoint_every",
    "seed": "train.seed",
    "text_column_name": "tasks.NAME.columns.text",
    "label_column_name": "tasks.NAME.columns.label",
    "train_batch_size": "tasks.NAME.batch_size",
    "train_file": "tasks.NAME.train",
    "use_cpu": "train.device: cpu",
    "validation_file": "tasks.NAME.dev",
    "warmup_ratio": "train.warmup",
    "warmup_steps": "train.warmup, a share of all steps",
    "weight_decay": "train.weight_decay",
}

MISSPELT = 0.85  # share of characters in common that makes a key a misspelt one, rather than one of Hugging Face


@dataclass(frozen=True)
class Dropped:
    """A setting that existed in earlier versions only.

    Attributes:
        ignored: Values that have no effect. They are accepted, because old recipes contain them.
        instead: Advice on what to write if the setting has any other value; ``{value}`` stands for that value.
    """

    ignored: tuple[Any, ...]
    instead: str


class Settings(BaseModel):
    """Base class of validated, immutable settings. An unknown key is an error that suggests a similar known key."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    dropped: ClassVar[Mapping[str, Dropped]] = {}
    short: ClassVar[tuple[str, ...]] = ()  # further keys, which are short for settings inside this one

    @model_validator(mode="wrap")
    @classmethod
    def _name_right_keys(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(_without_dropped(data, cls.dropped))
        except ValidationError as error:
            raise ValidationError.from_exception_data(error.title, _with_right_keys(error, cls)) from None


def _without_dropped(data: Any, dropped: Mapping[str, Dropped]) -> Any:
    """Returns ``data`` without the settings in ``dropped``, which only earlier versions of the package had.

    Raises:
        ValueError: If ``data`` gives a setting in ``dropped`` a value that had an effect.
    """
    found = [key for key in dropped if isinstance(data, Mapping) and key in data]
    for key in found:
        if data[key] not in dropped[key].ignored:
            instead = dropped[key].instead.format(value=shown(data[key]))
            raise ValueError(f"{key}: {shown(data[key])} is no setting any more. {instead}")
    return {key: value for key, value in data.items() if key not in found} if found else data


def _with_right_keys(error: ValidationError, settings: type[Settings]) -> list[InitErrorDetails]:
    """Returns the errors in ``error``, with better messages about unknown and missing keys of ``settings``.

    The message about an unknown key says which key to use instead. If a missing key allows only a few values, the
    message about the missing key lists these values. If an unknown key is a misspelt required key, the error about the
    missing required key is left out.
    """
    errors, known = error.errors(include_url=False), settings.model_fields
    unknown = [str(e["loc"][0]) for e in errors if e["type"] == "extra_forbidden" and len(e["loc"]) == 1]
    hints = {key: _meant(key, known, settings.short) for key in unknown}
    result = []
    for e in errors:
        kind, location, context = e["type"], e["loc"], e.get("ctx", {})
        if kind == "missing" and len(location) == 1 and f" Did you mean {shown(location[-1])}?" in hints.values():
            continue  # the required key was misspelt: the unknown key already reports this mistake
        field = known.get(str(location[0])) if kind == "missing" and len(location) == 1 else None
        if field is not None and get_origin(field.annotation) is Literal:
            *first, last = map(shown, get_args(field.annotation))
            said = ValueError(f"must be given: {', '.join(first)} or {last} ({field.description}).")
            kind, context = "value_error", {"error": said}
        if kind == "extra_forbidden" and len(location) == 1:
            key = str(location[0])
            said = ValueError(f"unknown key {shown(key)}.{hints[key]}")
            kind, location, context = "value_error", (), {"error": said}
        result.append(InitErrorDetails(type=kind, loc=location, input=e["input"], ctx=context))
    return result


def _meant(key: str, known: Mapping[str, FieldInfo], short: Sequence[str]) -> str:
    """Returns a sentence that says which key to use instead of the unknown ``key``; it begins with a space.

    For ``votes``, for example, the sentence names ``columns.votes``.
    """
    if key in HUGGING_FACE and nearest(key, known, MISSPELT) is None:  # a study has seeds
        return f" Use {HUGGING_FACE[key]}."
    inside = [f"{name}.{key}" for name, each in known.items() if key in getattr(each.annotation, "model_fields", ())]
    return f" Use {' or '.join(inside)}." if inside else near(key, [*known, *short], f"Known keys: {', '.join(known)}.")


def tuples(value: Any) -> Any:
    """Returns ``value`` with every list in it replaced by a tuple.

    Strict validation accepts only tuples for tuple fields, but JSON and YAML have only lists.

    >>> tuples({"a": [1, [2]]})
    {'a': (1, (2,))}
    """
    if isinstance(value, Mapping):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value


# Messages in the terms of YAML for pydantic's error types, whose own messages speak of Python.
_MUST = {
    "dict_type": "must be a mapping",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be greater than or equal to {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be less than or equal to {le}",
    "int_parsing": "must be a valid integer",
    "float_parsing": "must be a valid number",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping, or the name of a kind",
    "tuple_type": "must be a list",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "string_type": "must be text; quote what looks like a number",
    "string_pattern_mismatch": "must consist of letters, digits, - and _",
    "union_tag_not_found": "must have a kind",
}
_QUOTED = re.compile(r"'([^']+)'")  # pydantic lists names as 'a', 'b' or 'c'
_PYTHON = re.compile(r"\b(True|False)\b(?!')")  # YAML writes them in small letters
_MEMBER = re.compile(
    r"literal\[.*\]|constrained-\w+|\[\w+\]|str|tuple\[.*\]"
)  # pydantic's name for a member of a union, not a key


def explain(error: ValidationError, raw: Mapping[str, Any], instead: Mapping[str, str] | None = None) -> list[str]:
    """Returns one line for each mistake in ``raw``: the path of the key, the broken rule, and what was found.

    A value that fits none of several allowed types counts as one mistake. ``instead`` maps paths of keys to texts. If a
    key is missing from ``raw``, its line ends with the text for the key's path.
    """
    mistakes: list[tuple[str, list[str], str]] = []
    for e in error.errors(include_url=False):
        context, given = e.get("ctx", {}), e["input"]
        if e["type"] == "too_short" and len(given) >= context["min_length"]:
            continue  # the list is long enough; pydantic did not count its invalid items, which have lines of their own
        where = ".".join(_keys(e["loc"], raw))
        found = f", found {_found(given)}."
        if e["type"] == "value_error":  # raised by mtbert's own checks, whose message is a whole sentence
            said, found = e["msg"].removeprefix("Value error, "), ""
        elif e["type"] == "too_short" and not given:
            said = "must not be empty"
        elif e["type"] == "missing":
            said, found = "must be given" + (instead or {}).get(where, ""), "."
        elif e["type"] == "union_tag_invalid":
            kinds = sorted(_QUOTED.findall(context["expected_tags"]))
            said = f"must be one of {few(kinds, most=len(kinds), quoted=True)}"
            found = f", found {_found(given['kind'])}.{near(str(given['kind']), kinds)}"
        elif e["type"] == "literal_error":
            said = _PYTHON.sub(lambda word: word[0].lower(), e["msg"].replace("Input should", "must"))
            found += near(given, _QUOTED.findall(context["expected"])) if isinstance(given, str) else ""
        elif e["type"] in _MUST:
            said = _MUST[e["type"]].format(**{name: _number(bound) for name, bound in context.items()})
        else:
            said = e["msg"].replace("Input should", "must")
        before = mistakes[-1] if mistakes else ("", [], "")
        if found and before[0] == where and before[2] == found:
            before[1].append(said)
        else:
            mistakes.append((where, [said], found))
    lines = [
        (f"{where}: " if where else "")
        + " or ".join(sorted(said, key=_has_advice)).replace(" or must be ", " or ")
        + found
        for where, said, found in mistakes
    ]
    more = len(lines) - MOST_MISTAKES
    return [*lines[:MOST_MISTAKES], f"and {count(more, 'more mistake')}."] if more > 0 else lines


def _number(bound: object) -> str:
    """Returns a limit on a setting's value as text: ``1`` for 1.0, and ``1e-15``, not ``0.000000000000001``."""
    return repr(bound).removesuffix(".0")


def _has_advice(said: str) -> bool:
    return ";" in said


def _found(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return clean(text if len(text) < LONGEST else f"{text[: LONGEST - 3]}...")


def _keys(location: Sequence[str | int], raw: Any) -> Iterator[str]:
    """Yields the keys on the path to an invalid setting in ``raw``.

    ``location`` is pydantic's path to the setting. It also holds names of types, which are left out.
    """
    at_kind = False
    for part in location:
        if _MEMBER.fullmatch(str(part)) and not (isinstance(raw, Mapping) and part in raw):
            continue
        if isinstance(raw, Mapping) and raw.get("kind") == part and not at_kind:
            at_kind = True
            continue
        at_kind = False
        yield few([part]) or "''"
        listed = isinstance(raw, list | tuple) and isinstance(part, int) and part < len(raw)
        raw = raw[part] if listed or (isinstance(raw, Mapping) and part in raw) else None
