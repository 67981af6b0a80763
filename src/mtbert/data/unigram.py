"""Tokenizers from the SentencePiece model of a folder that has no ``tokenizer.json``: DeBERTa-v2, XLM-R and CamemBERT.

Apart from a few rare texts, the ids equal those of the SentencePiece library.

As in transformers, special tokens are found in the text first. Then characters are replaced by means of a table in the
model. Finally, a letter and the marks after it are composed: ``e`` and an accent become ``é``. The tokenizers library
needs two precautions:

- Replacing: The library would drop the marks of a character that it replaces, such as the accent of ``½́``. So each mark
  is separated from the character before it.
- Composing: The library's function, NFC, may change the order of the marks after a letter. So NFC gets one mark of a
  letter at a time.

The ids differ from those of SentencePiece in three rare cases:

- A mark follows a letter that is composed already, such as ``ê``. The two are composed here, but not by SentencePiece.
- Replaced characters spell the name of a special token, such as ``[SEP]``. If the model does not know the first two
  characters of the name, they become two unknown tokens here, but one unknown token in SentencePiece.
- Two ways to divide a text into tokens are equally likely, as in ``aaaaaaaa``. Rounding decides, and SentencePiece
  rounds to 32 bits.

Source: Kudo and Richardson, "SentencePiece: A simple and language independent subword tokenizer and detokenizer for
Neural Text Processing", 2018.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from mtbert.data.added_tokens import FolderTokens, TokenOptions, add_tokens, folder_tokens
from mtbert.data.spm_file import CONVERT, PieceKind, SpmModel, read_spm
from mtbert.data.vocab_files import CONFIG, FETCH, TOKENIZER_CONFIG, built, model_type, read_options
from mtbert.messages import few, shown

DEBERTA_FILE, XLM_R_FILE = "spm.model", "sentencepiece.bpe.model"

_SPACE = "▁"
# Stands before each mark while characters are replaced. Unicode promises that no text has this character.
_SEPARATOR = "\ufdd0"
# Characters that the library would take together with the character before them: marks, joiners, the voice marks of
# half-width kana, skin tones, and the end of a line, behind a carriage return.
_MARK = "[\\p{M}\n\u200c\u200d\uff9e\uff9f\U0001f3fb-\U0001f3ff]"
# What a mark is composed with: all but nonspacing marks, and the three vowel signs among these that are composed.
_BASE = "[^\\p{Mn}]|[\u0c46\u0cbf\u0cc6]"
_MOST_MARKS = 3  # behind a letter in SentencePiece's tables
_ALWAYS = 100.0  # score of a user's piece, which SentencePiece prefers to all others
_SPECIAL = (PieceKind.CONTROL, PieceKind.UNKNOWN)
_FOUND = (PieceKind.NORMAL, PieceKind.USER_DEFINED)  # kinds of pieces that are found in texts


class _Options(TokenOptions):
    """The keys of ``tokenizer_config.json`` that affect tokenization in a folder without ``tokenizer.json``."""

    do_lower_case: bool = False
    split_by_punct: bool = False
    add_prefix_space: bool = True


@dataclass(frozen=True)
class _Layout:
    """How a family of encoders numbers and uses the pieces of a SentencePiece model.

    Attributes:
        replaced: The model's first pieces. They are left out, and the tokens in ``first`` take their place.
        first: Tokens that are numbered before the pieces.
        last: Tokens that are numbered after the pieces.
        unknown: The token for unknown characters; None if the model's own piece for unknown characters is used.
        roles: A dict from role, such as ``cls_token``, to the default special token. If the files in an encoder's
            folder name a token for a role, that token is used instead.
        pair: The template of a pair of texts. The template of a single text consists of the first three parts.
    """

    replaced: tuple[str, ...]
    first: tuple[str, ...]
    last: tuple[str, ...]
    unknown: str | None
    roles: Mapping[str, str]
    pair: tuple[str, ...]


_DEBERTA = _Layout(
    replaced=(),
    first=(),
    last=(),
    unknown=None,
    roles={"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"},
    pair=("cls_token:0", "$A:0", "sep_token:0", "$B:1", "sep_token:1"),
)
_XLM_R = _Layout(
    replaced=("<unk>", "<s>", "</s>"),
    first=("<s>", "<pad>", "</s>", "<unk>"),
    last=("<mask>",),
    unknown="<unk>",
    roles={"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"},
    pair=("cls_token:0", "$A:0", "sep_token:0", "sep_token:0", "$B:0", "sep_token:0"),
)
_CAMEMBERT = replace(_XLM_R, replaced=("<unk>",), first=("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"))


def deberta(folder: Path) -> Tokenizer:
    """Returns the tokenizer that the ``spm.model`` of a DeBERTa-v2, DeBERTa-v3 or mDeBERTa folder describes."""
    return _tokenizer(folder, folder / DEBERTA_FILE, _DEBERTA)


def xlm_r_or_camembert(folder: Path) -> Tokenizer:
    """Returns the tokenizer that the ``sentencepiece.bpe.model`` of an XLM-R or CamemBERT folder describes.

    The two families number the pieces differently, and ``config.json`` says which family it is.
    """
    layouts, kind = {"xlm-roberta": _XLM_R, "camembert": _CAMEMBERT}, model_type(folder)
    if not isinstance(kind, str) or kind not in layouts:
        known = " or ".join(layouts)
        said = f"model_type must be {known} beside {XLM_R_FILE}, found {shown(kind)}"
        raise ValueError(f"{folder / CONFIG}: {said}. {CONVERT}")
    return _tokenizer(folder, folder / XLM_R_FILE, layouts[kind])


def _tokenizer(folder: Path, file: Path, layout: _Layout) -> Tokenizer:
    spm, options = read_spm(file), read_options(folder / TOKENIZER_CONFIG, _Options)
    for key, supported in (("split_by_punct", False), ("add_prefix_space", True)):
        if getattr(options, key) != supported:
            must, found = (str(value).lower() for value in (supported, not supported))
            raise ValueError(f"{folder / TOKENIZER_CONFIG}: {key} must be {must}, found {found}. {CONVERT}")
    vocab = _vocab(file, spm, layout)
    unknown = spm.unknown if layout.unknown is None else layout.first.index(layout.unknown)
    wrong = f"{file}: not a whole SentencePiece model"
    tokenizer = Tokenizer(built(lambda: models.Unigram(vocab, unknown, spm.byte_fallback), wrong))
    tokenizer.normalizer = built(lambda: _normalizer(spm, options.do_lower_case and layout is _DEBERTA), wrong)
    hidden = [piece for piece, kind in zip(spm.pieces, spm.kinds, strict=True) if kind not in _FOUND]
    steps: list[pre_tokenizers.PreTokenizer] = [_apart({*layout.first, *hidden, *layout.last})]
    if not any(_SPACE in piece[1:] for piece, _ in vocab):  # the library finds the pieces of single words faster
        steps.append(pre_tokenizers.Split(_SPACE, "merged_with_next"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    special = [piece for piece, kind in zip(spm.pieces, spm.kinds, strict=True) if kind in _SPECIAL]
    given = folder_tokens(folder, options, layout.roles)
    add_tokens(file, tokenizer, special, given)
    tokenizer.post_processor = built(lambda: _template(tokenizer, given, layout.pair), wrong)
    return tokenizer


def _apart(pieces: Collection[str]) -> pre_tokenizers.PreTokenizer:
    """Returns the step that prevents ``pieces`` from being found in a text: it cuts them after their first character.

    SentencePiece finds only normal and user-defined pieces in a text. The tokenizers library also finds all other
    tokens, such as ``[SEP]``. A text may contain ``[SEP]`` by chance: for example, the rules that clean a text may turn
    full-width letters into the letters of ``[SEP]``.
    """
    rests: dict[str, list[str]] = {}
    for piece in sorted(pieces):
        rests.setdefault(piece[0], []).append(re.escape(piece[1:]))
    starts = (f"{re.escape(start)}(?={'|'.join(ends)})" for start, ends in rests.items())
    return pre_tokenizers.Split(Regex("|".join(starts)), "merged_with_previous")


def _vocab(file: Path, spm: SpmModel, layout: _Layout) -> list[tuple[str, float]]:
    """Returns all tokens in the order of their ids, each with its score."""
    count = len(layout.replaced)
    if tuple(spm.pieces[:count]) != layout.replaced:
        raise ValueError(
            f"{file}: must begin with the pieces {few(layout.replaced)}, found {few(spm.pieces[:count], quoted=True)}. "
            f"{FETCH}"
        )
    pieces = [
        (piece, score if kind == PieceKind.NORMAL else _ALWAYS if kind == PieceKind.USER_DEFINED else 0.0)
        for piece, score, kind in zip(spm.pieces, spm.scores, spm.kinds, strict=True)
    ][count:]
    vocab = [*((token, 0.0) for token in layout.first), *pieces, *((token, 0.0) for token in layout.last)]
    if twice := {*layout.first, *layout.last} & {piece for piece, _ in pieces}:
        raise ValueError(f"{file}: must not have the piece {shown(min(twice))}, which stands for a token. {FETCH}")
    return vocab


# Characters --------------------------------------------------------------------------------------------------


def _normalizer(spm: SpmModel, lowercase: bool) -> normalizers.Normalizer:
    """Returns the steps that prepare a text before it is divided into pieces."""
    steps: list[normalizers.Normalizer] = [normalizers.Lowercase()] if lowercase else []
    if spm.table:
        # Without the first step, the library loses count of characters that are removed at the beginning.
        steps += [
            normalizers.Prepend(_SEPARATOR),
            normalizers.Replace(Regex(f"(?={_MARK})"), _SEPARATOR),
            normalizers.Precompiled(spm.table),
        ]
        for _ in range(_MOST_MARKS):
            steps += [normalizers.Replace(Regex(f"(?<={_BASE}){_SEPARATOR}"), ""), normalizers.NFC()]
        steps.append(normalizers.Replace(_SEPARATOR, ""))
    if spm.fewer_spaces:
        steps += [
            normalizers.Replace(Regex("  +"), " "),
            normalizers.Replace(Regex(r"\A "), ""),
            normalizers.Replace(Regex(rf"(?<![ {_SPACE}])[ {_SPACE}]+\z"), ""),
        ]
    steps.append(normalizers.Replace(" ", _SPACE))
    if spm.dummy_prefix:
        # Prepend would give this space the place of the first character, so it would be the first token of a word.
        steps.append(normalizers.Replace(Regex(r"\A(?=[\s\S])"), _SPACE))
    return normalizers.Sequence(steps)


def _template(tokenizer: Tokenizer, given: FolderTokens, pair: tuple[str, ...]) -> processors.TemplateProcessing:
    """Returns the step that puts special tokens around one text or around two."""
    contents = {role: token.content for role, token in given.roles.items()}
    parts = [part.partition(":") for part in pair]
    items = [f"{contents.get(name, name)}:{segment}" for name, _, segment in parts]
    ends = [(content, tokenizer.token_to_id(content)) for content in {contents["cls_token"], contents["sep_token"]}]
    return processors.TemplateProcessing(single=items[:3], pair=items, special_tokens=ends)
