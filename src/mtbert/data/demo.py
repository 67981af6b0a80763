"""Generated sentences for a demonstration that needs no download: every text here is made by a small grammar.

The three tasks look like SST, Quora and STS, and are none of them; every id says ``generated``. Labels follow
from how a sentence is put together, and most examples come with a twin of nearly the same words and another
label, so counting words is not enough.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from mtbert.batch import Example

T = TypeVar("T")
Row = tuple[tuple[str, ...], float]  # texts, label
SIZES = {"train": 1600, "dev": 300}


def examples(task: str, split: str) -> list[Example]:
    """The generated examples of 'sst', 'quora' or 'sts' and of 'train' or 'dev': the same at every call.

    No text of sst and no pair of quora or sts, in either order, occurs twice, within or across splits.

    Raises:
        ValueError: If the task or the split has another name.
    """
    if task not in GRAMMARS:
        raise ValueError(f"no generated task '{task}'. Use one of: {', '.join(GRAMMARS)}.")
    if split not in SIZES:
        raise ValueError(f"no generated split '{split}'. Use one of: {', '.join(SIZES)}.")
    rng = np.random.Generator(np.random.PCG64(list(GRAMMARS).index(task)))
    rows = _distinct(GRAMMARS[task], rng, sum(SIZES.values()))
    # Dev comes first, so that another train size leaves it as it is.
    rows = rows[: SIZES["dev"]] if split == "dev" else rows[SIZES["dev"] :]
    return [Example(f"generated-{task}-{split}-{i}", texts, label) for i, (texts, label) in enumerate(rows)]


def _distinct(grammar: Callable[[np.random.Generator], list[Row]], rng: np.random.Generator, size: int) -> list[Row]:
    """Rows of whole groups, so that twins stay in one split as long as groups hold two rows and sizes are even."""
    seen: set[tuple[str, ...]] = set()
    rows: list[Row] = []
    while len(rows) < size:
        group = grammar(rng)
        keys = {tuple(sorted(texts)) for texts, _ in group}
        differ = all(len(set(texts)) == len(texts) for texts, _ in group)
        if differ and len(keys) == len(group) and not keys & seen:
            seen |= keys
            rows += group
    return rows[:size]


def _pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(rng.integers(len(items)))]


def _some(rng: np.random.Generator, items: Sequence[T], n: int) -> list[T]:
    """``n`` different items, in random order."""
    return [items[i] for i in rng.permutation(len(items))[:n]]


# --- sst: a review sentence and its grade, 0 (very bad) to 4 (very good) ---

ASPECTS = (
    *("acting", "plot", "score", "pacing", "script", "ending", "dialogue", "editing"),
    *("story", "cast", "direction", "humor", "romance", "photography", "opening", "staging"),
)
WORDS = {
    -2: ("terrible", "awful", "dreadful", "horrible", "appalling"),
    -1: ("bad", "dull", "weak", "clumsy", "boring"),
    0: ("average", "ordinary", "passable", "unremarkable"),
    1: ("good", "charming", "clever", "engaging", "enjoyable"),
    2: ("superb", "brilliant", "wonderful", "outstanding", "magnificent"),
}
# Grade -> what may be said, as (phrase, grade of its word): negation turns a mild word round and a strong one neutral.
PHRASES = {
    -2: (("{}", -2), ("absolutely {}", -2), ("very {}", -1), ("truly {}", -1), ("anything but {}", 1)),
    -1: (("{}", -1), ("fairly {}", -1), ("slightly {}", -1), ("not {}", 1), ("hardly {}", 1), ("never {}", 1)),
    0: (("{}", 0), ("{}", 0), ("not {}", 2), ("hardly {}", 2), ("not {}", -2), ("hardly {}", -2)),
    1: (("{}", 1), ("fairly {}", 1), ("slightly {}", 1), ("not {}", -1), ("hardly {}", -1), ("never {}", -1)),
    2: (("{}", 2), ("absolutely {}", 2), ("very {}", 1), ("truly {}", 1), ("anything but {}", -1)),
}
# The clause {win} decides. A frame without {lose} makes the plain sentences.
FRAMES = (
    *("{win}", "To be honest, {win}", "In this film {win}", "Once again {win}"),
    *("Although {lose}, {win}", "While {lose}, {win}", "{lose}, but {win}", "{win}, although {lose}"),
)


def _sst(rng: np.random.Generator) -> list[Row]:
    """Two sentences that exchange what they say of two aspects, and with it the grade."""
    frame, subjects, grades = _pick(rng, FRAMES), _some(rng, ASPECTS, 2), _some(rng, list(PHRASES), 2)
    said = [phrase.format(_pick(rng, WORDS[word])) for phrase, word in (_pick(rng, PHRASES[g]) for g in grades)]
    rows: list[Row] = []
    for win, lose in ((0, 1), (1, 0)):
        text = frame.format(win=f"the {subjects[0]} is {said[win]}", lose=f"the {subjects[1]} is {said[lose]}")
        rows.append(((text[0].upper() + text[1:] + ".",), float(grades[win] + 2)))
    return rows


# --- quora: two questions, 1 if one answer serves both ---


@dataclass(frozen=True)
class Topic:
    """Things that fill ``{x}`` and ``{y}``; per intent, ways to ask the same. One of ``[a|b]`` is drawn."""

    things: tuple[str, ...]
    intents: tuple[tuple[str, ...], ...]


TOPICS = (
    Topic(
        ("euros", "dollars", "pounds", "yen", "pesos", "rubles", "francs", "rupees"),
        (
            (
                "How [do|can|should] I [convert|change|turn] {x} [to|into] {y}?",
                "Where [do|can|should] I [exchange|swap] [my|some] {x} for {y}?",
            ),
            (
                "When [do|can|should] I [convert|change|turn] {x} [to|into] {y}?",
                "On which day [do|can|should] I [exchange|swap] [my|some] {x} for {y}?",
            ),
        ),
    ),
    Topic(
        ("Paris", "London", "Rome", "Berlin", "Madrid", "Vienna", "Prague", "Oslo"),
        (
            (
                "What is the cheapest [way|route] [to travel|to go] from {x} to {y}?",
                "Which [trip|journey] from {x} to {y} [costs the least|saves money]?",
            ),
            (
                "What is the fastest [way|route] [to travel|to go] from {x} to {y}?",
                "Which [trip|journey] from {x} to {y} [is the quickest|saves time]?",
            ),
        ),
    ),
    Topic(
        ("English", "French", "German", "Spanish", "Italian", "Polish", "Dutch", "Greek"),
        (
            (
                "How [do|can|should] I [translate|turn] a [letter|message] from {x} into {y}?",
                "What helps to [put|bring] {x} [letters|mail] into {y}?",
            ),
            (
                "How [do|can|should] I [translate|turn] a [poem|verse] from {x} into {y}?",
                "What helps to [put|bring] {x} [poems|poetry] into {y}?",
            ),
        ),
    ),
    Topic(
        ("nursing", "teaching", "law", "sales", "farming", "banking", "acting", "cooking"),
        (
            (
                "How [do|can|should] I [switch|move|change] from {x} to {y}?",
                "What does it take to [leave|quit] {x} and [start|begin] in {y}?",
            ),
            (
                "Is it [wrong|unwise] to [switch|move|change] from {x} to {y}?",
                "Will I [regret it|be sorry] if I [leave|quit] {x} for {y}?",
            ),
        ),
    ),
    Topic(
        ("tea", "coffee", "milk", "juice", "water", "cocoa", "soda", "soup"),
        (
            ("Why is {x} [better|nicer] than {y}?", "What makes [people|you|someone] [prefer|choose] {x} over {y}?"),
            (
                "Why is {x} not [better|nicer] than {y}?",
                "What makes [people|you|someone] not [prefer|choose] {x} over {y}?",
            ),
        ),
    ),
    Topic(
        ("phone", "laptop", "tablet", "camera", "television", "watch", "printer", "desktop"),
        (
            (
                "How [do|can|should] I [send|move|copy] [pictures|photos] from my {x} to my {y}?",
                "What gets the [pictures|photos] on my {x} [to|onto] my {y}?",
            ),
            (
                "How [do|can|should] I [send|move|copy] [songs|music] from my {x} to my {y}?",
                "What gets the [songs|music] on my {x} [to|onto] my {y}?",
            ),
        ),
    ),
)


def _quora(rng: np.random.Generator) -> list[Row]:
    """A question with its paraphrase, and a question with one that exchanges or changes a thing or two."""
    topic = _pick(rng, TOPICS)
    intent, other = _some(rng, topic.intents, 2)
    rows: list[Row] = []
    for label in (1, 0):
        one, two, three, four = _some(rng, topic.things, 4)
        i, j = _some(rng, range(len(intent)), 2)
        # The same way of asking comes more often with a change, so that shared words say little.
        if rng.random() < (0.4 if label else 0.6):
            j = i
        x, y, asks = one, two, intent
        if label == 0:
            change = _pick(rng, ("swap", "x", "x", "y", "y", "both", "intent"))
            x, y = {"swap": (two, one), "x": (three, two), "y": (one, four), "both": (three, four)}.get(change, (x, y))
            asks = other if change == "intent" else intent
        texts = _ask(rng, intent[i]).format(x=one, y=two), _ask(rng, asks[j]).format(x=x, y=y)
        rows.append((texts, float(label)))
    return rows


def _ask(rng: np.random.Generator, way: str) -> str:
    return re.sub(r"\[(.*?)\]", lambda options: _pick(rng, options[1].split("|")), way)


# --- sts: two sentences and how alike they are, 0.0 to 5.0 ---

# Each entry is one meaning in two wordings.
PEOPLE = (
    *(("boy", "lad"), ("woman", "lady"), ("doctor", "physician"), ("child", "kid"), ("man", "guy"), ("dog", "hound")),
    *(("teacher", "tutor"), ("singer", "vocalist"), ("writer", "author"), ("cat", "kitten"), ("lawyer", "attorney")),
)
# Stems that take -ing and -ed.
ACTIONS = (
    *(("chas", "pursu"), ("help", "assist"), ("watch", "observ"), ("call", "phon"), ("prais", "applaud")),
    *(("follow", "trail"), ("greet", "welcom"), ("film", "record"), ("annoy", "bother")),
)
MOODS = (("small", "little"), ("happy", "cheerful"), ("tired", "weary"), ("angry", "furious"), ("clever", "smart"))
PLACES = (
    *(("in the woods", "in the forest"), ("on the street", "on the road"), ("near the shop", "close to the store")),
    *(("by the sea", "beside the ocean"), ("at home", "in the house"), ("in the office", "at the workplace")),
)
# What may change and what that costs of the 5 points; 'swap' exchanges who does it and whom it is done to.
COSTS = {"past": 0.4, "mood": 0.7, "place": 0.9, "who": 1.4, "whom": 1.4, "action": 1.7, "swap": 2.0}
CHANGES: tuple[tuple[str, ...], ...] = (
    *((), (), (), (), ("past",), ("mood",), ("place",), ("swap",), ("swap",), ("swap", "mood")),
    *(("who",), ("whom",), ("action",), ("action", "place"), ("who", "whom"), ("who", "whom", "place")),
    *(("who", "whom", "action"), ("who", "whom", "action", "place"), ("who", "whom", "action", "place", "mood")),
)


@dataclass(frozen=True)
class Scene:
    """Who does what to whom, how and where; each part in two wordings."""

    mood: tuple[str, str]
    who: tuple[str, str]
    action: tuple[str, str]
    whom: tuple[str, str]
    place: tuple[str, str]
    past: bool

    def tell(self, wording: int, passive: bool) -> str:
        """A sentence in one of the two wordings."""
        mood, who, stem, whom, place = (
            part[wording] for part in (self.mood, self.who, self.action, self.whom, self.place)
        )
        if passive:
            verb = f"{'was' if self.past else 'is being'} {stem}ed by"
            return f"The {whom} {verb} the {mood} {who} {place}."
        verb = f"{stem}ed" if self.past else f"is {stem}ing"
        return f"The {mood} {who} {verb} the {whom} {place}."


def _sts(rng: np.random.Generator) -> list[Row]:
    """One scene told twice, the second time with some parts changed and now and then in other words."""
    who, new_who, whom, new_whom = _some(rng, PEOPLE, 4)
    (mood, new_mood), (place, new_place), (action, new_action) = (_some(rng, p, 2) for p in (MOODS, PLACES, ACTIONS))
    scene = Scene(mood, who, action, whom, place, past=bool(rng.integers(2)))
    news = {"mood": new_mood, "who": new_who, "action": new_action, "whom": new_whom, "place": new_place}
    changes = _pick(rng, CHANGES)
    other = replace(
        scene,
        **{part: new for part, new in news.items() if part in changes},
        past=scene.past ^ ("past" in changes),
    )
    if "swap" in changes:
        other = replace(other, who=other.whom, whom=other.who)
    wording, passive = int(rng.integers(2)), bool(rng.integers(2))
    # The same scene comes in other words more often than a changed one, so that shared words say little.
    reworded = bool(rng.random() < (0.4 if changes else 0.6))
    texts = scene.tell(wording, passive), other.tell(wording ^ reworded, passive ^ bool(rng.random() < 0.3))
    score = 5.0 - sum(COSTS[change] for change in changes) - 0.2 * reworded
    return [(texts, round(max(0.0, score), 1))]


GRAMMARS: dict[str, Callable[[np.random.Generator], list[Row]]] = {"sst": _sst, "quora": _quora, "sts": _sts}
