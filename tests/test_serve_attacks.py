"""Requests that are made to harm the server: each is refused or cheap, and the server lives."""

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import toy_server
from test_serve_limits import TOKEN, slow_server
from toy_server import MOOD, Server, predictor, serving, until

from mtbert.use.serve import running
from mtbert.use.serve.errors import Refused, wrong_body
from mtbert.use.serve.limits import Limits

server = toy_server.server

BODY = {"texts": ["the cat"]}
JSON = {"content-type": "application/json"}


# Bodies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", ["1", "[]", "{}"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/predict", '{"texts": [%s]}'),
        ("/v1/predict/mood", '{"texts": [%s]}'),
        ("/v1/predict", '{"texts": ["a"], "tasks": [%s]}'),
        ("/embed", '{"inputs": [%s]}'),
        ("/predict", '{"inputs": [[%s]]}'),
        ("/v1/embeddings", '{"input": [%s]}'),
        ("/v2/models/mood/infer", '{"inputs": [%s]}'),
        ("/v2/models/mood/infer", '{"inputs": [{"name": "a", "datatype": "a", "data": [], "shape": [-1, %s]}]}'),
        ("/v2/models/mood/infer", '{"inputs": [], "outputs": ["a", %s]}'),
    ],
)
def test_the_check_of_a_list_ends_at_its_first_wrong_item(
    server: Server, monkeypatch: pytest.MonkeyPatch, path: str, body: str, item: str
):
    seen: list[int] = []

    def counted(errors: Any) -> Refused:
        seen.append(len(errors))
        return wrong_body(errors)

    monkeypatch.setattr("mtbert.use.serve.app.wrong_body", counted)
    status, _, _ = server.refused(path, content=body % ",".join([item] * 1000), headers=JSON)
    assert status == 422
    (number,) = seen
    assert number <= 4  # at most one for each form that the value may have, and for each field of an item


def test_the_values_of_a_body_count_as_held_memory_while_it_is_answered():
    # The lists take 64 bytes each beside 3 of JSON. A model that is busy lets the values of all waiting requests live.
    large = json.dumps({"inputs": "the cat", "more": [[]] * 100})
    with slow_server(Limits(held=20_000, seconds=10)) as (running, free):
        codes: list[int] = []

        def ask() -> None:
            codes.append(httpx.post(f"{running.url}/embed", content=large, headers=JSON).status_code)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        until(lambda: codes)
        assert codes == [429]
        free.set()
        for thread in threads:
            thread.join(10)
        assert codes == [429, 200]


def test_one_request_alone_may_hold_more_than_all_requests_together():
    with serving(predictor(MOOD), Limits(held=10)) as made:
        assert [len(made.post("/v1/predict", BODY)["answers"]) for _ in range(2)] == [1, 1]


def infer(**more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "texts", "shape": [1], "datatype": "BYTES", "data": ["the cat"]}], **more}


def test_an_identity_that_is_not_unicode_is_refused_since_no_answer_can_repeat_it(server: Server):
    path = "/v2/models/mood/infer"
    status, _, message = server.refused(path, content=json.dumps(infer(id="a\ud800")), headers=JSON)
    assert (status, message) == (422, "id: must be UTF-8 text, found 'a\\ud800'.")
    assert server.post(path, infer(id="é"))["id"] == "é"


def test_lists_in_lists_of_data_are_refused_without_being_unfolded(server: Server):
    deep: Any = "the cat"
    for _ in range(500):
        deep = [deep]
    tensor = {"name": "texts", "shape": [1], "datatype": "BYTES", "data": deep}
    found = server.refused("/v2/models/mood/infer", {"inputs": [tensor]})
    assert found == (422, "", "inputs: the data of texts must be texts.")


def test_a_path_with_a_slash_too_many_is_unknown_and_leads_nowhere(server: Server):
    found = server.refused("/v1/predict/", BODY, headers={"host": "evil.example"})
    assert found == (404, "not_found", "there is no such path. /openapi.json lists all paths.")


# Pages of other sites --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "http://localhost:8000"}, 200),
        ({"origin": "https://models.example", "sec-fetch-site": "same-origin"}, 200),  # behind a proxy
        ({"origin": "http://localhost:8000", "sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
    ],
)
def test_a_page_of_another_site_may_not_ask_whether_its_browser_is_new_or_old(
    server: Server, headers: dict[str, str], status: int
):
    found = server.client.post("/v1/predict", json=BODY, headers={"host": "localhost:8000", **headers})
    assert found.status_code == status


def test_a_link_of_another_site_may_open_the_page_but_no_page_may_read_it(server: Server):
    headers = {"sec-fetch-site": "cross-site"}
    assert server.client.get("/", headers={**headers, "sec-fetch-mode": "navigate"}).status_code == 200
    assert server.client.get("/", headers={**headers, "sec-fetch-mode": "cors"}).status_code == 403


def test_without_a_token_a_server_of_this_machine_answers_to_no_name_that_a_stranger_may_point_at_it():
    with serving(predictor(MOOD), local=True) as made:
        for host in ("localhost:8000", "LOCALHOST", "127.0.0.1:80", "[::1]:8000", "10.0.0.7"):
            assert made.client.get("/v1/tasks", headers={"host": host}).status_code == 200, host
        for host in (
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[evil.example]",
            "",
        ):
            status, _, message = made.refused("/v1/tasks", method="GET", headers={"host": host})
            assert status == 403, host
            assert message.startswith(f"this server answers to localhost only, found '{host}'.")


@pytest.mark.parametrize(
    ("host", "token", "local"), [("127.0.0.1", None, True), ("127.0.0.1", TOKEN, False), ("0.0.0.0", None, False)]
)
def test_the_command_asks_for_a_local_name_if_it_listens_on_this_machine_alone_and_has_no_token(
    monkeypatch: pytest.MonkeyPatch, toy: Path, host: str, token: str | None, local: bool
):
    found: list[Any] = []
    monkeypatch.setattr(running, "_run", lambda app, *rest: found.append(app))
    for name in ("_log_to_stderr", "_raise_limit_of_files", "_warm_up"):
        monkeypatch.setattr(running, name, lambda *given: None)
    monkeypatch.setattr(running, "read_token", lambda file: token)
    running.serve_run(
        toy / "run", engine="torch", precision="fp32", host=host, port=0, token_file=None, limits=Limits()
    )
    assert found[0].local is local


def test_with_a_token_a_server_answers_to_any_name():
    with serving(predictor(MOOD), token=TOKEN) as made:
        headers = {"host": "models.example", "authorization": f"Bearer {TOKEN}"}
        assert made.client.get("/v1/tasks", headers=headers).status_code == 200
