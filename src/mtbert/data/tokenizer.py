"""Loading a model's tokenizer, and turning texts into flat arrays of token ids."""

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import Encoding, Tokenizer

from mtbert.batch import Int32s, Rows, Sequences
from mtbert.columns import TextTuples
from mtbert.data import cache, trial
from mtbert.data.cache import Kept, Spool
from mtbert.data.unigram import DEBERTA_FILE, XLM_R_FILE, deberta, xlm_r_or_camembert
from mtbert.data.vocab_files import FETCH, built, byte_level, content_of, word_piece
from mtbert.data.words import Finder, first_pieces
from mtbert.messages import shown
from mtbert.progress_bar import progress_of
from mtbert.ragged import Ragged

# Texts per call of the library. An encoding holds strings and offsets besides the ids, some kilobytes per sentence, and
# 5,000 texts at a time are no faster.
CHUNK = 1000
LARGEST_TOKENIZER = 128 * 2**20  # bytes of tokenizer.json; for XLM-R's 250,000 tokens it has 17 MB


def _whole(folder: Path) -> Tokenizer:
    file = folder / "tokenizer.json"
    content = content_of(file, LARGEST_TOKENIZER)
    tokenizer = built(lambda: Tokenizer.from_buffer(content), f"{file}: not a tokenizer")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


# The files that describe a tokenizer, and the function that makes it; the first that a folder has is used.
MAKERS: Mapping[tuple[str, ...], Callable[[Path], Tokenizer]] = {
    ("tokenizer.json",): _whole,
    ("vocab.txt",): word_piece,
    ("vocab.json", "merges.txt"): byte_level,
    (DEBERTA_FILE,): deberta,
    (XLM_R_FILE,): xlm_r_or_camembert,
}


def load_tokenizer(folder: Path) -> Tokenizer:
    """Returns the tokenizer of a model folder, with truncation and padding switched off.

    Raises:
        FileNotFoundError: If the folder has no tokenizer files. The message names the files that are needed.
        ValueError: If a file cannot be read, or if the tokenizer fails a short trial (:mod:`mtbert.data.trial`).
    """
    for names, make in MAKERS.items():
        if all(os.path.lexists(folder / name) for name in names):
            file, tokenizer = folder / names[0], make(folder)
            break
    else:
        raise FileNotFoundError(
            f"{folder}: no {', no '.join(' with '.join(names) for names in MAKERS)}. "
            "Copy the tokenizer's files beside the weights."
        )
    wrong = trial.fault(tokenizer)
    if wrong is not None:
        raise ValueError(f"{file}: this tokenizer {wrong}. {FETCH}")
    vars(tokenizer)["file"] = file  # for messages about later failures
    return tokenizer


