"""The command line. Each command imports its modules when it runs, so that ``--help`` does not load torch."""

from pathlib import Path
from typing import Annotated

import typer

from mtbert.cli_options import Overrides, RecipeName, RunFolder, RunOverrides
from mtbert.cli_out import out_app
from mtbert.cli_recipe import data_app, recipes_app
from mtbert.exit_codes import run_command
from mtbert.messages import plain_console

app = typer.Typer(
    help="One BERT-family encoder fine-tuned on several sentence tasks at once.\n\n"
    "Try it on generated data, in about three minutes: mtbert train demo --out runs/demo",
    no_args_is_help=True,
    rich_markup_mode=None,  # Rich would read the brackets of mtbert[tune] as markup
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(recipes_app, name="recipe")
app.add_typer(data_app, name="data")
app.add_typer(out_app)  # without a name: its commands stand beside the others


def _print_version(wanted: bool) -> None:
    if wanted:
        import mtbert

        typer.echo(f"mtbert {mtbert.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Handles the options that come before a command, such as ``--version``."""


@app.command()
def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped one.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/RECIPE.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="A.B=C",
            help="Change one setting of the recipe; may be repeated. With --resume: only data.root.",
        ),
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Resume a run that was stopped.")] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="With --resume: train for N epochs in all, even if the run has ended.", metavar="N"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="After 25 steps, print where the time of a step goes; training goes on.")
    ] = False,
    track: Annotated[
        str | None,
        typer.Option(metavar="TRACKER", help="Also send all numbers to tensorboard, wandb, mlflow or trackio."),
    ] = None,
) -> None:
    """Train one model on the tasks of a recipe.

    Examples:

      mtbert train demo --out runs/demo

      mtbert train cs224n --set data.root=data --set train.seed=1 --out runs/seed1

      mtbert train my-tasks.yaml --set train.lr=2e-5

      mtbert train cs224n --set data.root=data --profile --out runs/profiled

      mtbert train demo --track tensorboard --out runs/tracked

      mtbert train --resume runs/seed1

      mtbert train --resume runs/seed1 --epochs 5

      mtbert train --resume runs/seed1 --set data.root=/new/place
    """
    if (recipe is None) == (resume is None) or (resume is not None and (out or overwrite)):
        raise ValueError("give a RECIPE, or --resume RUN without one. See: mtbert train --help")
    if epochs is not None and resume is None:
        raise ValueError("--epochs is for --resume. For a new run give --set train.epochs=N.")
    from mtbert import api

    api.train(
        recipe,
        out=out,
        changes=set_ or (),
        overwrite=overwrite,
        resume=resume,
        epochs=epochs,
        profile=profile,
        track=track,
        progress=True,
    )


@app.command()
def evaluate(
    run: RunFolder,
    split: Annotated[str, typer.Option(help="dev, test, or a labelled file (then with --task).")] = "dev",
    task: Annotated[str | None, typer.Option(help="Score only this task. Default: all tasks.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, and nothing else.")] = False,
    set_: RunOverrides = None,
) -> None:
    """Score a trained model on the dev or test data of its recipe, or on a labelled file.

    Examples:

      mtbert evaluate runs/demo

      mtbert evaluate runs/mine --task reviews --split held-out.csv

      mtbert evaluate runs/mine --task reviews --split other.csv --set tasks.reviews.columns.label=stars

      mtbert evaluate runs/mine --set data.root=/new/place --json > scores.json
    """
    from mtbert.use.evaluate import evaluate_run

    evaluate_run(run, split, task, plain_console(), plain_console(stderr=True), overrides=set_ or (), as_json=json)


