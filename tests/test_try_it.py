"""The page at ``/`` in a real browser: what it shows of each answer, and how it is used."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import toy_browser
from toy_browser import Visit, visit
from toy_server import ALIKE, LIKE, MOOD, NAMES, SAME, SEARCH, TOPICS, Server, predictor, serving, texts

from mtbert.task import Task

browser = toy_browser.browser

HOSTILE = "<img src=x onerror=alert(1)><b>bold</b>"
TONE = Task(name="tone", type="classification", inputs="single", labels=("calm", "angry", "sad"), soft="votes")
STARS = Task(name="stars", type="regression", inputs="single", range=(-1, 1))
INTENT = Task(
    name="intent", type="classification", inputs="single", labels=(HOSTILE, *(f"number {i}" for i in range(1, 12)))
)
PARTS = Task(name="parts", type="tokens", inputs="single", labels=("NOUN", "VERB"))
SINGLE = (MOOD, TOPICS, TONE, STARS, INTENT, NAMES, PARTS)
TEXT = "🎻 the cat runs very fast and a bird sings"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(predictor(*SINGLE, SAME, LIKE, ALIKE, SEARCH)) as made:
        yield made


@pytest.fixture
def opened(browser: Any, server: Server) -> Iterator[Visit]:
    """The page, which must log no error, open no dialog, and send requests only to its server."""
    with visit(browser, server.url, permissions=["clipboard-read", "clipboard-write"]) as one:
        one.tab.locator("#request").wait_for()
        yield one
    assert one.said == []
    paths = {url.removeprefix(server.url) for url in one.asked if not url.startswith("data:")}
    assert paths <= {"/", "/v1/tasks", "/v1/predict"}


@pytest.fixture
def tab(opened: Visit) -> Any:
    return opened.tab


def write(tab: Any, **texts: str) -> None:
    """Writes texts into fields, by the fields' ids, and waits for the answers."""
    for field, text in texts.items():
        tab.fill(f"#{field}", text)
    answered(tab)


def answered(tab: Any) -> None:
    tab.locator("#cards[aria-busy=false]").wait_for()


def card(tab: Any, task: str) -> Any:
    return tab.locator("article", has=tab.get_by_role("heading", name=task, exact=True))


def big(tab: Any, task: str) -> str:
    return str(card(tab, task).locator(".big").inner_text())


def bars(tab: Any, task: str) -> list[list[str]]:
    """Returns the rows of a task's bars: a name and a number each."""
    return [row.split("\n") for row in card(tab, task).locator(".bars li").all_inner_texts()]


def marked(tab: Any, task: str) -> str:
    """Returns the text in which spans are marked, without the labels of the marks."""
    parts = "text => [...text.querySelectorAll('small')].forEach(label => label.remove()) || text.textContent"
    return str(card(tab, task).locator(".text").evaluate(parts))


def percent(p: float) -> str:
    return "<0.1%" if p < 0.001 else ">99.9%" if p > 0.999 else f"{100 * p:.1f}%"


def answer(server: Server, task: str, *texts: str) -> Any:
    return server.post("/v1/predict", {"texts": [texts[0] if len(texts) == 1 else texts]})["answers"][0][task]


# Answers -----------------------------------------------------------------------------------------------------


def test_typing_shows_the_answers_of_all_tasks_that_read_one_text(tab: Any, server: Server):
    assert tab.title() == "model · mtbert"
    assert tab.locator("header").inner_text().split("\n\n") == ["model", "One model, 11 tasks."]
    assert tab.locator("article h3").all_inner_texts() == [task.name for task in SINGLE]
    assert card(tab, "mood").locator("p").inner_text() == "bad · so so · good"
    write(tab, one=TEXT)
    mood, tone = answer(server, "mood", TEXT), answer(server, "tone", TEXT)
    assert big(tab, "mood") == f"{mood['label']} {percent(mood['p(' + mood['label'] + ')'])}"
    assert bars(tab, "mood") == [[name, percent(mood[f"p({name})"])] for name in ("bad", "so so", "good")]
    assert card(tab, "mood").locator(".chosen b").all_inner_texts() == [mood["label"]]
    assert card(tab, "tone").locator(".head .note").inner_text() == "shares of votes"
    assert bars(tab, "tone") == [[name, percent(tone[f"p({name})"])] for name in ("calm", "angry", "sad")]
    score = f"{answer(server, 'stars', TEXT)['score']:.2f}".replace("-", "−")
    assert big(tab, "stars") == f"{score} from −1 to 1"


