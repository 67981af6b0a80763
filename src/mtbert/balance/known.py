"""Every balancing method that a recipe can name as ``train.aggregation``: one line each."""

from mtbert.kinds import Kinds

METHODS = Kinds(
    "mtbert.balance",
    (
        "pcgrad.PCGrad",
        "sum.Sum",
        "torchjd.TorchJD",
    ),
)
