"""The type of a row in requests: a text or a list of texts. The type is used to check rows, and for OpenAPI."""

from typing import Annotated, Any, TypeVar, cast

from pydantic import BeforeValidator, GetCoreSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema

_TEXT = {"type": "string", "minLength": 1}


class _FirstError:
    """A mark on a list type: pydantic stops the check of a list at the first wrong item.

    Without the mark, the errors of a list of a million wrong items would take a gigabyte of memory.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # This is what pydantic.FailFast does, which cannot be part of a union.
        return cast(CoreSchema, {**handler(source), "fail_fast": True})


def _row(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return value
    raise ValueError("must be a text, or a list of texts")


Item = TypeVar("Item")
Items = Annotated[list[Item], _FirstError()]
"""A list in the body of a request."""
TextRow = Annotated[
    Any,
    BeforeValidator(_row),
    WithJsonSchema({"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}], "title": "Text or pair"}),
]
"""A text, a pair of texts as a list, or a query and its candidates as a list."""