def test_a_bar_is_as_long_as_its_probability(tab: Any, server: Server):
    write(tab, one=TEXT)
    track = card(tab, "mood").locator(".bar").first.bounding_box()["width"]
    tab.wait_for_timeout(300)  # until the bar has its length
    width = card(tab, "mood").locator(".bar i").first.bounding_box()["width"]
    assert width / track == pytest.approx(answer(server, "mood", TEXT)["p(bad)"], abs=0.01)


def test_a_percentage_says_never_or_always_only_where_the_model_does(tab: Any):
    found = tab.evaluate("() => [0, 0.0004, 0.12345, 0.9996, 1].map(percent)")
    assert found == ["0.0%", "<0.1%", "12.3%", ">99.9%", "100.0%"]


def test_labels_of_a_set_are_chips(tab: Any, server: Server):
    by_size = {len(server.predictor.predict("topics", text)[0]["labels"]): text for text in texts(100)}
    assert len(by_size) > 1
    for text in by_size.values():
        write(tab, one=text)
        found = answer(server, "topics", text)
        assert card(tab, "topics").locator(".chips li").all_inner_texts() == found["labels"]
        assert bars(tab, "topics") == [[name, percent(found[f"p({name})"])] for name in ("art", "ball")]
        assert found["labels"] or big(tab, "topics") == "none of them"


def test_of_many_classes_the_most_probable_are_shown_until_all_are_wanted(tab: Any, server: Server):
    write(tab, one=TEXT)
    found = answer(server, "intent", TEXT)
    order = sorted(INTENT.labels or (), key=lambda name: -found[f"p({name})"])
    assert [name for name, _ in bars(tab, "intent")] == order[:8]
    card(tab, "intent").get_by_role("button", name="Show all 12").press("Enter")
    assert bars(tab, "intent") == [[name, percent(found[f"p({name})"])] for name in order]
    card(tab, "intent").get_by_role("button", name="Show the 8 most probable").press("Enter")
    assert len(bars(tab, "intent")) == 8


def test_spans_are_marked_in_the_text_even_after_characters_of_two_units(tab: Any, server: Server):
    write(tab, one=TEXT)
    spans = answer(server, "names", TEXT)["spans"]
    assert spans[-1]["start"] > 1
    assert card(tab, "names").locator("mark").all_inner_texts() == [f"{s['text']}{s['label']}" for s in spans]
    assert marked(tab, "names") == TEXT
    assert bars(tab, "names") == [[f"{span['text']} ({span['label']})", percent(span["p"])] for span in spans]


def test_plain_tags_stand_below_their_words_also_of_a_text_that_is_too_long(tab: Any, server: Server):
    text = "the cat sings " * 20  # more words than the model reads
    write(tab, one=text)
    found = answer(server, "parts", text)
    assert None in found["tags"]
    rows = [row.split() for row in card(tab, "parts").locator("li").all_inner_texts()]
    wanted = zip(found["words"], found["tags"], found["p"], strict=True)
    assert rows == [[word, tag, percent(p)] if tag else [word, "not", "read"] for word, tag, p in wanted]


