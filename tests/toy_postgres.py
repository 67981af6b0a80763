"""A PostgreSQL server for tests, if the machine has its programs and the driver of mtbert's extra ``tune``."""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

USER, PASSWORD = "tuner", "very-s3cret"


@dataclass
class Server:
    """A running server with an empty database; everybody needs the password."""

    port: int
    process: subprocess.Popen[bytes]

    def url(self, password: str = PASSWORD, database: str = "postgres") -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def name(self) -> str:
        """The server as messages call it."""
        return self.url("***")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="mtbert-postgres-"))
    unprivileged = _unprivileged()
    if unprivileged:
        shutil.chown(folder, int(unprivileged["user"]), int(unprivileged["group"]))
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "-N"],
        check=True, stdout=subprocess.DEVNULL, cwd=folder, **unprivileged,
    )  # fmt: skip
    options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), *options],
            stdout=log, stderr=log, cwd=folder, **unprivileged,
        )  # fmt: skip
    try:
        _wait(port, process, folder / "log")
        yield Server(port, process)
    finally:
        process.send_signal(signal.SIGINT)  # ends at once, although clients are connected
        process.wait(60)
        shutil.rmtree(folder)


def _programs() -> Path:
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("needs psycopg, of the extra tune")
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        pytest.skip("needs the programs of a PostgreSQL server")
    return found[0] if found else Path(str(on_path)).parent


def _unprivileged() -> dict[str, object]:
    """Returns options that start a process as somebody other than root, whom PostgreSQL refuses."""
    if os.getuid():
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    who = known.get("postgres") or known["nobody"]
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    until = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user=USER, password=PASSWORD, dbname="postgres").close()
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        else:
            return
