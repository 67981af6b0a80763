"""Tokenizers from the vocabulary files of a folder without ``tokenizer.json``: WordPiece and byte-level BPE."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from mtbert import files, json_files
from mtbert.data import trial
from mtbert.messages import shown

LARGEST_LIST = 32 * 2**20  # bytes of a file with one token per line; for XLM-R's 250,000 tokens it has 5 MB
CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
FETCH = "Fetch the model again."

_Built = TypeVar("_Built")
_Options = TypeVar("_Options", bound=BaseModel)


class Options(BaseModel):
    """The keys of ``tokenizer_config.json`` that affect tokenization in a folder without ``tokenizer.json``."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    tokenize_chinese_chars: bool = True
    strip_accents: bool | None = None
    do_lower_case: bool = True
    add_prefix_space: bool = False


def built(make: Callable[[], _Built], wrong: str) -> _Built:
    """Calls ``make`` and returns its result.

    If ``make`` fails, raises a ValueError. Its message begins with the text in the argument ``wrong``.
    """
    try:
        with trial.muted():
            return make()
    except BaseException as error:  # the library's panics are not subclasses of Exception
        why = trial.cause(error)
        raise ValueError(f"{wrong} ({why}). {FETCH}") from None


def content_of(file: Path, largest: int = LARGEST_LIST) -> bytes:
    """Returns the whole content of a file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file has more than ``largest`` bytes, or cannot be read.
    """
    with files.repaired(file, FETCH):
        return files.read_bytes(file, largest)


def model_type(folder: Path) -> Any:
    """Returns the family that the ``config.json`` of a folder names; None if it names none."""
    config = json_files.read_json(folder / CONFIG, FETCH)
    return config.get("model_type") if isinstance(config, dict) else None


def word_piece(folder: Path) -> Tokenizer:
    """Returns the tokenizer that the ``vocab.txt`` of a BERT, ELECTRA, DistilBERT or MPNet folder describes.

    MPNet is recognised by ``config.json``, because a ``vocab.txt`` for MPNet may contain BERT's special tokens too.
    """
    file, options = folder / "vocab.txt", read_options(folder / TOKENIZER_CONFIG, Options)
    try:
        words = content_of(file).decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 at byte {error.start}. {FETCH}") from None
    vocab = {word: i for i, word in enumerate(words)}
    if mpnet := os.path.lexists(folder / CONFIG) and model_type(folder) == "mpnet":
        names, pad, mask = ("<s>", "</s>", "[UNK]"), "<pad>", "<mask>"
    else:
        names, pad, mask = ("[CLS]", "[SEP]", "[UNK]"), "[PAD]", "[MASK]"
    cls, sep, unk = known_tokens(file, vocab, *names)
    second = f"{sep}:0 $B:0 {sep}:0" if mpnet else f"$B:1 {sep}:1"
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token=unk))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=options.tokenize_chinese_chars,
        strip_accents=options.strip_accents,
        lowercase=options.do_lower_case,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 {second}",
        special_tokens=[(cls, vocab[cls]), (sep, vocab[sep])],
    )
    special = [AddedToken(mask, lstrip=mpnet, normalized=False) if t == mask else t for t in (pad, unk, cls, sep, mask)]
    tokenizer.add_special_tokens([t for t in special if str(t) in vocab])
    return tokenizer


def byte_level(folder: Path) -> Tokenizer:
    """Returns the tokenizer that the ``vocab.json`` and the ``merges.txt`` of a RoBERTa folder describe."""
    file, merges, options = (
        folder / "vocab.json",
        folder / "merges.txt",
        read_options(folder / TOKENIZER_CONFIG, Options),
    )
    for each in (file, merges):
        content_of(each)
    wrong = f"{file}: not a vocabulary for {merges.name}"
    tokenizer = Tokenizer(built(lambda: models.BPE.from_file(str(file), str(merges)), wrong))
    vocab = tokenizer.get_vocab()
    bos, eos = known_tokens(file, vocab, "<s>", "</s>")
    prefix = options.add_prefix_space
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        (eos, vocab[eos]), (bos, vocab[bos]), trim_offsets=True, add_prefix_space=prefix
    )
    tokenizer.add_special_tokens([t for t in (bos, "<pad>", eos, "<unk>", "<mask>") if t in vocab])
    return tokenizer


def known_tokens(file: Path, vocab: dict[str, int], *tokens: str) -> tuple[str, ...]:
    """Returns ``tokens`` unchanged, after checking that each of them is in the vocabulary."""
    for token in tokens:
        if token not in vocab:
            raise ValueError(f"{file}: has no {token} among {len(vocab)} tokens. {FETCH}")
    return tokens


def read_options(file: Path, kind: type[_Options]) -> _Options:
    """Returns the settings in a JSON file as an instance of ``kind``; the defaults if there is no such file."""
    if not os.path.lexists(file):
        return kind()
    value: Any = json_files.read_json(file, FETCH)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if not first["loc"]:
            raise ValueError(f"{file}: must be a mapping, found {shown(value)}. {FETCH}") from None
        key = str(first["loc"][0])
        must = kind.model_fields[key].description or "true or false"
        raise ValueError(f"{file}: {key} must be {must}, found {shown(value[key])}. {FETCH}") from None
