"""The command ``mtbert push``."""

from typing import Annotated

import typer

from mtbert.cli.options import RunFolder, task_names


def push(
    run: RunFolder,
    name: Annotated[str, typer.Argument(metavar="USER/NAME", help="The model's name on the Hub.")],
    to: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help="onnx, transformers or sentence-transformers. Default: our own form."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="With --to: the task to export; may be repeated. Default: all that the format can hold.",
            autocompletion=task_names,
        ),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option("--input", help="With --to: a file with rows to compare answers on. Default: 256 rows of dev."),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="With --to onnx: one graph for all tasks that take the same inputs.")
    ] = False,
    int8: Annotated[bool, typer.Option("--int8", help="With --to onnx: whole numbers of 8 bits.")] = False,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="With --int8: by how much the dev score may be lower.")
    ] = 0.005,
    public: Annotated[bool, typer.Option("--public", help="Let everybody read the model.")] = False,
) -> None:
    """Push a trained model to the Hugging Face Hub.

    It gets a model card. A new model is private. Only the files of the model are pushed: no data, logs or answers. A
    later push replaces the files of an earlier one. The token is that of 'hf auth login', or of the variable HF_TOKEN.
    With --to, the model is exported first, as by mtbert export. The commands predict, evaluate, review, export and
    serve take USER/NAME too, if there is no folder USER here.

    Examples:

      mtbert push runs/mine me/mine

      mtbert push runs/mine me/mine-topic --to transformers --task topic --public

      mtbert predict me/mine --text "not bad at all"
    """
    from mtbert import pushing
    from mtbert.advice import command_line
    from mtbert.messages import plain_console, tell_end

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
    tell_end(plain_console(), repr(pushed), *([command_line("serve", name)] if to is None else []))
