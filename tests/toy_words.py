"""Generated sentences with a tag per word, for the words of :mod:`toy_run`."""

import json
from pathlib import Path
from typing import Any

import numpy as np

KINDS = {"dog": "animal", "cat": "animal", "film": "art", "plot": "art"}
MORE = {"animal": "sleeps", "art": "fine"}  # the second word of an entity
SPEECH = {"the": "DET", "a": "DET", "is": "VERB", "runs": "VERB", "sleeps": "VERB", "fine": "ADJ", "old": "ADJ"}
SPEECH |= dict.fromkeys(KINDS, "NOUN")


def sentences(number: int) -> list[tuple[list[str], list[str]]]:
    """Returns words and BIO tags of texts; all entities of a text are of one type."""
    rng, found = np.random.default_rng(5), []
    for _ in range(number):
        words, tags = [], []
        type_ = str(rng.choice(["animal", "art"]))
        for _ in range(rng.integers(1, 4)):
            noun = str(rng.choice([noun for noun, of in KINDS.items() if of == type_]))
            words += [str(rng.choice(["the", "a", "old"])), noun, *([MORE[type_]] if rng.random() < 0.5 else ()), "is"]
            tags += ["O", f"B-{type_}", *([f"I-{type_}"] if words[-2] == MORE[type_] else ()), "O"]
        found.append((words, tags))
    return found


def spans_of(words: list[str], tags: list[str]) -> list[dict[str, Any]]:
    """Returns the entities as places in the words joined by single spaces."""
    spans: list[dict[str, Any]] = []
    start = 0
    for word, tag in zip(words, tags, strict=True):
        if tag[0] == "B":
            spans.append({"start": start, "end": start + len(word), "label": tag[2:]})
        elif tag[0] == "I":
            spans[-1]["end"] = start + len(word)
        start += len(word) + 1
    return spans


def write(folder: Path, number: int = 60) -> None:
    """Writes words.conll in IOB1, words.jsonl with parts of speech, and texts.jsonl with spans and a topic."""
    rows = sentences(number)
    iob1 = [(words, [f"I{tag[1:]}" if tag[0] == "B" else tag for tag in tags]) for words, tags in rows]
    conll = ("\n".join(map(" ".join, zip(words, tags, strict=True))) for words, tags in iob1)
    (folder / "words.conll").write_text("\n\n".join(conll) + "\n")
    speech = [{"words": words, "pos": [SPEECH[word] for word in words]} for words, _ in rows]
    (folder / "words.jsonl").write_text("\n".join(map(json.dumps, speech)))
    texts = [
        {
            "text": f" {' '.join(words)}.",
            "entities": [s | {"start": s["start"] + 1, "end": s["end"] + 1} for s in spans_of(words, tags)],
            "topic": None if i % 3 == 0 else KINDS[next(word for word in words if word in KINDS)],
        }
        for i, (words, tags) in enumerate(rows)
    ]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, texts)))
