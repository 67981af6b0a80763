"""The record of the environment that a run ran in."""

from importlib import metadata

import pytest
import torch
from tiny import CPU

from mtbert import environment


def test_a_record_has_the_versions_of_what_is_installed_and_the_build_of_torch(monkeypatch: pytest.MonkeyPatch):
    versions = {"torch": "2.11.0", "numpy": "2.0.0"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu130")
    assert environment.make_record(CPU, {}, "0").packages == {"torch": "2.11.0+cu130", "numpy": "2.0.0"}
