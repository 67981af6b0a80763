"""Every sampler that a recipe can name: one line each."""

from mtbert.kinds import Kinds

SAMPLERS = Kinds(
    "mtbert.sampling",
    (
        "annealed.Annealed",
        "round_robin.RoundRobin",
        "temperature.Temperature",
    ),
)
