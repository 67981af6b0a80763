"""A page of the documents whose blocks run in their order, in one folder."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import blocks
import toy_server
import yaml
from blocks import Block, Command
from commands import Mtbert

import mtbert
from mtbert.recipe.files import load_recipe
from mtbert.studying.plan import load_study


class Page:
    """The blocks of a page, run in their order."""

    def __init__(self, folder: Path, run: Mtbert, servers: ExitStack) -> None:
        self.folder, self.run, self.servers = folder, run, servers
        self.names: dict[str, Any] = {"mtbert": mtbert}
        self.trained = False  # mine.yaml, by this page
        self.written = ""  # by the last command

    def python(self, block: Block) -> None:
        code = compile("\n" * block.line + block.text, str(block.page), "exec")
        exec(code, self.names)

    def yaml(self, block: Block) -> None:
        """Reads a recipe, a part of one, or a study. A first line such as ``# mine.yaml`` names its file."""
        first = block.text.splitlines()[0]
        name = first.removeprefix("# ") if first.startswith("# ") else f"block-{block.line}.yaml"
        text = f"extends: demo\ntasks:\n{block.text}" if block.text.startswith(" ") else block.text
        (self.folder / name).write_text(text)
        if "rows" in yaml.safe_load(text):
            load_study(name)
        else:
            load_recipe(name)

    def sh(self, block: Block) -> None:
        for command in blocks.commands(block.text):
            said = self.command(command)
            if command.to:
                (self.folder / command.to).write_text(said)
            self.written = said

    def command(self, command: Command) -> str:
        """Runs one command, and returns what it prints."""
        arguments = command.mtbert
        match command.words:
            case ["cat", name]:
                return (self.folder / name).read_text()
            case ["curl", address, *rest]:
                return self.asked(address, rest)
            case _ if arguments is None:
                raise AssertionError(f"{command.words[0]} is not run here: say why not above the block")
            case _ if arguments[0] == "serve":
                served = toy_server.serving(mtbert.load(arguments[1]))
                self.server = self.servers.enter_context(served)
                return ""
            case _:
                if arguments[0] == "init":
                    (self.folder / arguments[arguments.index("--out") + 1]).unlink(missing_ok=True)
                if arguments == ["train", "mine.yaml"] and not self.trained:
                    shutil.rmtree(self.folder / "runs/mine", ignore_errors=True)  # which other pages start from
                    self.trained = True
                done = self.run(*arguments, stdin=self.written if command.piped else "")
                assert done.code == 0, (arguments, done)
                return done.out

    def asked(self, address: str, rest: list[str]) -> str:
        """Asks the server as ``curl`` does, and returns its answer."""
        options = dict(zip(rest[::2], rest[1::2], strict=True))
        assert options.keys() <= {"-H", "-d"}, options
        key, _, value = options["-H"].partition(": ")
        path = address.removeprefix("localhost:8000")
        answer = self.server.client.post(path, content=options["-d"], headers={key: value})
        assert answer.status_code == 200, answer.text
        return answer.text
