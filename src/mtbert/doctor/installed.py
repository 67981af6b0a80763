"""Versions of Python and packages, and the packages of each extra."""

import platform
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import TYPE_CHECKING

from mtbert.doctor.findings import Finding
from mtbert.messages import few

if TYPE_CHECKING:
    from packaging.requirements import Requirement

MAIN_PACKAGES = ("torch", "tokenizers", "safetensors", "numpy", "datasets", "huggingface-hub")


def versions() -> list[Finding]:
    """Returns the versions of mtbert, Python, and the packages that matter most."""
    python = platform.python_version()
    system = f"Python {python} ({sys.executable}), {platform.platform()}"
    own = _version("mtbert") or "missing"
    found = {name: _version(name) or "missing" for name in MAIN_PACKAGES}
    packages = ", ".join(f"{name} {version}" for name, version in found.items())
    return [
        Finding("mtbert", f"{own}, {system}", facts={"mtbert": own, "python": python}),
        Finding("packages", packages, facts={"versions": found}),
    ]


def torch_loads() -> list[Finding]:
    """Returns a finding only if PyTorch cannot be imported."""
    try:
        import torch  # noqa: F401
    except Exception as error:
        return [Finding("torch", f"cannot be imported: {error}", ["Install PyTorch again: pip install torch"], True)]
    return []


def requirements(lines: Iterable[str] | None = None) -> list[Finding]:
    """Returns a line for each extra, which lists its packages, and a line about the packages that mtbert always needs.

    Args:
        lines: Requirements in the form of a package's metadata. The default is the requirements of the installed
        mtbert.
    """
    from packaging.requirements import Requirement

    all_lines = list(metadata.requires("mtbert") or ()) if lines is None else list(lines)
    by_extra: dict[str, list[Requirement]] = {"": []}
    for requirement in map(Requirement, all_lines):
        for extra in _extras(requirement.marker):
            by_extra.setdefault(extra, []).append(requirement)
    return [_extra(extra, wanted) if extra else _required(wanted) for extra, wanted in by_extra.items()]


def _required(wanted: "Sequence[Requirement]") -> Finding:
    wrong = [f"{r.name} {_version(r.name) or 'is missing'} (needs {r.specifier})" for r in wanted if not _fits(r)]
    advice = [f"{few(wrong)}: mtbert was not tested with it. Mend it: pip install --upgrade mtbert"] if wrong else []
    return Finding("required", few(wrong) if wrong else "all packages are there", advice, facts={"wrong": wrong})


def _extra(name: str, wanted: "Sequence[Requirement]") -> Finding:
    found = {r.name: _version(r.name) for r in wanted}
    texts = [f"{package} {version}" for package, version in found.items() if version]
    missing = [package for package, version in found.items() if not version]
    text = few(texts, most=20) if texts else ""
    if missing:
        text += f"{'; ' if texts else ''}missing: {few(missing, most=20)}; pip install 'mtbert[{name}]'"
    advice = [
        f"{r.name} {_version(r.name)} does not fit (needs {r.specifier}). Mend it: pip install 'mtbert[{name}]'"
        for r in wanted
        if _version(r.name) and not _fits(r)
    ]
    return Finding(f"[{name}]", text, advice, facts={"extra": name, "versions": found})


def _extras(marker: object) -> list[str]:
    """Returns the extras that a requirement belongs to; ``[""]`` if it is always required."""
    parts = str(marker or "").replace("'", '"').split('extra == "')[1:]
    return [part.partition('"')[0] for part in parts] or [""]


def _fits(requirement: "Requirement") -> bool:
    version = _version(requirement.name)
    if requirement.marker is not None and "extra" not in str(requirement.marker) and not requirement.marker.evaluate():
        return True
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
