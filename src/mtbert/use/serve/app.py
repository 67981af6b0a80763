"""The web application of the server. It connects the model, the queue, the routes, and the limits on requests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mtbert import scoring
from mtbert.use.predictor import Predictor
from mtbert.use.serve.batching import Batcher
from mtbert.use.serve.engines import Engine, TorchEngine
from mtbert.use.serve.errors import FAILED, Refused, wrong_body
from mtbert.use.serve.kserve import kserve_routes
from mtbert.use.serve.limits import Gate, Limits
from mtbert.use.serve.measures import Measures
from mtbert.use.serve.openai import openai_routes
from mtbert.use.serve.page import page_routes
from mtbert.use.serve.predict import predict_routes
from mtbert.use.serve.probes import probe_routes
from mtbert.use.serve.service import Service
from mtbert.use.serve.tei import tei_routes
from mtbert.use.serve.together import answer_all

ROUTES: tuple[Callable[[Service], APIRouter], ...] = (
    predict_routes,
    tei_routes,
    openai_routes,
    kserve_routes,
    page_routes,
)


DEFAULT_LIMITS = Limits()
BATCH_TOKENS = 1024  # of a batch on a CPU: with more, a text takes as long, but a batch needs more memory
STOP_SECONDS = 5.0  # that the end of the server waits for the model
REFUSALS: dict[int | str, str] = {
    "4XX": "The request is refused",
    "422": "The body has another form",
    "5XX": "The server cannot answer now",
}


class ErrorText(BaseModel):
    """Why a request is refused."""

    message: str
    type: str


class ErrorBody(BaseModel):
    """The JSON body of a response that refuses a request.

    For paths below ``/v2``, ``error`` is the message, a string. For all other paths, it has the message and a type.
    """

    error: ErrorText | str


def create_app(
    predictor: Predictor,
    engine: Engine | None = None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    token: str | None = None,
    local: bool = False,
) -> Gate:
    """Returns an ASGI application that answers with a trained model.

    Args:
        predictor: The model.
        engine: Runs the model; by default, PyTorch does.
        limits: The largest sizes of a request, the time that it may take, and how many requests may wait.
        token: The bearer token that clients must send; None if none is needed.
        local: Whether to accept only requests whose header ``Host`` is ``localhost`` or an IP address.
    """
    measures = Measures()
    on_gpu = next(predictor.model.parameters()).device.type == "cuda"
    batcher = Batcher(
        partial(answer_all, predictor, engine or TorchEngine(predictor.model)),
        budget=scoring.TOKENS_ON_GPU if on_gpu else BATCH_TOKENS,
        longest=predictor.model.max_length,
        most=limits.waiting,
        told=measures,
    )
    service = Service(predictor, batcher, limits)
    measures.queue(lambda: batcher.waiting)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        # Requests have ended by now. A pass whose client left may go on, and must not block the event loop.
        await asyncio.to_thread(batcher.stop, STOP_SECONDS)

    app = FastAPI(
        title="mtbert",
        description="Answers of one model to several tasks about texts.",
        version=service.version,
        lifespan=running,
        docs_url=None,  # these two pages would load scripts from other servers
        redoc_url=None,
        redirect_slashes=False,  # the address would hold the header Host, which a client may forge
        # The gate checks the token; this describes it in openapi.json.
        dependencies=[Depends(HTTPBearer(auto_error=False))] if token is not None else None,
        strict_content_type=False,  # the gate checks it
        responses={status: {"model": ErrorBody, "description": text} for status, text in REFUSALS.items()},
        exception_handlers={
            Refused: _refused,
            RequestValidationError: _invalid,
            HTTPException: _http,
            Exception: _failed,
        },
    )
    app.include_router(probe_routes(batcher, measures))
    for routes in ROUTES:
        app.include_router(routes(service))
    return Gate(app, limits, token, measures.request, local=local)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return Response(error.body(request.url.path), error.status, dict(error.headers), "application/json")


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _refused(request, wrong_body(error.errors()))


async def _failed(request: Request, error: Exception) -> Response:
    # The error itself goes on to the gate, which logs it.
    return await _refused(request, FAILED)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    messages = {
        400: "the body is not JSON that can be read.",
        404: "there is no such path. /openapi.json lists all paths.",
        405: "this path has another method. /openapi.json lists all paths.",
    }
    message = messages.get(error.status_code, str(error.detail))
    return await _refused(request, Refused(error.status_code, message, error.headers or {}))
