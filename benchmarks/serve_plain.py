"""The server that ``mtbert serve`` is compared with: FastAPI around one pipeline of transformers for each task.

    python -m benchmarks.serve_plain FOLDER PORT

``FOLDER`` has a folder of transformers for each task. A request gets the same JSON as from ``/v1/predict``.
"""

import sys
from pathlib import Path
from typing import Any

import torch
import transformers
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Body(BaseModel):
    """A request."""

    texts: list[str]


def main(folder: Path, port: int) -> None:
    """Serves the models in ``folder`` until a signal arrives."""
    app = FastAPI()
    pipelines = {
        path.name: transformers.pipeline(
            "text-classification", str(path), device="cpu", dtype=torch.float32, top_k=None
        )
        for path in sorted(folder.iterdir())
    }

    # The event loop computes itself: with threads, several forward passes at a time would fight for the cores.
    @app.post("/v1/predict")
    async def predict(body: Body) -> dict[str, list[dict[str, Any]]]:
        answers: list[dict[str, Any]] = [{} for _ in body.texts]
        for name, pipeline in pipelines.items():
            for answer, scores in zip(answers, pipeline(body.texts, truncation=True), strict=True):
                shares = {f"p({each['label']})": each["score"] for each in scores}
                answer[name] = {"label": scores[0]["label"], **shares}
        return {"answers": answers}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", http="h11", loop="asyncio")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