def sequences(
    tokenizer: Tokenizer,
    texts: Sequence[tuple[str, ...]],
    max_length: int,
    segments: bool,
    *,
    keep: bool = False,
    words: Finder | None = None,
) -> tuple[Sequences, Rows]:
    """Returns the token sequences of texts or of pairs of texts, and the indices of the sequences that were truncated.

    White space at the ends of a text does not change its tokens.

    Args:
        tokenizer: The tokenizer, which adds special tokens and, for pairs, segment ids.
        texts: For each example, one text, or two texts that are packed into one sequence.
        max_length: The maximum number of tokens in a sequence, including special tokens. In a pair, the longer text is
            truncated first.
        segments: Whether to keep the segment ids. If false, every segment id is 0.
        keep: Whether to use the user's cache folder. It is used only for :class:`TextTuples` of at least 1,000
            examples.
        words: A function that finds the words of a text, for single texts only. If it is given, the sequences also hold
            the index of each word's first token.

    Raises:
        ValueError: If ``max_length`` leaves no room for text beside the special tokens, or if a text makes the
            tokenizer fail.
    """
    # Looking at the vocabulary takes as long as a few hundred texts.
    few = len(texts) < cache.FEWEST
    largest = 0 if few else max(tokenizer.get_vocab().values(), default=0)
    kind = np.int32 if few or largest >= 2**16 else np.uint16

    def make(spool: Spool) -> None:
        spool.add("offsets", np.zeros(1, np.int64))
        spool.add("cut", np.zeros(0, np.int64))
        spool.add("ids", np.zeros(0, kind))
        end, silent = 0, True  # all segment ids are 0 so far: these are not written
        known = 0  # words so far
        if words is not None:
            spool.add("words", np.zeros(0, np.int32))
            spool.add("word offsets", np.zeros(1, np.int64))
        with progress_of("tokenising", len(texts), "text") as tick:
            for start in range(0, len(texts), CHUNK):
                part = texts[start : start + CHUNK]
                ids, segment_ids, lengths, cut, firsts = _tokens(tokenizer, part, max_length, segments, words)
                if words is not None:
                    spool.add("words", firsts.values.astype(np.int32))
                    spool.add("word offsets", known + firsts.offsets[1:])
                    known += len(firsts.values)
                if silent and segment_ids.any():
                    spool.add("segments", np.zeros(end, np.int32))
                    silent = False
                if not silent:
                    spool.add("segments", segment_ids)
                spool.add("ids", ids.astype(kind))
                spool.add("offsets", end + np.cumsum(lengths))
                spool.add("cut", start + cut)
                end += len(ids)
                tick(len(part))

    def check(found: Kept) -> None:
        ids = found.array("ids", np.dtype(kind).str)
        cache.check_within(ids, 0, largest + 1)
        cache.check_offsets(found.array("offsets", "<i8", size=len(texts) + 1), len(ids), step=1)
        cache.check_within(found.array("cut", "<i8"), 0, len(texts))
        if "segments" in found.arrays:
            cache.check_within(found.array("segments", "<i4", size=len(ids)), 0, 2)
        if words is not None:
            firsts = found.array("words", "<i4")
            cache.check_offsets(found.array("word offsets", "<i8", size=len(texts) + 1), len(firsts))
            of_words = Ragged(firsts, found.arrays["word offsets"])
            cache.check_within(firsts - np.diff(found.arrays["offsets"])[of_words.owners], -max_length - 1, 0)
            cache.check_within(firsts, -1, max_length)

    depends_on: list[object] = []
    if keep := keep and isinstance(texts, TextTuples) and not few:
        depends_on += [column.digest() for column in texts.columns]
        depends_on += [tokenizer.to_str(), tokenizers.__version__, max_length, segments]
        depends_on += [] if words is None else [words.__name__]
    found = cache.kept("tokens", depends_on, make, check, keep=keep).arrays
    ids = found["ids"]
    segment_ids = found.get("segments", np.broadcast_to(np.int32(0), len(ids)))
    firsts = None if words is None else Ragged(found["words"], found["word offsets"])
    return Sequences(ids=ids, segments=segment_ids, offsets=found["offsets"], words=firsts), found["cut"]


