"""The seam of encoder families: what a config.json may say, what shape it means, and what its weights are called.

A family is one file: the settings that it reads from a config.json, a function from these to the shape of the encoder,
one that builds its layers from the parts of :mod:`mtbert.model.layer`, and a table of names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mtbert.data.tokenizer import FETCH
from mtbert.model.encoder import EncoderConfig
from mtbert.model.layer import ACTIVATIONS


def must_be(what: str, default: Any = ..., repair: str = FETCH, **limits: Any) -> Any:
    """Returns a setting with a message for a value that is wrong: ``KEY must be WHAT, found ... REPAIR``."""
    return Field(default=default, description=what, json_schema_extra={"repair": repair}, **limits)


def whole_number(most: int, *, default: Any = ..., least: int = 1) -> Any:
    """Returns a setting for a whole number up to ``most``, which should be more than any encoder has."""
    return must_be(f"a whole number from {least:,} to {most:,}", default, ge=least, le=most)


def dropout_rate(default: float = 0.1) -> Any:
    """Returns a setting for a dropout rate."""
    return must_be("a number from 0 to below 1", default, ge=0, lt=1)


def tiny(default: float) -> Any:
    """Returns a setting for what a norm adds to a variance."""
    return must_be("a number above 0, to 0.1", default, gt=0, le=0.1)


def activation() -> Any:
    """Returns a setting for the name of an activation."""
    return must_be(f"one of {', '.join(ACTIVATIONS)}", "gelu", "Choose an encoder with one of these.")


def _known(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ValueError("unknown")
    return name


ActivationName = Annotated[str, AfterValidator(_known)]


class Config(BaseModel):
    """The keys of a config.json that every family reads; a family adds its own, and others change nothing."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)

    # First, what is no encoder of these: the message names the first key that is wrong.
    position_embedding_type: Literal["absolute"] = must_be(
        "'absolute'", "absolute", "Choose an encoder with absolute positions."
    )
    is_decoder: Literal[False] | None = must_be("false", False, "Choose an encoder.")
    add_cross_attention: Literal[False] | None = must_be("false", False, "Choose an encoder.")
    vocab_size: int = whole_number(2**24)
    max_position_embeddings: int = whole_number(2**20, default=512)


C = TypeVar("C", bound=Config)


@dataclass(frozen=True, kw_only=True)
class Family(Generic[C]):
    """A kind of encoder.

    Args:
        name: Of the family, for messages.
        types: Each ``model_type`` of a config.json that is of this family, and its bare model's class in transformers.
        config: The settings in a config.json.
        encoder: Their meaning: the shape of the encoder.
        prefix: Begins the name of each weight in a checkpoint with heads of pre-training.
        names: Each of our modules, and the modules of a checkpoint that are stacked in it; ``{}`` is a layer's number.
    """

    name: str
    types: Mapping[str, str]
    config: type[C]
    encoder: Callable[[C], EncoderConfig]
    prefix: str
    names: Mapping[str, tuple[str, ...]]
