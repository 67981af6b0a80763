"""The JSON Schema of recipe files, which editors use for completion and checks."""

from typing import Any

from mtbert.recipe.settings import Recipe


def recipe_schema() -> dict[str, Any]:
    """Returns the JSON Schema of a recipe file. It requires no key, because a file may extend another recipe."""
    result = Recipe.model_json_schema()
    definitions = result["$defs"]
    for part in (result, *definitions.values()):
        part.pop("required", None)
    result["properties"]["extends"] = {"type": "string", "description": "the recipe this one changes: a name or a path"}
    for key, of_names in (("tables", "patternProperties"), ("tasks", "additionalProperties")):
        result["properties"][key][of_names] = _or_null(result["properties"][key][of_names])
    task = definitions["TaskRecipe"]["properties"]
    task["label"] = definitions["Columns"]["properties"]["label"] | {"description": "short for columns.label"}
    del result["properties"]["tasks"]["minProperties"], task["name"], task["soft"]
    several = {"type": "array", "items": {"type": "string"}}
    definitions["Source"] = {"anyOf": [{"type": "string"}, several, definitions["Source"]]}
    return result


def _or_null(part: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON schema that accepts what ``part`` accepts, and also null.

    In a recipe that extends another recipe, null removes a table or task of that other recipe.
    """
    if "$ref" in part:
        return {"anyOf": [part, {"type": "null"}]}
    return {pattern: _or_null(each) for pattern, each in part.items()}
