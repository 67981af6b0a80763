"""Small SentencePiece models, trained on generated words, and odd texts for their tokenizers."""

import io
import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import sentencepiece

SYLLABLES = "ka to mi re s sh un able ing ed er li o é ü ñ не да 漢 字 か が 한 글 न म א".split()
BRACKETS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
TAGS = ("<s>", "</s>", "<unk>", "<pad>", "<mask>")


@cache
def trained(family: str = "deberta", rule: str = "nmt_nfkc", vocab_size: int = 160, **settings: object) -> bytes:
    """Returns the file of a model that is trained on generated words, with the special pieces of a family."""
    rng, model = random.Random(0), io.BytesIO()
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(300)]
    lines = [" ".join(rng.choice(words) + rng.choice(["", "", ",", "!"]) for _ in range(8)) for _ in range(300)]
    ids = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3} if family == "deberta" else {}
    names = ("pad", "bos", "eos", "unk") if family == "deberta" else ()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="unigram",
        normalization_rule_name=rule,
        vocab_size=vocab_size,
        minloglevel=2,
        num_threads=1,
        **ids,
        **{f"{name}_piece": piece for name, piece in zip(names, BRACKETS, strict=False)},
        **{key: [*value] if isinstance(value, tuple) else value for key, value in settings.items()},
    )
    return model.getvalue()


def oracle(model: bytes) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=model)


def folder(path: Path, model: bytes, family: str = "deberta", **files: object) -> Path:
    """Writes a model folder without ``tokenizer.json``; ``files`` are JSON files by their names without ``.json``."""
    types = {"deberta": "deberta-v2", "xlm-r": "xlm-roberta", "camembert": "camembert"}
    (path / ("spm.model" if family == "deberta" else "sentencepiece.bpe.model")).write_bytes(model)
    for name, value in ({"config": {"model_type": types[family]}} | files).items():
        (path / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return path


def _kinds(rng: random.Random) -> list[Callable[[], str]]:
    """Returns functions that draw characters, each of another kind."""

    def between(*ranges: tuple[int, int]) -> Callable[[], str]:
        return lambda: chr(rng.randint(*rng.choice(ranges)))

    def among(items: str | list[str]) -> Callable[[], str]:
        return lambda: rng.choice(items)

    return [
        among(SYLLABLES),
        between((0x61, 0x7A), (0x30, 0x39), (0x21, 0x2F)),
        among("  \t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2028\u3000"),
        between((0x01, 0x1F), (0x7F, 0x9F)),
        among("\u200b\u200c\u200d\u200e\u202e\u2060\ufeff\xad\u180e\ufe0f"),
        between((0x300, 0x36F)),
        among("\u0301\u0323\u0302\u064b\u0651\u064e\u05b4\u05bc\u3099\u309a\uff9e\uff9f"),
        between((0x1F600, 0x1F64F), (0x1F3FB, 0x1F3FF), (0x1F1E6, 0x1F1FF)),
        between((0x4E00, 0x9FFF), (0x3041, 0x30FF), (0xFF01, 0xFFDC)),
        between((0xAC00, 0xD7A3), (0x1100, 0x11FF)),
        between((0x590, 0x6FF)),
        between((0x900, 0xDFF)),
        among("ﬁ½Å²ªº…™ĳ㍿ﷺ①㊗ẛ⁄ﬃＡ～"),
        among("▁▁ .<>[]"),
        between((0xA0, 0xD7FF), (0xE000, 0xFDCF), (0xFE00, 0x2FFFF)),
    ]


def odd_texts(number: int, seed: int = 0) -> Iterator[str]:
    """Yields texts of up to 40 characters of a few kinds. Every hundredth text contains one long word."""
    rng = random.Random(seed)
    kinds = _kinds(rng)
    for i in range(number):
        some = rng.sample(kinds, rng.randint(1, 4))
        length = rng.choice([0, 1, 2, 3, 5, 8, 13, 21, 40])
        yield "".join(rng.choice(some)() for _ in range(length)) if i % 100 else rng.choice(SYLLABLES) * 500
