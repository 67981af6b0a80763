"""ELECTRA: BERT without a pooler, and with embeddings that may be narrower than the layers.

Source: Clark et al., "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators", 2020.
"""

from dataclasses import replace

from torch.nn.functional import gelu

from mtbert.model.encoder import EncoderConfig
from mtbert.model.families import Family, bert, whole_number
from mtbert.model.native import NativeHead


class ElectraConfig(bert.BertConfig):
    """The keys that are read from the ``config.json`` of an ELECTRA model.

    Optional keys that are missing get the defaults of transformers.
    """

    embedding_size: int = whole_number(2**14, default=128)


def encoder(c: ElectraConfig) -> EncoderConfig:
    """Returns the architecture of an ELECTRA encoder from the keys of its ``config.json``."""
    return replace(
        bert.encoder(c),
        family="electra",
        embedding_width=c.embedding_size,
        pooler=False,
        native=NativeHead(names=("classifier.dense", "classifier.out_proj"), activation=gelu),
    )


ELECTRA = Family(
    name="electra",
    types={"electra": "ElectraModel"},
    config=ElectraConfig,
    encoder=encoder,
    prefixes=("electra.",),
    names=bert.NAMES | {"embedding_projection": ("embeddings_project",)},
)