def test_two_texts_get_the_answers_of_pairs(tab: Any, server: Server):
    tab.get_by_text("Two texts").click()
    assert tab.locator("article h3").all_inner_texts() == ["same", "like", "alike"]
    write(tab, one="the cat", two="a dog runs")
    same, like, alike = (answer(server, task, "the cat", "a dog runs") for task in ("same", "like", "alike"))
    assert bars(tab, "same") == [[name, percent(same[f"p({name})"])] for name in ("no", "yes")]
    assert big(tab, "like") == f"{like['score']:.2f} from 0 to 5"
    assert big(tab, "alike") == f"{alike['label']} cosine {alike['cosine']:.3f}".replace("-", "−")


def test_candidates_are_shown_in_their_order(tab: Any, server: Server):
    tab.get_by_text("Candidates", exact=True).click()
    write(tab, one="a bird", candidates="the dog runs fast\n\na bird\nthe cat")
    rows = ["the dog runs fast", "a bird", "the cat"]
    found = answer(server, "search", "a bird", *rows)
    order = sorted(range(3), key=lambda i: found["ranks"][i])
    wanted = [[f"{r}. {rows[i]}", f"{found['cosines'][i]:.3f}"] for r, i in enumerate(order, 1)]
    assert bars(tab, "search") == wanted


def test_one_candidate_asks_no_task_of_pairs(opened: Visit):
    tab = opened.tab
    tab.get_by_text("Candidates", exact=True).click()
    with tab.expect_request("**/v1/predict") as sent:
        write(tab, one="a bird", candidates="the dog")
    assert sent.value.post_data_json == {"texts": [["a bird", "the dog"]], "tasks": ["search"]}
    assert [name for name, _ in bars(tab, "search")] == ["1. the dog"]


def test_without_a_text_the_answers_go(tab: Any):
    write(tab, one=TEXT)
    write(tab, one=" \n")
    assert tab.locator("#cards .bars").count() == 0
    assert card(tab, "topics").locator("p").inner_text() == "art · ball"
    assert card(tab, "names").locator("p").inner_text() == "LOC"


def test_html_in_texts_and_in_names_of_classes_stays_text(tab: Any):
    write(tab, one=HOSTILE)
    card(tab, "intent").get_by_role("button").click()
    assert tab.locator("img, article b b, p b").count() == 0
    assert marked(tab, "names") == HOSTILE
    assert HOSTILE in [name for name, _ in bars(tab, "intent")]


# Use ---------------------------------------------------------------------------------------------------------


def test_fast_typing_makes_one_request(opened: Visit):
    opened.tab.clock.install(time=datetime(2026, 1, 1))
    opened.tab.clock.pause_at(datetime(2026, 1, 2))  # a busy machine may take any time between two letters
    for letter in "the cat sings":
        opened.tab.keyboard.type(letter)
        opened.tab.clock.run_for(50)
    assert not any(url.endswith("/v1/predict") for url in opened.asked)
    opened.tab.clock.run_for(1000)
    answered(opened.tab)
    assert sum(url.endswith("/v1/predict") for url in opened.asked) == 1


def test_the_last_text_wins_and_the_request_of_an_earlier_one_is_aborted(tab: Any):
    failed: list[str] = []
    tab.on("requestfailed", lambda request: failed.append(f"{request.post_data} {request.failure}"))
    held = []
    tab.route("**/v1/predict", lambda route: held.append(route), times=1)
    with tab.expect_request("**/v1/predict"):
        tab.fill("#one", "the cat")
    write(tab, one="a bird sings")
    assert failed == ['{"texts":["the cat"]} net::ERR_ABORTED']
    assert card(tab, "parts").locator("li").all_inner_texts()[0].startswith("a\n")


def test_the_answers_are_read_out_together_once_nobody_types(tab: Any, server: Server):
    write(tab, one="the cat")
    said = tab.get_by_role("status").filter(has_text="mood")
    said.wait_for(state="attached")
    mood = answer(server, "mood", "the cat")
    assert f"mood: {mood['label']}, {percent(mood['p(' + mood['label'] + ')'])}. topics: " in said.inner_text()
    write(tab, one="")
    assert said.count() == 0


