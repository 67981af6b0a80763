"""RoBERTa, XLM-R and CamemBERT: BERT with positions that start after the row of the padding token.

Source: Liu et al., "RoBERTa: A Robustly Optimized BERT Pretraining Approach", 2019.
"""

from dataclasses import replace

from mtbert.model.encoder import EncoderConfig
from mtbert.model.families import Family, bert, whole_number


class RobertaConfig(bert.BertConfig):
    """The keys of a RoBERTa's config.json; missing keys have the defaults of transformers."""

    pad_token_id: int = whole_number(2**20, default=1, least=0)


def encoder(c: RobertaConfig) -> EncoderConfig:
    """Returns the shape of a RoBERTa."""
    first = c.pad_token_id + 1
    return replace(
        bert.encoder(c), family="roberta", position_offset=first, max_length=c.max_position_embeddings - first
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
    prefix="roberta.",
    names=bert.NAMES,
)
