"""The server's routes for other projects' clients, asked by these clients, and checked against the predictor."""

import base64
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import huggingface_hub
import numpy as np
import openai
import pytest
import toy_server
from huggingface_hub import InferenceClient
from toy_server import LIKE, MOOD, NAMES, SAME, SEARCH, Server, near, predictor, serving, texts
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

server = toy_server.server


def unit(vectors: Any) -> Any:
    """Returns the vectors with the length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def own_vectors(server: Server, task: str, given: Sequence[str]) -> Any:
    """Returns the vector of each text that the task's head reads, computed without the server."""
    if server.predictor.task(task).texts == 1:
        return server.predictor.vectors(task, given)
    return server.predictor.vectors(task, [(text, text) for text in given])[:, 0]


# Text-embeddings-inference ---------------------------------------------------------------------------------


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets the hub's client send requests at all; those of these tests go to this machine."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("number", [1, 2, 5])
def test_the_hub_client_gets_a_vector_of_length_1_for_each_text(server: Server, number: int):
    client = InferenceClient(model=f"{server.url}/embed")
    found = client.feature_extraction(texts(number))
    np.testing.assert_allclose(found, unit(own_vectors(server, "like", texts(number))), atol=1e-5)


@pytest.mark.usefixtures("online")
def test_the_hub_client_gets_classes_with_probabilities_the_highest_first(server: Server):
    found = InferenceClient(model=f"{server.url}/predict").text_classification("the cat sings")
    (answer,) = server.predictor.predict("mood", ["the cat sings"])
    wanted = sorted(((answer[f"p({label})"], label) for label in ("bad", "so so", "good")), reverse=True)
    assert [each.label for each in found] == [label for _, label in wanted]
    assert [each.score for each in found] == pytest.approx([p for p, _ in wanted], abs=1e-5)
    (found,) = InferenceClient(model=f"{server.url}/predict?task=mood").text_classification("the cat sings", top_k=1)
    assert found.label == answer["label"]


def test_embed_takes_the_task_from_the_query_and_may_leave_the_length_as_it_is(server: Server):
    found = server.post("/embed?task=mood", {"inputs": texts(3), "normalize": False})
    np.testing.assert_allclose(found, own_vectors(server, "mood", texts(3)), atol=1e-5)
    assert np.array(server.post("/embed", {"inputs": "a cat"})).shape == (1, 8)
    assert server.post("/embed", {"inputs": []}) == []


def test_predict_takes_a_text_a_pair_and_lists_of_both(server: Server):
    one = server.post("/predict", {"inputs": "the cat"})
    assert [each["label"] for each in one] == [each["label"] for each in sorted(one, key=lambda each: -each["score"])]
    pair = server.post("/predict", {"inputs": ["the cat", "a dog"]})
    assert sorted(each["label"] for each in pair) == ["no", "yes"]
    assert near(server.post("/predict", {"inputs": [["the cat"]]}), [one])
    assert near(server.post("/predict", {"inputs": [["the cat", "a dog"]] * 2}), [pair, pair])


def test_predict_gives_a_score_under_its_name_and_a_set_by_its_labels(server: Server):
    (found,) = server.post("/predict?task=like", {"inputs": ["the cat", "a dog"]})
    assert near(found, {"label": "score", **server.predictor.predict("like", ("the cat", "a dog"))[0]})
    found = server.post("/predict?task=topics", {"inputs": "the cat"})
    assert {each["label"] for each in found} == {"art", "ball"}


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/embed?task=same", {"inputs": ["a"]}, 422, "task same has no vectors of single texts. Use like, alike, sear"),
        ("/embed?task=names", {"inputs": ["a"]}, 422, "task names has no vectors of single texts."),
        ("/embed?task=none", {"inputs": ["a"]}, 404, "no task 'none'."),
        (
            "/embed",
            {"inputs": [" "]},
            422,
            "text 1: must be UTF-8 text and not empty, found ' '.",
        ),
        ("/embed", {"inputs": ["a"] * 257}, 413, "a request may have 256 texts, found 257."),
        ("/embed", {"inputs": [["a"]]}, 422, "inputs"),
        ("/embed", {}, 422, "inputs: field required."),
        ("/predict", {"inputs": "a", "raw_scores": True}, 422, "raw_scores: this server gives probabilities"),
        (
            "/predict",
            {"inputs": "a", "parameters": {"function_to_apply": "none"}},
            422,
            "parameters.function_to_apply: ",
        ),
        ("/predict?task=names", {"inputs": "a"}, 422, "the answers of task names are not one number for each class."),
        ("/predict?task=mood", {"inputs": ["a", "b"]}, 422, "text 1: has 2 texts, but task mood takes one text."),
        ("/predict", {"inputs": [["a"], []]}, 422, ""),
    ],
)
def test_what_embed_and_predict_refuse(server: Server, path, body, status, message):
    found = server.refused(path, body)
    assert (found[0], found[2][: len(message)]) == (status, message)


