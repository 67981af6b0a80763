"""Every balancing method that a recipe can name as ``train.aggregation``: one line each."""

from mtbert.kinds import Kinds

BALANCING = Kinds(
    "mtbert.balance",
    (
        "sum.Sum",
        "pcgrad.PCGrad",
        "torchjd.TorchJD",
    ),
)
