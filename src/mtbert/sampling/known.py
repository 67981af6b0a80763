"""The registry of the samplers that a recipe can name, one sampler per line."""

from mtbert.kinds import Kinds

SAMPLERS = Kinds(
    "mtbert.sampling",
    (
        "round_robin.RoundRobin",
        "temperature.Temperature",
        "annealed.Annealed",
    ),
)
