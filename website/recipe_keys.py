"""The page of all keys of a recipe, generated from the JSON Schema of the class that validates recipes."""

import json
from typing import Any

from mtbert.balance.known import BALANCING
from mtbert.losses.known import LOSSES
from mtbert.recipe.settings import Recipe
from mtbert.sampling.known import SAMPLERS
from mtbert.topics import slug
from website.markdown import from_docstring, table

INTRODUCTION = """# Recipe keys

Every key of a recipe, with its type, default and meaning. This page is generated from the class that validates recipes.
[Recipes](recipes.md) explains the keys with examples, [Techniques](techniques.md) the losses, samplers and balancing
methods. `mtbert recipe schema` prints the same as a JSON Schema for your editor.
"""
# The headings of the parts that are mappings, and the classes that define them.
PARTS = {
    "tasks.NAME": "TaskRecipe",
    "tasks.NAME.columns": "Columns",
    "tasks.NAME.head": "Head",
    "train, dev and test of a task or a table": "Source",
    "tables.NAME": "TableRecipe",
    "tables.NAME.columns": "TableColumns",
    "data": "DataRecipe",
    "model": "ModelRecipe",
    "model.pal": "Pal",
    "model.lora": "Lora",
    "train": "TrainRecipe",
    "train.ema": "Ema",
    "tune": "Range",
}
HEADINGS = {name: heading for heading, name in PARTS.items()}
# The kinds that a key can have, and the sentence that introduces them.
KINDS = {
    "Losses": (
        LOSSES,
        "`tasks.NAME.losses` is a list of these. Each is a name, or a mapping with `kind` and its keys.",
    ),
    "Samplers": (SAMPLERS, "`train.sampler` is one of these names, or a mapping with `kind` and its keys."),
    "Balancing": (BALANCING, "`train.aggregation` is one of these names, or a mapping with `kind` and its keys."),
}
# Fields that the name of the task and its columns decide, so no file gives them.
DERIVED = {"TaskRecipe": ("name", "soft")}


def page() -> str:
    """Returns the page as Markdown."""
    schema = Recipe.model_json_schema()
    definitions = schema["$defs"]
    text = [INTRODUCTION, "## The file\n", _keys(schema, definitions)]
    for heading, name in PARTS.items():
        text += [f"## {heading}\n", _part(definitions[name], definitions, DERIVED.get(name, ()))]
    for heading, (kinds, sentence) in KINDS.items():
        text.append(f"## {heading}\n\n{sentence}\n")
        for kind, settings in sorted(kinds.classes.items()):
            text += [f"### {kind}\n", _part(definitions[settings.__name__], definitions, ("kind",))]
    return "\n".join(text)


def _part(part: dict[str, Any], definitions: dict[str, Any], without: tuple[str, ...]) -> str:
    return f"{from_docstring(part['description'])}\n\n{_keys(part, definitions, without)}"


def _keys(part: dict[str, Any], definitions: dict[str, Any], without: tuple[str, ...] = ()) -> str:
    """Returns the table of the keys of a mapping."""
    rows = []
    for name, field in part["properties"].items():
        if name not in without:
            required = name in part.get("required", ())
            default = "required" if required else _default(field)
            rows.append([f"`{name}`", _type(field, definitions), default, from_docstring(field.get("description", ""))])
    return table(["key", "type", "default", "meaning"], rows)


def _default(field: dict[str, Any]) -> str:
    """Returns the default of a key. Those of mappings stand in the section of the mapping, so they are left out."""
    value = field.get("default")
    if isinstance(value, dict) or value == "":
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _type(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Returns the values that a key accepts, in words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        kind = definitions[name]["properties"].get("kind", {}).get("const")
        return f"`{kind}`" if kind else f"[a mapping](#{slug(HEADINGS[name])})"
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " or ".join(dict.fromkeys(_type(one, definitions) for one in field[key]))
    if "const" in field or "enum" in field:
        values = field.get("enum", [field.get("const")])
        return " or ".join(f"`{one}`" if isinstance(one, str) else f"`{json.dumps(one)}`" for one in values)
    match field.get("type"):
        case "array" if "prefixItems" in field:
            return f"a list of {len(field['prefixItems'])} numbers"
        case "array":
            return f"a list of ({_type(field['items'], definitions)})" if field.get("items") else "a list"
        case "object":
            return "a mapping"
        case "number" | "integer" as number:
            return " ".join([{"number": "number", "integer": "whole number"}[number], *_limits(field)])
        case "boolean":
            return "`true` or `false`"
        case "string":
            return "text"
        case other:
            return str(other or "any value")


def _limits(field: dict[str, Any]) -> list[str]:
    words = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {field[key]:g}" for key, sign in words.items() if key in field]
    return [", ".join(limits)] if limits else []
