"""``mtbert doctor``: what it finds, what it advises, and that a probe which fails is one more line."""

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import torch

from mtbert import doctor, environment
from mtbert.doctor import caches, installed, kernels, machine
from mtbert.doctor.findings import Finding
from mtbert.messages import plain_console


def told(*probes: doctor.Probe, as_json: bool = False) -> tuple[bool, str]:
    file = io.StringIO()
    return doctor.report_health(plain_console(file), as_json=as_json, probes=probes), file.getvalue()


def shelf() -> Sequence[Finding]:
    return [Finding("shelf", "is low", ["Put it higher."], facts={"height": 3})]


def lamp() -> Sequence[Finding]:
    raise OSError("no\x1b[2J light")


def test_a_probe_that_fails_is_a_line_and_the_others_go_on():
    assert told(lamp, shelf) == (
        True,
        "lamp       cannot be told: OSError: no\\x1b[2J light\nshelf      is low\n\n"
        "1 piece of advice:\n- Put it higher.\n",
    )


def test_without_advice_all_is_well():
    assert told(lambda: [Finding("shelf", "is fine")]) == (True, "shelf      is fine\n\nAll is well.\n")


def test_json_has_the_findings_and_whether_all_works():
    healthy, text = told(shelf, lambda: [Finding("door", "fails", broken=True)], as_json=True)
    found = json.loads(text)
    assert not healthy
    assert found["healthy"] is False
    assert found["findings"][0] == {
        "topic": "shelf", "text": "is low", "advice": ["Put it higher."], "broken": False, "facts": {"height": 3}
    }  # fmt: skip


@pytest.mark.parametrize(("healthy", "code"), [(True, 0), (False, 1)])
def test_the_command_fails_only_if_something_is_broken(healthy: bool, code: int, mtbert, monkeypatch):
    monkeypatch.setattr(doctor, "report_health", lambda console, *, as_json: healthy)
    assert mtbert("doctor").code == code


def test_every_probe_of_this_machine_answers():
    for finding in doctor.examine([p for p in doctor.PROBES if p is not kernels.computing]):
        assert not finding.text.startswith("cannot be told"), finding
        json.dumps(finding.facts)


# Passes ------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "LENGTHS", (5, 3, 1))
    monkeypatch.setattr(kernels, "_WIDTH", 24)
    monkeypatch.setattr(kernels, "_HEADS", 2)


