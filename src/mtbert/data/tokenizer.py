"""A model's tokenizer from its folder, and texts turned into flat token arrays."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from mtbert.batch import Sequences

CHUNK = 1000  # encodings hold strings and offsets besides the ids, some kilobytes a sentence; 5,000 is no faster


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder, with truncation and padding switched off.

    Raises:
        FileNotFoundError: If the folder has no tokenizer files; the message names those that would do.
        ValueError: If tokenizer.json is not one.
    """
    whole, words, pieces, merges = (folder / n for n in ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"))
    if whole.is_file():
        try:
            tokenizer = Tokenizer.from_file(str(whole))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ValueError(f"{whole}: not a tokenizer ({error}). Fetch the model again.") from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
    if words.is_file():
        return _word_piece(words, _settings(folder))
    if pieces.is_file() and merges.is_file():
        return _byte_level(pieces, merges, _settings(folder))
    raise FileNotFoundError(
        f"{folder}: no tokenizer.json, no vocab.txt, and no vocab.json with merges.txt. "
        "Copy the tokenizer's files beside the weights."
    )


def sequences(
    tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], max_length: int, segments: bool
) -> tuple[Sequences, set[int]]:
    """The token sequences of single texts or pairs, and the numbers of those that had to be cut.

    Args:
        tokenizer: Adds the special tokens and, to pairs, the segment ids.
        texts: Of each example one text, or two that are packed into one sequence.
        max_length: Tokens of the longest sequence, special tokens included; the longer text is cut first.
        segments: False makes every segment id 0.

    Raises:
        ValueError: If ``max_length`` leaves no room beside the special tokens.
    """
    for is_pair in {len(text) == 2 for text in texts}:
        special = tokenizer.num_special_tokens_to_add(is_pair)
        if max_length <= special:
            raise ValueError(
                f"max_length must leave room for text beside {special} special tokens, found {max_length}."
            )
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    ids, segment_ids, lengths, cut = [], [], [], set()
    try:
        for start in range(0, len(texts), CHUNK):
            chunk = [text[0] if len(text) == 1 else text for text in texts[start : start + CHUNK]]
            for i, encoding in enumerate(tokenizer.encode_batch(chunk), start):
                ids.append(np.array(encoding.ids, dtype=np.int32))
                segment_ids.append(np.array(encoding.type_ids, dtype=np.int32))
                lengths.append(len(encoding))
                if encoding.overflowing:
                    cut.add(i)
    finally:
        tokenizer.no_truncation()
    nothing = np.zeros(0, dtype=np.int32)
    flat_ids = np.concatenate([nothing, *ids])
    flat_segments = np.concatenate([nothing, *segment_ids]) if segments else np.zeros_like(flat_ids)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return Sequences(ids=flat_ids, segments=flat_segments, offsets=offsets.astype(np.int64)), cut


def _word_piece(file: Path, settings: dict[str, Any]) -> Tokenizer:
    try:
        words = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 at byte {error.start}. Fetch the model again.") from None
    vocab = {word: i for i, word in enumerate(words)}
    cls, sep, unk = _known(file, vocab, "[CLS]", "[SEP]", "[UNK]")
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token=unk))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, vocab[cls]), (sep, vocab[sep])],
    )
    tokenizer.add_special_tokens([t for t in ("[PAD]", unk, cls, sep, "[MASK]") if t in vocab])
    return tokenizer


def _byte_level(file: Path, merges: Path, settings: dict[str, Any]) -> Tokenizer:
    try:
        tokenizer = Tokenizer(models.BPE.from_file(str(file), str(merges)))
    except Exception as error:  # tokenizers raises nothing narrower
        raise ValueError(f"{file}: not a vocabulary for {merges.name} ({error}). Fetch the model again.") from None
    vocab = tokenizer.get_vocab()
    bos, eos = _known(file, vocab, "<s>", "</s>")
    prefix = settings.get("add_prefix_space", False)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        (eos, vocab[eos]), (bos, vocab[bos]), trim_offsets=True, add_prefix_space=prefix
    )
    tokenizer.add_special_tokens([t for t in (bos, "<pad>", eos, "<unk>", "<mask>") if t in vocab])
    return tokenizer


def _known(file: Path, vocab: dict[str, int], *tokens: str) -> tuple[str, ...]:
    for token in tokens:
        if token not in vocab:
            raise ValueError(f"{file}: has no {token} among {len(vocab)} tokens. Fetch the model again.")
    return tokens


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    if not file.is_file():
        return {}
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not JSON ({error}). Fetch the model again.") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: must be a mapping, found {type(settings).__name__}. Fetch the model again.")
    return settings
