"""The command ``mtbert export``."""

from pathlib import Path
from typing import Annotated

import typer

from mtbert.cli.options import RunFolder, task_names
from mtbert.messages import plain_console, tell_end


def export(
    run: RunFolder,
    to: Annotated[str, typer.Option(metavar="FORMAT", help="onnx, transformers or sentence-transformers.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="The task to export; may be repeated. Default: all that the format can hold.",
            autocompletion=task_names,
        ),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option("--input", help="A file with rows to compare answers on. Default: dev."),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="onnx: one graph for all tasks that take the same inputs.")
    ] = False,
    int8: Annotated[bool, typer.Option("--int8", help="onnx: whole numbers of 8 bits, smaller and faster.")] = False,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="With --int8: by how much the dev score may be lower.")
    ] = 0.005,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Write a trained model in a form that other programs load.

    The form is onnx, transformers or sentence-transformers. The exported model is compared with the original model. If
    the two models differ too much, the export fails and writes nothing.

    Without --int8, the answers to up to 256 rows of dev are compared. A probability or a cosine may differ by at most
    0.0001. The answer of a regression task may differ by at most 0.0001 of the task's range.

    With --int8, the metric of each task, such as accuracy, is compared on up to 2,000 rows of dev. The metric of the
    exported model may be lower by at most --tolerance.

    With --input, rows of the given file are compared instead of rows of dev. For --int8, the rows need labels.

    Examples:

      mtbert export runs/demo --to onnx --out sst-onnx --task sst

      mtbert export runs/mine --to onnx --out mine-onnx --together --int8

      mtbert export runs/mine --to transformers --out topic-model --task topic
    """
    from mtbert.use.export import exporting

    exported = exporting.export(
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
    tell_end(plain_console(), f"the export is in {exported.path}; its README.md says how to use it")
