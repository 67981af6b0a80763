"""The table of all losses that a recipe can name. It contains one line for each loss."""

from mtbert.kinds import Kinds

LOSSES = Kinds(
    "mtbert.losses",
    (
        "asymmetric.Asymmetric",
        "bregman.Bregman",
        "classification.BinaryCrossEntropy",
        "classification.CrossEntropy",
        "cosent.CoSENT",
        "ordinal.OrdinalLogLoss",
        "ranking.MultipleNegatives",
        "rdrop.RDrop",
        "regression.MeanSquaredError",
        "simcse.SimCSE",
        "simcse.UnsupervisedSimCSE",
        "smart.Smart",
    ),
)
