"""Tables of techniques: the settings classes from which a key of a recipe chooses one by its ``kind``."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Annotated, Any, Union

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from mtbert.settings import Settings


def by_kind(value: Any) -> Any:
    """Returns ``value``, with the bare name of a kind replaced by settings of that kind.

    >>> by_kind("pcgrad")
    {'kind': 'pcgrad'}
    """
    return {"kind": value} if isinstance(value, str) else value


@dataclass(frozen=True)
class Kinds:
    """The settings classes that a field of a recipe may hold, one of which its ``kind`` selects.

    The field is annotated with this table. For ``losses: tuple[Annotated[LossSettings, LOSSES], ...]`` a type checker
    uses the protocol ``LossSettings``, and pydantic uses the classes of the table. The bare name of a kind stands for
    that kind with its default settings.
    """

    package: str
    names: tuple[str, ...]  # ``module.Class`` inside the package, one line each

    @cached_property
    def classes(self) -> Mapping[str, type[Settings]]:
        """The classes by their kind, in the order of the table; they are imported on first use."""
        places = [name.rpartition(".") for name in self.names]
        found = [getattr(import_module(f"{self.package}.{module}"), name) for module, _, name in places]
        return {settings.model_fields["kind"].default: settings for settings in found}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        union: Any = Union[tuple(self.classes.values())]  # noqa: UP007 - of a tuple
        one: Any = Annotated[union, Field(discriminator="kind")]
        named = BeforeValidator(by_kind, json_schema_input_type=one | str)
        return handler.generate_schema(Annotated[one, named])