@pytest.mark.usefixtures("small")
def test_results_in_bf16_are_near_those_in_fp32(monkeypatch):
    monkeypatch.setattr("mtbert.environment.precision", lambda name, device: torch.bfloat16)
    exact, auto = kernels.timed_passes("cpu")
    assert (exact["precision"], auto["precision"]) == ("fp32", "bf16")
    assert 0 < exact["distance"] < 1e-5
    assert 1e-4 < auto["distance"] < kernels.DIFFERENT
    assert min(exact["attention"], exact["encoder"], auto["attention"], auto["encoder"]) > 0


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("wrong", [1.2, float("nan")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_kernel_with_wrong_results_is_found(wrong: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    from mtbert.model import attention

    attend = attention.attend

    def bad(qkv_N3D: torch.Tensor, *rest: object, **named: object) -> torch.Tensor:
        return attend(qkv_N3D, *rest, **named) * (wrong if qkv_N3D.dtype == dtype else 1)

    monkeypatch.setattr(attention, "attend", bad)
    monkeypatch.setattr("mtbert.environment.precision", lambda name, device: torch.bfloat16)
    finding = kernels._judged("cpu", kernels.timed_passes("cpu"), "")
    assert finding.broken
    name = {torch.bfloat16: "bf16", torch.float32: "fp32"}[dtype]
    assert finding.advice == [f"Results in {name} are wrong on cpu. Update PyTorch and the drivers of the device."]
    assert (finding.facts[name]["distance"] is None) == math.isnan(wrong)
    assert json.loads(told(lambda: [finding], as_json=True)[1], parse_constant=pytest.fail)


def timing(precision: str, seconds: float, distance: float = 0.0) -> kernels.PassTiming:
    return {"precision": precision, "attention": 0.001, "encoder": seconds, "distance": distance}


def test_a_precision_that_is_slower_than_fp32_is_advised_against():
    finding = kernels._judged("cpu", [timing("fp32", 0.01), timing("bf16", 0.013)], "")
    assert finding.advice == ["On cpu, bf16 is slower than fp32 here. Set train.precision: fp32."]
    assert "fp32 1.0 ms for attention, 10.0 ms for a small encoder; bf16 1.0 ms" in finding.text
    assert kernels._judged("cpu", [timing("fp32", 0.01), timing("bf16", 0.011)], "").advice == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -ILL $$", "ended with the signal 4"),
        ("echo 'RuntimeError: no kernel image' >&2; exit 1", "RuntimeError: no kernel image"),
        ("exec sleep 9", "no answer after 1 seconds"),
    ],
)
def test_a_pass_that_kills_its_process_or_never_ends_is_broken(script, said, tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    monkeypatch.setattr(kernels, "MOST_SECONDS", 1.0)
    finding = kernels._judged("cpu", *kernels._asked("cpu"))
    assert (finding.broken, finding.text) == (True, f"fails: {said}")


def test_the_passes_run_in_a_process_of_their_own_without_files_of_the_present_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torch.py").write_text("raise SystemExit('a file of the present folder')")
    calls: list[list[str]] = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda call, **options: calls.append(call) or run(call, **options))
    timings, failure = kernels._asked("cpu")
    assert failure == ""
    assert timings
    assert timings[0]["distance"] < 1e-5
    assert calls == [[sys.executable, "-P", "-m", "mtbert.doctor.kernels", "cpu"]]


# The machine -------------------------------------------------------------------------------------


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a test writes the limits of a container."""
    monkeypatch.setattr(environment, "CGROUP", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "9900000 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu.max": "nonsense"}, 8),
    ],
)
def test_the_limit_of_a_container_counts_as_its_cores(cgroup: Path, limits: dict[str, str], cores: int):
    for name, text in limits.items():
        (cgroup / name).parent.mkdir(exist_ok=True)
        (cgroup / name).write_text(text + "\n")
    assert environment.usable_cores() == cores


def test_more_threads_than_cores_are_advised_against(cgroup: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(psutil, "getloadavg", lambda: (1.0, 1.0, 1.0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert machine.threads()[0].advice == []
    (cgroup / "cpu.max").write_text("200000 100000")
    assert machine.threads()[0].advice == [
        "PyTorch uses 8 threads on 2 cores, which is many times slower than 2. Set train.threads: 2 in the recipe, or "
        "OMP_NUM_THREADS=2."
    ]


def test_cores_that_others_use_are_told(cgroup: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(psutil, "getloadavg", lambda: (9.5, 1.0, 1.0))
    (advice,) = machine.threads()[0].advice
    assert advice.startswith("Other programs want the cores too (load 9.5 on 8 cores), so training may be many times")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)  # the load is that of all 64, of which we may use 8
    assert machine.threads()[0].advice == []


def test_times_that_were_measured_beside_other_programs_say_so(cgroup: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(kernels, "_asked", lambda name: ([timing("fp32", 0.01)], ""))
    monkeypatch.setattr("mtbert.environment.device", lambda name: torch.device("cpu"))
    for load, said in (
        (8.9, "10.0 ms for a small encoder"),
        (9.5, "the cores too (load 9.5 on 8 cores), so it may be"),
    ):
        monkeypatch.setattr(psutil, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert said in kernels.computing()[0].text
        assert ("wanted the cores" in kernels.computing()[0].text) == (load > 9)


def test_the_memory_of_a_container_is_its_limit(cgroup: Path):
    (cgroup / "memory.max").write_text("1500000000\n")
    (finding,) = machine.memory()
    assert finding.text.startswith("1.5 GB by the container's limit, of ")
    assert finding.text.endswith(", 1.5 GB free")
    assert finding.advice == ["Only 1.5 GB of memory is free. Close programs, or lower train.batch_size."]
    (cgroup / "memory.current").write_text("1400000000\n")
    (cgroup / "memory.stat").write_text("anon 900000000\ninactive_file 300000000\n")
    assert machine.memory()[0].text.endswith(", 400.0 MB free")
    (cgroup / "memory.max").write_text("max\n")
    assert environment.memory_limit() is None


def test_a_processor_without_avx2_is_slow(monkeypatch: pytest.MonkeyPatch):
    old = {"cpu_name": "Old", "architecture": "x86_64", "avx2": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: old)
    (finding,) = machine.processor()
    assert finding.text == "Old, no features for matrices; precision auto is fp32"
    assert finding.advice == ["Old has no AVX2, so training is many times slower. Use a processor of 2015 or newer."]


def test_little_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("usage", (), {"free": 1_000_000}))
    assert machine.disk(tmp_path)[0].advice == ["Only 1.0 MB of disk is free here. A large run needs more; make room."]


def test_a_gpu_that_this_build_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    (advice,) = machine.gpu()[0].advice
    assert "is built without CUDA and finds none." in advice


# Packages and caches -----------------------------------------------------------------------------

REQUIREMENTS = (
    "numpy>=2",
    "pandas>=9999",
    "nothere>=1",
    'pytest>=9; extra == "one"',
    'nothere>=1; extra == "one"',
    'pytest>=9999; extra == "two"',
)


def test_each_extra_has_a_line_with_its_versions_or_how_to_install_them():
    required, one, two = installed.requirements(REQUIREMENTS)
    assert required.advice[0].startswith("pandas ")
    assert "nothere is missing (needs >=1)" in required.text
    assert one.topic == "[one]"
    assert one.text == f"pytest {pytest.__version__}; missing: nothere; pip install 'mtbert[one]'"
    assert one.advice == []
    assert two.advice == [
        f"pytest {pytest.__version__} does not fit (needs >=9999). Mend it: pip install 'mtbert[two]'"
    ]


def test_a_cache_has_its_size_and_how_to_empty_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "my cache"))
    (tmp_path / "my cache/data").mkdir(parents=True)
    (tmp_path / "my cache/data/a").write_bytes(bytes(1500))
    (tmp_path / "my cache/b").symlink_to("data/a")
    link = (tmp_path / "my cache/b").lstat().st_size
    ours = caches.cache_sizes()[0]
    assert ours.facts["size"] == 1500 + link
    assert ours.text.endswith(f"in 2 files, {tmp_path}/my cache; empty it: rm -r '{tmp_path}/my cache'")
    assert ours.advice == []
    monkeypatch.setattr(caches, "LARGE", 1000)
    assert caches.cache_sizes()[0].advice == [
        f"The cache of tables and tokens takes 1.5 kB of disk. Empty it: rm -r '{tmp_path}/my cache'"
    ]


def test_a_cache_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch(mode=0o755)
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "file/cache"))
    (advice,) = caches.cache_sizes()[0].advice
    assert advice.startswith(f"{tmp_path}/file/cache cannot be written, so each command reads")