@app.command()
def predict(
    run: RunFolder,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="The task to answer; may be repeated. Default: all that take such texts.", show_default=False
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
            help="Mark this share of each task's answers, the least certain ones, for a person to check.",
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="I/N", help="Make the share I of N of the parts, beside N-1 other commands.")
    ] = None,
    part_rows: Annotated[
        int | None, typer.Option(min=1, help="Most rows of a part. Default: 50000.", show_default=False)
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Make the parts on a Ray cluster, or on a local one: local.")
    ] = None,
    set_: RunOverrides = None,
) -> None:
    """Answer one or more tasks for each text: the class with its probabilities, or the score.

    The input file needs the text columns that the recipe names, but no label column. The output has the same rows
    and columns in the same order, and new columns with the answers. If exactly one --task is given, the new columns
    have plain names such as label. Otherwise each name begins with the task: topic.label in a table, or
    {"topic": {"label": ...}} in jsonl.

    With a pattern as --input and a folder as --output, any number of rows is read in little memory, and answers are
    written in parts. Run the same command again to go on after it was stopped; run several to share the work.

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
        tuple(task or ()), input_, text, text_pair, output, vectors, tuple(set_ or ()), share, part_rows, part, ray
    )
    predict_run(run, asked, plain_console(stderr=True))


@app.command()
def review(
    run: RunFolder,
    task: Annotated[str, typer.Option(help="The task to label for.")],
    input_: Annotated[str, typer.Option("--input", help="The pool: a csv, tsv, jsonl or parquet file.")],
    output: Annotated[str, typer.Option(help="The csv, tsv or jsonl file to write.")],
    top: Annotated[int, typer.Option(help="The largest number of rows to write.")] = 200,
    set_: RunOverrides = None,
) -> None:
    """Choose the rows of a pool that a person should label next: those about which the model is least certain.

    The output has the columns that the recipe reads, with empty labels, and the model's answer and its probability. The
    least certain row comes first. Rows of dev, rows that have a label for the task, and near repeats are left out. Once
    the file has been labelled, it can be used as one more train file.

    Example:

      mtbert review runs/mine --task topic --input pool.csv --top 200 --output to-label.csv
    """
    from mtbert import api

    api.review(run, task, input_, output, top=top, changes=set_ or (), progress=True)


@app.command()
def tune(
    recipe: RecipeName,
    trials: Annotated[int, typer.Option(min=1, help="Number of trials, including those of earlier calls.")] = 20,
    out: Annotated[Path | None, typer.Option(help="The folder of the trials. Default: tuned/RECIPE.")] = None,
    set_: Overrides = None,
    on_dev: Annotated[
        bool, typer.Option("--on-dev", help="Score on dev; its scores are then no fair estimate any more.")
    ] = False,
) -> None:
    """Find good settings within the ranges that a recipe lists under tune, and write them to NAME-tuned.yaml.

    Trials are scored on a part of train (dev_fraction) that shares no text with the rest, so dev stays unseen. The
    score of a trial is its best evaluation. A trial that falls behind the others is stopped early. If this command is
    interrupted, run it again to go on. Tuning needs optional packages: pip install 'mtbert[tune]'.

    Examples:

      mtbert tune mine.yaml --trials 30 --out tuned/mine

      mtbert train tuned/mine/mine-tuned.yaml
    """
    from mtbert import api

    api.tune(recipe, trials, out, changes=set_ or (), on_dev=on_dev, progress=True)


@app.command()
def study(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a shipped one.")],
    out: Annotated[Path | None, typer.Option(help="The study's folder. Default: studies/STUDY.")] = None,
    set_: Overrides = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at the same time; fewer if memory is short.")] = 1,
) -> None:
    """Run every recipe of a study with every seed, and report which techniques help, how much, and how certain this is.

    Run the same command again to resume a study that was stopped. You can also add recipes or seeds to the study file,
    and run the same command again. Runs that have ended are not repeated.

    Shipped studies: demo (generated data, nine runs, about 20 minutes on two busy cores), paper (the recipes called
    paper/...), quick (the same techniques with MiniLM and shorter runs), best (all recipes of quick, and the recipe
    best), best-parts (the recipe best, each time without one of its parts), six (seven tasks from six data sets: one
    model for all tasks, and one model for each task).

    Examples:

      mtbert study demo --out studies/demo

      mtbert study quick --set data.root=data --workers 2

      mtbert study my-study.yaml --out studies/mine
    """
    from mtbert import api

    if api.study(study, out, changes=set_ or (), workers=workers, progress=True).failed:
        raise typer.Exit(1)


@app.command()
def report(
    path: Annotated[Path, typer.Argument(metavar="RUN_OR_STUDY", help="The folder of a run, or of a study.")],
    test: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=FILE", help="Score --row on this labelled file, once; give one file per task."),
    ] = None,
    row: Annotated[str | None, typer.Option(help="The row to score on the test files.")] = None,
) -> None:
    """Write report.html, a page with figures: which techniques help, how certain this is, and which answers are wrong.

    The page is one file that needs no network. While a study is running, it covers the runs that have ended.

    The options --row and --test use test files to score one row (recipe) of a study. Choose the row by its scores on
    dev: a study can be scored on test files only once, and its folder keeps a record of that.

    Examples:

      mtbert report runs/demo

      mtbert report studies/demo

      mtbert report studies/mine --row smart --test topic=test.csv --test quality=quality-test.csv
    """
    from mtbert.studying import commands

    files = {}
    for given in test or ():
        task, equals, file = given.partition("=")
        if not (task and equals and file) or task in files:
            raise ValueError(f"--test {given}: give TASK=FILE, once for each task.")
        files[task] = Path(file)
    commands.report_on(path, plain_console(), row, files)


def main() -> None:
    """Runs the command line; :func:`mtbert.exit_codes.run_command` turns failures into messages and exit codes."""
    run_command(app)
