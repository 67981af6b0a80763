"""The processor, threads, memory, disk and GPU of this machine, and how much of them the container allows us to use."""

import os
import platform
import shutil
from pathlib import Path

from mtbert.doctor.findings import Finding, size_text
from mtbert.messages import count

LITTLE_MEMORY = 2 * 10**9  # bytes; a run with MiniLM takes about 1.5 GB
LITTLE_DISK = 5 * 10**9  # bytes; a run of a base-size encoder keeps about 2.5 GB in best/ and last/
FEATURES = {"avx2": "AVX2", "avx512_f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX"}


def processor() -> list[Finding]:
    """Returns the name of the processor, its instruction sets for matrices, and the precision that ``auto`` takes."""
    import torch

    from mtbert import environment

    capabilities = torch.cpu.get_capabilities()
    name = str(capabilities.get("cpu_name") or platform.processor() or platform.machine())
    features = [label for key, label in FEATURES.items() if capabilities.get(key)]
    auto = "bf16" if environment.precision("auto", torch.device("cpu")) == torch.bfloat16 else "fp32"
    advice = []
    if capabilities.get("architecture") == "x86_64" and not capabilities.get("avx2"):
        advice.append(f"{name} has no AVX2, so training is many times slower. Use a processor of 2015 or newer.")
    text = f"{name}, {', '.join(features) or 'no features for matrices'}; precision auto is {auto}"
    return [Finding("processor", text, advice, facts={"name": name, "features": features, "precision": auto})]


def threads() -> list[Finding]:
    """Returns the number of PyTorch's threads, and advice if there are more of them than cores that we may use."""
    import torch

    from mtbert import environment

    cores, usable, used = os.cpu_count() or 1, environment.usable_cores(), torch.get_num_threads()
    busy, advice = environment.others_load(), []
    if used > usable:
        advice.append(
            f"PyTorch uses {count(used, 'thread')} on {count(usable, 'core')}, which is many times slower than "
            f"{usable}. Set train.threads: {usable} in the recipe, or OMP_NUM_THREADS={usable}."
        )
    if busy:
        advice.append(
            f"Other programs want the cores too ({busy}), so training may be many times slower and times vary. "
            f"{environment.WAIT}"
        )
    text = f"{used} of PyTorch on {count(usable, 'core')}"
    text += f", of {cores} that the machine has" if usable < cores else ""
    facts = {"threads": used, "usable_cores": usable, "cores": cores, "load": round(environment.load_average(), 2)}
    return [Finding("threads", text, advice, facts=facts)]


def memory() -> list[Finding]:
    """Returns the memory of the machine, or the container's limit, and how much of it is free."""
    import psutil

    from mtbert import environment

    machine = psutil.virtual_memory()
    total, free = machine.total, machine.available
    limit = environment.memory_limit()
    text = size_text(total)
    if limit is not None and limit < total:
        free = min(free, max(0, limit - environment.memory_used()))
        text = f"{size_text(limit)} by the container's limit, of {size_text(total)}"
    text += f", {size_text(free)} free"
    advice = []
    if free < LITTLE_MEMORY:
        advice.append(f"Only {size_text(free)} of memory is free. Close programs, or lower train.batch_size.")
    return [Finding("memory", text, advice, facts={"total": total, "free": free, "limit": limit})]


def disk(folder: Path | None = None) -> list[Finding]:
    """Returns the free space of the current folder, or of ``folder``, and advice if it is little."""
    place = folder or Path.cwd()
    found = shutil.disk_usage(place)
    advice = []
    if not os.access(place, os.W_OK):
        advice.append("The current folder cannot be written. Give every command a place with --out.")
    if found.free < LITTLE_DISK:
        advice.append(f"Only {size_text(found.free)} of disk is free here. A large run needs more; make room.")
    return [Finding("disk", f"{size_text(found.free)} free in this folder", advice, facts={"free": found.free})]


def gpu() -> list[Finding]:
    """Returns the GPUs that PyTorch can use, and advice if the machine has one that PyTorch cannot use."""
    import torch

    from mtbert import environment

    if not torch.cuda.is_available():
        if torch.backends.mps.is_available():
            return [Finding("gpu", "MPS, the GPU of an Apple processor", facts={"name": "MPS"})]
        advice = []
        if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
            built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
            advice.append(
                f"The machine has a driver for NVIDIA GPUs, but PyTorch {torch.__version__} is built {built} and finds "
                "none. Install a build that fits the driver: https://pytorch.org/get-started."
            )
        return [Finding("gpu", "none that PyTorch can use", advice, facts={"name": None})]
    findings = []
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        free, total = torch.cuda.mem_get_info(device)
        name, version = torch.cuda.get_device_name(device), ".".join(map(str, torch.cuda.get_device_capability(device)))
        auto = "bf16" if environment.precision("auto", device) == torch.bfloat16 else "fp32"
        advice = []
        if free < total / 2:
            taken = size_text(total - free)
            advice.append(f"Other programs hold {taken} of the memory of {name}. End them, or lower train.batch_size.")
        text = f"{name}, {size_text(free)} of {size_text(total)} free, compute capability {version}, "
        text += f"CUDA {torch.version.cuda}; precision auto is {auto}"
        facts = {"name": name, "free": free, "total": total, "capability": version, "precision": auto}
        findings.append(Finding("gpu", text, advice, facts=facts))
    return findings
