"""The command ``mtbert predict``."""

from typing import Annotated

import typer

from mtbert.cli.options import Overwrite, RunFolder, RunOverrides, task_names
from mtbert.messages import plain_console


def predict(
    run: RunFolder,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="The task to answer; may be repeated. Default: all that take the given texts or pairs.",
            show_default=False,
            autocompletion=task_names,
        ),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option("--input", help="A csv, tsv, jsonl or parquet file, or a pattern; - for standard input."),
    ] = None,
    output: Annotated[
        str, typer.Option(help="A csv, tsv, jsonl or parquet file, or a folder; - for csv on standard output.")
    ] = "-",
    text: Annotated[str | None, typer.Option(help="One text, instead of a file.")] = None,
    text_pair: Annotated[str | None, typer.Option(help="The second text, for tasks of pairs.")] = None,
    vectors: Annotated[
        str | None, typer.Option(help="Also write the sentence vectors to this file (.npy or .safetensors).")
    ] = None,
    unsure: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Mark this share of each task's answers, the least certain ones, for a person to check, and write the "
            "probability of each answer.",
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Make only the Ith of N shares of the parts; N commands together make all."),
    ] = None,
    part_rows: Annotated[
        int | None, typer.Option(min=1, help="Most rows of a part. Default: 50000.", show_default=False)
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Make the parts on a Ray cluster, or on a local one: local.")
    ] = None,
    overwrite: Overwrite = False,
    set_: RunOverrides = None,
) -> None:
    """Answer one text, a pair, or all rows of a file.

    An answer is a class with its probabilities, a score, or what else the task has learnt. The input file needs no
    label column. Each task reads the text columns that the recipe names. If the input file lacks these columns, and
    only one other column can hold the texts, the task reads that column, and a line says so.

    The output has the same rows and columns in the same order, and new columns with the answers. If the recipe names an
    id column that the input lacks, the output begins with a column of this name, which numbers the rows from 1. If
    exactly one --task is given, the new columns have plain names such as label. Otherwise each name begins with the
    task: topic.label in a table, or {"topic": {"label": ...}} in jsonl.

    Computes in the precision of training. A server and exports compute in float32. If two classes are almost equally
    probable, a server or an export may therefore give another answer than this command.

    --unsure adds two columns. The column probability holds the probability of the answer. The column unsure holds true
    or false. Sort by probability to have the least certain rows first. mtbert review also sorts them, and leaves out
    rows whose texts are in the train data.

    A file that exists is kept, unless --overwrite is given.

    With a pattern as --input and a folder as --output, any number of rows is read in little memory, and answers are
    written in parts: files of at most --part-rows rows. To go on after an interruption, run the same command again. To
    share the work, start the same command several times at once: no part is made twice. Or give each command a fixed
    share: with --part 2/8, a command makes every eighth part, beginning with the second.

    Examples:

      mtbert predict runs/demo --text "not bad at all"

      mtbert predict runs/mine --input new.csv --output answers.jsonl

      mtbert predict runs/mine --task topic --task quality --input new.csv

      mtbert predict runs/demo --task sst --text "not bad at all"

      mtbert predict runs/demo --task sts --text "A dog runs." --text-pair "A dog is running."

      mtbert predict runs/demo --task sts --input pairs.csv --output scores.csv

      mtbert predict runs/mine --task reviews --input new.csv --set tasks.reviews.columns.text=comment

      mtbert predict runs/mine --task topic --input new.csv --output answers.csv --unsure 0.1

      cat pairs.csv | mtbert predict runs/demo --task sts --input - > scores.csv

      mtbert predict runs/mine --input 'texts/*.parquet' --output answers/

      mtbert predict runs/mine --input 'texts/*.parquet' --output answers/ --part 2/8

      mtbert predict runs/mine --input 'texts/*.parquet' --output answers/ --ray local
    """
    from mtbert.use.predict import Question, predict_run, unsure_share

    share = None if unsure is None else unsure_share(unsure)
    asked = Question(
        tuple(task or ()),
        input_,
        text,
        text_pair,
        output,
        vectors,
        tuple(set_ or ()),
        share,
        part_rows,
        part,
        ray,
        overwrite,
    )
    predict_run(run, asked, plain_console(stderr=True))
