"""The registry of balancing methods. Each line holds one method, which a recipe can name in ``train.aggregation``."""

from mtbert.kinds import Kinds

BALANCING = Kinds(
    "mtbert.balance",
    (
        "sum.Sum",
        "pcgrad.PCGrad",
        "torchjd.TorchJD",
    ),
)