@pytest.mark.parametrize("path", ["/embed", "/embed?task=mood", "/predict"])
def test_long_texts_are_cut_unless_truncate_is_false(server: Server, path: str):
    rows = ["a cat", "the cat " * 30, "a dog"]
    inputs = [[row] for row in rows] if path == "/predict" else rows
    message = "inputs: a text is longer than the model reads, 40 tokens. Shorten it, or let it be cut."
    assert server.refused(path, {"inputs": inputs, "truncate": False}) == (413, "too_large", message)
    for more in ({}, {"truncate": True}, {"truncate": None}):
        assert len(server.post(path, {"inputs": inputs, **more})) == 3
    assert len(server.post(path, {"inputs": inputs[::2], "truncate": False})) == 2


def test_info_tells_the_limits(server: Server):
    found = server.client.get("/info").json()
    keys = ("model_id", "max_input_length", "max_client_batch_size", "max_concurrent_requests", "max_batch_tokens")
    assert [found[key] for key in keys] == ["model", 40, 256, 512, 1024]


# OpenAI ----------------------------------------------------------------------------------------------------


@pytest.fixture
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_the_openai_client_gets_vectors_of_length_1_in_both_encodings(server: Server, client: openai.OpenAI):
    wanted = unit(own_vectors(server, "mood", texts(3)))
    for encoding in ("float", "base64"):
        found = client.embeddings.create(input=texts(3), model="mood", encoding_format=encoding)
        assert [each.index for each in found.data] == [0, 1, 2]
        rows = [each.embedding for each in found.data]
        if encoding == "base64":
            rows = [struct.unpack("<8f", base64.b64decode(row)) for row in rows]
        np.testing.assert_allclose(rows, wanted, atol=1e-5)
    # Without an encoding the client asks for base64, and decodes it.
    found = client.embeddings.create(input="the cat", model="like")
    np.testing.assert_allclose([found.data[0].embedding], unit(own_vectors(server, "like", ["the cat"])), atol=1e-5)
    assert found.model == "like"


def test_usage_counts_the_tokens_of_a_request_alone(client: openai.OpenAI):
    found = client.embeddings.create(input=["the cat", "a dog runs"], model="mood")
    assert found.usage.prompt_tokens == found.usage.total_tokens == 5


def test_the_openai_client_lists_the_tasks_that_have_vectors(client: openai.OpenAI):
    assert [each.id for each in client.models.list()] == ["like", "alike", "search", "mood", "topics"]


def test_the_openai_client_raises_what_the_server_says(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError, match="no task 'gpt'"):
        client.embeddings.create(input="a", model="gpt")
    with pytest.raises(openai.UnprocessableEntityError, match="the vectors of this model have 8"):
        client.embeddings.create(input="a", model="mood", dimensions=4)
    assert len(client.embeddings.create(input="a", model="mood", dimensions=8).data[0].embedding) == 8


# KServe V2 -------------------------------------------------------------------------------------------------


@pytest.fixture
def kserve(server: Server) -> Any:
    with InferenceServerClient(server.url.removeprefix("http://")) as made:
        yield made


def tensor(rows: Sequence[Any]) -> InferInput:
    array = np.array(rows, dtype=object)
    made = InferInput("texts", list(array.shape), "BYTES")
    made.set_data_from_numpy(array, binary_data=False)
    return made


def test_the_triton_client_finds_server_and_models(kserve: Any):
    assert kserve.is_server_live()
    assert kserve.is_server_ready()
    assert kserve.is_model_ready("mood")
    assert not kserve.is_model_ready("nothing")
    assert kserve.get_server_metadata()["name"] == "mtbert"
    found = kserve.get_model_metadata("mood")
    assert found["inputs"] == [{"name": "texts", "datatype": "BYTES", "shape": [-1]}]
    assert found["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [-1]},
        {"name": "p(bad)", "datatype": "FP64", "shape": [-1]},
        {"name": "p(so so)", "datatype": "FP64", "shape": [-1]},
        {"name": "p(good)", "datatype": "FP64", "shape": [-1]},
    ]
    assert kserve.get_model_metadata("same")["inputs"][0]["shape"] == [-1, 2]
    assert kserve.get_model_metadata("search")["inputs"][0]["shape"] == [-1, -1]


