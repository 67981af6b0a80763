"""``mtbert docs``: the pages of the documents, offline."""

from pathlib import Path

import pytest

from mtbert import topics

PAGE = (
    "# Cats\n\nAll.\n\n## What `they` eat?\n\nFish.\n\n"
    "```sh\n# no heading\n```\n\n### Raw\n\nNo.\n\n## Sleep\n\nLong.\n"
)


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cats.md").write_text(PAGE)
    (tmp_path / "dogs.md").write_text("# Dogs\n\nThey sleep.\n")
    monkeypatch.setattr(topics, "PAGES", tmp_path)


@pytest.mark.usefixtures("pages")
def test_without_a_topic_the_pages_are_listed(said):
    assert said("docs") == "cats  Cats\ndogs  Dogs\n"


@pytest.mark.usefixtures("pages")
def test_a_topic_is_a_page_or_a_section_with_the_sections_below_it(said):
    assert said("docs", "cats") == f"{PAGE}\n"
    assert topics.topic_text("cats/what-they-eat") == PAGE[PAGE.index("## What") : PAGE.index("## Sleep")]
    assert topics.topic_text("cats/sleep") == "## Sleep\n\nLong.\n"


@pytest.mark.usefixtures("pages")
def test_a_topic_that_does_not_exist_is_one_line(mtbert):
    assert mtbert("docs", "scat").mistake == "'scat': no such topic. Did you mean 'cats'? List them with: mtbert docs"
    assert mtbert("docs", "cats/raws").mistake == (
        "'cats/raws': page cats has no such heading. Did you mean 'raw'? It has: cats, what-they-eat, raw, sleep."
    )
    assert mtbert("docs", "../dogs").mistake.startswith("'../dogs': no such topic.")


FOUND = "No page is called {}. Print one of these with: mtbert docs TOPIC\n"


@pytest.mark.usefixtures("pages")
def test_words_are_looked_for_in_headings_and_then_in_texts(said):
    assert said("docs", "Sleep") == FOUND.format("'Sleep'") + "cats/sleep  Sleep\n"
    assert said("docs", "cat") == FOUND.format("'cat'") + "cats  Cats\n"
    assert said("docs", "eat they") == FOUND.format("'eat they'") + "cats/what-they-eat  What `they` eat?\n"
    assert said("docs", "no") == FOUND.format("'no'") + (
        "cats/what-they-eat  What `they` eat?\ncats/raw            Raw\n"  # a comment of a code block, and a text
    )
    assert topics.topics_about("long sleep") == {"cats/sleep": "Sleep"}  # the heading is part of the text
    assert topics.topics_about("at") == {}  # it begins no word
    assert topics.topics_about("?") == {}


@pytest.mark.usefixtures("pages")
def test_texts_with_the_most_mentions_come_first_and_the_list_is_short(tmp_path: Path):
    sections = [f"## Nr {i}\n\n{'Bone. ' * (i % 20)}\n" for i in range(20)]
    (tmp_path / "dogs.md").write_text("# Dogs\n\n" + "".join(sections))
    assert list(topics.topics_about("bone"))[:2] == ["dogs/nr-19", "dogs/nr-18"]
    assert len(topics.topics_about("bone")) == topics.MOST_FOUND


def test_the_page_of_a_command_comes_first_whatever_the_form_of_the_word(said):
    for word, page in (("serving", "serve"), ("tuning", "tune"), ("Exporting", "export")):
        assert said("docs", word).splitlines()[1].split()[0] == page


def test_the_dev_split_is_found(said):
    assert "recipes/the-dev-split" in said("docs", "split")


def test_the_documents_of_this_project_are_topics(said):
    assert "install" in {line.split()[0] for line in said("docs").splitlines()}
    assert "`mtbert doctor --json`" in said("docs", "install/check-the-machine")
