"""The command ``mtbert review``."""

from typing import Annotated

import typer

from mtbert.cli.options import Overwrite, RunFolder, RunOverrides, task_names


def review(
    run: RunFolder,
    task: Annotated[str, typer.Option(help="The task to label for.", autocompletion=task_names)],
    input_: Annotated[str, typer.Option("--input", help="The pool: a csv, tsv, jsonl or parquet file.")],
    output: Annotated[str, typer.Option(help="The csv, tsv or jsonl file to write.")],
    top: Annotated[int, typer.Option(help="The largest number of rows to write.")] = 200,
    overwrite: Overwrite = False,
    set_: RunOverrides = None,
) -> None:
    """Choose the rows of a pool that a person should label next.

    These are the rows about which the model is least certain. The output has the columns that the recipe reads, with
    empty labels, and the model's answer and its probability. The least certain row comes first. Rows of dev, rows that
    have a label for the task, and rows that nearly repeat a row already chosen are left out. Once the output has been
    labelled, it can be used as one more train file.

    If the pool lacks the text column that the recipe names, but has only one column of texts, this column is read. To
    read another column, name it with --set, as in the second example. The output always has the column names of the
    train file. An output file that exists already is replaced only if --overwrite is given.

    Example:

      mtbert review runs/mine --task topic --input pool.csv --top 200 --output to-label.csv

      mtbert review runs/mine --task topic --input pool.csv --output to-label.csv --set tasks.topic.columns.text=comment
    """
    from mtbert import api

    api.review(run, task, input_, output, top=top, changes=set_ or (), overwrite=overwrite, progress=True)
