"""One run of a study in a process of its own: ``python -m mtbert.study.worker CELL``.

Trains the recipe of the cell's folder into ``run/`` there, or goes on with what is there, and stops as after Ctrl-C
when its standard input ends: when the study is killed, no worker is left behind.
"""

import json
import math
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path

from mtbert import locks
from mtbert.json_files import write_settings
from mtbert.messages import plain_console
from mtbert.recipe.files import RECIPE_FILE, load_recipe
from mtbert.study.runs import EndRecord, RunPlace
from mtbert.training.resume import resume_run
from mtbert.training.start import start_run
from mtbert.training.stopping import Stopped


def work(cell: RunPlace) -> None:
    """Trains to the end of the plan, says so in ``ended.json``, and drops what only training needs."""
    console = plain_console()
    with locks.alone(cell.folder, "study", wait=True):  # a worker of a study that was killed may still be saving
        if cell.ended.exists():
            return
        if (cell.run / RECIPE_FILE).is_file():
            resume_run(cell.run, console)
        else:
            start_run(load_recipe(str(cell.recipe)), cell.run, console)
        seconds = _seconds(cell.run / "timings.jsonl")
        write_settings(cell.ended, EndRecord(seconds=round(seconds, 1)))
        cell.tidy()


def _seconds(timings: Path) -> float:
    """Returns the seconds of all steps. A repeated step counts once, a line cut off by a kill not at all."""
    by_step = {}
    for line in timings.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            taken = json.loads(line)
            by_step[taken["step"]] = taken["seconds"]
    return math.fsum(by_step.values())


def _stop_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock would keep the interpreter from ending
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Ends with 130 after a stop, with 1 and one last line that says why after a failure."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        work(RunPlace(Path(sys.argv[1])))
    except Stopped as stop:
        print(stop)
        sys.exit(130)
    except Exception as error:  # whatever it is, it ends this run alone
        traceback.print_exc(file=sys.stdout)
        print(f"{type(error).__name__}: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
