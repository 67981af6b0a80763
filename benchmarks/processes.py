"""Trains six recipes in 1, 2 and 4 processes, stops and kills them, and compares every bit of the results.

    python -m benchmarks.processes                                  all: 200 steps, 20 kills
    python -m benchmarks.processes --steps 24 --kills 1 --only surgery
    python -m benchmarks.processes --folder FOLDER                  keeps its runs there, and goes on where it stopped

Each of the six is trained

- in one process, in two and in four, with one thread each;
- in two processes, stopped by SIGTERM to one of them, resumed in four, stopped again, and resumed in one;
- in two or four processes of which one is killed by SIGKILL at a random step, resumed with another number of processes,
  killed again, and so on. After the last kill, torchrun itself restarts the processes (--max-restarts);
- the first of the six also with a process that hangs (SIGSTOP).

All runs of a recipe must have the same files in ``last/`` and ``best/``, and the same ``metrics.jsonl``.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from benchmarks.processes_recipes import RECIPES, write
from benchmarks.same_bits import METRICS, Difference, compare

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 600.0  # seconds that a command may take


class Failed(Exception):
    """Raised when a command did not end as it should; the message says how it ended."""


class Command:
    """A command that trains a run in several processes, which ``torchrun`` starts; one process is started without it.

    Args:
        arguments: What follows ``python``.
        processes: How many processes.
        log: A file for all that the command prints.
        restarts: How often torchrun may restart processes that failed.
    """

    def __init__(self, arguments: Sequence[str], processes: int, log: Path, restarts: int = 0) -> None:
        torchrun = ["-m", "torch.distributed.run", "--standalone"]
        torchrun += [f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
        whole = [sys.executable, *(torchrun if processes > 1 else ()), *arguments]
        own = {
            "PYTHONPATH": str(ROOT / "src"),
            "MTBERT_CACHE": str(log.parent / "cache"),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "PYTHONWARNINGS": "ignore",
        }
        self.log = log
        self.begun = time.monotonic()
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                whole, env=os.environ | own, stdout=file, stderr=file, start_new_session=True
            )

    def rank(self, rank: int) -> int:
        """Returns the process id of a rank."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return int(child)
        raise Failed(f"{self.log}: rank {rank} has no process")

    def at_step(self, out: Path, step: int) -> bool:
        """Waits until the run in ``out`` has logged ``step`` steps; False if the command ended before."""
        while self.process.poll() is None:
            if (out / METRICS).is_file() and _steps(out) >= step:
                return True
            if time.monotonic() > self.begun + LONGEST:
                raise Failed(f"{self.log}: not at step {step} after {LONGEST:.0f} seconds")
            time.sleep(0.005)
        return False

    def ended(self, *codes: int) -> str:
        """Waits for the end, and returns what was printed. Raises Failed unless the exit code is one of ``codes``."""
        try:
            code = self.process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.log}: still running after {LONGEST:.0f} seconds") from None
        finally:
            self.end()
        printed = self.log.read_text(errors="replace")
        if code not in codes:
            raise Failed(f"{self.log}: ended with {code}: {' '.join(printed.splitlines()[-1:])}")
        return printed

    def end(self) -> None:
        """Kills what is left of the command."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _steps(out: Path) -> int:
    """Returns the number of the last step that the run in ``out`` has logged."""
    lines = (out / METRICS).read_bytes().splitlines()[-3:]
    numbers = [json.loads(line)["step"] for line in lines if line.endswith(b"}")]
    return max(numbers, default=0)


# Ways to train ----------------------------------------------------------------------------------------------------


class Trainer:
    """Trains one recipe in different ways, each into a folder of its own.

    Args:
        folder: Where runs and logs go.
        start: What follows ``python`` to start the run, except the folder of the run.
        steps: The number of steps of the run.
        seed: Of the random steps at which processes are killed.
    """

    def __init__(self, folder: Path, start: Sequence[str], steps: int, seed: str) -> None:
        self.folder, self.start, self.steps = folder, list(start), steps
        self.draws = random.Random(seed)
        self.count = 0

    def command(self, out: Path, processes: int, restarts: int = 0) -> Command:
        """Starts a run in ``out``, or resumes the one that is there."""
        self.count += 1
        arguments = ["-m", "mtbert", "train", "--resume", str(out)]
        if not (out / "recipe.yaml").is_file():
            arguments = [*self.start, str(out)]
        return Command(arguments, processes, self.folder / f"{out.name}-{self.count}.log", restarts)

    def whole(self, out: Path, processes: int) -> str:
        """Trains without an interruption."""
        made = self.command(out, processes)
        made.ended(0)
        return f"{time.monotonic() - made.begun:.0f} s"

    def stopped(self, out: Path) -> str:
        """Trains in 2, then 4, then 1 processes, with two stops. Says where the stops were."""
        at = []
        for part, processes in enumerate((2, 4)):
            made = self.command(out, processes)
            if not made.at_step(out, (part + 1) * self.steps // 3):
                made.ended()
            os.kill(made.rank(self.draws.randrange(processes)), signal.SIGTERM)
            printed = made.ended(1, 130)  # of torchrun itself 1
            if not any("stopped at step" in line for line in printed.splitlines()):
                raise Failed(f"{made.log}: does not say that it stopped")
            at.append(_steps(out))
        self.command(out, 1).ended(0)
        return f"stopped at steps {at[0]} and {at[1]}"

    def killed(self, out: Path, kills: int) -> str:
        """Trains with kills of one process at random steps, and says at which. torchrun restarts after the last one."""
        at = sorted(self.draws.sample(range(2, self.steps - 2), kills))
        said = []
        for number, step in enumerate(at, 1):
            processes = self.draws.choice((2, 4))
            made = self.command(out, processes, restarts=2 * (number == kills))
            if not made.at_step(out, step):
                made.ended()
            rank = self.draws.randrange(processes)
            os.kill(made.rank(rank), signal.SIGKILL)
            said.append(f"{_steps(out)} (rank {rank} of {processes})")
            printed = made.ended(0 if number == kills else 1)
            lines = [line for line in printed.splitlines() if "was lost" in line]
            # A rank that torchrun ends before it notices prints nothing.
            if len(lines) > 1:
                raise Failed(f"{made.log}: {len(lines)} lines say that a process was lost")
        return f"killed at steps {', '.join(said)}"

    def hung(self, out: Path) -> str:
        """Trains in two processes of which one is stopped by SIGSTOP, and resumes."""
        made = self.command(out, 2)
        if not made.at_step(out, self.steps // 2):
            made.ended()
        os.kill(made.rank(1), signal.SIGSTOP)
        begun = time.monotonic()
        printed = made.ended(1)
        seconds = time.monotonic() - begun
        if printed.count("has not answered") != 1:
            raise Failed(f"{made.log}: does not say once that a process has not answered")
        if seconds > 60:
            raise Failed(f"{made.log}: ended {seconds:.0f} seconds after a process began to hang")
        self.command(out, 2).ended(0)
        return f"ended {seconds:.0f} s after rank 1 began to hang"


def ways(trainer: Trainer, kills: int, hang: bool) -> Iterator[tuple[str, Callable[[Path], str]]]:
    """Yields the name of each way to train, and a function that does it; one process comes first."""
    yield "1 process", lambda out: trainer.whole(out, 1)
    yield "2 processes", lambda out: trainer.whole(out, 2)
    yield "4 processes", lambda out: trainer.whole(out, 4)
    yield "2, 4, 1 processes", trainer.stopped
    if kills:
        yield "kills", lambda out: trainer.killed(out, kills)
    if hang:
        yield "a hanging process", trainer.hung


# The command ------------------------------------------------------------------------------------------------------


def measure(folder: Path, names: Sequence[str], steps: int, kills: int) -> int:
    """Trains the recipes in all ways that ``folder/results.json`` lacks, and returns how many runs differ."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "results.json"
    results = json.loads(kept.read_text()) if kept.is_file() else {"steps": steps, "kills": kills, "found": {}}
    if (results["steps"], results["kills"]) != (steps, kills):
        raise SystemExit(f"{kept}: of {results['steps']} steps and {results['kills']} kills. Give another folder.")
    commands = write(folder, steps)
    different = 0
    for number, name in enumerate(RECIPES):
        if name not in names:
            continue
        of_recipe = folder / name.replace(" ", "-")
        of_recipe.mkdir(exist_ok=True)
        trainer = Trainer(of_recipe, commands[name], steps, name)
        share = kills // len(RECIPES) + (number < kills % len(RECIPES))
        for way, train in ways(trainer, share, hang=number == 0):
            key, out = f"{name}: {way}", of_recipe / way.replace(" ", "-").replace(",", "")
            if results["found"].get(key, "DIFFERENT").startswith("DIFFERENT"):
                rmtree(out, ignore_errors=True)
                results["found"][key] = _judged(train, out, of_recipe / "1-process")
                kept.write_text(json.dumps(results, indent=1))
            found = results["found"][key]
            different += found.startswith("DIFFERENT")
            print(f"{key}: {found}", flush=True)
    return different


def _judged(train: Callable[[Path], str], out: Path, whole: Path) -> str:
    """Returns what ``train`` says, and whether the run in ``out`` equals that in ``whole``."""
    try:
        said = train(out)
        if out == whole:
            return said
        equal = compare(out, whole)
        if (out / METRICS).read_bytes() != (whole / METRICS).read_bytes():
            raise Difference(f"{METRICS}: other bytes")
    except (Failed, Difference, OSError) as error:
        return f"DIFFERENT: {error}"
    return f"{equal.tensors} tensors and {equal.lines} lines of metrics equal; {said}"


def main() -> None:
    """Prints a line for each run; exits with 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="of each run (default: 200)")
    parser.add_argument("--kills", type=int, default=20, help="shared out among the recipes (default: 20)")
    parser.add_argument("--only", choices=list(RECIPES), action="append", help="one of the recipes; may be repeated")
    parser.add_argument("--folder", type=Path, help="keep the runs here, and go on where an earlier call stopped")
    chosen = parser.parse_args()
    with TemporaryDirectory() as work:
        folder = chosen.folder or Path(work)
        raise SystemExit(bool(measure(folder.resolve(), chosen.only or list(RECIPES), chosen.steps, chosen.kills)))


if __name__ == "__main__":
    main()
