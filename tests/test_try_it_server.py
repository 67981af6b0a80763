"""The page at ``/`` and its server: the page's policy, code to copy, the token, and what goes wrong."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toy_browser
from toy_browser import visit
from toy_server import LIKE, MOOD, NAMES, SAME, Server, near, predictor, serving

from mtbert.use.serve.limits import Limits
from mtbert.use.serve.page import try_it_page

browser = toy_browser.browser

ROOT = Path(__file__).parent.parent
TOKEN = "0123456789abcdef"
TRICKY = "it's \"q\" $HOME `id` $(id) \\n \\ !! %s 'two'\n\tnext \u202e\u200b\x9b2J 🎻 é </script> {{ page.js }}"
NO_PROXY = {**os.environ, "no_proxy": "*"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(predictor(MOOD, NAMES, SAME, LIKE), Limits(characters=100)) as made:
        yield made


@pytest.fixture
def tab(browser: Any, server: Server) -> Iterator[Any]:
    with visit(browser, server.url) as one:
        one.tab.locator("#request").wait_for()
        yield one.tab


def write(tab: Any, text: str) -> None:
    tab.fill("#one", text)
    tab.locator("#cards[aria-busy=false]").wait_for()


def code(tab: Any, kind: str) -> str:
    """Returns the code that a button copies."""
    tab.get_by_role("button", name=f"Copy as {kind}").click()
    return str(tab.locator("#code").text_content())


# Policy ------------------------------------------------------------------------------------------------------


def test_the_policy_names_the_digests_of_the_style_and_the_scripts_and_nothing_else_may_run():
    page, headers = try_it_page()
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    for tag, number in (("style", 1), ("script", 2)):
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in parts]
        assert (len(parts), policy[f"{tag}-src"]) == (number, " ".join(f"'sha256-{digest}'" for digest in digests))
    assert not re.search(r"\s(on\w+|style)=[\"']|\{\{", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL))


def test_the_package_holds_all_parts_of_the_page():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mtbert"]
    packed = {path.name for pattern in patterns for path in (ROOT / "src/mtbert").glob(pattern)}
    assert {"page.html", "page.css", "page.js", "page_answers.js"} <= packed


def test_the_browser_blocks_whatever_the_page_does_not_need(browser: Any, server: Server):
    with visit(browser, server.url) as one:
        failed: list[str] = []
        one.tab.on("requestfailed", lambda request: failed.append(f"{request.url} {request.failure}"))
        found = one.tab.evaluate("""async () => {
          const said = [], attempt = async act => { try { await act(); } catch (error) { said.push(error.name); } };
          addEventListener("securitypolicyviolation", event => said.push(event.effectiveDirective));
          const add = (tag, set) => document.body.append(Object.assign(document.createElement(tag), set));
          await attempt(() => { document.body.innerHTML = "<b>x</b>"; });
          await attempt(() => fetch("http://localhost:9/"));
          add("img", {src: "http://localhost:9/a.png"});
          add("iframe", {src: "/"});
          add("style", {textContent: "body { color: red }"});
          await new Promise(resolve => setTimeout(resolve, 100));
          return said.sort();
        }""")
        assert found == [
            *("TypeError", "TypeError", "connect-src", "frame-src", "img-src"),
            *("require-trusted-types-for", "style-src-elem"),
        ]
        assert failed == ["http://localhost:9/a.png csp"]


# Code to copy ------------------------------------------------------------------------------------------------


def test_the_curl_command_runs_in_a_shell_and_gives_the_same_answer(tab: Any, server: Server):
    write(tab, TRICKY)
    command = code(tab, "curl")
    assert not re.search("[\u202e\u200b\x9b]", command)
    arguments = subprocess.run(["sh", "-c", f"curl() {{ printf '%s\\0' \"$@\"; }}\n{command}"], capture_output=True)
    assert json.loads(arguments.stdout.decode().split("\0")[-2]) == {"texts": [TRICKY]}
    found = subprocess.run(["sh", "-c", command], capture_output=True, env=NO_PROXY)
    assert near(json.loads(found.stdout), server.post("/v1/predict", {"texts": [TRICKY]}))


def test_the_python_code_runs_and_gives_the_same_answer(tab: Any, server: Server):
    tab.get_by_text("Two texts").click()
    tab.fill("#two", TRICKY)
    write(tab, TRICKY)
    body = {"texts": [[TRICKY, TRICKY]]}
    program = code(tab, "Python")
    assert not re.search("[\u202e\u200b\x9b]", program)
    sent: dict[str, Any] = {}
    exec(program.partition("request =")[0], sent)
    assert sent["body"] == body
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, env=NO_PROXY, text=True)
    assert near(eval(found.stdout), server.post("/v1/predict", body))


def test_code_follows_the_text_and_without_a_text_there_is_none(tab: Any):
    tab.evaluate("() => Object.defineProperty(navigator, 'clipboard', {value: undefined})")  # as without https
    assert tab.get_by_role("button", name="Copy as curl").is_disabled()
    write(tab, "the cat")
    assert '["the cat"]' in code(tab, "curl")
    assert tab.locator("#copied").inner_text().endswith("The code is selected: copy it.")
    assert tab.evaluate("() => String(getSelection())") == tab.locator("#code").inner_text()
    write(tab, "a dog")
    assert '["a dog"]' in tab.locator("#code").inner_text()
    write(tab, "")
    assert tab.locator("#code").is_hidden()


def test_an_answer_of_a_form_that_the_page_does_not_know_is_shown_as_it_is(tab: Any):
    reply = {"answers": [{"mood": {"odd": [1, "<b>"]}, "names": {"spans": []}}], "cut": []}
    tab.route("**/v1/predict", lambda route: route.fulfill(json=reply), times=1)
    write(tab, "the cat")
    assert json.loads(str(tab.locator("article pre").text_content())) == {"odd": [1, "<b>"]}
    assert tab.locator("article .big").all_inner_texts() == ["none found"]


# Token -------------------------------------------------------------------------------------------------------


def test_the_page_asks_for_the_token_and_keeps_it_in_memory_alone(browser: Any):
    with serving(predictor(MOOD), token=TOKEN) as made, visit(browser, made.url) as one:
        tab, alert = one.tab, one.tab.get_by_role("alert")
        tab.get_by_label("The server asks for its token").wait_for()
        for part in ("#request", "#paths", "#trouble"):
            assert tab.locator(part).is_hidden()
        tab.keyboard.type("wrong")  # the field has the focus
        tab.keyboard.press("Enter")
        alert.filter(has_text="This is not the server's token.").wait_for()
        tab.keyboard.type(f" {TOKEN} ")
        tab.keyboard.press("Enter")
        tab.locator("#request").wait_for()
        write(tab, "the cat")
        assert tab.locator(".bars li").count() == 3
        assert alert.is_hidden()
        for part in ("#login", "#forms", "#paths"):  # one task has one form, and a link cannot send the token
            assert tab.locator(part).is_hidden()
        for kind, run in (("curl", ["sh", "-c"]), ("Python", [sys.executable, "-c"])):
            program = code(tab, kind)
            assert TOKEN not in program
            found = subprocess.run([*run, program], capture_output=True, env={**NO_PROXY, "MTBERT_TOKEN": TOKEN})
            assert b"p(good)" in found.stdout
        assert tab.evaluate("() => [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        assert not [url for url in one.asked if TOKEN in url]
        tab.reload()
        tab.get_by_label("The server asks for its token").wait_for()


# What goes wrong ---------------------------------------------------------------------------------------------


def test_a_refusal_of_the_server_is_shown_in_its_words_until_the_text_is_better(tab: Any):
    write(tab, "the cat")
    write(tab, "a" * 101)
    wanted = "The text may have 100 characters, found 101. Shorten it: a model reads its start."
    assert tab.get_by_role("alert").locator("p").inner_text() == wanted
    assert tab.locator(".bars").count() == 0
    write(tab, "a" * 100)
    assert tab.get_by_role("alert").is_hidden()
    assert tab.locator(".bars li").count() >= 3


def test_a_server_that_is_gone_can_be_asked_again(tab: Any):
    tab.route("**/v1/predict", lambda route: route.abort("connectionrefused"), times=1)
    write(tab, "the cat")
    assert tab.get_by_role("alert").locator("p").inner_text() == "The server does not answer. Is it still running?"
    tab.get_by_role("button", name="Try again").click()
    tab.locator(".bars").first.wait_for()
    assert tab.get_by_role("alert").is_hidden()


def test_a_busy_server_is_asked_again_when_it_says(tab: Any):
    busy = {"error": {"message": "9 requests wait already. Try again soon.", "type": "overloaded"}}
    reply = {"status": 429, "headers": {"retry-after": "1"}, "json": busy}
    tab.route("**/v1/predict", lambda route: route.fulfill(**reply), times=1)
    write(tab, "the cat")
    wanted = "9 requests wait already. Try again soon. The page asks again in 1 s."
    assert tab.get_by_role("alert").inner_text() == wanted
    tab.locator(".bars").first.wait_for()
    assert tab.get_by_role("alert").is_hidden()


def test_an_answer_that_is_not_json_is_named_by_its_status(tab: Any):
    tab.route("**/v1/predict", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"), times=1)
    write(tab, "the cat")
    assert tab.get_by_role("alert").locator("p").inner_text() == "The server answered with status 502."