def _tokens(
    tokenizer: Tokenizer,
    texts: Sequence[tuple[str, ...]],
    max_length: int,
    segments: bool,
    words: Finder | None,
) -> tuple[Int32s, Int32s, Rows, Rows, Ragged]:
    """Tokenises texts, and returns five arrays.

    They hold all token ids, all segment ids, the length of each sequence, the indices of the truncated sequences, and
    for each word the index of its first token in the sequence (-1 if it has none).
    """
    special = {size: tokenizer.num_special_tokens_to_add(size == 2) for size in {len(text) for text in texts}}
    for number in special.values():
        if max_length <= number:
            raise ValueError(f"max_length must leave room for text beside {number} special tokens, found {max_length}.")
    ids: list[int] = []
    segment_ids: list[int] = []
    lengths, cut, firsts = [], [], []
    given = [text[0].strip() if len(text) == 1 else tuple(part.strip() for part in text) for text in texts]
    for i, encoding in enumerate(_encoded(tokenizer, given)):
        all_ids, all_segments = encoding.ids, encoding.type_ids if segments else []
        first_W = None
        if words is not None:
            text = texts[i][0]
            first_W = _first_tokens(encoding, words(text) - (len(text) - len(text.lstrip())))
        if len(all_ids) > max_length:
            kept_N = _kept(encoding, max_length, special[len(texts[i])])
            stay = kept_N.tolist()
            all_ids, all_segments = list(compress(all_ids, stay)), list(compress(all_segments, stay))
            if first_W is not None:
                first_W = np.where((first_W >= 0) & kept_N[first_W], (np.cumsum(kept_N) - 1)[first_W], -1)
            cut.append(i)
        if first_W is not None:
            firsts.append(first_W)
        if not 0 < len(all_ids) <= max_length:
            raise ValueError(
                f"{_file(tokenizer)}: this tokenizer must give 1 to {max_length} tokens, but gives {len(all_ids)} "
                f"for {shown(given[i])}. Change or drop that text, or {FETCH.lower()}"
            )
        ids += all_ids
        segment_ids += all_segments
        lengths.append(len(all_ids))
    found = np.array(ids, np.int32)
    of_segments = np.array(segment_ids, np.int32) if segments else np.zeros_like(found)
    of_words = Ragged.of([] if words is None else firsts, np.int64)
    return found, of_segments, np.array(lengths, np.int64), np.array(cut, np.int64), of_words


def _first_tokens(encoding: Encoding, words: npt.NDArray[np.int64]) -> Rows:
    """Returns the index in ``encoding`` of the first token of each word, ``[W]``; -1 for a word without a token."""
    text_N = np.flatnonzero([text is not None for text in encoding.sequence_ids])
    found = first_pieces(np.array(encoding.offsets, np.int64).reshape(-1, 2)[text_N], words)
    return np.where(found < 0, -1, np.append(text_N, -1)[found])


def _encoded(tokenizer: Tokenizer, texts: Sequence[str | tuple[str, ...]]) -> list[Encoding]:
    """Returns the encoding of each text or pair, without truncation.

    Raises:
        ValueError: If the tokenizer fails.
    """
    try:
        return list(tokenizer.encode_batch(texts))
    except BaseException as error:  # the library's panics are not subclasses of Exception
        why = trial.cause(error)
        raise ValueError(f"{_file(tokenizer)}: this tokenizer fails on a text ({why}). {FETCH}") from None


def _file(tokenizer: Tokenizer) -> object:
    return vars(tokenizer).get("file", "tokenizer")


def _kept(encoding: Encoding, max_length: int, special: int) -> npt.NDArray[np.bool_]:
    """Returns a mask of the tokens that stay when ``encoding`` is cut to ``max_length`` tokens.

    ``special`` is the number of special tokens in ``encoding``.
    """
    # The library's own truncation is a setting of the tokenizer, which threads may share.
    text_N = np.array([-1 if text is None else text for text in encoding.sequence_ids])
    first, second = np.flatnonzero(text_N == 0), np.flatnonzero(text_N == 1)
    stay = _longest_first(len(first), len(second), max_length - special)
    kept_N = np.ones(len(text_N), dtype=np.bool_)
    kept_N[first[stay[0] :]] = kept_N[second[stay[1] :]] = False
    return kept_N


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Returns how many tokens of each of two texts to keep, so that ``room`` tokens are kept in total.

    ``first`` and ``second`` are the lengths of the two texts in tokens. The longer text is truncated first. If both
    texts are truncated, each keeps half of ``room``. For an odd ``room``, one text keeps one token more: the longer
    text or, if both texts have the same length, the second text.

    >>> _longest_first(9, 2, 7), _longest_first(5, 5, 7), _longest_first(6, 5, 7)
    ((5, 2), (3, 4), (4, 3))
    """
    short = min(first, second, room // 2)
    return (room - short, short) if first > second else (short, room - short)
