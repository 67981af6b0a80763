"""The page at ``/``, where a person tries the model.

The page is one document, which contains its style and its scripts, so the browser makes no request for them. The
page's content security policy lists the digests of its style and scripts, so the browser refuses all others.
"""

import hashlib
import re
from base64 import b64encode
from importlib import resources

from fastapi import APIRouter
from starlette.responses import Response

from mtbert.use.serve.service import Service

_PART = re.compile(r"\{\{ (page\w*\.(css|js)) \}\}")  # where page.html wants the text of another file
_DIRECTIVES = {"css": "style-src", "js": "script-src"}


def page_routes(service: Service) -> APIRouter:
    """Returns the route ``/``, which serves the page where a person tries the model."""
    router = APIRouter(include_in_schema=False)
    page, headers = try_it_page()

    @router.get("/")
    async def try_it() -> Response:
        return Response(page, media_type="text/html; charset=utf-8", headers=headers)

    return router


def try_it_page() -> tuple[str, dict[str, str]]:
    """Returns the page and its HTTP headers.

    The headers forbid the page to contact any other server, and forbid other pages to embed the page.
    """
    folder = resources.files("mtbert.use.serve")
    policy = {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
        "style-src": "",
        "script-src": "",
    }

    def text_of(found: re.Match[str]) -> str:
        text = folder.joinpath(found[1]).read_text("utf-8")
        policy[_DIRECTIVES[found[2]]] += f" 'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        return text

    page = _PART.sub(text_of, folder.joinpath("page.html").read_text("utf-8"))
    return page, {
        "content-security-policy": "; ".join(f"{name} {sources.strip()}" for name, sources in policy.items()),
        "cache-control": "no-cache",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
