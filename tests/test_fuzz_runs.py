"""With random JSON in any file of a run's folder, the run resumes or one line names the file.

``MTBERT_FUZZ=10000 pytest tests/test_fuzz_runs.py`` tries more.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
import toy_run
from any_json import fuzzed, mutated, outcome
from hypothesis import given
from rich.console import Console

from mtbert import environment, files
from mtbert.recipe.files import load_recipe
from mtbert.training.resume import resume_run
from mtbert.training.run import Run
from mtbert.training.start import start_run

SILENT = Console(quiet=True)
# A value that contradicts another file may be reported with that file; if data have changed, the message names the run.
OTHERS = {
    "last/digest.json": ("last/",),
    "last/state.json": ("last/training.safetensors", "metrics.jsonl"),
    "environment.json": ("",),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has one step left."""
    folder = tmp_path_factory.mktemp("fuzz")
    toy_run.set_up(folder)
    stop = pytest.MonkeyPatch()
    stop.setattr(Run, "over", property(lambda self: self.done == 3))
    settings = load_recipe(str(folder / "toy.yaml"), ["train.epochs=2", "train.rounds=2", "train.checkpoint_every=1"])
    stop.setattr("mtbert.training.session._finish", lambda *_: {})
    start_run(settings, folder / "run", SILENT)
    stop.undo()
    return folder / "run"


@pytest.mark.parametrize("name", ["last/mtbert.json", "last/state.json", "last/digest.json", "environment.json"])
def test_any_json_in_a_file_of_a_run_lets_it_resume_or_names_the_file(
    run: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    original, sealed = json.loads((copy / name).read_text()), (copy / "last/digest.json").read_bytes()
    monkeypatch.setattr("mtbert.training.session.lead", lambda run, *_: run.step())  # a step works after restoring
    monkeypatch.setattr(environment, "_commit", lambda: None)  # it calls git, which is the slowest part here
    threads = torch.get_num_threads()

    @fuzzed
    @given(mutated(original))
    def check(value: object) -> None:
        for kept in ("metrics.jsonl", "last/digest.json"):
            shutil.copy(run / kept, copy / kept)
        (copy / name).write_text(json.dumps(value))
        if name in ("last/mtbert.json", "last/state.json"):  # make the digests fit, so that they do not find the damage
            digests = json.loads(sealed)
            digests["files"][Path(name).name] = files.sha256(copy / name, "")
            (copy / "last/digest.json").write_text(json.dumps(digests))
        outcome(copy, (name, *OTHERS.get(name, ())), lambda: resume_run(copy, SILENT))

    try:
        check()
    finally:
        torch.set_num_threads(threads)