def test_the_keyboard_alone_suffices(tab: Any):
    def press(*keys: str) -> str:
        for key in keys:
            tab.keyboard.press(key)
        name, outline = tab.evaluate("""() => {
          const now = document.activeElement, drawn = now.type === "radio" ? now.parentElement : now;
          return [now.id || now.parentElement.textContent, getComputedStyle(drawn).outlineStyle];
        }""")
        assert outline == "solid", f"no focus is to be seen on {name}"
        return str(name)

    tab.keyboard.type("the cat")  # the field has the focus from the start
    answered(tab)
    assert bars(tab, "mood")
    assert tab.locator("#examples-name").inner_text() == "Examples of the form, not of the data of this model"
    assert "The soup was cold" in press("Tab")
    press("Enter")
    answered(tab)
    assert tab.input_value("#one").startswith("The soup was cold")
    assert press("Shift+Tab", "Shift+Tab") == "One text"
    assert press("ArrowRight") == "Two texts"
    assert press("Tab", "Tab") == "two"
    tab.keyboard.type("a dog")
    answered(tab)
    assert bars(tab, "same")
    press("Tab", "Tab", "Tab", "Tab", "Enter")
    tab.locator("#copied", has_text="Copied.").wait_for()
    assert tab.evaluate("() => navigator.clipboard.readText()") == tab.locator("#code").text_content()
    assert press("Tab", "Tab") == "code"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(browser: Any, server: Server, scheme: str):
    with visit(browser, server.url, color_scheme=scheme) as one:
        write(one.tab, one=TEXT)
        one.tab.get_by_role("button", name="Copy as curl").click()
        one.tab.wait_for_timeout(300)
        page, schemes, low = one.tab.evaluate("""() => {
          const linear = x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
          const light = rgb => rgb.reduce((sum, x, i) => sum + linear(x / 255) * [0.2126, 0.7152, 0.0722][i], 0);
          const rgb = text => text.match(/[\\d.]+/g).map(Number);
          const behind = node => { const c = rgb(getComputedStyle(node).backgroundColor);
            return c.length === 4 && c[3] === 0 ? behind(node.parentElement) : c.slice(0, 3); };
          const low = [];
          for (const node of document.querySelectorAll("body *:not(script, noscript *)")) {
            if (![...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())) continue;
            const [a, b] = [light(rgb(getComputedStyle(node).color).slice(0, 3)), light(behind(node))];
            if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5) low.push(node.outerHTML);
          }
          return [light(behind(document.body)), getComputedStyle(document.body).colorScheme, low];
        }""")
    assert (page < 0.1) == (scheme == "dark")
    assert schemes == "light dark"  # of scroll bars, too
    assert low == []


def test_a_phone_needs_no_scrolling_sideways(browser: Any, server: Server):
    with visit(browser, server.url, viewport={"width": 360, "height": 740}) as one:
        write(one.tab, one="x" * 300)
        one.tab.get_by_role("button", name="Copy as Python").click()
        for form in ("One text", "Two texts", "Candidates"):
            one.tab.get_by_text(form, exact=True).click()
            write(one.tab, one="x" * 300, **{"Two texts": {"two": "y" * 300}}.get(form, {}))
            if form == "Candidates":
                write(one.tab, candidates="z" * 300 + "\na cat")
            assert one.tab.locator("article li, article .big").count()
            assert one.tab.evaluate("() => document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_in_the_page(browser: Any, server: Server, scheme: str):
    with visit(browser, server.url, color_scheme=scheme) as one:
        one.tab.locator("#request").wait_for()
        one.tab.fill("#one", TEXT)
        one.tab.locator("#cards[aria-busy=false] > *").first.wait_for()
        assert toy_browser.faults(one.tab) == []
