"""The error responses of the server. The JSON body is ``{"error": {"message": ..., "type": ...}}``.

The paths of KServe V2 are an exception: there, the body is ``{"error": message}``, as the protocol demands.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mtbert.messages import clean, shown

# The type of an error for each status. Other statuses are of the type "invalid_request".
TYPES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "not_allowed",
    413: "too_large",
    429: "overloaded",
    500: "internal",
    503: "unavailable",
    504: "timeout",
}


class Refused(Exception):
    """Raised to refuse a request. ``status`` is the HTTP status; the message says why, and what to do."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] = {}) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers

    def body(self, path: str) -> bytes:
        """Returns the JSON body of the response to the refused request, whose path is ``path``."""
        message = clean(self.message, lines=True)
        kind = TYPES.get(self.status, "invalid_request")
        plain = path.startswith("/v2/")
        return json.dumps({"error": message if plain else {"message": message, "type": kind}}).encode()


FAILED = Refused(500, "the server failed on this request. Its log says where.")


def wrong_body(errors: Sequence[Mapping[str, Any]]) -> Refused:
    """Returns a refusal for the first error that pydantic found in a request."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return Refused(400, f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}.")
    path = ".".join(clean(str(part)[:80]) for part in first["loc"] if part != "body") or "the body"
    said = clean(str(first["msg"])).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        said = "there is no such key (/openapi.json lists them)"
    said = f"{said[:1].lower()}{said[1:]}".rstrip(".")
    found = "" if first["type"] == "missing" else f", found {shown(first.get('input'))}"
    return Refused(422, f"{path}: {said}{found}.")
