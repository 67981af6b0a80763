"""The command ``mtbert study``."""

from pathlib import Path
from typing import Annotated

import typer

from mtbert.cli.options import Overrides
from mtbert.messages import plain_console


def study(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a shipped one.")],
    out: Annotated[Path | None, typer.Option(help="The study's folder. Default: studies/STUDY.")] = None,
    set_: Overrides = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at the same time; fewer if memory is short.")] = 1,
    list_: Annotated[
        bool, typer.Option("--list", help="List the runs, each with its number, row, seed and state; train nothing.")
    ] = False,
    part: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Train or list only the runs number I, I+N, I+2N and so on of the list."),
    ] = None,
    slurm: Annotated[
        int | None, typer.Option(min=1, metavar="JOBS", help="Submit this many Slurm jobs, which share the runs.")
    ] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="With --slurm: an option of sbatch, such as time=90 (minutes); may be repeated."
        ),
    ] = None,
) -> None:
    """Compare recipes over several seeds, and report which one helps.

    Runs every recipe of the study with every seed. The report says which techniques help, how much, and how certain
    this is.

    Run the same command again to resume a study that was stopped. You can also add recipes or seeds to the study file,
    and run the same command again. Runs that have ended are not repeated.

    To share the work, give the same command several times, on one machine or on several that share the disk.

    Shipped studies: 'demo' has generated data and nine runs (about 20 minutes on two busy cores). 'paper' has the
    recipes called paper/... . 'quick' has the same techniques with MiniLM and shorter runs. 'best' has the recipes of
    'quick' and the recipe 'best'. 'best-parts' has the recipe 'best' and variants that each lack one part. 'six' has
    seven tasks from six data sets, and compares two ways to learn them: a single model for all tasks, and a separate
    model for each task.

    Examples:

      mtbert study demo --out studies/demo

      mtbert study quick --set data.root=data --workers 2

      mtbert study my-study.yaml --out studies/mine

      mtbert study my-study.yaml --list

      mtbert study my-study.yaml --part 2/8

      mtbert study my-study.yaml --slurm 8 --sbatch partition=gpu --sbatch gpus=1 --sbatch cpus-per-task=8
    """
    if sbatch and slurm is None:
        raise ValueError("--sbatch is for --slurm JOBS. See: mtbert study --help")
    if slurm is not None and (list_ or part is not None):
        raise ValueError("--slurm: its jobs share all runs, so give neither --list nor --part.")
    if list_ or slurm is not None:
        from mtbert.files import check_out
        from mtbert.part_share import share_of
        from mtbert.studying.plan import load_study, study_folder

        plan, place = load_study(study, set_ or ()), check_out(out or study_folder(study))
        if list_:
            from mtbert.studying.commands import list_runs

            for line in list_runs(plan, place, share_of(part)):
                typer.echo(line)
        else:
            from mtbert.studying.slurm import submit_study

            submit_study(plan, study, set_ or (), place, workers, slurm or 1, sbatch or (), plain_console())
        return
    from mtbert import api_studies

    if api_studies.study(study, out, changes=set_ or (), workers=workers, part=part, progress=True).failed:
        raise typer.Exit(1)
