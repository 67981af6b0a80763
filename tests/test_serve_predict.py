"""The project's own routes of the server: answers of all tasks, of one, what tasks there are, and what is refused."""

import math

import pytest
import toy_server
from toy_server import Server, near, texts

server = toy_server.server

PAIR = ["the cat", "a dog runs"]
KSERVE = {"name": "texts", "shape": [1], "datatype": "BYTES", "data": ["the cat sings"]}


def test_each_text_gets_the_answers_of_the_tasks_that_take_it(server: Server):
    rows = ["the cat sings", PAIR, "a bird", ["the cat", "a dog", "the bird sings"]]
    found = server.post("/v1/predict", {"texts": rows})["answers"]
    assert [list(row) for row in found] == [
        ["mood", "topics", "names"],
        ["same", "like", "alike", "search"],
        ["mood", "topics", "names"],
        ["search"],
    ]
    for row, answers in zip(rows, found, strict=True):
        one = [row] if isinstance(row, str) else [tuple(row)]
        for task, answer in answers.items():
            assert near(answer, server.predictor.predict(task, one)[0]), (task, row)


def test_numbers_have_six_digits_and_those_of_the_predictor_have_all(server: Server):
    exact = server.predictor.predict("mood", ["the cat sings"])[0]
    (found,) = server.post("/v1/predict/mood", {"texts": ["the cat sings"]})["answers"]
    assert found == {key: float(f"{p:.6g}") if isinstance(p, float) else p for key, p in exact.items()}
    assert found != exact
    column = server.post("/v2/models/mood/infer", {"inputs": [KSERVE]})["outputs"][1]
    assert column["data"] == [found["p(bad)"]]


def test_only_the_named_tasks_answer_each_of_them_once(server: Server):
    found = server.post("/v1/predict", {"texts": ["a cat", PAIR], "tasks": ["same", "mood", "mood"]})["answers"]
    assert [list(row) for row in found] == [["mood"], ["same"]]


@pytest.mark.parametrize("task", ["mood", "topics", "same", "like", "alike", "names"])
def test_one_task_answers_as_the_predictor_does(server: Server, task: str):
    rows = texts(5) if server.predictor.task(task).texts == 1 else list(zip(texts(5), texts(5, seed=1), strict=True))
    found = server.post(f"/v1/predict/{task}", {"texts": rows})["answers"]
    assert near(found, server.predictor.predict(task, rows))


def test_queries_of_one_request_may_have_different_numbers_of_candidates(server: Server):
    rows = [("the cat", "a cat", "a dog"), ("a bird", "the dog")]
    found = server.post("/v1/predict/search", {"texts": rows})["answers"]
    assert near(found, [server.predictor.predict("search", [row])[0] for row in rows])


def test_white_space_around_a_text_moves_no_place_of_a_name(server: Server):
    found = server.post("/v1/predict", {"texts": ["  the cat "], "tasks": ["names", "mood"]})["answers"][0]
    assert near(found["names"], server.predictor.predict("names", ["  the cat "])[0])
    assert near(found["mood"], server.predictor.predict("mood", ["the cat"])[0])


def test_no_texts_have_no_answers(server: Server):
    assert server.post("/v1/predict", {"texts": []}) == {"answers": [], "cut": []}
    assert server.post("/v1/predict/mood", {"texts": []}) == {"answers": [], "cut": []}


def test_texts_that_are_longer_than_the_model_reads_are_named(server: Server):
    long = "the cat " * 30
    rows = ["a bird", long, PAIR, ["a dog", long], ["a dog", long, "a cat"], "a cat"]
    assert server.post("/v1/predict", {"texts": rows})["cut"] == [1, 3, 4]
    assert server.post("/v1/predict", {"texts": rows[:1]})["cut"] == []
    assert server.post("/v1/predict/mood", {"texts": [long, "a cat", long]})["cut"] == [0, 2]


def test_a_pair_is_cut_for_the_tasks_that_read_both_texts_as_one(server: Server):
    pair = ["the cat " * 12, "a dog " * 12]
    assert server.post("/v1/predict/same", {"texts": [PAIR, pair]})["cut"] == [1]
    assert server.post("/v1/predict/like", {"texts": [PAIR, pair]})["cut"] == []


def test_the_tasks_are_listed_with_what_they_read_and_answer(server: Server):
    found = server.client.get("/v1/tasks").json()["tasks"]
    assert list(found) == ["mood", "topics", "same", "like", "alike", "search", "names"]
    assert found["mood"] == {
        "type": "ordinal",
        "inputs": "single",
        "texts": 1,
        "labels": ["bad", "so so", "good"],
        "range": None,
        "soft": None,
    }
    assert (found["like"]["texts"], found["like"]["range"], found["search"]["texts"]) == (2, [0, 5], None)


