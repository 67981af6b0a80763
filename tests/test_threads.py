"""One predictor that many threads use at once."""

import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tiny import model
from tokenizers import Tokenizer, models, pre_tokenizers

from mtbert.task import Task
from mtbert.use.predictor import Predictor

TASKS = (
    Task(name="one", type="ordinal", inputs="single", labels=("bad", "so so", "good")),
    Task(name="packed", type="binary", inputs="packed", labels=("no", "yes")),
    Task(name="separate", type="regression", inputs="separate", range=(1, 5)),
    Task(name="other", type="regression", inputs="single", range=(0, 1), pooling="mean"),
)
TASKS_OF = {task.name: task for task in TASKS}
THREADS = 8
CALLS = 25  # per thread


@pytest.fixture
def switching() -> Iterator[None]:
    """Makes threads switch a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def test_eight_threads_get_the_answers_that_one_gets(switching: None):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"a b c d e f g h".split()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    # Two models that cut at different lengths share the tokenizer.
    predictors = [Predictor(model(*TASKS), tokenizer) for _ in range(2)]
    for predictor, most in zip(predictors, (6, 9), strict=True):
        predictor.model.max_length = most
    rng = random.Random(0)

    def text() -> str:
        return " ".join(rng.choices("abcdefgh", k=rng.randrange(1, 15)))

    calls = []
    for i in range(THREADS * CALLS):
        task = TASKS[i % 4]
        texts = [tuple(text() for _ in range(task.texts)) for _ in range(rng.randrange(1, 6))]
        calls.append((predictors[i % 2], task.name, texts))

    def ask(
        call: tuple[Predictor, str, list[tuple[str, ...]]],
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], object]:
        predictor, task, texts = call
        whole = texts if TASKS_OF[task].texts == 2 else [text for (text,) in texts]
        return predictor.predict(task, texts), predictor(whole), predictor.vectors(task, texts).tolist()

    serial = [ask(call) for call in calls]
    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(ask, calls)) == serial
    for (_, task, _), (alone, together, _) in zip(calls, serial, strict=True):
        for answer, answers in zip(alone, together, strict=True):
            assert list(answers) == [t.name for t in TASKS if t.texts == TASKS_OF[task].texts]
            assert answers[task] == pytest.approx(answer, abs=1e-6)
