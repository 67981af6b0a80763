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
    (tmp_path / "dogs.md").write_text("# Dogs\n")
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
    assert mtbert("docs", "cat").mistake == "'cat': no such topic. Did you mean 'cats'? List them with: mtbert docs"
    assert mtbert("docs", "cats/raws").mistake == (
        "'cats/raws': page cats has no such heading. Did you mean 'raw'? It has: cats, what-they-eat, raw, sleep."
    )
    assert mtbert("docs", "../dogs").mistake.startswith("'../dogs': no such topic.")


def test_the_documents_of_this_project_are_topics(said):
    assert "install" in {line.split()[0] for line in said("docs").splitlines()}
    assert "`mtbert doctor --json`" in said("docs", "install/is-the-machine-well")