def test_the_triton_client_gets_answers_in_columns(server: Server, kserve: Any):
    found = kserve.infer("mood", [tensor(texts(4))], request_id="mine")
    wanted = server.predictor.predict("mood", texts(4))
    assert found.get_response()["id"] == "mine"
    assert [str(label) for label in found.as_numpy("label")] == [row["label"] for row in wanted]
    np.testing.assert_allclose(found.as_numpy("p(good)"), [row["p(good)"] for row in wanted], atol=1e-5)


def test_the_triton_client_may_choose_outputs_and_give_pairs(server: Server, kserve: Any):
    rows = list(zip(texts(3), texts(3, seed=1), strict=True))
    wanted = server.predictor.predict("same", rows)
    found = kserve.infer("same", [tensor(rows)], outputs=[InferRequestedOutput("p(yes)", binary_data=False)])
    assert [each["name"] for each in found.get_response()["outputs"]] == ["p(yes)"]
    np.testing.assert_allclose(found.as_numpy("p(yes)"), [row["p(yes)"] for row in wanted], atol=1e-5)


def test_texts_that_were_cut_are_a_parameter_of_the_response(kserve: Any):
    found = kserve.infer("mood", [tensor(["a cat", "the cat " * 30])]).get_response()
    assert found["parameters"] == {"cut": "[1]"}
    assert "parameters" not in kserve.infer("mood", [tensor(["a cat"])]).get_response()


def test_lists_in_answers_are_json(server: Server):
    body = {"inputs": [{"name": "texts", "shape": [1], "datatype": "BYTES", "data": ["the cat"]}]}
    assert server.post("/v2/models/topics/infer", body)["outputs"][0]["datatype"] == "BYTES"
    pairs = {"inputs": [{"name": "texts", "shape": [1, 3], "datatype": "BYTES", "data": [["the cat", "a", "dog"]]}]}
    found = {each["name"]: each["data"] for each in server.post("/v2/models/search/infer", pairs)["outputs"]}
    assert sorted(found) == ["cosines", "first", "ranks"]
    assert found["ranks"][0] in ("[1, 2]", "[2, 1]")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "text"}, "inputs: must be one tensor texts (BYTES), found text (BYTES)."),
        ({"datatype": "FP32"}, "inputs: must be one tensor texts (BYTES), found texts (FP32)."),
        ({"data": [1]}, "inputs: the data of texts must be texts."),
        (
            {"data": ["a", "b"]},
            "inputs: the shape of texts must be [rows] or [rows, texts] and fit its data, found [1]",
        ),
        ({"shape": []}, "inputs: the shape of texts must be"),
        ({"shape": [0]}, "inputs: the shape of texts must be"),
        ({"shape": [-1]}, "inputs.0.shape.0: input should be greater than or equal to 0, found -1."),
        ({"shape": [10**400]}, "inputs"),
        ({"shape": [1, 1, 1]}, "inputs: the shape of texts must be"),
        ({"data": "a"}, "inputs.0.data: input should be a valid list"),
    ],
)
def test_a_wrong_tensor_is_refused(server: Server, change: dict[str, Any], message: str):
    body = {"inputs": [{"name": "texts", "shape": [1], "datatype": "BYTES", "data": ["a"]} | change]}
    status, _, found = server.refused("/v2/models/mood/infer", body)
    assert (status, found[: len(message)]) == (422, message)


def test_the_triton_client_raises_what_the_server_says(server: Server, kserve: Any):
    with pytest.raises(InferenceServerException, match="no task 'moody'"):
        kserve.infer("moody", [tensor(["a"])])
    body = {"inputs": [{"name": "texts", "shape": [1], "datatype": "BYTES", "data": ["a"]}], "outputs": [{"name": "x"}]}
    assert server.refused("/v2/models/mood/infer", body)[2] == (
        "outputs: no output 'x'. Task mood has label, p(bad), p(so so), p(good)."
    )
    assert server.refused("/v2/models/mood/infer", {"inputs": []})[2] == (
        "inputs: must be one tensor texts (BYTES), found none."
    )


# Which task has vectors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "default"), [((MOOD, LIKE), "like"), ((SAME, MOOD), "mood"), ((SEARCH, MOOD), "search")]
)
def test_vectors_come_from_the_first_task_that_compares_them_or_else_reads_single_texts(tasks, default):
    with serving(predictor(*tasks)) as made:
        found = made.post("/embed", {"inputs": texts(3)})
        np.testing.assert_allclose(found, unit(own_vectors(made, default, texts(3))), atol=1e-5)


def test_a_model_without_such_a_task_says_so():
    with serving(predictor(SAME, NAMES)) as made:
        assert made.refused("/embed", {"inputs": ["a"]})[2] == "no task of this model has vectors of single texts."
        assert made.client.get("/v1/models").json()["data"] == []
