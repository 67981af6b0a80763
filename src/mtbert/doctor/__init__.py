"""``mtbert doctor``: examines the machine and the installation, and advises where something will be slow or fail."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from mtbert.doctor.caches import cache_sizes
from mtbert.doctor.findings import Finding
from mtbert.doctor.installed import requirements, torch_loads, versions
from mtbert.doctor.kernels import computing
from mtbert.doctor.machine import disk, gpu, memory, processor, threads
from mtbert.messages import clean, count, reason

if TYPE_CHECKING:
    from rich.console import Console

Probe = Callable[[], Sequence[Finding]]
PROBES: tuple[Probe, ...] = (
    versions,
    torch_loads,
    processor,
    threads,
    memory,
    gpu,
    computing,
    disk,
    cache_sizes,
    requirements,
)


def examine(probes: Sequence[Probe] = PROBES) -> Iterator[Finding]:
    """Yields what each probe finds, one after the other. A probe that fails becomes a finding that says so."""
    for probe in probes:
        try:
            found = probe()
        except Exception as error:
            found = [Finding(probe.__name__, f"cannot be told: {type(error).__name__}: {reason(error)}")]
        yield from found


def report_health(console: "Console", *, as_json: bool = False, probes: Sequence[Probe] = PROBES) -> bool:
    """Prints the findings, and then all advice. Returns whether no finding is marked as broken.

    Args:
        console: Where the findings are printed.
        as_json: Whether to print one JSON object instead: ``{"findings": [...], "healthy": true}``.
        probes: Functions that each examine one thing, such as the memory, and return findings about it.
    """
    findings = []
    for finding in examine(probes):
        findings.append(finding)
        if not as_json:
            console.print(f"{clean(finding.topic):10} {clean(finding.text)}", soft_wrap=True)
    healthy = not any(finding.broken for finding in findings)
    if as_json:
        console.print(
            json.dumps({"findings": [asdict(f) for f in findings], "healthy": healthy}, allow_nan=False), soft_wrap=True
        )
        return healthy
    advice = [line for finding in findings for line in finding.advice]
    console.print(f"\n{count(len(advice), 'piece')} of advice:" if advice else "\nAll is well.")
    for line in advice:
        console.print(f"- {clean(line)}", soft_wrap=True)
    return healthy
