"""The wheel and the source distribution: what they hold, and that the wheel works without the checkout."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDLESS = {".ci", ".gitignore"}  # what only a checkout needs


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution, made from a copy of the tracked files."""
    pytest.importorskip("build")
    if not (ROOT / ".git").exists():
        pytest.skip("only a checkout knows which files belong to the project")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for name in _tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name, follow_symlinks=False)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_wheel_holds_every_file_of_the_package(built):
    (wheel,) = built.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {name.removeprefix("src/") for name in _tracked() if name.startswith("src/")} - {"mtbert/docs"}  # a link
    assert held == package | {f"mtbert/{name}" for name in _tracked() if re.fullmatch(r"docs/.*\.md", name)}


def test_the_source_distribution_holds_every_file_of_the_project(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    assert {name for name in _tracked() if name.split("/")[0] not in NEEDLESS} - held == set()


def test_the_unpacked_wheel_shows_its_recipes_and_answers(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    installed, work = tmp_path / "installed", tmp_path / "work"
    work.mkdir()
    zipfile.ZipFile(wheel).extractall(installed)
    shutil.copytree(ROOT / "tests/old_model/run", work / "run")
    environment = {**os.environ, "PYTHONPATH": str(installed), "HOME": str(work)}

    def said(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(said("-c", "import mtbert; print(mtbert.__file__)").strip()).is_relative_to(installed)
    assert "cs224n" in said("-m", "mtbert", "recipe", "list")
    assert "epochs: " in said("-m", "mtbert", "recipe", "show", "paper/surgery")
    assert "p(" in said("-m", "mtbert", "predict", "run", "--text", "not bad at all")
