"""RoBERTa, XLM-R and CamemBERT: BERT whose positions are numbered from ``pad_token_id + 1`` instead of 0.

Source: Liu et al., "RoBERTa: A Robustly Optimized BERT Pretraining Approach", 2019.
"""

from dataclasses import replace

from mtbert.model.encoder import EncoderConfig
from mtbert.model.families import Family, bert, whole_number
from mtbert.model.native import NativeHead


class RobertaConfig(bert.BertConfig):
    """The keys that are read from the ``config.json`` of a RoBERTa model.

    Optional keys that are missing get the defaults of transformers.
    """

    pad_token_id: int = whole_number(2**20, default=1, least=0)


def encoder(c: RobertaConfig) -> EncoderConfig:
    """Returns the architecture of a RoBERTa encoder from the keys of its ``config.json``."""
    first = c.pad_token_id + 1
    return replace(
        bert.encoder(c),
        family="roberta",
        position_offset=first,
        max_length=c.max_position_embeddings - first,
        native=NativeHead(names=("classifier.dense", "classifier.out_proj")),
    )


ROBERTA = Family(
    name="roberta",
    types={
        "roberta": "RobertaModel",
        "xlm-roberta": "XLMRobertaModel",
        "camembert": "CamembertModel",
    },
    config=RobertaConfig,
    encoder=encoder,
    prefixes=("roberta.",),
    names=bert.NAMES,
)
