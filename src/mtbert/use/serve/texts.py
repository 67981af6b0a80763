"""The type of one row in a request, a text or a list of texts: how the row is checked, and how OpenAPI describes it."""

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

_TEXT = {"type": "string", "minLength": 1}


def _row(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return value
    raise ValueError("must be a text, or a list of texts")


TextRow = Annotated[
    Any,
    BeforeValidator(_row),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}], "title": "Text or pair"}),
]
"""A text, a pair of texts as a list, or a query and its candidates as a list."""
