"""The code blocks of the documents: where they stand, whether they are run, and the commands in them."""

import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

import typer.main

from mtbert import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+?) -->\n\n?)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
OUTPUT = ("text", "json", "diff", "ini")  # blocks that nobody runs
RUN = ("sh", "python", "yaml")
# Programs other than mtbert, make, pip and python. Nothing is known of their options.
PROGRAMS = ("cat", "cp", "curl", "docker", "hf", "pytest", "ruff", "run")


@dataclass(frozen=True)
class Block:
    """A fenced block of a document. ``reason`` says why it is not run, if it is not."""

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page.name}, line {self.line}"


def blocks(page: Path) -> list[Block]:
    """Returns the blocks of a document in their order."""
    text = page.read_text()
    return [
        Block(page, text[: found.start("language")].count("\n") + 1, *found.group("language", "text", "reason"))
        for found in BLOCK.finditer(text)
    ]


@dataclass(frozen=True)
class Command:
    """A command of a shell block: its words, and the files that it reads from and writes to."""

    words: list[str]
    to: str | None = None
    piped: bool = False  # it reads what the command before it wrote

    @property
    def mtbert(self) -> list[str] | None:
        """The arguments of ``mtbert``; None for another program."""
        words = self.words
        if "-m" in words and words[words.index("-m") + 1] == "mtbert":
            return words[words.index("-m") + 2 :]
        return words[1:] if words[0] in ("mtbert", ".venv/bin/mtbert") else None


def commands(text: str) -> list[Command]:
    """Returns the commands of a shell block.

    >>> commands("cat a.csv | mtbert predict runs/a --input - > b.csv  # answers")
    ... # doctest: +NORMALIZE_WHITESPACE
    [Command(words=['cat', 'a.csv'], to=None, piped=False),
     Command(words=['mtbert', 'predict', 'runs/a', '--input', '-'], to='b.csv', piped=True)]
    """
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        reader = shlex.shlex(line, posix=True, punctuation_chars="|&;>")
        reader.whitespace_split = True
        reader.commenters = "#"
        words: list[str] = []
        to, piped = None, False
        for word in [*reader, ";"]:
            if word in ("|", "&&", ";"):
                if words:
                    found.append(Command(words, to, piped))
                words, to, piped = [], None, word == "|"
            elif words and words[-1] == ">":
                words.pop()
                to = word
            elif words or not re.fullmatch(r"[A-Z_]+=.*", word):
                words.append(word)
    return found


def check(command: Command) -> None:
    """Fails if a command cannot be right: an option, target, module or extra that does not exist.

    Raises:
        AssertionError: If something does not exist; the message names it.
    """
    name, *rest = command.words
    if command.mtbert is not None:
        parsed(command.mtbert)
    elif name == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in rest if "=" not in word} <= set(targets), command
    elif name.endswith("pip"):
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        named = [extra for word in rest for group in re.findall(r"\[(.*?)\]", word) for extra in group.split(",")]
        assert set(named) <= set(extras), command
    elif Path(name).name == "python":
        file = f"{rest[1].replace('.', '/')}.py" if rest[0] == "-m" else rest[0]
        if file.startswith("benchmarks/"):
            source = (ROOT / file).read_text()
            assert [word for word in rest if word.startswith("--") and f'"{word}"' not in source] == [], command
    else:
        assert Path(name).name in PROGRAMS, command


def parsed(arguments: list[str]) -> None:
    """Reads the arguments of ``mtbert`` as the command line does, and runs nothing."""
    command, names = typer.main.get_command(cli.app), ["mtbert"]
    while inner := getattr(command, "commands", None):
        name, *arguments = arguments
        assert name in inner, f"{' '.join(names)} has no command {name!r}"
        command, names = inner[name], [*names, name]
    try:
        command.make_context(" ".join(names), arguments)
    except Exception as error:
        raise AssertionError(f"{' '.join(names)}: {error}") from None
