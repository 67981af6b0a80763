"""Everything that needs a GPU, in one call: tests, speed beside its goals, a profile of small steps, and learning.

    python -m benchmarks.gpu run --out FOLDER                 on a GPU, in less than 8 minutes
    python -m benchmarks.gpu run --out FOLDER --device cpu    the same at a small scale, on the CPU in place of a GPU
    python -m benchmarks.gpu weights                          MiniLM rounded to bfloat16, into .wheels/minilm
    python -m benchmarks.gpu reference                        the CPU's side of learning, into benchmarks/results

Each part is a process with a time limit. A part appends every measurement to ``FOLDER/gpu.json`` immediately, so that a
later failure loses nothing. The output of a part is in ``FOLDER/PART.txt``.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # all files are local: nothing waits for a network

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / ".wheels" / "minilm"
REFERENCE = ROOT / "benchmarks" / "results" / "gpu-reference.json"
LIMITS = {"machine": 40, "tests": 150, "speed": 120, "profile": 50, "learning": 100}  # seconds of each part, in order


def write(out: Path, line: Mapping[str, Any]) -> None:
    """Appends a line to ``gpu.json`` in the folder ``out``."""
    with (out / "gpu.json").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def supervise(parts: Mapping[str, float], command: list[str], out: Path) -> bool:
    """Runs ``command PART`` for each part, with its time limit in seconds; returns whether all parts succeeded."""
    well = True
    for name, limit in parts.items():
        begun, file = time.perf_counter(), out / f"{name}.txt"
        with file.open("wb") as said:
            process = subprocess.Popen([*command, name], stdout=said, stderr=said, cwd=ROOT, start_new_session=True)
            try:
                ended = f"exit {process.wait(limit)}"
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                ended = f"stopped after {limit:g} s"
        well = well and ended == "exit 0"
        last = (file.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"])[-1]
        seconds = round(time.perf_counter() - begun, 1)
        write(out, {"part": name, "ended": ended, "seconds": seconds, "said": last[-300:]})
        print(f"{name}: {ended}, {seconds} s: {last[-300:]}", flush=True)
    return well


def main() -> None:
    """Runs the command line; exits with 1 if a part failed or exceeded its time limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "weights", "reference", *LIMITS])
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu", help="folder of all files")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: stand in, in small")
    parser.add_argument("--encoder", type=Path, default=WEIGHTS, help="folder of the small encoder")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="file of the CPU's losses")
    chosen = parser.parse_args()
    if chosen.what == "run":
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / "gpu.json").unlink(missing_ok=True)
        options = [f"--{key}={getattr(chosen, key)}" for key in ("out", "device", "encoder", "reference")]
        sys.exit(not supervise(LIMITS, [sys.executable, "-m", "benchmarks.gpu", *options], chosen.out))
    from benchmarks import gpu_parts  # imported here because torch takes seconds to import, and every part is a process

    made = gpu_parts.Settings(
        device=chosen.device, encoder=chosen.encoder, out=chosen.out, sizes=gpu_parts.SIZES[chosen.device]
    )
    if chosen.what == "weights":
        gpu_parts.round_weights(chosen.encoder)
    elif chosen.what == "reference":
        gpu_parts.refer(replace(made, device="cpu"), chosen.reference)
    else:
        for line in gpu_parts.PARTS[chosen.what](made, chosen.reference):
            write(chosen.out, {"part": chosen.what} | line)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
