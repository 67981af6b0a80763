"""Carries out one run of a study in a process of its own: ``python -m mtbert.studying.worker FOLDER``.

FOLDER is the folder of the run (see :class:`RunPlace`), and contains a recipe. The process that starts the worker has
locked FOLDER. The worker begins the run that the recipe describes. If the run was interrupted, the worker resumes it.
When the worker's standard input ends, the worker stops as if Ctrl-C had been pressed. Therefore no workers remain after
a study is killed.
"""

import os
import signal
import sys
import threading
import traceback
from pathlib import Path

from mtbert.json_files import write_settings
from mtbert.messages import plain_console
from mtbert.recipe.files import RECIPE_FILE, load_recipe
from mtbert.studying.runs import EndRecord, FailRecord, RunPlace
from mtbert.training.resume import resume_run
from mtbert.training.signals import Stopped
from mtbert.training.start import start_run
from mtbert.training.timings import TIMINGS, read_timings, total_seconds


def work(place: RunPlace) -> None:
    """Trains a run to its end, writes ``ended.json``, and removes the files that only training needs.

    If the loss or gradients are not finite, writes ``failed.json``.
    """
    console = plain_console()
    try:
        if (place.run / RECIPE_FILE).is_file():
            resume_run(place.run, console)
        else:
            start_run(load_recipe(str(place.recipe)), place.run, console)
    except FloatingPointError as error:
        write_settings(place.failed, FailRecord(why=f"{type(error).__name__}: {error}"))
        raise
    seconds = total_seconds(read_timings(place.run / TIMINGS))
    write_settings(place.ended, EndRecord(seconds=round(seconds, 1)))
    place.tidy()


def _stop_with_parent() -> None:
    while os.read(0, 1):  # sys.stdin has a lock, which would keep the interpreter from ending
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Runs the worker in the folder that the command line names.

    Exits with 130 after a stop, and with 1 after a failure. The last line that it prints says why.
    """
    signal.signal(
        signal.SIGUSR2, signal.SIG_IGN
    )  # Slurm may send it to all processes of a job; the job then stops them
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        work(RunPlace(Path(sys.argv[1])))
    except Stopped as stop:
        print(stop)
        sys.exit(130)
    except Exception as error:  # any error ends only this run, and the study goes on
        traceback.print_exc(file=sys.stdout)
        print(f"{type(error).__name__}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
