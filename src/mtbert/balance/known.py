"""The table of all balancing methods that a recipe can name in ``train.aggregation``, one line each."""

from mtbert.kinds import Kinds

BALANCING = Kinds(
    "mtbert.balance",
    (
        "sum.Sum",
        "pcgrad.PCGrad",
        "torchjd.TorchJD",
    ),
)
