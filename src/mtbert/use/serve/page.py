"""The page at ``/``, where a person tries the model."""

from importlib import resources

from fastapi import APIRouter
from starlette.responses import Response

from mtbert.use.serve.service import Service

# The page loads nothing from elsewhere, and no other page may frame it.
POLICY = {
    "content-security-policy": "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def page_routes(service: Service) -> APIRouter:
    """Returns the route ``/``, which serves the page where a person tries the model."""
    router = APIRouter(include_in_schema=False)
    page = resources.files("mtbert.use.serve").joinpath("page.html").read_bytes()

    @router.get("/")
    async def try_it() -> Response:
        return Response(page, media_type="text/html; charset=utf-8", headers=POLICY)

    return router
