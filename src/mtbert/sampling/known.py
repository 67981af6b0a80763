"""Every sampler that a recipe can name: one line each, and the names that stand for one with a setting."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mtbert.sampling.annealed import Annealed
from mtbert.sampling.round_robin import RoundRobin
from mtbert.sampling.temperature import NAMED, Temperature


def _spelt_out(value: Any) -> Any:
    """Returns settings in place of a name: of a kind, or of a temperature."""
    whole = {"kind": value} if isinstance(value, str) else value
    for name, temperature in NAMED.items():
        if whole == {"kind": name}:
            return {"kind": "temperature", "temperature": temperature}
    return whole


SamplerSettings = Annotated[
    Annotated[RoundRobin | Temperature | Annealed, Field(discriminator="kind")],
    BeforeValidator(_spelt_out, json_schema_input_type=RoundRobin | Temperature | Annealed | str),
]
