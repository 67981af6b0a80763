"""The project's own routes: all answers for a text, the answers of one task, and the list of tasks."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from mtbert.use.serve.service import Service
from mtbert.use.serve.texts import Items, TextRow

CutRows = Annotated[
    list[int], Field(description="The texts, counted from 0, that are longer than the model reads: it read their start")
]


class TextsBody(BaseModel, extra="forbid"):
    """The body of a request: a list of texts, or a list of pairs, each of which is a list of two texts."""

    texts: Annotated[Items[TextRow], Field(examples=[["a good film", "a dull film"]])]


class PredictBody(TextsBody):
    """The body of a request: texts and, optionally, the names of the tasks that answer."""

    tasks: Annotated[Items[str] | None, Field(description="The tasks that answer. By default, all do.")] = None


class TaskAnswers(BaseModel):
    """The answers of one task, one for each text."""

    answers: list[dict[str, Any]] = Field(examples=[[{"label": "good", "p(good)": 0.9, "p(bad)": 0.1}]])
    cut: CutRows


class AllAnswers(BaseModel):
    """The answers of several tasks.

    There is one JSON object per input. It maps the name of each task that accepts the input to the answer of the task.
    """

    answers: list[dict[str, dict[str, Any]]] = Field(examples=[[{"mood": {"label": "good", "p(good)": 0.9}}]])
    cut: CutRows


def predict_routes(service: Service) -> APIRouter:
    """Returns the routes ``/v1/predict``, ``/v1/predict/{task}`` and ``/v1/tasks``."""
    router = APIRouter(tags=["mtbert"])
    named = Path(description="The name of a task", json_schema_extra={"enum": list(service.predictor.tasks)})

    @router.post("/v1/predict", response_model=AllAnswers, summary="The answers of all tasks that take such texts")
    async def predict_all(body: PredictBody) -> Response:
        names = list(service.predictor.tasks) if body.tasks is None else body.tasks
        found = await service.answers(names, body.texts)
        return JSONResponse({"answers": found.answers, "cut": found.cut})

    @router.post("/v1/predict/{task}", response_model=TaskAnswers, summary="The answers of one task")
    async def predict_one(body: TextsBody, task: str = named) -> Response:
        found = await service.answers([task], body.texts)
        return JSONResponse({"answers": [row[task] for row in found.answers], "cut": found.cut})

    @router.get("/v1/tasks", summary="The tasks of the model: what they read, and what they answer")
    async def tasks() -> Response:
        found = {
            task.name: {
                "type": task.type,
                "inputs": task.inputs,
                "texts": task.texts,
                "labels": task.labels,
                "range": task.range,
                "soft": task.soft,
            }
            for task in service.predictor.tasks.values()
        }
        return JSONResponse({"model": service.name, "tasks": found})

    return router
