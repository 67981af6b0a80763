"""Telling whether texts are English, by their letters and their most frequent words."""

import re
from collections import Counter
from collections.abc import Iterable

LATIN = "\u024f"  # the last Latin letter: others belong to Greek, Cyrillic, Chinese, ...
_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH = frozenset("the and of to is that it you with this are was not have what how for be my they".split())
# Frequent words of German, French, Spanish, Italian, Portuguese, Dutch, Polish and Swedish, but no words of English.
_OTHERS = frozenset(
    "der das und ist nicht ein eine ich mit zu den le la les et est une pas je vous el los y es una por que con "
    "il di che non per o os não é um uma het een niet en van się jest nie och det att är".split()
)


def looks_english(texts: Iterable[str]) -> bool:
    """Returns whether texts look English.

    At least half of the words must have only Latin letters. Common English words must occur at least as often as
    common words of other languages.

    >>> looks_english(["The film is good."]), looks_english(["Der Film ist gut."]), looks_english(["good film"])
    (True, False, True)
    """
    words = Counter(word for text in texts for word in _WORD.findall(text.casefold()))
    english, others, foreign, all_words = (
        sum(count for word, count in words.items() if belongs(word))
        for belongs in (_ENGLISH.__contains__, _OTHERS.__contains__, lambda word: max(word) > LATIN, lambda _: True)
    )
    return others <= english and 2 * foreign <= all_words
