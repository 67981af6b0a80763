"""Every balancing method that a recipe can name as ``train.aggregation``: one line each."""

from typing import Annotated

from pydantic import Field

from mtbert.balance.pcgrad import PCGrad
from mtbert.balance.sum import Sum
from mtbert.balance.torchjd import TorchJD

BalanceSettings = Annotated[
    Sum | PCGrad | TorchJD,
    Field(discriminator="kind"),
]
