"""The command ``mtbert serve``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mtbert.cli.options import RunFolder


def serve(
    run: RunFolder,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all networks.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 for a free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(help="A file with the token that clients must send. Default: the variable MTBERT_TOKEN, if set."),
    ] = None,
    engine: Annotated[
        Literal["torch", "onnx", "onnx-int8"],
        typer.Option(help="What runs the model; onnx needs 'mtbert[export]', and onnx-int8 rounds weights to 8 bits."),
    ] = "torch",
    precision: Annotated[
        Literal["fp32", "bf16", "auto"],
        typer.Option(help="The numbers that torch multiplies; auto: bf16 where the hardware has it."),
    ] = "fp32",
    max_waiting: Annotated[int, typer.Option(min=1, help="Requests that wait; more get the status 429.")] = 512,
    max_texts: Annotated[int, typer.Option(min=1, help="Texts of a request.")] = 256,
    max_characters: Annotated[
        int | None,
        typer.Option(min=1, help="Characters of a text. Default: 20,000, or 8 times model.max_length if that is more."),
    ] = None,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request.")] = 2**20,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a request may take.")] = 30.0,
) -> None:
    """Answer over HTTP, with a page to try the model.

    All tasks are answered in one pass through the encoder. Requests that wait are combined into batches. The paths
    /v1/predict and /v1/predict/TASK are our own. Clients of text-embeddings-inference (/embed, /predict), of OpenAI's
    embeddings (/v1/embeddings) and of KServe (/v2) work too; /metrics is for Prometheus. On SIGTERM, the server answers
    the requests that it has accepted, and then ends. This command needs optional packages: pip install 'mtbert[serve]'.

    Examples:

      mtbert serve runs/demo

      curl localhost:8000/v1/predict -H 'content-type: application/json' -d '{"texts": ["not bad at all"]}'

      mtbert serve runs/mine --engine onnx

      mtbert serve runs/mine --host 0.0.0.0 --port 80 --token-file token.txt
    """
    from mtbert.use.serve.limits import Limits
    from mtbert.use.serve.running import serve_run

    limits = Limits(body=max_body, texts=max_texts, characters=max_characters, waiting=max_waiting, seconds=timeout)
    serve_run(run, engine=engine, precision=precision, host=host, port=port, token_file=token_file, limits=limits)
