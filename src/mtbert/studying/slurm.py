"""Carries out a study in the jobs of a Slurm cluster, through submitit (the extra ``slurm``).

submitit writes each job into a file with pickle, which the job reads on its machine. The only class of this project in
the pickle is :class:`StudyJob`, and its values are plain, so unpickling runs no code from a user's files.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mtbert.advice import command_line
from mtbert.messages import clean, few, plain_console, reason, tell_end
from mtbert.studying.commands import begin_study, run_study
from mtbert.studying.plan import Plan, load_study, shipped_studies
from mtbert.studying.run_processes import stop_workers
from mtbert.training.signals import Stopped

SLURM = "slurm"
MINUTES = 240  # of a job, which is then queued again; the default
TIMEOUTS = 1000  # how often a job is queued again because its time was up
SAVING = 60.0  # seconds in which runs must be saved before a job is queued again; after 90, Slurm ends the job
GRACE = 600.0  # seconds that a stopped job waits until Slurm queues it again or ends it


@dataclass(frozen=True)
class StudyJob:
    """The work of a Slurm job: to train the runs of a study. Several jobs can share the runs.

    The job ends when no run is left to train. Each run then either has ended or is being trained by another job.

    Attributes:
        study: The name of a shipped study, or the absolute path of a study's file.
        changes: Changes to every recipe of the study, as ``a.b=c``.
        out: The folder of the study.
        workers: The number of runs that train at the same time.
    """

    study: str
    changes: tuple[str, ...]
    out: str
    workers: int

    def __call__(self) -> None:
        """Trains runs. submitit calls this in the job."""
        plan = load_study(self.study, self.changes)
        try:
            failed = run_study(plan, Path(self.out), self.workers, plain_console(), wait=False).failed
        except Stopped:  # Slurm sends SIGTERM first, and does not queue a job again that ends by itself
            time.sleep(GRACE)
            raise
        if failed:  # Slurm shows the job as failed, and submitit keeps the message
            raise RuntimeError(f"failed: {few(sorted(failed))}. The log says why.")

    def checkpoint(self) -> Any:
        """Stops the runs of this job, waits until they are saved, and returns a new job that does the same work.

        The wait takes at most ``SAVING`` seconds. submitit calls this method shortly before the time of a job is up,
        and then queues the new job.
        """
        from submitit.helpers import DelayedSubmission

        stop_workers(SAVING)
        return DelayedSubmission(self)


def submit_study(
    plan: Plan,
    study: str,
    changes: Sequence[str],
    out: Path,
    workers: int,
    jobs: int,
    options: Sequence[str],
    console: Console,
    *,
    cluster: str = SLURM,
) -> list[Any]:
    """Begins a study and submits jobs that share its runs. Returns the jobs, as submitit's objects.

    Args:
        plan: The plan of the study.
        study: The name of a shipped study, or the path of a study's file.
        changes: Changes to every recipe of the study, as ``a.b=c``.
        out: The folder of the study, on a disk that all machines of the cluster see.
        workers: The number of runs that train at the same time in a job.
        jobs: The number of jobs.
        options: Options of ``sbatch`` for every job, as KEY=VALUE, or KEY alone. ``time`` is in minutes.
        console: Shows the numbers of the jobs, where their logs are, and what to type next.
        cluster: ``slurm``, or ``local`` for jobs on this machine without Slurm.

    Raises:
        ValueError: If submitit or Slurm is missing, if an option cannot be used, or if the study cannot begin.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError("--slurm: submitit is not installed. Run: pip install 'mtbert[slurm]'") from None
    given = _options(options)
    minutes = _whole("time", given.pop("time", MINUTES))
    cores = _whole("cpus-per-task", given.get("cpus_per_task", 1))
    if cluster == SLURM and shutil.which("srun") is None:
        raise ValueError("--slurm: there is no srun on this machine. Give the command on a machine of the cluster.")
    begin_study(plan, out, workers, console, cores=cores)
    logs = (out / SLURM).absolute()
    executor = submitit.AutoExecutor(folder=logs, cluster=cluster, **{f"{cluster}_max_num_timeout": TIMEOUTS})
    executor.update_parameters(
        name="mtbert",
        timeout_min=minutes,
        stderr_to_stdout=True,
        slurm_additional_parameters=given,
        slurm_srun_args=[f"--cpus-per-task={cores}"],  # since Slurm 22.05, srun does not take it from sbatch
    )
    known = study if study in shipped_studies() else str(Path(study).absolute())
    work = StudyJob(known, tuple(changes), str(out.absolute()), workers)
    try:
        with executor.batch():
            found = [executor.submit(work) for _ in range(jobs)]
    except submitit.core.utils.FailedJobError as error:
        raise ValueError(f"--slurm: sbatch refuses ({reason(error)}). Check --sbatch.") from None
    changed = [word for change in changes for word in ("--set", change)]
    jobs_logs = f"submitted: {few([job.job_id for job in found])}; their logs are {logs}/*_log.out"
    tell_end(console, jobs_logs, command_line("study", study, *changed, "--out", out, "--list"))
    return found


def _options(options: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.removeprefix("--").partition("=")
        name = key.replace("-", "_")
        if not name.isidentifier() or (equals and not value) or "\n" in value:
            raise ValueError(f"--sbatch {clean(option)}: must be KEY=VALUE or KEY. Give for example partition=gpu.")
        found[name] = value if equals else True
    return found


def _whole(name: str, value: Any) -> int:
    text = str(value)
    if not (text.isascii() and text.isdecimal() and int(text[:9]) > 0):
        unit = " of minutes" if name == "time" else ""
        raise ValueError(f"--sbatch {name}={clean(text)}: must be a whole number{unit}, at least 1.")
    return int(text)
