"""The examples of CONTRIBUTING.md, each one file and one line, and copies of the package with an example added."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mtbert

GUIDE = Path(__file__).parent.parent / "CONTRIBUTING.md"
SECTION = re.compile(r"^## (.*?)\n(.*?)(?=^## )", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`(src/mtbert/[\w/]+\.py)`.*?```python\n(.*?)```", re.DOTALL)
DIFF = re.compile(r"```diff\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """An example: a new file, and a change of another file."""

    path: str
    content: str
    diff: str

    @property
    def changed(self) -> list[str]:
        """The lines that the change adds or takes away, with their sign."""
        lines = self.diff.splitlines()
        return [line for line in lines if line[0] in "+-" and not line.startswith(("+++", "---"))]

    def copy(self, folder: Path) -> Path:
        """Makes a copy of the package in ``folder`` and applies the example to it; returns ``folder``."""
        package = Path(mtbert.__file__).parent
        shutil.copytree(package, folder / "src/mtbert", ignore=shutil.ignore_patterns("__pycache__"))
        assert not (folder / self.path).exists()
        (folder / self.path).write_text(self.content)
        subprocess.run(["git", "apply", "-p1"], input=self.diff, text=True, cwd=folder, check=True)
        return folder


def example(section: str) -> Example:
    """Returns the one example of a section of the guide."""
    text = dict(SECTION.findall(GUIDE.read_text()))[section]
    ((path, content),) = FILE.findall(text)
    (diff,) = DIFF.findall(text)
    return Example(path, content, diff)


# Runs several commands in one process, because imports are slow, and prints the output and exit code of each.
_COMMANDS = """
import contextlib, io, json, sys
from mtbert import cli

said = []
for arguments in json.loads(sys.argv.pop()):
    out, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    code = 0
    sys.argv[1:] = arguments
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
    said.append((code, *(one.buffer.getvalue().decode() for one in (out, errors))))
json.dump(said, sys.stdout)
"""


def run(folder: Path, *commands: Sequence[str]) -> list[tuple[int, str, str]]:
    """Runs ``mtbert`` with each of ``commands`` on the copy in ``folder``; returns exit code, output, and errors."""
    done = subprocess.run(
        [sys.executable, "-c", _COMMANDS, json.dumps(commands)],
        env=os.environ | {"PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(one) for one in json.loads(done.stdout)]
