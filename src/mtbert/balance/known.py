"""The registry of the balancing methods that a recipe can name in ``train.aggregation``, one method per line."""

from mtbert.kinds import Kinds

BALANCING = Kinds(
    "mtbert.balance",
    (
        "sum.Sum",
        "pcgrad.PCGrad",
        "torchjd.TorchJD",
    ),
)
