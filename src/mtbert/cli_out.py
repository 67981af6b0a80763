"""The commands ``mtbert export`` and ``mtbert serve``, which bring a trained model to its users."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mtbert.cli_options import RunFolder

out_app = typer.Typer()


@out_app.command()
def export(
    run: RunFolder,
    to: Annotated[str, typer.Option(metavar="FORMAT", help="onnx, transformers or sentence-transformers.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    task: Annotated[
        list[str] | None,
        typer.Option(help="The task to export; may be repeated. Default: all that the format can hold."),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option("--input", help="A file with rows to compare answers on. Default: 256 rows of dev."),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="onnx: one graph for all tasks that take the same inputs.")
    ] = False,
    int8: Annotated[bool, typer.Option("--int8", help="onnx: whole numbers of 8 bits, smaller and faster.")] = False,
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="With --int8: the largest loss of dev score.")] = 0.005,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Write a trained model in a form that other programs load: onnx, transformers or sentence-transformers.

    The exported model answers 256 rows of dev, or the rows of --input, and its answers are compared with those of the
    original model. If a probability or a cosine differs by more than 0.0001, or a score by more than 0.0001 of the
    task's range, the export fails and writes nothing.

    Examples:

      mtbert export runs/demo --to onnx --out sst-onnx --task sst

      mtbert export runs/mine --to onnx --out mine-onnx --together --int8

      mtbert export runs/mine --to transformers --out topic-model --task topic
    """
    from mtbert.use.export import exporting

    exporting.export(
        run,
        to=to,
        out=out,
        tasks=task,
        rows=input_,
        tolerance=tolerance,
        overwrite=overwrite,
        together=together,
        int8=int8,
        progress=True,
    )


@out_app.command()
def push(
    run: RunFolder,
    name: Annotated[str, typer.Argument(metavar="USER/NAME", help="The model's name on the Hub.")],
    to: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help="onnx, transformers or sentence-transformers. Default: our own form."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="With --to: the task to export; may be repeated. Default: all that the format can hold."),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option("--input", help="With --to: a file with rows to compare answers on. Default: 256 rows of dev."),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="With --to onnx: one graph for all tasks that take the same inputs.")
    ] = False,
    int8: Annotated[bool, typer.Option("--int8", help="With --to onnx: whole numbers of 8 bits.")] = False,
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="With --int8: the largest loss of dev score.")] = 0.005,
    public: Annotated[bool, typer.Option("--public", help="Let everybody read the model.")] = False,
) -> None:
    """Push a trained model to the Hugging Face Hub, with a model card. A new model is private.

    Only the files of the model are pushed: no data, logs or answers. A later push replaces the files of an earlier one.
    The token is that of 'hf auth login', or of the variable HF_TOKEN. With --to, the model is exported first, as by
    mtbert export. The commands predict, evaluate, review, export and serve take USER/NAME too, if there is no folder
    USER here.

    Examples:

      mtbert push runs/mine me/mine

      mtbert push runs/mine me/mine-topic --to transformers --task topic --public

      mtbert predict me/mine --text "not bad at all"
    """
    from mtbert import pushing

    pushed = pushing.push(
        run,
        name,
        to,
        tasks=task,
        rows=input_,
        together=together,
        int8=int8,
        tolerance=tolerance,
        public=public,
        progress=True,
    )
    typer.echo(repr(pushed))


@out_app.command()
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
        typer.Option(min=1, help="Characters of a text. Default: 20,000, or 8 for each token that the model reads."),
    ] = None,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request.")] = 2**20,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a request may take.")] = 30.0,
) -> None:
    """Answer over HTTP with a trained model: all tasks from one pass through its encoder.

    Requests that wait are combined into batches. The paths /v1/predict and /v1/predict/TASK are our own. Clients of
    text-embeddings-inference (/embed, /predict), of OpenAI's embeddings (/v1/embeddings) and of KServe (/v2) work too;
    /metrics is for Prometheus. On SIGTERM, the server answers the requests that it has accepted, and then ends. This
    command needs optional packages: pip install 'mtbert[serve]'.

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
