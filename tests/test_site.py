"""The website of the documents is built without a broken link, and its reference says what the code says."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import toy_browser
import typer.main

import mtbert
from mtbert import cli
from mtbert.recipe.settings import Recipe

sys.path.insert(0, str(Path(__file__).parent.parent))
from website import commands, python_api, recipe_keys
from website.build import ELSEWHERE, GENERATED, MARK, ROOT, build, collect, sources

CONFIG = (ROOT / "website/zensical.toml").read_text()
MISSING = importlib.util.find_spec("zensical") is None
needs_zensical = pytest.mark.skipif(MISSING, reason="zensical is missing: install the extra docs")

browser = toy_browser.browser


def test_every_page_is_in_the_navigation_once():
    assert sorted(re.findall(r'"([\w-]+\.md)"', CONFIG)) == sorted([*sources(), *GENERATED])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "docs"
    collect(folder)
    return folder


def test_links_lead_to_pages_of_the_site_and_other_files_come_along(pages: Path):
    index = (pages / "index.md").read_text()
    assert "](tutorial.md)" in index
    assert "](performance.md#side-by-side)" in index
    assert "](contributing.md)" in index
    assert "](files/LICENSE)" in index
    assert (pages / "files/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "](architecture.md)" in (pages / "contributing.md").read_text()
    assert (pages / "data-flow.svg").exists()


def test_links_inside_of_code_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = tmp_path / "page.md"
    page.write_text("[a](page.md)\n\n```python\nrows[0](page.md)\n```\n\n[b](page.md#top)\n")
    monkeypatch.setattr("website.build.sources", lambda: {"new.md": page})
    monkeypatch.setattr("website.build.GENERATED", {})
    collect(tmp_path / "out")
    assert (tmp_path / "out/new.md").read_text() == (
        "[a](new.md)\n\n```python\nrows[0](page.md)\n```\n\n[b](new.md#top)\n"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as HTML."""
    folder = tmp_path_factory.mktemp("built") / "site"
    build(folder)
    return folder


@needs_zensical
def test_each_page_becomes_html_that_loads_nothing_from_the_network(site: Path):
    found = {path.stem: path.read_text() for path in site.glob("*.html")}
    assert found.keys() == {Path(name).stem for name in [*sources(), *GENERATED]} | {"404"}
    for name, page in found.items():
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(https?:[^"]+)"', page)
        assert loaded == [], name


@needs_zensical
def test_the_search_finds_a_page_without_a_server_and_without_a_network(site: Path, browser):
    with toy_browser.visit(browser, (site / "index.html").as_uri()) as page:
        page.tab.keyboard.press("/")
        page.tab.keyboard.type("euros rupees")
        page.tab.get_by_role("link", name="Why packed pairs").first.wait_for()
    assert [address for address in page.asked if not address.startswith(("file:", "data:", "about:"))] == []
    assert page.said == []


def test_every_key_of_a_recipe_has_a_row_with_its_meaning():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", recipe_keys.page(), re.MULTILINE)
    keys = {key for part in Recipe.model_json_schema()["$defs"].values() for key in part["properties"]}
    assert len(keys) > 70
    assert keys - {name for name, _ in rows} == {"name", "soft"}  # which no file gives
    assert [row for row in rows if row[0] != "kind" and row[1].split(" | ")[-1].strip() == ""] == []


def test_the_type_of_a_key_is_told_in_words():
    page = recipe_keys.page()
    assert "| `patience` | whole number > 0 or null | `null` | stop after" in page
    assert "| `lora` | [a mapping](#modellora) or null | `null` |" in page
    assert "| `schedule` | `linear` or `constant` | `linear` |" in page


def test_every_command_and_every_option_is_on_the_page_of_commands():
    page = commands.page()
    found = commands.found(typer.main.get_command(cli.app), "mtbert")
    assert len(found) > 10
    for name, command in found:
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        assert [option for option in options if f"`{option}" not in section and f" {option}" not in section] == [], name


def test_every_name_of_the_package_is_on_the_page_of_python_with_its_arguments():
    page = python_api.page()
    assert [name for name in mtbert.__all__ if name != "__version__" and f"\n## mtbert.{name}\n" not in page] == []
    train = page.partition("\n## mtbert.train\n")[2].partition("\n## ")[0]
    assert "    resume: str | Path | None = None,\n" in train
    assert "\n- `resume`: The folder of a run to resume" in train
    assert "\n- `FloatingPointError`: If a loss is not finite." in train
    assert "```pycon\n>>> import mtbert\n" in train


@needs_zensical
def test_wide_tables_are_reached_by_keyboard_and_a_phone_does_not_scroll_sideways(site: Path, browser):
    address = (site / "performance.html").as_uri()
    with toy_browser.visit(browser, address, viewport={"width": 390, "height": 844}) as page:
        page.tab.wait_for_selector(".md-typeset__scrollwrap[tabindex='0']")
        assert page.tab.locator(".md-typeset__scrollwrap:not([tabindex='0'])").count() == 0
        assert page.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


@needs_zensical
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_on_the_first_page(site: Path, browser, scheme: str):
    with toy_browser.visit(browser, (site / "index.html").as_uri(), color_scheme=scheme) as page:
        assert toy_browser.faults(page.tab) == []


@needs_zensical
@pytest.mark.parametrize("link", ["no-such-page.md", "recipes.md#no-such-heading"])
def test_a_broken_link_fails_the_build_and_keeps_the_older_site(
    link: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    broken = tmp_path / "README.md"
    broken.write_text(f"# Home\n\n[a]({link})\n")
    monkeypatch.setitem(ELSEWHERE, "index.md", broken)
    monkeypatch.setattr("website.build._with_links", lambda source, *_: source.read_text())
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("older")
    (tmp_path / "site" / MARK).touch()
    with pytest.raises(subprocess.CalledProcessError):
        build(tmp_path / "site")
    assert (tmp_path / "site/index.html").read_text() == "older"


def test_a_folder_that_is_no_site_is_not_replaced(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds files that are no site"):
        build(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
