"""The keys of bodies: what the server does not know or cannot do is refused, and too many texts are refused first."""

from typing import Any

import pytest
import toy_server
from toy_server import Server

server = toy_server.server

NO_KEY = "there is no such key (/openapi.json lists them), found"


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/predict", {"texts": ["a"], "task": "mood"}, f"task: {NO_KEY} 'mood'."),
        ("/v1/predict/mood", {"texts": ["a"], "tasks": ["mood"]}, f"tasks: {NO_KEY} ['mood']."),
        ("/v1/embeddings", {"input": "a", "prompt": "query"}, f"prompt: {NO_KEY} 'query'."),
        ("/embed", {"inputs": "a", "dimensions": 4}, "dimensions: the vectors of this model have 8. Leave it out."),
        ("/embed", {"inputs": "a", "prompt_name": "query"}, "prompt_name: input should be None, found 'query'."),
        (
            "/predict",
            {"inputs": "a", "truncation_direction": "Left"},
            "truncation_direction: input should be 'Right', found 'Left'.",
        ),
    ],
)
def test_keys_that_would_change_the_answer_are_refused(server: Server, path: str, body: Any, message: str):
    assert server.refused(path, body) == (422, "invalid_request", message)


def test_keys_that_change_nothing_are_read(server: Server):
    more = {"dimensions": 8, "prompt_name": None, "truncation_direction": "Right", "truncate": True}
    assert len(server.post("/embed", {"inputs": "the cat", **more})[0]) == 8
    assert server.post("/v1/embeddings", {"input": "the cat", "user": "me"})["data"]


def test_too_many_texts_are_refused_before_any_is_looked_at(server: Server):
    message = "a request may have 256 texts, found 774. Send several."
    assert server.refused("/v1/predict/mood", {"texts": [["a", "b", "c"]] * 258}) == (413, "too_large", message)


@pytest.mark.parametrize("words", [1, 2, 3])
def test_usage_counts_each_text_once_whether_their_number_is_even_or_odd(server: Server, words: int):
    given = ["the cat runs", "a dog", "a bird sings very fast"][:words]
    found = server.post("/v1/embeddings", {"input": given, "model": "like"})
    assert found["usage"]["prompt_tokens"] == (3, 5, 10)[words - 1]
    assert len(found["data"]) == words
