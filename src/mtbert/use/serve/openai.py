"""OpenAI's routes for vectors: ``/v1/embeddings``, and ``/v1/models``, where each task that has vectors is a model."""

import base64
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from mtbert.use.serve.service import Service
from mtbert.use.serve.tei import check_dimensions, normalized
from mtbert.use.serve.texts import Items


class EmbeddingsRequest(BaseModel, extra="forbid"):
    """The body of ``/v1/embeddings``."""

    input: Annotated[str | Items[str], Field(examples=[["a good film", "a dull film"]])]
    model: Annotated[str | None, Field(description="The name of a task")] = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: Annotated[str | None, Field(description="Is not read")] = None


def openai_routes(service: Service) -> APIRouter:
    """Returns the routes ``/v1/embeddings`` and ``/v1/models``."""
    router = APIRouter(tags=["OpenAI"])

    @router.post("/v1/embeddings", summary="A vector of length 1 for each text")
    async def embeddings(body: EmbeddingsRequest) -> Response:
        texts = [body.input] if isinstance(body.input, str) else body.input
        found, tokens = await service.vectors(body.model, texts)
        vectors = normalized(found)
        check_dimensions(body.dimensions, vectors)

        def written(i: int) -> Any:
            vector = vectors[i].astype("<f4")
            return vector.tolist() if body.encoding_format == "float" else base64.b64encode(vector.tobytes()).decode()

        data = [{"object": "embedding", "index": i, "embedding": written(i)} for i in range(len(vectors))]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        model = body.model or service.embedding().name
        return JSONResponse({"object": "list", "data": data, "model": model, "usage": usage})

    @router.get("/v1/models", summary="The tasks that have vectors of single texts")
    async def models() -> Response:
        found = [{"id": name, "object": "model", "created": 0, "owned_by": "mtbert"} for name in service.embedders()]
        return JSONResponse({"object": "list", "data": found})

    return router
