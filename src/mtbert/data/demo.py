"""Generated data for a demonstration without downloads: a small grammar makes every text.

The three tasks imitate the data sets SST, Quora and STS but contain none of their data; every id contains
``generated``. The way a text is built determines the label. Most examples have a twin: another example with nearly the
same words and a different label. A model therefore cannot solve the tasks by counting words.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from mtbert.batch import Example

T = TypeVar("T")
DemoRow = tuple[tuple[str, ...], float]  # texts, label
SIZES = {"train": 1600, "dev": 300}


def examples(task: str, split: str) -> list[Example]:
    """Returns the generated examples of one split of a task. Every call returns the same ones.

    No text of sst and no pair of texts of quora or sts occurs twice, even in different splits. Pairs that differ only
    in the order of their texts count as the same pair.

    Args:
        task: ``sst``, ``quora`` or ``sts``.
        split: ``train`` or ``dev``.

    Raises:
        ValueError: If there is no such task or split.
    """
    if task not in GRAMMARS:
        raise ValueError(f"no generated task '{task}'. Use one of: {', '.join(GRAMMARS)}.")
    if split not in SIZES:
        raise ValueError(f"no generated split '{split}'. Use one of: {', '.join(SIZES)}.")
    rng = np.random.Generator(np.random.PCG64(list(GRAMMARS).index(task)))
    rows = _distinct(GRAMMARS[task], rng, sum(SIZES.values()))
    # Dev comes first, so that it does not depend on the size of train.
    rows = rows[: SIZES["dev"]] if split == "dev" else rows[SIZES["dev"] :]
    return [Example(f"generated-{task}-{split}-{i}", texts, label) for i, (texts, label) in enumerate(rows)]


def _distinct(
    grammar: Callable[[np.random.Generator], list[DemoRow]], rng: np.random.Generator, size: int
) -> list[DemoRow]:
    """Returns ``size`` distinct rows. Rows that one call of ``grammar`` makes stay next to each other."""
    seen: set[tuple[str, ...]] = set()
    rows: list[DemoRow] = []
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
    """Returns ``n`` different elements of ``items``, chosen at random and in random order."""
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
# By grade: the phrases that express it, each with the grade of the word that fills it. Negation reverses a mild word
# and makes a strong word neutral.
PHRASES = {
    -2: (("{}", -2), ("absolutely {}", -2), ("very {}", -1), ("truly {}", -1), ("anything but {}", 1)),
    -1: (("{}", -1), ("fairly {}", -1), ("slightly {}", -1), ("not {}", 1), ("hardly {}", 1), ("never {}", 1)),
    0: (("{}", 0), ("{}", 0), ("not {}", 2), ("hardly {}", 2), ("not {}", -2), ("hardly {}", -2)),
    1: (("{}", 1), ("fairly {}", 1), ("slightly {}", 1), ("not {}", -1), ("hardly {}", -1), ("never {}", -1)),
    2: (("{}", 2), ("absolutely {}", 2), ("very {}", 1), ("truly {}", 1), ("anything but {}", -1)),
}
# The clause {win} decides the grade. Frames without {lose} make simple sentences.
FRAMES = (
    *("{win}", "To be honest, {win}", "In this film {win}", "Once again {win}"),
    *("Although {lose}, {win}", "While {lose}, {win}", "{lose}, but {win}", "{win}, although {lose}"),
)


def _sst(rng: np.random.Generator) -> list[DemoRow]:
    """Returns two review sentences, each with its grade.

    Two opinions are drawn. One decides the grade of the first sentence, and the other decides that of the second.
    """
    frame, subjects, grades = _pick(rng, FRAMES), _some(rng, ASPECTS, 2), _some(rng, list(PHRASES), 2)
    said = [phrase.format(_pick(rng, WORDS[word])) for phrase, word in (_pick(rng, PHRASES[g]) for g in grades)]
    rows: list[DemoRow] = []
    for win, lose in ((0, 1), (1, 0)):
        text = frame.format(win=f"the {subjects[0]} is {said[win]}", lose=f"the {subjects[1]} is {said[lose]}")
        rows.append(((text[0].upper() + text[1:] + ".",), float(grades[win] + 2)))
    return rows


# --- quora: two questions; the label is 1 if one answer serves both ---


@dataclass(frozen=True)
class Topic:
    """A topic for questions: the things that a question can be about, and the intents that it can have."""

    things: tuple[str, ...]  # fill {x} and {y}
    intents: tuple[tuple[str, ...], ...]  # per intent, several ways to ask the same; one option of [a|b] is drawn


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


def _quora(rng: np.random.Generator) -> list[DemoRow]:
    """Returns two examples, each a pair of questions.

    The questions of the first pair mean the same. Those of the second pair ask about different things, name the same
    things in a different order, or have different intents.
    """
    topic = _pick(rng, TOPICS)
    intent, other = _some(rng, topic.intents, 2)
    rows: list[DemoRow] = []
    for label in (1, 0):
        one, two, three, four = _some(rng, topic.things, 4)
        i, j = _some(rng, range(len(intent)), 2)
        # Pairs with a changed meaning share their wording more often, so that shared words reveal little.
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


# --- sts: two sentences; the score is how similar they are, 0.0 to 5.0 ---

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
# The possible changes, and how many of the 5 points each one costs; 'swap' exchanges who acts and who is acted on.
COSTS = {"past": 0.4, "mood": 0.7, "place": 0.9, "who": 1.4, "whom": 1.4, "action": 1.7, "swap": 2.0}
CHANGES: tuple[tuple[str, ...], ...] = (
    *((), (), (), (), ("past",), ("mood",), ("place",), ("swap",), ("swap",), ("swap", "mood")),
    *(("who",), ("whom",), ("action",), ("action", "place"), ("who", "whom"), ("who", "whom", "place")),
    *(("who", "whom", "action"), ("who", "whom", "action", "place"), ("who", "whom", "action", "place", "mood")),
)


@dataclass(frozen=True)
class Scene:
    """The content of a sentence: who does what to whom, in what mood and where.

    ``mood``, ``who``, ``action``, ``whom`` and ``place`` each hold two wordings of the same meaning, such as
    ``("boy", "lad")``. The wordings of ``action`` are stems of verbs, such as ``("help", "assist")``. ``past`` says
    whether the sentence is in the past tense.
    """

    mood: tuple[str, str]
    who: tuple[str, str]
    action: tuple[str, str]
    whom: tuple[str, str]
    place: tuple[str, str]
    past: bool

    def tell(self, wording: int, passive: bool) -> str:
        """Returns a sentence about this scene, in the passive voice if ``passive`` is true.

        ``wording``, 0 or 1, chooses between the two wordings of each part of the scene.
        """
        mood, who, stem, whom, place = (
            part[wording] for part in (self.mood, self.who, self.action, self.whom, self.place)
        )
        if passive:
            verb = f"{'was' if self.past else 'is being'} {stem}ed by"
            return f"The {whom} {verb} the {mood} {who} {place}."
        verb = f"{stem}ed" if self.past else f"is {stem}ing"
        return f"The {mood} {who} {verb} the {whom} {place}."


def _sts(rng: np.random.Generator) -> list[DemoRow]:
    """Returns a list with one row: two sentences, and the score of their similarity.

    Each sentence describes a scene. The two scenes may be the same, or differ in some parts. If they are the same, the
    two sentences may still use different words.
    """
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
    # An unchanged scene is reworded more often than a changed one, so that shared words reveal little.
    reworded = bool(rng.random() < (0.4 if changes else 0.6))
    texts = scene.tell(wording, passive), other.tell(wording ^ reworded, passive ^ bool(rng.random() < 0.3))
    score = 5.0 - sum(COSTS[change] for change in changes) - 0.2 * reworded
    return [(texts, round(max(0.0, score), 1))]


GRAMMARS: dict[str, Callable[[np.random.Generator], list[DemoRow]]] = {"sst": _sst, "quora": _quora, "sts": _sts}
