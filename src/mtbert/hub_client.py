"""Requests to the Hugging Face Hub. Error messages are one line long, and do not contain the user's token."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mtbert.files import FULL
from mtbert.messages import reason

_TOKEN_LIKE = re.compile(r"\bhf_\w{6,}|(?<=bearer )\S+", re.IGNORECASE)
_HIDDEN = "<token>"
_SAID = {
    401: "there is no such repository, or it asks for a valid token. Check the name, or run: hf auth login",
    403: "the token has no right to do this. Use a token that has it, or a name of your own",
    404: "there is no such repository, revision or file. Check the name",
    409: "somebody else changes it at the same time. Try again",
    412: "somebody else changed it at the same time. Try again",
    413: "the Hub takes nothing of this size",
    429: "too many requests. Wait a few minutes, and try again",
}
_LASTING = (409, 412, 413)  # of the status codes from 408 on, those that are not failures of the Hub
SECONDS = 300.0  # that the Hub may take for an answer
_Answer = TypeVar("_Answer")


def asked(what: str, question: Callable[[], _Answer], repair: str = "") -> _Answer:
    """Returns the result of ``question``, a function that asks the Hub.

    Args:
        what: The name of the model or file that is asked for. Error messages begin with this name.
        question: The function.
        repair: Further advice for the user, with a space in front, such as ``" Or give a folder."``. All error messages
            end with this advice, except for the message about a full disk.

    Raises:
        FileNotFoundError: If the Hub has no such model, or hides it from the user.
        ConnectionError: If the network or the Hub fails.
        ValueError: If the Hub refuses for another reason.
        OSError: If the disk is full.
    """
    try:
        with logs_without_token(), _bounded():
            return question()
    except Exception as error:  # the hub's client also raises the exceptions of its HTTP library
        failure = _failure(what, error, repair)
    raise failure  # outside of the handler, because a chained error would show the words of the Hub


def without_token(text: str) -> str:
    """Returns ``text`` with the user's token, and everything that looks like one, replaced by ``<token>``."""
    from huggingface_hub import get_token

    try:
        token = get_token()
    except Exception:  # an automatic login on a build server may fail
        token = None
    return _TOKEN_LIKE.sub(_HIDDEN, text.replace(token, _HIDDEN) if token else text)


def hub_reason(error: Exception) -> str:
    """Returns the first line of the error's message, or the name of the error's type if it has no message.

    The error comes from the Hub's client. If the message contains the user's token, ``<token>`` replaces the token.
    """
    return reason(ValueError(without_token(str(error)) or type(error).__name__))  # hidden before the line is cut


def _failure(what: str, error: Exception, repair: str) -> Exception:
    """Returns the error to raise in place of ``error``, which the Hub's client raised."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    for cause in _causes(error):
        # Versions of the client have different HTTP libraries, in which errors have the same names.
        kinds = {kind.__name__ for kind in type(cause).__mro__}
        if isinstance(cause, OSError) and cause.errno in FULL:
            return OSError(cause.errno, cause.strerror, cause.filename or HF_HUB_CACHE)
        if isinstance(cause, OfflineModeIsEnabled):
            return ValueError(f"{what}: HF_HUB_OFFLINE is set, so the Hub is not asked. Unset it.{repair}")
        if "TimeoutException" in kinds:
            return ConnectionError(f"{what}: the Hub did not answer in time. Try again later.{repair}")
        if "TransportError" in kinds:
            why = hub_reason(cause)
            return ConnectionError(f"{what}: the Hub cannot be reached ({why}). Check the network.{repair}")
        if isinstance(cause, HfHubHTTPError):
            return _refusal(what, cause.response.status_code, cause.server_message, repair)
    return ValueError(f"{what}: the Hub's client fails ({type(error).__name__}: {hub_reason(error)}).{repair}")


def _refusal(what: str, status: int, words: str | None, repair: str) -> Exception:
    kind: type[Exception] = FileNotFoundError if status in (401, 404) else ValueError
    said = _SAID.get(status, f"the Hub refuses this with status {status}")
    if status >= 408 and status not in _LASTING:
        kind, said = ConnectionError, _SAID.get(status, f"the Hub fails with status {status}. Try again later")
    heard = f" The Hub says: {hub_reason(ValueError(words))}." if words and words.strip() else ""
    return kind(f"{what}: {said}.{heard}{repair}")


def _causes(error: Exception) -> Iterator[Exception]:
    """Yields an error, the error that caused it, and so on."""
    seen: BaseException | None = error
    while isinstance(seen, Exception):
        yield seen
        seen = seen.__cause__


@contextmanager
def _bounded() -> Iterator[None]:
    """A context manager in which the Hub's client waits at most :data:`SECONDS` for an answer, and not for ever."""
    from huggingface_hub import get_session

    session = get_session()
    before, session.timeout = session.timeout, SECONDS
    try:
        yield
    finally:
        session.timeout = before


@contextmanager
def bars_shown(wanted: bool) -> Iterator[None]:
    """A context manager in which the Hub's client shows progress bars only if ``wanted`` is true."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if wanted or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


class _WithoutToken(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = without_token(record.getMessage()), ()
        return True


@contextmanager
def logs_without_token() -> Iterator[None]:
    """Hides the user's token in the log messages of the Hub's client during a ``with`` block."""
    handlers, hiding = logging.getLogger("huggingface_hub").handlers, _WithoutToken()
    for handler in handlers:
        handler.addFilter(hiding)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(hiding)
