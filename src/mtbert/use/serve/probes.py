"""Routes for operators: ``/health`` checks the process, ``/ready`` checks the model, ``/metrics`` returns metrics."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from mtbert.use.serve.batching import Batcher, stopped
from mtbert.use.serve.errors import Refused
from mtbert.use.serve.measures import Measures


def probe_routes(batcher: Batcher, measures: Measures) -> APIRouter:
    """Returns the routes ``/health``, ``/ready`` and ``/metrics``."""
    router = APIRouter(tags=["operation"])

    @router.get("/health", summary="Whether the process lives, and its model too")
    async def health() -> Response:
        if batcher.broken:
            raise stopped()
        return JSONResponse({"status": "alive"})

    @router.get("/ready", summary="Whether the model answers now")
    async def ready() -> Response:
        if not batcher.ready:
            raise Refused(503, "the model does not answer. The process starts or stops.")
        return JSONResponse({"status": "ready"})

    described: dict[int | str, Any] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @router.get("/metrics", responses=described, summary="Metrics in the format of Prometheus")
    async def metrics() -> Response:
        content, kind = measures.text()
        return Response(content, media_type=kind)

    return router
