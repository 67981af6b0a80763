"""Every loss that a recipe can name: one line each."""

from mtbert.losses.bregman import Bregman as Bregman
from mtbert.losses.classification import BinaryCrossEntropy as BinaryCrossEntropy
from mtbert.losses.classification import CrossEntropy as CrossEntropy
from mtbert.losses.cosent import CoSENT as CoSENT
from mtbert.losses.ordinal import OrdinalLogLoss as OrdinalLogLoss
from mtbert.losses.ranking import MultipleNegatives as MultipleNegatives
from mtbert.losses.rdrop import RDrop as RDrop
from mtbert.losses.regression import MeanSquaredError as MeanSquaredError
from mtbert.losses.simcse import SimCSE as SimCSE
from mtbert.losses.simcse import UnsupervisedSimCSE as UnsupervisedSimCSE
from mtbert.losses.smart import Smart as Smart

LOSSES = tuple(value for value in vars().values() if isinstance(value, type))
