"""The registry of samplers that a recipe can name: one line each."""

from mtbert.kinds import Kinds

SAMPLERS = Kinds(
    "mtbert.sampling",
    (
        "round_robin.RoundRobin",
        "temperature.Temperature",
        "annealed.Annealed",
    ),
)
