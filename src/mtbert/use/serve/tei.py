"""The routes ``/embed``, ``/predict`` and ``/info``, for clients of text-embeddings-inference."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from mtbert.use.serve.errors import Refused
from mtbert.use.serve.service import Service
from mtbert.use.serve.texts import Items, TextRow
from mtbert.use.serve.together import Vectors

TaskName = Annotated[str | None, Query(description="The task that answers; by default, the first that can")]


Truncate = Annotated[
    bool | None, Field(description="If false, texts that are longer than the model reads are refused, not cut")
]


Direction = Annotated[Literal["Right"] | None, Field(description="A text that is too long always loses its end")]


class EmbedRequest(BaseModel):
    """The body of ``/embed``."""

    inputs: Annotated[str | Items[str], Field(examples=[["a good film", "a dull film"]])]
    normalize: Annotated[bool, Field(description="Whether vectors get the length 1")] = True
    truncate: Truncate = None
    truncation_direction: Direction = None
    prompt_name: Annotated[None, Field(description="The model has no prompts")] = None
    dimensions: int | None = None


class HubParameters(BaseModel, extra="forbid"):
    """The parameters that the client of the Hugging Face Hub sends in addition to the inputs."""

    top_k: Annotated[int | None, Field(ge=1, description="The number of classes to give")] = None


class PredictRequest(BaseModel):
    """The body of ``/predict``. ``inputs`` is a single row or a list of rows.

    A single row is a text, or a list of texts, such as the two texts of a pair. In a list of rows, every row is a list
    of texts, even a row with only one text.
    """

    inputs: Annotated[str | Items[str] | Items[Items[str]], Field(examples=["a good film"])]
    raw_scores: bool = False
    truncate: Truncate = None
    truncation_direction: Direction = None
    parameters: HubParameters | None = None


def tei_routes(service: Service) -> APIRouter:
    """Returns the routes ``/embed``, ``/predict`` and ``/info``."""
    router = APIRouter(tags=["text-embeddings-inference"])

    @router.post("/embed", response_model=list[list[float]], summary="A vector for each text")
    async def embed(body: EmbedRequest, task: TaskName = None) -> Response:
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        vectors, _ = await service.vectors(task, texts, cut=body.truncate is not False)
        check_dimensions(body.dimensions, vectors)
        return JSONResponse((normalized(vectors) if body.normalize else vectors).tolist())

    @router.post("/predict", summary="The probability of each class, the highest first")
    async def predict(body: PredictRequest, task: TaskName = None) -> Response:
        if body.raw_scores:
            raise Refused(422, "raw_scores: this server gives probabilities and scores. Leave it out.")
        many = isinstance(body.inputs, list) and any(isinstance(row, list) for row in body.inputs)
        rows: list[TextRow] = list(body.inputs) if many else [body.inputs]
        rows = [row[0] if isinstance(row, list) and len(row) == 1 else row for row in rows]
        name = task if task is not None else _first(service, rows)
        most = body.parameters.top_k if body.parameters else None
        result = await service.answers([name], rows)
        service.check_cut(result, body.truncate is not False)
        found = [_ranked(name, row[name])[:most] for row in result.answers]
        # The client of the Hub sends parameters, even none, and wants a list of lists for one text too.
        return JSONResponse(found if many or body.parameters is not None else found[0])

    @router.get("/info", summary="The model and the limits of the server")
    async def info() -> Response:
        return JSONResponse(
            {
                "model_id": service.name,
                "model_dtype": str(service.predictor.model.compute).removeprefix("torch."),
                "model_type": {"classifier": {"tasks": list(service.predictor.tasks)}},
                "max_input_length": service.predictor.model.max_length,
                "max_batch_tokens": service.batcher.budget,
                "max_client_batch_size": service.limits.texts,
                "max_concurrent_requests": service.limits.waiting,
                "version": service.version,
            }
        )

    return router


def check_dimensions(wanted: int | None, vectors_BD: Vectors) -> None:
    """Raises :class:`Refused` if a request asks for a width of vectors that is not the width of ``vectors_BD``."""
    width = vectors_BD.shape[1]
    if wanted not in (None, width):
        raise Refused(422, f"dimensions: the vectors of this model have {width}. Leave it out.")


def normalized(vectors_BD: Vectors) -> Vectors:
    """Returns the vectors, each divided by its length. A vector of zeros stays as it is."""
    lengths_B1 = np.linalg.norm(vectors_BD, axis=1, keepdims=True)
    return (vectors_BD / np.where(lengths_B1 > 0, lengths_B1, 1)).astype(np.float32)


def _first(service: Service, rows: Sequence[Any]) -> str:
    """Returns the name of the first task that takes as many texts as the first row has.

    If there is no such task, returns the name of the first task.
    """
    size = 1 if not rows or isinstance(rows[0], str) else len(rows[0])
    tasks = service.predictor.tasks
    return next((name for name, task in tasks.items() if task.takes(size)), next(iter(tasks)))


def _ranked(task: str, answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the numbers of an answer as a list of labels with scores, the highest first.

    The label of a probability is its class. The label of any other number is its name, such as ``score``.

    Raises:
        Refused: If the answer contains no numbers.
    """
    numbers = {key: value for key, value in answer.items() if isinstance(value, float)}
    if not numbers:
        raise Refused(422, f"the answers of task {task} are not one number for each class. Use /v1/predict/{task}.")
    found = [{"label": _class(key), "score": value} for key, value in numbers.items()]
    return sorted(found, key=lambda each: -each["score"])


def _class(key: str) -> str:
    return key[2:-1] if key.startswith("p(") and key.endswith(")") else key
