"""The JSON Schema of recipe files, which editors use for completion and checks."""

from typing import Any

from mtbert.recipe.settings import Recipe

NULL = {"type": "null"}
# The parts of a recipe in which null drops a setting of the recipe that it extends.
MERGED = ("TaskRecipe", "TableRecipe", "TrainRecipe", "ModelRecipe", "DataRecipe", "Columns", "TableColumns")


def recipe_schema() -> dict[str, Any]:
    """Returns the JSON Schema of a recipe file. The schema requires no key, as a file may extend another recipe."""
    result = Recipe.model_json_schema()
    definitions = result["$defs"]
    for part in (result, *definitions.values()):
        part.pop("required", None)
    result["properties"]["extends"] = {"type": "string", "description": "the recipe this one changes: a name or a path"}
    tables, tasks = result["properties"]["tables"], result["properties"]["tasks"]
    tables["patternProperties"] = _each_or_null(tables["patternProperties"])
    tasks["additionalProperties"] = _or_null(tasks["additionalProperties"])
    task = definitions["TaskRecipe"]["properties"]
    task["label"] = definitions["Columns"]["properties"]["label"] | {"description": "short for columns.label"}
    del tasks["minProperties"], task["name"], task["soft"]
    result["properties"] = _each_or_null(result["properties"]) | {"tasks": tasks}
    for name in MERGED:
        definitions[name]["properties"] = _each_or_null(definitions[name]["properties"])
    several = {"type": "array", "items": {"type": "string"}}
    definitions["Source"] = {"anyOf": [{"type": "string"}, several, definitions["Source"]]}
    return result


def _or_null(part: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON schema that accepts what ``part`` accepts, and also null.

    A recipe that extends another recipe can use null to remove what the other recipe sets.
    """
    if "anyOf" in part:
        return part if NULL in part["anyOf"] else {**part, "anyOf": [*part["anyOf"], NULL]}
    if isinstance(part.get("type"), str) and not {"enum", "const"} & set(part):
        return {**part, "type": [part["type"], "null"]}
    kept: dict[str, Any] = {key: part[key] for key in ("default", "description") if key in part}
    return {"anyOf": [{key: value for key, value in part.items() if key not in kept}, NULL], **kept}


def _each_or_null(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: _or_null(part) for name, part in parts.items()}
