"""The shape of an encoder from the config.json of a Hugging Face folder.

Each kind of config has a settings class here. Keys that no class names are kept in ``source`` and written again with
the encoder; they change nothing here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mtbert import json_files
from mtbert.messages import shown
from mtbert.model.encoder import ACTIVATIONS, EncoderConfig, Family

LARGEST = 16 * 2**20  # bytes of a config.json; one with 20,000 names of classes has one
FETCH = "Fetch the model again."

MODEL_TYPES: Mapping[str, tuple[Family, str]] = {  # model_type of config.json: our family, class of transformers
    "bert": ("bert", "BertModel"),
    "roberta": ("roberta", "RobertaModel"),
    "xlm-roberta": ("roberta", "XLMRobertaModel"),
    "electra": ("electra", "ElectraModel"),
    "distilbert": ("distilbert", "DistilBertModel"),
}
_REPAIRS = {  # by key; of all others, FETCH
    "position_embedding_type": "Choose an encoder with absolute positions.",
    "is_decoder": "Choose an encoder.",
    "add_cross_attention": "Choose an encoder.",
    "hidden_act": "Choose an encoder with one of these.",
    "activation": "Choose an encoder with one of these.",
}


def _whole(most: int, *, default: Any = ..., least: int = 1) -> Any:
    """A whole number up to ``most``, which is more than any encoder of these families has."""
    what = f"a whole number from {least:,} to {most:,}"
    return Field(default=default, ge=least, le=most, description=what)


def _rate() -> Any:
    return Field(default=0.1, ge=0, lt=1, description="a number from 0 to below 1")


def _activation() -> Any:
    return Field(default="gelu", description=f"one of {', '.join(ACTIVATIONS)}")


def _must_be(what: str, default: Any) -> Any:
    return Field(default=default, description=what)


def _known(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ValueError("unknown")
    return name


Activation = Annotated[str, AfterValidator(_known)]


class Config(BaseModel):
    """The keys that every kind of config has. A description says what must hold, as a message has it."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)

    # First, what is no encoder of these: the message names the first key that is wrong.
    position_embedding_type: Literal["absolute"] = _must_be("'absolute'", "absolute")
    is_decoder: Literal[False] | None = _must_be("false", False)
    add_cross_attention: Literal[False] | None = _must_be("false", False)
    vocab_size: int = _whole(2**24)
    max_position_embeddings: int = _whole(2**20, default=512)


class BertConfig(Config):
    """A config of BERT, RoBERTa, XLM-R or ELECTRA; what it leaves out is as in transformers."""

    hidden_size: int = _whole(2**14)
    embedding_size: int = _whole(2**14, default=128)  # ELECTRA's
    num_hidden_layers: int = _whole(2**8)
    num_attention_heads: int = _whole(2**10)
    intermediate_size: int = _whole(2**17)
    type_vocab_size: int = _whole(2**10, default=2)
    hidden_act: Activation = _activation()
    layer_norm_eps: float = Field(default=1e-12, gt=0, le=0.1, description="a number above 0, to 0.1")
    hidden_dropout_prob: float = _rate()
    attention_probs_dropout_prob: float = _rate()

    def encoder(self, family: Family, source: Mapping[str, Any]) -> EncoderConfig:
        """Returns the shape of an encoder of ``family``."""
        return EncoderConfig(
            family=family,
            vocab_size=self.vocab_size,
            width=self.hidden_size,
            embedding_width=self.embedding_size if family == "electra" else self.hidden_size,
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            intermediate=self.intermediate_size,
            activation=self.hidden_act,
            layer_norm_eps=self.layer_norm_eps,
            max_length=self.max_position_embeddings - self.position_offset,
            position_offset=self.position_offset,
            segment_types=self.type_vocab_size,
            pooler=family != "electra",
            hidden_dropout=self.hidden_dropout_prob,
            attention_dropout=self.attention_probs_dropout_prob,
            source=source,
        )

    @property
    def position_offset(self) -> int:
        """The row of the first token's position."""
        return 0


class RobertaConfig(BertConfig):
    """A config of RoBERTa or XLM-R, whose positions start behind the row that padding takes."""

    pad_token_id: int = _whole(2**20, default=1, least=0)

    @property
    def position_offset(self) -> int:
        """The row of the first token's position."""
        return self.pad_token_id + 1


class DistilBertConfig(Config):
    """A config of DistilBERT, which has other keys than the rest."""

    dim: int = _whole(2**14)
    n_layers: int = _whole(2**8)
    n_heads: int = _whole(2**10)
    hidden_dim: int = _whole(2**17)
    activation: Activation = _activation()
    dropout: float = _rate()
    attention_dropout: float = _rate()

    def encoder(self, family: Family, source: Mapping[str, Any]) -> EncoderConfig:
        """Returns the shape of an encoder of ``family``."""
        return EncoderConfig(
            family=family,
            vocab_size=self.vocab_size,
            width=self.dim,
            embedding_width=self.dim,
            layers=self.n_layers,
            heads=self.n_heads,
            intermediate=self.hidden_dim,
            activation=self.activation,
            layer_norm_eps=1e-12,
            max_length=self.max_position_embeddings,
            position_offset=0,
            segment_types=0,
            pooler=False,
            hidden_dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            source=source,
        )


_KINDS: Mapping[Family, type[BertConfig | DistilBertConfig]] = {
    "bert": BertConfig,
    "roberta": RobertaConfig,
    "electra": BertConfig,
    "distilbert": DistilBertConfig,
}


def read_config(file: Path) -> EncoderConfig:
    """Returns the shape of the encoder that a config.json describes; what it leaves out is as in transformers.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not the config of an encoder supported here.
    """
    source = json_files.read_json(
        file, "Give the folder of a model with a whole config.json beside its weights.", LARGEST
    )
    if not isinstance(source, dict):
        raise ValueError(f"{file}: must hold an object, found {type(source).__name__}. {FETCH}")
    kind = source.get("model_type")
    if not isinstance(kind, str) or kind not in MODEL_TYPES:
        raise ValueError(
            f"{file}: model_type must be one of {', '.join(MODEL_TYPES)}, found {shown(kind)}. "
            "Choose an encoder of these families."
        )
    family, _ = MODEL_TYPES[kind]
    try:
        settings = _KINDS[family].model_validate(source)
    except ValidationError as error:
        raise ValueError(f"{file}: {_first(error, _KINDS[family])}") from None
    config = settings.encoder(family, source)
    if config.max_length < 1:
        raise ValueError(
            f"{file}: max_position_embeddings must be more than {config.position_offset}, as positions start behind "
            f"pad_token_id, found {settings.max_position_embeddings}. {FETCH}"
        )
    if config.width % config.heads:
        raise ValueError(f"{file}: {config.heads} heads do not divide width {config.width}. {FETCH}")
    return config


def _first(error: ValidationError, kind: type[Config]) -> str:
    """Returns the first of the errors as ``KEY must be ..., found ... REPAIR``."""
    first = error.errors(include_url=False)[0]
    key = str(first["loc"][0])
    found = "nothing" if first["type"] == "missing" else shown(first["input"])
    return f"{key} must be {kind.model_fields[key].description}, found {found}. {_REPAIRS.get(key, FETCH)}"
