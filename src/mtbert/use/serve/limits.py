"""The limits of the server, and the gate that checks the access token, the size and the time of every request.

The gate is an ASGI application around another one. It reads the whole body before the inner application starts, so slow
senders cost a buffer of known size and no more. If the client leaves, the inner application is cancelled.
"""

import asyncio
import logging
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from mtbert.messages import clean, count, shown
from mtbert.use.serve.errors import FAILED, Refused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
WhenDone = Callable[[Scope, int, float], None]  # gets a finished request, its status and its seconds

LOG = logging.getLogger("mtbert.serve")
OPEN = ("/", "/health", "/ready", "/v2/health/live", "/v2/health/ready")  # need no token: probes, and the empty page
RETRY = {"retry-after": "1"}  # seconds
VALUE = 64  # bytes of a small value, once the JSON of a body is read: a list with its place in another list


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one request, and of all requests together."""

    body: int = 2**20  # bytes of the body of a request
    texts: int = 256  # texts of a request; a pair counts as two
    characters: int | None = None  # characters of a text; None: what Service.longest_text says
    waiting: int = 512  # requests that wait for the model
    held: int = 2**26  # bytes of all bodies that are being read or answered, and of the values in them
    seconds: float = 30.0  # from the first byte of a request to its answer


class Gate:
    """Guards an application: checks tokens, reads bodies, limits the time of requests, and reports failures as JSON.

    Args:
        app: The application.
        limits: The limits of a request.
        token: The bearer token that clients must send; None if none is needed.
        watch: A function that is called after each request.
        local: Whether to refuse requests whose header ``Host`` names a domain other than ``localhost``.
    """

    def __init__(
        self, app: AsgiApp, limits: Limits, token: str | None, watch: WhenDone, *, local: bool = False
    ) -> None:
        self.app, self.limits, self.watch, self.local = app, limits, watch, local
        self._token = None if token is None else token.encode()
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request, as ASGI prescribes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, sent = time.perf_counter(), _Sent(send, scope["path"])
        try:
            async with asyncio.timeout(self.limits.seconds):
                self._check_token(scope)
                self._check_sender(scope)
                await self._answer(scope, receive, sent)
        except Refused as refused:
            await sent.refuse(refused)
        except TimeoutError:
            wait = f"{self.limits.seconds:g} seconds"
            await sent.refuse(Refused(504, f"the answer took longer than {wait}. Send fewer texts, or try later."))
        except Exception as error:
            LOG.error("%s %s: %s", scope["method"], route_of(scope), crash_place(error))
            await sent.refuse(FAILED)
        self.watch(scope, sent.status, time.perf_counter() - started)

    def _check_sender(self, scope: Scope) -> None:
        """Refuses bodies that are not JSON, and requests that a browser sends on behalf of another site's page.

        Without this check, any web page could use a server on the machine of the person who reads the page.
        """
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"localhost").decode("latin-1")
        if self.local and not _is_local(host):
            # A page of another site reaches this server under its own name if that name leads to this machine.
            raise Refused(403, f"this server answers to localhost only, found {shown(host)}. Give it a --token-file.")
        opened = scope["path"] == "/" and headers.get(b"sec-fetch-mode") == b"navigate"  # by a link
        origin = headers.get(b"origin")
        same = origin is None or origin.rpartition(b"/")[2] == headers.get(b"host")
        site = headers.get(b"sec-fetch-site", b"none" if same else b"cross-site")
        if site not in (b"none", b"same-origin") and not opened:
            raise Refused(403, "a page of another site may not ask this server.")
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if scope["method"] == "POST" and kind not in (b"", b"application/json"):
            raise Refused(415, "a body must be JSON. Send the header Content-Type: application/json.")

    def _check_token(self, scope: Scope) -> None:
        if self._token is None or scope["path"] in OPEN:
            return
        kind, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        if not secrets.compare_digest(given.strip(), self._token) or kind.lower() != b"bearer":
            need = {"www-authenticate": "Bearer"}
            raise Refused(401, "this server needs its token. Send the header Authorization: Bearer TOKEN.", need)

    async def _answer(self, scope: Scope, receive: Receive, sent: "_Sent") -> None:
        """Reads the body of a request, and then runs the application on the request. Stops if the client leaves."""
        body = bytearray()
        try:
            await self._read(scope, receive, body)
            await _while_connected(self.app, scope, receive, sent, bytes(body))
        except _Gone:
            sent.status = 499  # a client that left: nobody sees this status but the metrics
        finally:
            self._held -= _memory(body)

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> None:
        most = self.limits.body
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length[:20]) > most:
            raise _too_large(most)
        own, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            chunk = message.get("body", b"")
            if len(body) + len(chunk) > most:
                raise _too_large(most)
            cost = _memory(chunk)
            if self._held > own and self._held + cost > self.limits.held:  # one request alone may hold more
                raise Refused(429, "the server holds as many requests as it may. Try again soon.", RETRY)
            body += chunk
            own += cost
            self._held += cost
            more = message.get("more_body", False)


class _Gone(Exception):
    """The client left before it got its answer."""


class _Sent:
    """Sends a response's messages to the client, and remembers the response's status and whether it is complete."""

    def __init__(self, send: Send, path: str) -> None:
        self._send, self._path = send, path
        self.status, self.started, self.complete = 0, False, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
        elif not message.get("more_body", False):
            self.complete = True
        await self._send(message)

    async def refuse(self, refused: Refused) -> None:
        """Sends a refusal as the response. If another response has already begun, nothing is sent."""
        self.status = refused.status
        if self.started:
            return
        body = refused.body(self._path)
        headers = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self({"type": "http.response.start", "status": refused.status, "headers": pairs})
        await self({"type": "http.response.body", "body": body})


async def _while_connected(app: AsgiApp, scope: Scope, receive: Receive, sent: _Sent, body: bytes) -> None:
    """Runs ``app`` on a request whose body has been read. Raises :class:`_Gone` as soon as the client disconnects."""
    given = iter([{"type": "http.request", "body": body, "more_body": False}])
    task, gone = asyncio.current_task(), False
    left = asyncio.Event()

    async def again() -> Message:
        message = next(given, None)
        if message is None:
            await left.wait()
            return {"type": "http.disconnect"}
        return message

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        if not sent.complete and task is not None:
            gone = True
            task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        await app(scope, again, sent)
    except asyncio.CancelledError:
        if gone and task is not None and task.uncancel() == 0:
            raise _Gone from None
        raise
    finally:
        watcher.cancel()


def route_of(scope: Scope) -> str:
    """Returns the path of the route that a request took, such as ``/v1/predict/{task}``; ``none`` if there is no route.

    The path contains no text from the client, because placeholders such as ``{task}`` are not filled in.
    """
    return str(getattr(scope.get("route"), "path", "none"))


def _memory(body: bytes | bytearray) -> int:
    """Returns roughly the memory of a request in bytes: of its body, and of the Python values that are made from it."""
    return len(body) + VALUE * sum(map(body.count, b",[{"))


def _is_local(host: str) -> bool:
    """Returns whether the header ``Host`` names ``localhost`` or an IP address.

    Any IP address counts, even a public one. Returns False for a domain name, because an attacker can
    make a domain name point to this server.
    """
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return name.lower() == "localhost" or bool(ip_address(name))
    except ValueError:
        return False


def _too_large(most: int) -> Refused:
    return Refused(413, f"the body may have {count(most, 'byte')}. Send fewer texts at a time.")


def crash_place(error: BaseException) -> str:
    """Returns an error's type and traceback as one line, without its message, which may quote a text of a request."""
    frames = traceback.extract_tb(error.__traceback__)
    return clean(f"{type(error).__name__} at {' < '.join(f'{Path(f.filename).name}:{f.lineno}' for f in frames[::-1])}")
