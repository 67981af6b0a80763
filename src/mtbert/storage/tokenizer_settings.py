"""The file ``tokenizer_config.json``, which lies beside ``tokenizer.json`` in the folder of a model.

With this file, the transformers library makes the same tokens as mtbert. Without it, transformers chooses a class by
the encoder's family. Such a class takes only the vocabulary from ``tokenizer.json``, and applies the family's usual
rules, such as lower-casing.
"""

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from mtbert.model.encoder import EncoderConfig

TOKENIZER_SETTINGS = "tokenizer_config.json"
# The keys that name a special token, and the tokens that may be named. If every text gets a token before it and one
# behind it, those two are named, whatever they are called.
ROLES = {
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
}


def tokenizer_settings(tokenizer: Tokenizer, encoder: EncoderConfig, max_length: int, segments: bool) -> dict[str, Any]:
    """Returns the content of ``tokenizer_config.json``.

    Args:
        tokenizer: The tokenizer in ``tokenizer.json``.
        encoder: The encoder that reads the tokens.
        max_length: The maximum number of tokens.
        segments: Whether the encoder gets segment ids.
    """
    special = {token.content: number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    roles = {role: next((name for name in names if name in special), None) for role, names in ROLES.items()}
    ids = tokenizer.encode("").ids
    if len(ids) > 1 and {ids[0], ids[-1]} <= set(special.values()):
        roles |= {"cls_token": tokenizer.id_to_token(ids[0]), "sep_token": tokenizer.id_to_token(ids[-1])}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "attention_mask", *(["token_type_ids"] * segments)],
        **{role: name for role, name in {"pad_token": _padding(special, encoder), **roles}.items() if name},
    }


def _padding(special: Mapping[str, int], encoder: EncoderConfig) -> str | None:
    """Returns the special token for padding; None if there is none.

    In RoBERTa and similar encoders, the first position is not 0. For such an encoder, the padding token is the special
    token whose id is the first position minus 1. For any other encoder, the padding token is the special token with the
    name ``[PAD]`` or ``<pad>``.
    """
    first = encoder.position_offset
    found = (name for name, number in special.items() if (number == first - 1 if first else name in ("[PAD]", "<pad>")))
    return next(found, None)
