"""The tables of the seams: the settings that a key of a recipe chooses from by their ``kind``."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Annotated, Any, Union

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from mtbert.settings import Settings


def by_kind(value: Any) -> Any:
    """Returns settings in place of the name of their kind.

    >>> by_kind("pcgrad")
    {'kind': 'pcgrad'}
    """
    return {"kind": value} if isinstance(value, str) else value


@dataclass(frozen=True)
class Kinds:
    """The classes that a field may hold, one of which its ``kind`` names; the field is annotated with this table.

    In ``losses: tuple[Annotated[LossSettings, LOSSES], ...]`` a type checker reads what all losses have in common, and
    pydantic what each of them takes. A kind alone stands for its settings with their defaults.
    """

    package: str
    names: tuple[str, ...]  # ``module.Class`` inside the package, one line each

    @cached_property
    def classes(self) -> Mapping[str, type[Settings]]:
        """The classes by their kind, in the order of the table."""
        places = [name.rpartition(".") for name in self.names]
        found = [getattr(import_module(f"{self.package}.{module}"), name) for module, _, name in places]
        return {settings.model_fields["kind"].default: settings for settings in found}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        union: Any = Union[tuple(self.classes.values())]  # noqa: UP007 - of a tuple
        one: Any = Annotated[union, Field(discriminator="kind")]
        named = BeforeValidator(by_kind, json_schema_input_type=one | str)
        return handler.generate_schema(Annotated[one, named])
