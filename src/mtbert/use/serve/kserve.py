"""The Open Inference Protocol (KServe V2), as KServe, Triton and Seldon speak it. Each task is a model.

A model has one input ``texts``: BYTES ``[rows]`` or, for pairs, ``[rows, 2]``. Its outputs are the columns of its
answers, such as ``label`` (BYTES ``[rows]``) and ``p(good)`` (FP64 ``[rows]``). If an answer is a list, its value in
the output is a JSON text, such as ``["red", "blue"]``.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import AfterValidator, BaseModel, Field
from starlette.responses import JSONResponse, Response

from mtbert.messages import count, few, shown
from mtbert.use.given_texts import SURROGATES
from mtbert.use.serve.errors import Refused
from mtbert.use.serve.service import GivenRow, Service
from mtbert.use.serve.texts import Items

INPUT = "texts"


def _written(text: str) -> str:
    """Returns ``text``, the id of a request, unchanged. Raises ValueError if the id cannot be encoded as UTF-8."""
    if SURROGATES.search(text):
        raise ValueError("must be UTF-8 text")
    return text


class InputTensor(BaseModel):
    """A tensor of texts. Its data is a flat list in row-major order, or a list of rows."""

    name: str
    shape: Items[Annotated[int, Field(ge=0)]]
    datatype: str
    data: list[Any]


class OutputName(BaseModel):
    """An output that the client wants."""

    name: str


class InferRequest(BaseModel):
    """The body of a request for answers."""

    id: Annotated[str, AfterValidator(_written)] | None = None
    inputs: Annotated[
        Items[InputTensor],
        Field(examples=[[{"name": INPUT, "shape": [1], "datatype": "BYTES", "data": ["a good film"]}]]),
    ]
    outputs: Items[OutputName] | None = None


def kserve_routes(service: Service) -> APIRouter:
    """Returns the routes below ``/v2``."""
    router = APIRouter(prefix="/v2", tags=["KServe V2"])
    named = Path(description="The name of a task", json_schema_extra={"enum": list(service.predictor.tasks)})
    outputs = {name: _columns([service.example(name)]) for name in service.predictor.tasks}

    @router.get("", summary="The server")
    async def server() -> Response:
        return JSONResponse({"name": "mtbert", "version": service.version, "extensions": []})

    @router.get("/health/live", summary="Whether the process lives, and its model too")
    async def live() -> Response:
        return JSONResponse({"live": not service.batcher.broken}, 503 if service.batcher.broken else 200)

    @router.get("/health/ready", summary="Whether the model answers now")
    async def ready() -> Response:
        return JSONResponse({"ready": service.batcher.ready}, 200 if service.batcher.ready else 503)

    @router.get("/models/{name}", summary="The inputs and outputs of a task")
    async def model(name: str = named) -> Response:
        size = service.task(name).texts
        tensor = {"name": INPUT, "datatype": "BYTES", "shape": [-1] if size == 1 else [-1, size or -1]}
        told = [{"name": one["name"], "datatype": one["datatype"], "shape": [-1]} for one in outputs[name]]
        return JSONResponse(
            {"name": name, "versions": ["1"], "platform": "mtbert", "inputs": [tensor], "outputs": told}
        )

    @router.get("/models/{name}/ready", summary="Whether a task answers now")
    async def model_ready(name: str = named) -> Response:
        service.task(name)
        return JSONResponse({"name": name, "ready": service.batcher.ready}, 200 if service.batcher.ready else 503)

    @router.post("/models/{name}/infer", summary="The answers of a task")
    async def infer(body: InferRequest, name: str = named) -> Response:
        service.task(name)
        result = await service.answers([name], _rows(body.inputs))
        found = _columns([row[name] for row in result.answers])
        if body.outputs:
            known = {one["name"]: one for one in found}
            for wanted in body.outputs:
                if wanted.name not in known:
                    raise Refused(422, f"outputs: no output {shown(wanted.name)}. Task {name} has {few(known)}.")
            found = [known[wanted.name] for wanted in body.outputs]
        answer: dict[str, Any] = {"model_name": name, "model_version": "1", "outputs": found}
        if result.cut:  # a parameter is a text, a number or a truth value
            answer |= {"parameters": {"cut": json.dumps(result.cut)}}
        return JSONResponse(answer if body.id is None else answer | {"id": body.id})

    return router


def _rows(inputs: Sequence[InputTensor]) -> list[GivenRow]:
    """Returns the rows of texts in ``inputs``, which must be a single tensor called ``texts`` of the type ``BYTES``.

    Raises:
        Refused: If ``inputs`` is anything else, or if the tensor's data are not texts or do not fit its shape.
    """
    if len(inputs) != 1 or inputs[0].name != INPUT or inputs[0].datatype != "BYTES":
        found = few([f"{one.name} ({one.datatype})" for one in inputs])
        raise Refused(422, f"inputs: must be one tensor {INPUT} (BYTES), found {found}.")
    shape = inputs[0].shape
    flat = [text for part in inputs[0].data for text in (part if isinstance(part, list) else [part])]
    if not all(isinstance(text, str) for text in flat):
        raise Refused(422, f"inputs: the data of {INPUT} must be texts.")
    if len(shape) not in (1, 2) or _product(shape) != len(flat) or 0 in shape:
        raise Refused(422, f"inputs: the shape of {INPUT} must be [rows] or [rows, texts] and fit its data, found "
                      f"{shown(shape)} and {count(len(flat), 'text')}.")  # fmt: skip
    if len(shape) == 1 or shape[1] == 1:
        return flat
    return [flat[i : i + shape[1]] for i in range(0, len(flat), shape[1])]


def _product(shape: Sequence[int]) -> int:
    found = 1
    for size in shape:
        found *= size
    return found


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns one output tensor for each key of the answers: FP64 for numbers, BYTES for all else."""
    found = []
    for key in rows[0] if rows else ():
        values = [row[key] for row in rows]
        number = all(isinstance(value, float) for value in values)
        data = values if number else [value if isinstance(value, str) else json.dumps(value) for value in values]
        found.append({"name": key, "datatype": "FP64" if number else "BYTES", "shape": [len(rows)], "data": data})
    return found
