"""The registry of encoder families that can be loaded. To register a family, add one import line."""

from mtbert.model.families import Family
from mtbert.model.families.bert import BERT as BERT
from mtbert.model.families.deberta_v2 import DEBERTA_V2 as DEBERTA_V2
from mtbert.model.families.distilbert import DISTILBERT as DISTILBERT
from mtbert.model.families.electra import ELECTRA as ELECTRA
from mtbert.model.families.gte import GTE as GTE
from mtbert.model.families.modernbert import MODERNBERT as MODERNBERT
from mtbert.model.families.mpnet import MPNET as MPNET
from mtbert.model.families.nomic_bert import NOMIC_BERT as NOMIC_BERT
from mtbert.model.families.roberta import ROBERTA as ROBERTA

FAMILIES = {value.name: value for value in tuple(vars().values()) if isinstance(value, Family)}
