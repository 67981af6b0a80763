"""The folder ``deploy`` and the examples in docs/serve.md: what a server's image installs, and what it does then."""

import asyncio
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import toy_exports
import yaml
from toy_server import near

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs/serve.md").read_text()
# Only training, studies and data sets need these.
LEFT_OUT = {
    "datasets",
    "jinja2",
    "matplotlib",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "statsmodels",
    "tabulate",
}


def test_an_image_has_the_packages_of_a_server_in_the_versions_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["serve"]]
    lines = (ROOT / "deploy/serving.txt").read_text().splitlines()
    installed = [line for line in lines if not line.startswith("#")]
    assert set(installed) <= set(needed)
    assert {re.split("[<>=]", line)[0] for line in set(needed) - set(installed)} == LEFT_OUT


def test_an_image_is_made_by_the_script_alone():
    lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
    steps = [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]
    assert [said for name, said in steps if name == "RUN"] == ["deploy/install.sh /opt/serving"]
    copied = [place for name, said in steps if name == "COPY" for place in said.split()[:-1]]
    assert [place for place in copied if not (ROOT / place).exists()] == []
    (probe,) = (json.loads(said.partition(" CMD ")[2]) for name, said in steps if name == "HEALTHCHECK")
    assert probe[:2] == ["python", "-c"]
    compile(probe[2], "HEALTHCHECK", "exec")
    assert "/health" in probe[2]


def test_the_check_of_an_image_asks_a_server_and_stops_it():
    run = str(ROOT / "tests/old_model/run")
    done = subprocess.run([sys.executable, ROOT / "deploy/check.py", run], text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answers, ready = done.stdout.splitlines()
    assert [sorted(row) for row in json.loads(answers)["answers"]] == [["topic"], ["likeness", "same"]]
    assert re.fullmatch(r"ready after [\d.]+ s", ready)


def test_the_check_of_an_image_fails_without_a_run(tmp_path: Path):
    command = [sys.executable, ROOT / "deploy/check.py", str(tmp_path)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=120)
    assert done.returncode == 1
    assert f"check: mtbert serve {tmp_path} did not start." in done.stderr


def example(language: str, word: str) -> str:
    """Returns the only block of code in docs/serve.md that is in this language and has this word."""
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    (found,) = (block for block in blocks if word in block)
    return found


class Serve:
    """The part of ``ray.serve`` that the example uses; ``bind`` makes the deployment at once."""

    def deployment(self, *, num_replicas: int, ray_actor_options: Mapping[str, float]) -> Any:
        def deployed(cls: Any) -> Any:
            cls.bind = cls
            return cls

        return deployed


class Request:
    async def json(self) -> Any:
        return {"task": "same", "rows": [["the good film", "bad"]]}


def test_the_example_for_ray_serve_answers_from_an_exported_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = toy_exports.predictor("bert", ["same"])
    toy_exports.export_onnx(made, tmp_path / "demo-onnx")
    monkeypatch.setitem(sys.modules, "ray", stub := ModuleType("ray"))
    stub.serve = Serve()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "predict", stub)
    del sys.modules["predict"]  # so that the folder's module is imported now, and is gone afterwards
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(example("python", "ray"), "answers.py", "exec"), names)
    assert near(asyncio.run(names["app"](Request())), made.predict("same", [("the good film", "bad")]))


def test_the_examples_for_kserve_are_inference_services():
    for word in ("mtbert-serving", "huggingface"):
        service = yaml.safe_load(example("yaml", word))
        assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
        assert list(service["spec"]) == ["predictor"]
