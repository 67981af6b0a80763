"""The interface of encoder families, such as BERT and RoBERTa.

A family is one file with four parts:

- the keys that the family reads from a ``config.json``,
- a function that turns these keys into an ``EncoderConfig``,
- a function that builds a layer from the parts in :mod:`mtbert.model.layer`,
- a table of weight names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mtbert.data.vocab_files import FETCH
from mtbert.model.encoder import EncoderConfig
from mtbert.model.layer import ACTIVATIONS


def must_be(what: str, default: Any = ..., repair: str = FETCH, **limits: Any) -> Any:
    """Returns a pydantic field whose error message for a wrong value is ``KEY must be WHAT, found VALUE. REPAIR``.

    The arguments ``what`` and ``repair`` are the parts WHAT and REPAIR. ``limits`` are pydantic's constraints on the
    value, such as ``ge=1``.
    """
    return Field(default=default, description=what, json_schema_extra={"repair": repair}, **limits)


def whole_number(most: int, *, default: Any = ..., least: int = 1) -> Any:
    """Returns a pydantic field for a whole number from ``least`` to ``most``.

    Choose a ``most`` that is larger than the number in any real encoder: it only keeps out absurd values.
    """
    return must_be(f"a whole number from {least:,} to {most:,}", default, ge=least, le=most)


def dropout_rate(default: float = 0.1) -> Any:
    """Returns a pydantic field for a dropout rate."""
    return must_be("a number from 0 to below 1", default, ge=0, lt=1)


def tiny(default: float) -> Any:
    """Returns a pydantic field for the epsilon of a norm: the small number that is added to the variance."""
    return must_be("a number above 0, to 0.1", default, gt=0, le=0.1)


def activation(default: str = "gelu") -> Any:
    """Returns a pydantic field for the name of an activation function."""
    return must_be(f"one of {', '.join(ACTIVATIONS)}", default, "Choose an encoder with one of these.")


def _known(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ValueError("unknown")
    return name


ActivationName = Annotated[str, AfterValidator(_known)]


class RopeParameters(BaseModel):
    """The settings of rotary positions in a ``config.json``. Only plain positions are accepted, not scaled ones."""

    model_config = ConfigDict(extra="forbid")

    rope_type: Literal["default"] = "default"
    rope_theta: float | None = Field(default=None, gt=1)  # the base; if it is missing, the family has another
    partial_rotary_factor: float = Field(default=1.0, ge=1, le=1)  # the rotated part of each head: all of it


def rotary_positions(what: str = "plain rotary positions") -> Any:
    """Returns a pydantic field for an optional key that describes rotary positions."""
    return must_be(what, None, "Choose an encoder with plain rotary positions.")


def rotary_base(parameters: RopeParameters | None, theta: float | None, default: float) -> float:
    """Returns the base of rotary positions.

    As in transformers, ``rope_parameters`` come first, then the key ``rope_theta`` of older files, then ``default``.
    """
    return (parameters.rope_theta if parameters else None) or theta or default


class Config(BaseModel):
    """The keys that all families read from a ``config.json``.

    A family adds keys of its own in a subclass. All other keys are ignored, except those that would change what the
    encoder computes: see ``Family.fixed``.
    """

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)

    # These keys come first because the message names the first wrong key: they tell whether this is an encoder at all.
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
    """An encoder family: how to read its ``config.json``, build its layers and name its weights.

    Args:
        name: The name of the family, for messages.
        types: The values of ``model_type`` in a ``config.json`` that belong to this family. Each is mapped to the name
            that the encoder without a head has in transformers, such as ``BertModel``.
        config: The class with the keys that the family reads from a ``config.json``.
        encoder: A function that takes an instance of the class ``config`` and returns the architecture of an encoder.
        prefixes: The prefixes that weight names may have in a checkpoint with heads of pre-training, such as
            ``bert.``. The prefix of a name is removed when weights are read. An export for transformers adds the first
            of ``prefixes`` to the names.
        fixed: A function that takes an instance of the class ``config`` and returns a dict from keys of ``config.json``
            to the only value that each may have. A file with another value describes an encoder of another kind, and
            is refused. A key may also be missing or null.
        names: A dict from the name of each of our modules to a tuple with names of modules in the checkpoint. The
            weights of these checkpoint modules, concatenated, are the weights of our module. In all names, ``{}``
            stands for the index of a layer.
    """

    name: str
    types: Mapping[str, str]
    config: type[C]
    encoder: Callable[[C], EncoderConfig]
    prefixes: tuple[str, ...]
    fixed: Callable[[C], Mapping[str, Any]] = lambda config: {}
    names: Mapping[str, tuple[str, ...]]
