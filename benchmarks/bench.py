"""Measures the speed of mtbert, and prints each measurement as a row of a table, beside its goal.

    python -m benchmarks.bench                                  every row, on generated sentences
    python -m benchmarks.bench --data FOLDER --only scoring     the rows of one group, on the files of CS224N

Each row is written to ``benchmarks/results/latest.json`` as soon as it is measured. The file belongs to one machine,
commit and set of options. On another machine, commit or set, the file is started again.
"""

import argparse
import gc
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # all files are local: no row waits for a network

import torch
import transformers
from rich.console import Console

from benchmarks import report
from benchmarks.report import Row
from benchmarks.rows import GROUPS, rows_of
from benchmarks.sides import GOALS, ROOT, Settings
from benchmarks.timing import limits
from mtbert import environment

RESULTS = ROOT / "benchmarks" / "results" / "latest.json"


def measure(
    groups: Mapping[str, Callable[[Settings], Iterator[Row]]],
    settings: Settings,
    file: Path,
    head: Mapping[str, Any],
    console: Console,
    *,
    same: Iterable[str] = (),
    keep: bool = False,
) -> dict[str, Row]:
    """Measures the rows of all ``groups``, writes each row to ``file`` once it is measured, and returns all rows.

    If a group fails, its missing rows are marked as failed.

    Args:
        groups: The groups to measure, by name; see :data:`benchmarks.rows.GROUPS`.
        settings: The settings of all groups.
        file: Where to write. Rows that it already holds stay if they were measured under the same ``head``.
        head: The machine and everything else that rows must share to be comparable.
        console: Where each row is printed.
        same: The keys of ``head`` that must agree for rows to stay; all keys if empty.
        keep: Whether to skip groups whose rows are all in ``file`` and did not fail.
    """
    compared = {key: head[key] for key in same or head}
    found = report.read(file, compared)
    for name, group in groups.items():
        names = rows_of(name) or [name]
        if keep and all(row in found and not found[row].failed for row in names):
            continue
        begun = time.perf_counter()
        console.print(f"{name} ...")
        done = []
        try:
            for row in group(settings):
                done.append(row.name)
                found[row.name] = row
                report.write(file, head, found.values())
        except Exception as error:  # the failure of one group must not stop the others
            note = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            for row in names:
                if row not in done:
                    found[row] = Row(name=row, reach=GOALS.get(row, ""), note=note, failed=True)
            report.write(file, head, found.values())
        for row in names:
            console.print(f"  {report.line(found[row])}", markup=False, soft_wrap=True)
        console.print(f"  {time.perf_counter() - begun:.0f} s")
        gc.collect()
    order = list(GOALS)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def machine() -> dict[str, Any]:
    """Returns what a result depends on besides the code: hardware, threads, precision and the version of torch."""
    device = environment.device("auto")
    record = environment.make_record(device, {}, "")
    return {
        "cpu": record.cpu,
        "cores": record.cores,
        "threads": record.threads,
        "device": record.device,
        "precision": str(environment.precision("auto", device)).removeprefix("torch."),
        "torch": record.packages["torch"],
    }


def main() -> None:
    """Runs the command line; exits with 1 if a row failed, whether or not goals were reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(GROUPS), help="this row; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the rows and their goals, and end")
    parser.add_argument("--pairs", type=int, default=7, help="of measurements, ours and theirs (default: 7)")
    parser.add_argument("--encoder", help="demo, bert-base-shape or a folder, in all rows (default: each row's own)")
    parser.add_argument("--data", help="folder of the CS224N files (default: generated sentences)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pairs-scored", type=int, help="question pairs of the scoring row (default: all)")
    parser.add_argument("--keep", action="store_true", help="leave out rows that are already in the file")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--plot", type=Path, default=Settings.plot)
    chosen = parser.parse_args()
    console = Console(width=120)
    if chosen.list:
        for row, goal in GOALS.items():
            console.print(f"{row:26} {goal}", markup=False, highlight=False)
        return
    torch.set_num_threads(chosen.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")  # of packages about other packages
    device = environment.device("auto")
    rates = limits(device, environment.precision("auto", device))
    options = {key: getattr(chosen, key) for key in ("pairs", "encoder", "pairs_scored")}
    head = {
        "commit": environment.make_record(device, {}, "").git_commit,
        "machine": machine(),
        "options": options | {"data": "CS224N" if chosen.data else "generated"},
        "limits": {"flop_per_s": rates.flops, "bytes_per_s": rates.bandwidth},
    }
    with TemporaryDirectory() as work:
        os.environ["MTBERT_CACHE"] = str(Path(work) / "cache")
        settings = Settings(
            work=Path(work),
            pairs=chosen.pairs,
            encoder=chosen.encoder,
            data=chosen.data,
            threads=chosen.threads,
            pairs_scored=chosen.pairs_scored,
            plot=chosen.plot,
        )
        groups = {name: group for name, group in GROUPS.items() if not chosen.only or name in chosen.only}
        same = ["commit", "machine", "options"]  # not the limits, which are measured each time
        found = measure(groups, settings, chosen.results, head, console, same=same, keep=chosen.keep)
    report.show(found.values(), console)
    told = ", ".join(f"{key} {value}" for key, value in head["machine"].items())
    console.print(f"{told}; {rates.flops / 1e9:.0f} GFLOP/s, {rates.bandwidth / 1e9:.1f} GB/s", soft_wrap=True)
    console.print(f"written to {chosen.results}", soft_wrap=True)
    sys.exit(any(row.failed for row in found.values()))


if __name__ == "__main__":
    main()
