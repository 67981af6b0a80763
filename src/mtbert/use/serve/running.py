"""The command ``serve``: loads a model, and answers over HTTP until a signal ends it."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtbert import files
from mtbert.advice import see
from mtbert.messages import clean, few, plain_console, shown, warn
from mtbert.progress_bar import followed, progress_of
from mtbert.use.hub_runs import find_run
from mtbert.use.predictor import Predictor, load
from mtbert.use.serve.engines import Engine, EngineName, difference, engine_named, odd_answers
from mtbert.use.serve.limits import LOG, AsgiApp, Limits
from mtbert.use.serve.together import Asked, answer_all
from mtbert.use.trained import early_model

if TYPE_CHECKING:
    import uvicorn

TOKEN_VARIABLE = "MTBERT_TOKEN"
SHORTEST_TOKEN, LARGEST_TOKEN = 16, 4096  # characters, bytes
LOOPBACK = ("127.0.0.1", "::1", "localhost")
BACKLOG = 2048  # connections that wait until they are accepted
CONNECTIONS = 4096  # connections at a time


def serve_run(
    path: Path,
    *,
    engine: EngineName,
    precision: str,
    host: str,
    port: int,
    token_file: Path | None,
    limits: Limits,
) -> None:
    """Loads the model at ``path``, and answers over HTTP until SIGINT or SIGTERM arrives.

    After the signal, accepted requests get their answers, and new ones are refused.

    Raises:
        ValueError, FileNotFoundError: If a package is missing, the port is taken, or the model or the token cannot be
            read.
    """
    check_packages()
    from mtbert.use.serve.app import create_app

    token = read_token(token_file)
    console = plain_console(stderr=True)
    with listen(host, port) as listener:
        path = find_run(path)
        with ThreadPoolExecutor(1) as loader, followed(console), progress_of("loading the model"):
            predictor, made, warnings = loader.submit(_load, path, engine, precision).result()
        for line in warnings:
            warn(console, line)
        if token is None and host not in LOOPBACK:
            warn(console, f"--host {clean(host)}: everybody who reaches this port may ask. Give --token-file.")
        _log_to_stderr()
        _raise_limit_of_files()
        address = f"[{host}]" if ":" in host else host
        names, own_port = few(predictor.tasks), listener.getsockname()[1]
        LOG.info("%s answers %s at http://%s:%d", predictor.name, names, address, own_port)
        local = token is None and host in LOOPBACK
        _run(create_app(predictor, made, limits=limits, token=token, local=local), listener, limits.seconds)
        LOG.info("every request that was accepted has been answered")


def _load(path: Path, engine: EngineName, precision: str) -> tuple[Predictor, Engine, list[str]]:
    """Returns the model at ``path``, the engine that runs the model, and warnings.

    The engine has already answered a made-up text. Call this function in a thread that ends before requests are
    answered. Otherwise, PyTorch would keep two pools of threads, one for this thread and one for the thread that
    answers requests. With only one pool, a single request is 40% faster.
    """
    predictor = load(path)
    made = engine_named(engine, predictor.model, precision)
    warnings = list(early_model(predictor, path))
    if engine != "torch":
        warnings += odd_answers(engine, difference(predictor, made))
    _warm_up(predictor, made)
    return predictor, made, warnings


def _warm_up(predictor: Predictor, engine: Engine) -> None:
    """Answers a made-up text and a made-up pair, so that the first request is not slower than later ones."""
    rows = [("a",) * size for size in (1, 2) if any(task.takes(size) for task in predictor.tasks.values())]
    answer_all(predictor, engine, [Asked(tuple(predictor.tasks), tuple(rows))])


def _run(app: AsgiApp, listener: socket.socket, seconds: float) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        http="h11",  # bounds the size of headers
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=int(seconds) + 5,
    )
    with _signals_end_well():
        asyncio.run(_serve(uvicorn.Server(config), listener, seconds))


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens on ``host`` and ``port``. If ``port`` is 0, the system chooses a free port.

    Raises:
        ValueError: If there is no such address, or if the port is taken.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.gaierror | UnicodeError):
            why = "no machine has this name"
        else:
            why = os.strerror(error.errno or 0)
        raise ValueError(
            f"cannot listen on {shown(host)}, port {port}: {why}. Give another --host or --port."
        ) from None
    # asyncio sends answers without delay (TCP_NODELAY) only on sockets that name their protocol. Otherwise an answer,
    # which is written in two parts, takes 40 ms.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=made.detach())


async def _serve(server: "uvicorn.Server", listener: socket.socket, seconds: float) -> None:
    sweeper = asyncio.create_task(sweep(server, seconds))
    try:
        await server.serve(sockets=[listener])
    finally:
        sweeper.cancel()


async def sweep(server: "uvicorn.Server", seconds: float, every: float = 1.0) -> None:
    """Aborts connections whose clients have been silent for more than ``seconds`` seconds.

    A client is silent if it does not complete the head of a request, or does not read its answer. ``every`` is the
    number of seconds between two checks.
    """
    since: dict[Any, float] = {}  # of each connection with its last request
    clock = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(every)
        connections: set[Any] = set(server.server_state.connections)
        quiet = {(c, c.cycle) for c in connections if _between_requests(c)}
        since = {each: since.get(each, clock.time()) for each in quiet}
        for (connection, _), start in since.items():
            if clock.time() - start > seconds:
                connection.transport.abort()


def _between_requests(connection: Any) -> bool:
    cycle = connection.cycle
    return cycle is None or cycle.response_complete or connection.transport.is_closing()


@contextmanager
def _signals_end_well() -> Iterator[None]:
    """A context manager in which uvicorn runs, so that the process ends well after SIGINT or SIGTERM.

    After a signal, uvicorn shuts down and then sends the same signal to this process a second time. The context manager
    makes the second signal harmless.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, frame: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_packages() -> None:
    """Raises ValueError if a package of the extra ``serve`` is not installed."""
    missing = [name for name in ("fastapi", "prometheus_client", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ValueError(
            f'mtbert serve: {few(missing)} is not installed. Run: pip install "mtbert[serve]" {see("install")}'
        )


def read_token(file: Path | None) -> str | None:
    """Returns the token in ``file``, or in the variable ``MTBERT_TOKEN`` if no file is given; None if there is none.

    Raises:
        ValueError, FileNotFoundError: If the file cannot be read, if the token is too short, or if it contains anything
            but visible ASCII characters. The message does not show the token.
    """
    if file is None and TOKEN_VARIABLE not in os.environ:
        return None
    where = TOKEN_VARIABLE if file is None else clean(str(file))
    if file is not None and not file.exists():
        raise FileNotFoundError(
            f"--token-file {where}: there is no such file. Make one with: openssl rand -hex 32 > FILE"
        )
    raw = os.environ[TOKEN_VARIABLE].encode(errors="replace") if file is None else files.read_bytes(file, LARGEST_TOKEN)
    token = raw.decode("ascii", errors="replace").strip()
    if len(token) < SHORTEST_TOKEN or not all("!" <= character <= "~" for character in token):
        raise ValueError(
            f"{where}: a token has {SHORTEST_TOKEN} or more visible ASCII characters without spaces. "
            "Make one with: openssl rand -hex 32"
        )
    return token


def one_line(record: logging.LogRecord) -> bool:
    """A filter for log records. It rewrites every record as one line, and drops none.

    The line contains no control characters and no traceback.
    """
    error = record.exc_info[1] if record.exc_info else None
    record.msg = clean(record.getMessage().strip()) + (f" ({type(error).__name__})" if error else "")
    record.args, record.exc_info, record.exc_text = None, None, None
    return True


def _raise_limit_of_files() -> None:
    """Raises the limit on how many files this process may have open. The limit is often only 1,024.

    Each connection counts as an open file.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _log_to_stderr() -> None:
    """Sets up logging: each log record of the server or of uvicorn becomes one clean line on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(one_line)
    for name in ("mtbert.serve", "uvicorn", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        # uvicorn warns of each request that is not HTTP, so clients could fill the log.
        logger.setLevel(logging.INFO if name == "mtbert.serve" else logging.ERROR)