def test_openapi_describes_every_path_the_names_of_tasks_and_the_one_shape_of_errors(server: Server):
    found = server.client.get("/openapi.json").json()
    paths = "/v1/predict /v1/predict/{task} /v1/tasks /embed /predict /info /v1/embeddings /v1/models /health /ready"
    assert {*paths.split(), "/metrics", "/v2", "/v2/models/{name}", "/v2/models/{name}/infer"} < set(found["paths"])
    (task,) = found["paths"]["/v1/predict/{task}"]["post"]["parameters"]
    assert task["schema"]["enum"] == list(server.predictor.tasks)
    assert found["components"]["schemas"]["TextsBody"]["properties"]["texts"]["examples"]
    for path, methods in found["paths"].items():
        for described in methods.values():
            error = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
            assert [described["responses"][code]["content"] for code in ("4XX", "422", "5XX")] == [error] * 3, path
    assert "securitySchemes" not in found["components"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/predict/moody", {"texts": ["a"]}, 404, "no task 'moody'. Did you mean 'mood'?"),
        ("/v1/predict/..%2f..%2fetc", {"texts": ["a"]}, 404, "there is no such path"),
        ("/v1/predict/%2e%2e", {"texts": ["a"]}, 404, "no task '..'."),
        ("/v1/predict/a%1b%5bb", {"texts": ["a"]}, 404, "no task 'a\\x1b[b'."),
        ("/v1/predict", {"texts": ["a"], "tasks": ["mood", "no"]}, 404, "no task 'no'."),
        ("/v1/predict", {"texts": ["a"], "tasks": []}, 422, "tasks: is empty. Name a task, or leave it out."),
        ("/v1/predict/mood", {"texts": ["a", ["a", "b"]]}, 422, "text 2: has 2 texts, but task mood takes one text."),
        ("/v1/predict/same", {"texts": ["a"]}, 422, "text 1: has 1 text, but task same takes two texts."),
        (
            "/v1/predict/mood",
            {"texts": ["a", "  "]},
            422,
            "text 2: must be UTF-8 text and not empty, found '  '.",
        ),
        (
            "/v1/predict/mood",
            {"texts": ["a", ""]},
            422,
            "text 2: must be UTF-8 text and not empty, found ''.",
        ),
        ("/v1/predict/mood", {"texts": "a"}, 422, "texts: input should be a valid list, found 'a'."),
        ("/v1/predict/mood", {"texts": ["a", 5]}, 422, "texts.1: must be a text, or a list of texts, found 5."),
        ("/v1/predict/mood", {"texts": [None]}, 422, "texts.0: must be a text, or a list of texts, found None."),
        ("/v1/predict/mood", {"texts": [[]]}, 422, "texts.0: must be a text, or a list of texts, found []."),
        ("/v1/predict/mood", {"texts": [["a", ["b"]]]}, 422, "texts.0: must be a text, or a list of texts"),
        ("/v1/predict/mood", {"text": ["a"]}, 422, "texts: field required."),
        ("/v1/predict/mood", [], 422, "the body: input should be a valid dictionary"),
        ("/v1/predict/mood", {"texts": ["a\x1b[2J"] * 257}, 413, "a request may have 256 texts, found 257."),
        ("/v1/predict/mood", {"texts": ["a"] * 10_000}, 413, "a request may have 256 texts, found 10,000."),
        ("/v1/predict/search", {"texts": [["a"] * 257]}, 413, "a request may have 256 texts, found 257."),
        ("/v1/predict/mood", {"texts": ["a", "b" * 20_001]}, 413, "text 2: may have 20,000 characters, found 20,001."),
        ("/v1/predict/mood", {"texts": ["a"], "x": "b" * 2**20}, 413, "the body may have 1,048,576 bytes."),
    ],
)
def test_a_wrong_request_is_refused_in_plain_words(server: Server, path, body, status, message):
    found = server.refused(path, body)
    assert (found[0], found[2][: len(message)]) == (status, message)


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b'{"texts": ["a"', 400, "the body is not JSON: Expecting ',' delimiter at character 14."),
        (b"", 422, "the body: field required."),
        (b"\xff\xfe", 400, "the body is not JSON"),
        (b'"\xff"', 400, "the body is not JSON that can be read."),
        (b"[" * 100_000, 400, "the body is not JSON that can be read."),
        (b'{"texts": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "the body is not JSON that can be read."),
        (b'{"texts": [' + b"1" * 5_000 + b"]}", 400, "the body is not JSON that can be read."),
        (b'{"texts": [NaN]}', 422, "texts.0: must be a text, or a list of texts, found nan."),
        (b'{"texts": [1e999]}', 422, "texts.0: must be a text, or a list of texts, found inf."),
        (
            b'{"texts": ["\\ud800"]}',
            422,
            "text 1: must be UTF-8 text and not empty, found '\\ud800'.",
        ),
        (b'{"texts": ["a"], "tasks": ["\\ud800"]}', 404, "no task '\\ud800'."),
    ],
)
def test_a_body_that_is_no_json_or_odd_json_is_refused(server: Server, content, status, message):
    found = server.refused("/v1/predict", content=content, headers={"content-type": "application/json"})
    assert (found[0], found[2][: len(message)]) == (status, message)


def test_a_page_of_another_site_may_not_ask_but_the_own_page_may(server: Server):
    body = {"texts": ["a"]}
    for site in ("cross-site", "same-site"):
        found = server.refused("/v1/predict", body, headers={"sec-fetch-site": site})
        assert found == (403, "forbidden", "a page of another site may not ask this server.")
    for site in ("same-origin", "none"):
        assert server.client.post("/v1/predict", json=body, headers={"sec-fetch-site": site}).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_a_body_of_another_type_than_json_is_refused(server: Server, kind: str):
    found = server.refused("/v1/predict", content=b'{"texts": ["a"]}', headers={"content-type": kind})
    assert found == (415, "invalid_request", "a body must be JSON. Send the header Content-Type: application/json.")


def test_a_wrong_path_or_method_is_refused_in_the_same_shape(server: Server):
    assert server.refused("/nothing", {})[:2] == (404, "not_found")
    assert server.refused("/health", {})[:2] == (405, "not_allowed")
    assert server.refused("/v1/predict", method="GET")[:2] == (405, "not_allowed")


def test_the_server_answers_after_all_that(server: Server):
    found = server.post("/v1/predict/mood", {"texts": ["the cat"]})["answers"][0]
    assert math.isclose(sum(found[f"p({label})"] for label in ("bad", "so so", "good")), 1, rel_tol=1e-6)
