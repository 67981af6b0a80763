"""A Hugging Face Hub on loopback, as far as pushing and loading a model call it, and without Xet."""

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

TOKEN = "hf_ToySecretToySecretToySecret"
LARGE = (".safetensors", ".onnx")


@dataclass
class Repository:
    """A repository: its files at each commit, by the hash of the commit."""

    private: bool
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{".gitattributes": b""}])
    messages: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the newest commit."""
        return self.commits[-1]

    @property
    def hashes(self) -> list[str]:
        """The hash of each commit."""
        return [_oid(str(i).encode()) for i in range(len(self.commits))]


@dataclass
class ToyHub:
    """The state of the Hub: repositories, large files, the requests that arrived, and what goes wrong.

    ``failing`` maps a part of a path to the status, the headers and the body of the answer, in which ``TOKEN`` is
    replaced by the header that holds the token. The status 0 means that there is no answer for a second. ``after``
    maps a part of a path to what happens after the answer. ``warnings`` are those about a model card.
    """

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    failing: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    after: dict[str, Callable[[], None]] = field(default_factory=dict)

    def asked_for(self, part: str) -> list[str]:
        """Returns the paths of the requests that contain ``part``."""
        return [path for _, path in self.requests if part in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ToyHub

    def log_message(self, *_: object) -> None:
        pass

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", headers.get("X-Linked-Size", str(len(content))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: Any, status: int = 200, **headers: str) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})

    def _answer(self) -> None:
        self._answer_alone()
        for part, happens in self.hub.after.items():
            if part in self.path:
                happens()

    def _answer_alone(self) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.requests.append((self.command, path))
        for part, (status, headers, content) in hub.failing.items():
            if part in path:
                if status == 0:
                    self.close_connection = True
                    return time.sleep(1)
                said = self.headers.get("Authorization", "")
                headers = {name: value.replace("TOKEN", said) for name, value in headers.items()}
                return self._send(status, content.replace(b"TOKEN", said.encode()), headers)
        if not path.startswith("/large/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid username or password."}, 401)
        parts = path.strip("/").split("/")
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": [{"message": said} for said in hub.warnings]})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in hub.repositories:
                return self._json({"error": "You already created this model repo"}, 409)
            hub.repositories[name] = Repository(asked.get("visibility") == "private")
            return self._json({"url": f"{hub.url}/{name}"})
        if parts[0] == "large":
            hub.large[parts[1]] = body
            return self._send(200, b"", {})
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2]).removesuffix(".git")
        if name not in hub.repositories:
            return self._json({"error": "Repository not found"}, 404, **{"X-Error-Code": "RepoNotFound"})
        if parts[0] == "api":
            return self._api(hub.repositories[name], name, parts[4:], body)
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for one in objects:
                if one["oid"] not in hub.large:
                    one["actions"] = {"upload": {"href": f"{hub.url}/large/{one['oid']}"}}
            return self._json({"transfer": "basic", "objects": objects})
        return self._file(hub.repositories[name], parts[3], "/".join(parts[4:]))

    def _api(self, repository: Repository, name: str, parts: list[str], body: bytes) -> None:
        match parts:
            case [] | ["revision", _]:
                wanted = parts[1] if parts else "main"
                index = self._index(repository, wanted)
                if index is None:
                    return self._json({"error": "Invalid rev id"}, 404, **{"X-Error-Code": "RevisionNotFound"})
                files = [{"rfilename": file} for file in sorted(repository.commits[index])]
                about = {"id": name, "private": repository.private, "siblings": files}
                return self._json(about | {"sha": repository.hashes[index]})
            case ["preupload", _]:
                asked = json.loads(body)["files"]
                modes = {one["path"]: "lfs" if one["path"].endswith(LARGE) else "regular" for one in asked}
                answer = [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes.items()]
                return self._json({"files": answer})
            case ["commit", _]:
                head, *lines = map(json.loads, body.splitlines())
                if head["value"].get("parentCommit") != repository.hashes[-1]:
                    return self._json({"error": "A commit has happened since."}, 412)
                files = dict(repository.files)
                for line in lines:
                    value = line["value"]
                    match line["key"]:
                        case "file":
                            files[value["path"]] = base64.b64decode(value["content"])
                        case "lfsFile":
                            files[value["path"]] = self.hub.large[value["oid"]]
                        case "deletedFile":
                            del files[value["path"]]
                repository.commits.append(files)
                repository.messages.append(head["value"]["summary"])
                oid = repository.hashes[-1]
                return self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})
            case ["tree", revision, *_]:
                index = self._index(repository, revision)
                files = {} if index is None else repository.commits[index]
                return self._json(
                    [{"type": "file", "path": p, "size": len(c), "oid": _oid(c)} for p, c in files.items()]
                )
        return self._json({"error": f"no answer to {self.path}"}, 500)

    def _file(self, repository: Repository, revision: str, file: str) -> None:
        index = self._index(repository, revision)
        content = None if index is None else repository.commits[index].get(file)
        if index is None or content is None:
            return self._json({"error": "Entry not found"}, 404, **{"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": repository.hashes[index]}
        return self._send(200, content, headers | {"X-Linked-Size": str(len(content))})

    @staticmethod
    def _index(repository: Repository, revision: str) -> int | None:
        known = {"main": len(repository.commits) - 1} | {oid: i for i, oid in enumerate(repository.hashes)}
        return known.get(revision)

    do_GET = do_HEAD = do_POST = do_PUT = _answer


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@contextmanager
def toy_hub(patch: pytest.MonkeyPatch, cache: str) -> Iterator[ToyHub]:
    """Yields a Hub that listens on loopback, and makes the client of this process ask it with the token ``TOKEN``."""
    from huggingface_hub import constants

    hub = ToyHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    patch.setattr(constants, "ENDPOINT", hub.url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_CACHE", cache)
    patch.setenv("HF_TOKEN", TOKEN)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ToyHub]:
    """A Hub without repositories, an empty cache, and an empty working folder."""
    monkeypatch.chdir(tmp_path)
    with toy_hub(monkeypatch, str(tmp_path / "cache")) as made:
        yield made
