"""A server of a tiny model with a task of every form, on a free port of this machine, in a thread of the test."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import torch
import uvicorn
from tiny import model
from tokenizers import Tokenizer, models, pre_tokenizers

from mtbert.model.settings import Pal
from mtbert.task import Task
from mtbert.use.predictor import Predictor
from mtbert.use.serve.app import DEFAULT_LIMITS, create_app
from mtbert.use.serve.limits import Limits
from mtbert.use.serve.running import listen

WORDS = "the cat dog runs very fast and a bird sings".split()
MOOD = Task(name="mood", type="ordinal", inputs="single", labels=("bad", "so so", "good"))
TOPICS = Task(name="topics", type="multilabel", inputs="single", labels=("art", "ball"))
SAME = Task(name="same", type="binary", inputs="packed", labels=("no", "yes"))
LIKE = Task(name="like", type="regression", inputs="separate", range=(0, 5), head={"kind": "cosine"})
ALIKE = Task(name="alike", type="binary", inputs="separate", labels=("no", "yes"), head={"kind": "cosine"})
SEARCH = Task(name="search", type="ranking", inputs="separate", head={"kind": "cosine"})
NAMES = Task(name="names", type="tokens", inputs="single", labels=("O", "B-LOC", "I-LOC"))
TASKS = (MOOD, TOPICS, SAME, LIKE, ALIKE, SEARCH, NAMES)


def predictor(*tasks: Task, adapters: Pal | None = None) -> Predictor:
    """Returns a predictor whose heads have large weights, so that answers differ; by default with :data:`TASKS`."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    made = model(*(tasks or TASKS), layers=2, adapters=adapters)
    generator = torch.Generator().manual_seed(1)
    for parameter in (*made.heads.parameters(), *made.adapters.parameters()):
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return Predictor(made, tokenizer)


def texts(number: int, seed: int = 0) -> list[str]:
    """Returns texts that all differ."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < number:
        found[" ".join(rng.choices(WORDS, k=rng.randrange(1, 9)))] = None
    return list(found)


class Passes:
    """Counts the passes through the encoder of a model: the tokens that each had."""

    def __init__(self, made: Predictor) -> None:
        self.tokens: list[int] = []
        made.model.encoder.layers[0].qkv.register_forward_hook(lambda _, given, out: self.tokens.append(len(out)))


@dataclass(frozen=True)
class Server:
    """A running server, and a client for it."""

    predictor: Predictor
    url: str
    client: httpx.Client

    def post(self, path: str, body: Any) -> Any:
        """Returns the JSON that answers a request, which must succeed."""
        found = self.client.post(path, json=body)
        assert found.status_code == 200, found.text
        return found.json()

    def refused(self, path: str, body: Any = None, **more: Any) -> tuple[int, str, str]:
        """Returns the status, the type and the message of a request that must be refused in the one JSON shape."""
        given = {"json": body} if body is not None else {}
        found = self.client.request(**{"method": "POST", "url": path, **given, **more})
        assert found.headers["content-type"] == "application/json"
        (error,) = found.json().values()
        assert list(found.json()) == ["error"]
        if path.startswith("/v2/"):  # a message and no more, as its protocol wants
            assert isinstance(error, str)
            return found.status_code, "", error
        assert list(error) == ["message", "type"]
        return found.status_code, error["type"], error["message"]

    def metric(self, name: str) -> float:
        """Returns the value of a metric."""
        lines = self.client.get("/metrics").text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


@contextmanager
def serving(
    made: Predictor, limits: Limits = DEFAULT_LIMITS, token: str | None = None, **more: Any
) -> Iterator[Server]:
    """Runs a server for the length of a block."""
    app = create_app(made, limits=limits, token=token, **more)
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", loop="asyncio", lifespan="on", log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
            yield Server(made, url, client)
    finally:
        server.should_exit = True
        thread.join(20)


def until(true: Any, seconds: float = 20) -> None:
    """Waits until ``true()`` holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.002)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of :data:`TASKS`, for all tests of a file."""
    with serving(predictor()) as made:
        yield made


def near(found: Any, wanted: Any) -> bool:
    """Returns whether two answers are the same but for rounding in float32."""
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(near(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return len(found) == len(wanted) and all(map(near, found, wanted))
    return found == (pytest.approx(wanted, abs=1e-5) if isinstance(wanted, float) else wanted)
