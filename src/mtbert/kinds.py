"""Tables of settings classes: a recipe selects a class by the value of the key ``kind``, such as ``pcgrad``.

Each class is a subclass of :class:`Settings`. Its fields are the settings that a recipe can give for this kind.

There are three tables: losses, samplers, and methods that balance the gradients of tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Annotated, Any, Union

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from mtbert.settings import Settings


def by_kind(value: Any) -> Any:
    """Returns ``{"kind": value}`` if ``value`` is the bare name of a kind, and any other ``value`` unchanged.

    >>> by_kind("pcgrad")
    {'kind': 'pcgrad'}
    """
    return {"kind": value} if isinstance(value, str) else value


@dataclass(frozen=True)
class Kinds:
    """A table of settings classes. A recipe selects one of them by its ``kind``.

    A field of the recipe is annotated with its table, as in ``losses: tuple[Annotated[LossSettings, LOSSES], ...]``.
    Type checkers see the protocol ``LossSettings``, and pydantic uses the classes in ``LOSSES``. A recipe may give just
    the name of a kind, which then has its default settings.
    """

    package: str
    names: tuple[str, ...]  # ``module.Class`` inside the package, one line each

    @cached_property
    def classes(self) -> Mapping[str, type[Settings]]:
        """A dict from each ``kind``, such as ``pcgrad``, to its settings class. Its first use imports the classes."""
        places = [name.rpartition(".") for name in self.names]
        found = [getattr(import_module(f"{self.package}.{module}"), name) for module, _, name in places]
        return {settings.model_fields["kind"].default: settings for settings in found}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        union: Any = Union[tuple(self.classes.values())]  # noqa: UP007 - of a tuple
        one: Any = Annotated[union, Field(discriminator="kind")]
        named = BeforeValidator(by_kind, json_schema_input_type=one | str)
        return handler.generate_schema(Annotated[one, named])
