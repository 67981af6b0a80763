"""A short trial of a tokenizer from an untrusted source on a few fixed texts, before it reads any text of the user.

A ``tokenizer.json`` is like a program. Its normalizer may double a text thirty times, its regular expressions may never
terminate, and its template may drop the text or insert tokens that have no embedding. In these cases, the tokenizers
library may raise an error, panic, or use up all memory.
"""

import base64
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tokenizers import Encoding, Tokenizer

from mtbert.messages import count, reason, shown

# Letters of several scripts, symbols, an emoji, and long runs of one character, on which bad regular expressions take
# for ever.
TEXTS = (
    "a",
    "The cat's 3.14 naïve cafés, e\u0301tudes: 漢字 かな 한글 русский עברית عربى हिन्दी ﬁ ½ 🙂 \u200b\u00a0— “no”?",
    " ".join(map(chr, range(33, 127))),
    f"{'a' * 40}! {'1' * 40}! {' ' * 40}! {'.' * 40}a {'ab ' * 20}!",
)
GROWTH = 100  # largest number of tokens, or characters, that one character of a text may become
_MOST_STEPS = 256  # in a normalizer or pre-tokenizer
_LONGEST_STEP = 2000  # bytes of the settings of one step, except SentencePiece's table
_LONGEST_TEMPLATE = 2**16  # bytes of the settings of a post-processor
_MUTED = threading.Lock()


def fault(tokenizer: Tokenizer) -> str | None:
    """Tries ``tokenizer`` on short texts, and returns what is wrong with it, or None if it works.

    The fault completes a sentence that begins with "this tokenizer", such as ``fails on a short text (...)``.
    """
    try:
        with muted():
            return _growth(tokenizer) or _encodings(tokenizer)
    except BaseException as error:
        return f"fails on a short text ({cause(error)})"


def cause(error: BaseException) -> str:
    """Returns the reason for an error in the tokenizers library.

    Panics of that library are not subclasses of Exception, so ``error`` may be any BaseException.

    Raises:
        BaseException: ``error`` itself if it is a request to end the program, such as KeyboardInterrupt.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        raise error
    return reason(error)


@contextmanager
def muted() -> Iterator[None]:
    """A context manager that discards what is written to standard error.

    The tokenizers library prints each panic there before raising it as an exception.
    """
    with _MUTED:
        if sys.stderr is not None:  # it is None if the process started with standard error closed
            sys.stderr.flush()
        try:
            kept = os.dup(2)
        except OSError:  # standard error is closed
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


# Normalizer and pre-tokenizer: each step is tried alone, so that a chain is stopped before it takes all memory -------


def _growth(tokenizer: Tokenizer) -> str | None:
    normalize, split = _steps(tokenizer.normalizer), _steps(tokenizer.pre_tokenizer)
    for steps in (normalize, split):
        if len(steps) > _MOST_STEPS:
            return f"has {len(steps)} steps before the tokens, but at most {_MOST_STEPS} are run"
        for step in steps:
            settings = step.__getstate__()
            if b'"Precompiled"' in settings[:30]:
                if (longest := _longest(settings)) > 4 * GROWTH:  # bytes of a character in UTF-8
                    return f"has a table that replaces characters by up to {longest:,} bytes"
            elif len(settings) > _LONGEST_STEP:
                return f"has a step before the tokens of {len(settings):,} bytes, but at most {_LONGEST_STEP:,} are run"
    for text in (*TEXTS, *_patterns([*normalize, *split])):
        texts = [text]
        for steps, run in ((normalize, _normalized), (split, _parts)):
            for step in steps:
                texts = [part for each in texts for part in run(step, each)]
                if sum(map(len, texts)) > GROWTH * (len(text) + 1):
                    return f"makes more than {GROWTH} characters per character of {shown(text, 40)}"
    return None


def _longest(settings: bytes) -> int:
    """Returns the length in bytes of the longest replacement in the table of a SentencePiece normalizer.

    The table maps a character to its replacement. ``settings`` is the JSON of the normalizer, which contains the table.
    """
    table = base64.b64decode(json.loads(settings)["precompiled_charsmap"])
    return max(map(len, table[4 + int.from_bytes(table[:4], "little") :].split(b"\0")))


def _steps(chain: Any) -> list[Any]:
    """Returns the list of steps of ``chain``, a normalizer or pre-tokenizer. A ``chain`` without parts is one step."""
    return [] if chain is None else list(chain) if type(chain).__name__ == "Sequence" else [chain]


def _normalized(step: Any, text: str) -> list[str]:
    return [step.normalize_str(text)]


def _parts(step: Any, text: str) -> list[str]:
    return [part for part, _ in step.pre_tokenize_str(text)]


def _patterns(steps: Sequence[Any]) -> list[str]:
    """Returns the patterns (strings and regular expressions) that steps of a tokenizer look for in a text."""
    settings = [json.loads(step.__getstate__()) for step in steps if len(step.__getstate__()) <= _LONGEST_STEP]
    patterns = [
        each["pattern"] for each in settings if isinstance(each, dict) and isinstance(each.get("pattern"), dict)
    ]
    return [text for pattern in patterns for text in pattern.values() if isinstance(text, str) and text.strip()]


# Tokens ----------------------------------------------------------------------------------------------------


def _encodings(tokenizer: Tokenizer) -> str | None:
    size = len(tokenizer.post_processor.__getstate__()) if tokenizer.post_processor is not None else 0
    if size > _LONGEST_TEMPLATE:
        return f"has a post_processor of {size:,} bytes, but at most {_LONGEST_TEMPLATE:,} are run"
    highest = max(tokenizer.get_vocab().values(), default=-1)
    singles = tokenizer.encode_batch([*TEXTS])
    pairs = tokenizer.encode_batch([(text, TEXTS[1]) for text in TEXTS])
    for encodings, own in ((singles, {0}), (pairs, {0, 1})):
        for text, encoding in zip(TEXTS, encodings, strict=True):
            if len(encoding) > GROWTH * (len(text) + len(TEXTS[1])):
                return f"makes {count(len(encoding), 'token')} of {count(len(text), 'character')}"
            if max(encoding.ids, default=0) > highest:
                return f"gives the id {max(encoding.ids)}, but its vocabulary ends at {highest}"
            if max(encoding.type_ids, default=0) >= 2**15:
                return f"gives the segment {max(encoding.type_ids)}, but a text has two at most"
        if not own <= _with_tokens(encodings):
            what = "a text" if own == {0} else "one of the two texts of a pair"
            return f"gives no token for {what}, but {count(len(encodings[1]), 'token')} of its own"
    return None


def _with_tokens(encodings: Sequence[Encoding]) -> set[int | None]:
    """Returns the indices of the texts that have at least one token, besides special tokens.

    The set is ``{0, 1}``, for example, if both texts of a pair have tokens.
    """
    return {
        number
        for encoding in encodings
        for number, special in zip(encoding.sequence_ids, encoding.special_tokens_mask, strict=True)
        if not special
    }
