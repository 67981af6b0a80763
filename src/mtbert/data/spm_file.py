"""Reads the file of a SentencePiece model: its pieces, and how it prepares a text.

The file is one message of Protocol Buffers. Only the fields that decide which ids a text gets are read.

Source: ``sentencepiece_model.proto`` of the SentencePiece library.
"""

import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from mtbert.data.vocab_files import FETCH, content_of
from mtbert.messages import shown

# XLM-R has 250,000 pieces of 2.5 MB in a file of 5 MB. The tokenizers library takes up to 350 bytes of memory per byte
# of a piece.
LARGEST_SPM, MOST_PIECES, MOST_TEXT = 16 * 2**20, 2**20, 4 * 2**20
CONVERT = "Such models are not read: save the tokenizer as tokenizer.json, and copy that file beside the weights."

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # the forms in which a field may be written
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3  # numbers of fields of the model
_MODEL_TYPES = ("", "unigram", "BPE", "word", "character")
_COMPOSING = ("nmt_nfkc", "nfkc")  # names of the supported tables of characters


class PieceKind(IntEnum):
    """The kind of a piece. Only a normal or a user-defined piece is found in texts."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class SpmModel:
    """The parts of a SentencePiece model that decide about ids. The lists have one item per piece, in order of ids.

    Attributes:
        pieces: The text of each piece. A space is written ``▁``.
        scores: The log-probability of each piece.
        kinds: The kind of each piece, a :class:`PieceKind`.
        unknown: The id of the piece that stands for unknown characters.
        byte_fallback: Whether unknown characters become bytes.
        table: The compiled table by which characters are replaced; empty if there is none.
        dummy_prefix: Whether a space is put before each text.
        fewer_spaces: Whether spaces at the ends of a text are removed, and several spaces in a row become one.
    """

    pieces: list[str]
    scores: list[float]
    kinds: list[int]
    unknown: int
    byte_fallback: bool
    table: bytes
    dummy_prefix: bool
    fewer_spaces: bool


def read_spm(file: Path) -> SpmModel:
    """Returns the SentencePiece model in ``file``.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not a whole SentencePiece model, or if the model is of a kind that is not supported.
    """
    content = content_of(file, LARGEST_SPM)
    try:
        model = _model(content)
    except ValueError as error:
        raise ValueError(f"{file}: not a whole SentencePiece model: it {error}. {FETCH}") from None
    except NotImplementedError as error:
        raise ValueError(f"{file}: this SentencePiece model {error}. {CONVERT}") from None
    return model


def _model(content: bytes) -> SpmModel:
    pieces: list[str] = []
    scores: list[float] = []
    kinds: list[int] = []
    parts: dict[int, bytes] = {}
    for number, form, value in _fields(content):
        if number not in (_PIECES, _TRAINER, _NORMALIZER):
            continue
        part = _bytes(form, value)
        if number != _PIECES:
            if number in parts:
                raise ValueError("has two parts with settings of one kind")
            parts[number] = part
            continue
        if len(pieces) == MOST_PIECES:
            raise ValueError(f"has more than {MOST_PIECES:,} pieces")
        try:
            piece, score, kind = _piece(part)
        except ValueError as error:
            raise ValueError(f"has a piece {len(pieces)} that {error}") from None
        pieces.append(piece)
        scores.append(score)
        kinds.append(kind)
    if parts.keys() != {_TRAINER, _NORMALIZER}:
        raise ValueError("has no settings, so it may be cut off")
    byte_fallback = _trainer(parts[_TRAINER])
    _check_pieces(pieces, kinds, byte_fallback)
    table, dummy_prefix, fewer_spaces = _normalizer(parts[_NORMALIZER])
    unknown = kinds.index(PieceKind.UNKNOWN)
    return SpmModel(pieces, scores, kinds, unknown, byte_fallback, table, dummy_prefix, fewer_spaces)


def _piece(part: bytes) -> tuple[str, float, int]:
    """Returns the text, the score and the kind of a piece."""
    piece, score, kind = b"", 0.0, int(PieceKind.NORMAL)
    for number, form, value in _fields(part):
        if number == 1:
            piece = _bytes(form, value)
        elif number == 2:
            if form != _FIXED32 or not isinstance(value, bytes):
                raise ValueError("has a score of a wrong type")
            score = struct.unpack("<f", value)[0]
        elif number == 3:
            kind = _number(form, value)
    if not piece:
        raise ValueError("is empty")
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        raise ValueError(f"is not UTF-8: {shown(piece)}") from None
    if not math.isfinite(score):
        raise ValueError(f"has the score {score}")
    if not PieceKind.NORMAL <= kind <= PieceKind.BYTE:
        raise ValueError(f"has the unknown kind {kind}")
    return text, score, kind


def _check_pieces(pieces: list[str], kinds: list[int], byte_fallback: bool) -> None:
    if (size := sum(len(piece.encode()) for piece in pieces)) > MOST_TEXT:
        raise ValueError(f"has pieces of {size:,} bytes in total, more than {MOST_TEXT:,}")
    if len(set(pieces)) < len(pieces):
        raise ValueError(f"has the piece {shown(Counter(pieces).most_common(1)[0][0])} twice")
    if (found := kinds.count(PieceKind.UNKNOWN)) != 1:
        raise ValueError(f"must have one piece for unknown characters, found {found}")
    if PieceKind.NORMAL not in kinds:
        raise ValueError("has no piece that occurs in texts")
    if (found := kinds.count(PieceKind.BYTE)) != 256 * byte_fallback:
        raise ValueError(f"must have {256 * byte_fallback} pieces for bytes, found {found}")
    if PieceKind.UNUSED in kinds:
        raise NotImplementedError(f"marks pieces as unused, such as {shown(pieces[kinds.index(PieceKind.UNUSED)])}")


def _trainer(part: bytes) -> bool:
    """Returns whether a SentencePiece model turns unknown characters into bytes.

    ``part`` is the part of the model's file that holds the settings of the model's training.

    Raises:
        NotImplementedError: If mtbert does not support a model with these settings.
    """
    found = _numbers(part, {3: 1, 24: 0, 35: 0})  # model_type, treat_whitespace_as_suffix, byte_fallback
    if found[3] != 1:
        name = _MODEL_TYPES[found[3]] if 0 < found[3] < len(_MODEL_TYPES) else found[3]
        raise NotImplementedError(f"must have the type unigram, found {name}")
    if found[24]:
        raise NotImplementedError("puts spaces behind words (treat_whitespace_as_suffix)")
    return bool(found[35])


def _normalizer(part: bytes) -> tuple[bytes, bool, bool]:
    """Returns three values that say how a SentencePiece model prepares a text.

    They are the compiled table by which characters are replaced, whether a space is put before the text, and whether
    extra spaces are removed.
    """
    name, table = b"", b""
    for number, form, value in _fields(part):
        if number == 1:
            name = _bytes(form, value)
        elif number == 2:
            table = _bytes(form, value)
    found = _numbers(part, {3: 1, 4: 1, 5: 1})  # add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces
    if table and name.decode(errors="replace") not in _COMPOSING:
        rule = shown(name.decode(errors="replace"))
        raise NotImplementedError(f"must replace characters by {' or '.join(_COMPOSING)}, found {rule}")
    if not found[5]:
        raise NotImplementedError("keeps spaces as they are (escape_whitespaces)")
    return table, bool(found[3]), bool(found[4])


# The wire format ---------------------------------------------------------------------------------------------


def _fields(message: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Yields the number, the wire type and the value of each field of a Protocol Buffers message.

    Raises:
        ValueError: If the message ends inside a field, or if a wire type is not supported.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        form = tag & 7
        if form == _VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, form, value
            continue
        if form == _BYTES:
            size, at = _varint(message, at)
        elif form in (_FIXED32, _FIXED64):
            size = 4 if form == _FIXED32 else 8
        else:
            raise ValueError(f"has a field of the unknown form {form}")
        if size > end - at:
            raise ValueError("is cut off")
        yield tag >> 3, form, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Returns the number that begins at index ``at`` of a message, and the index behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("is cut off")
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("has a number of more than 64 bits")


def _numbers(part: bytes, defaults: Mapping[int, int]) -> dict[int, int]:
    """Returns a copy of ``defaults``, a dict from field number to value, updated with the values in ``part``.

    ``part`` is a Protocol Buffers message. Its fields that are not in ``defaults`` are ignored.
    """
    found = dict(defaults)
    for number, form, value in _fields(part):
        if number in found:
            found[number] = _number(form, value)
    return found


def _number(form: int, value: int | bytes) -> int:
    if form != _VARINT or not isinstance(value, int):
        raise ValueError("has a field of a wrong type")
    return value


def _bytes(form: int, value: int | bytes) -> bytes:
    if form != _BYTES or not isinstance(value, bytes):
        raise ValueError("has a field of a wrong type")
    return value
