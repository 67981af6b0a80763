"""Collects the pages of the site, generates the reference, and lets zensical make HTML of them."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from website import commands, python_api, recipe_keys

ROOT = Path(__file__).parent.parent
CONFIG = Path(__file__).with_name("zensical.toml")
# Pages that are not in docs/, by their names on the site.
ELSEWHERE = {
    "index.md": ROOT / "README.md",
    "contributing.md": ROOT / "CONTRIBUTING.md",
    "examples.md": ROOT / "examples/README.md",
    "changelog.md": ROOT / "CHANGELOG.md",
}
GENERATED = {
    "reference-recipe.md": recipe_keys.page,
    "reference-commands.md": commands.page,
    "reference-python.md": python_api.page,
}
MARK = ".mtbert-site"  # a file that :func:`build` leaves, so that it replaces nothing but a site
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")
FENCE = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)


def sources() -> dict[str, Path]:
    """Returns the hand-written pages, by their names on the site."""
    return {path.name: path for path in sorted((ROOT / "docs").glob("*.md"))} | ELSEWHERE


def collect(folder: Path) -> None:
    """Writes all Markdown pages, and the files that they show or link to, into ``folder``."""
    folder.mkdir(parents=True)
    pages = sources()
    places = {path: name for name, path in pages.items()}
    for name, path in pages.items():
        (folder / name).write_text(_with_links(path, places, folder), encoding="utf-8")
    for name, page in GENERATED.items():
        (folder / name).write_text(page(), encoding="utf-8")
    for path in Path(__file__).parent.glob("assets/*"):
        shutil.copy(path, folder / path.name)


def build(folder: Path) -> None:
    """Writes the site as HTML into ``folder``, in place of an older one.

    Raises:
        FileExistsError: If ``folder`` holds files but no site.
        subprocess.CalledProcessError: If zensical finds a broken link or another fault, which it prints.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise FileExistsError(f"{folder}: holds files that are no site, and would be replaced. Name another folder.")
    with tempfile.TemporaryDirectory() as work:
        collect(Path(work) / "docs")
        shutil.copy(CONFIG, work)
        subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=work, check=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(Path(work) / "site", folder)
        (folder / MARK).touch()


def _with_links(source: Path, places: dict[Path, str], folder: Path) -> str:
    """Returns the text of a page in which links lead to pages of the site; copies other files that it links to."""

    def link(found: re.Match[str]) -> str:
        before, target, after = found.groups()
        name, mark, heading = target.partition("#")
        if "://" in target or not name:
            return found.group()
        path = Path(os.path.normpath(source.parent / name))
        place = places.get(path)
        if place is None:
            place = path.name if path.parent == ROOT / "docs" else f"files/{path.name}"
            (folder / place).parent.mkdir(exist_ok=True)
            shutil.copy(path, folder / place)
        return f"{before}{place}{mark}{heading}{after}"

    # Every second part is a code block.
    parts = FENCE.split(source.read_text(encoding="utf-8"))
    return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))
