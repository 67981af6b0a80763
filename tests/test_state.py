"""The run state on disk: it loads bitwise, and whatever does not belong to the run is named."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from mtbert import files
from mtbert.storage import run_state
from mtbert.storage.run_state import RunState, Values

REPAIR = "Put the file back as it was, or start the run again."


def values(**change: Any) -> Values:
    usual: dict[str, Any] = {"done": 7, "taken": (3, 4), "evaluated": 5, "best": 0.5, "stale": 1, "conflicting": 7}
    return Values(**usual | {"generator": "", "tensors": 0} | change)


def test_state_comes_back_bitwise(tmp_path: Path):
    values = Values(
        done=3, taken=(1, 2), evaluated=0, best=0.1 + 0.2, stale=1, generator="00ff", metrics_bytes=9, tensors=1
    )
    saved = RunState(values, {"0.exp_avg": torch.tensor([1e-30, -0.1])})
    run_state.save_state(saved, tmp_path)
    loaded = run_state.load_state(tmp_path)
    assert loaded.values == saved.values
    assert torch.equal(loaded.tensors["0.exp_avg"], saved.tensors["0.exp_avg"])
    run_state.save_state(RunState(values, {}), tmp_path)  # tensors of another checkpoint
    with pytest.raises(ValueError, match=r"training\.safetensors: must have 1 tensors by state\.json, found 0"):
        run_state.load_state(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("state.json", b"{"), ("state.json", b"{}"), ("state.json", b"\xff"), ("training.safetensors", b"\x00" * 20)],
)
def test_a_damaged_state_is_named(tmp_path: Path, name: str, content: bytes):
    values = Values(done=3, taken=(), evaluated=0, best=None, stale=0, generator="", tensors=0)
    run_state.save_state(RunState(values, {}), tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        run_state.load_state(tmp_path)


def test_a_generator_continues_where_it_was():
    generator = torch.Generator().manual_seed(5)
    torch.rand(7, generator=generator)
    text = run_state.generator_state(generator)
    expected = torch.rand(3, generator=generator)
    other = torch.Generator()
    run_state.set_generator_state(other, text)
    assert torch.equal(torch.rand(3, generator=other), expected)


@pytest.mark.parametrize(
    ("change", "joint", "said"),
    [
        ({"done": 11, "taken": (5, 6)}, False, "done: 11 steps, but the run has 10"),
        ({"taken": (7,)}, False, r"taken: must be a count for each of 2 tables, found \[7\]"),
        ({"taken": (-1, 8)}, False, r"taken: must be a count for each of 2 tables, found \[-1, 8\]"),
        ({"taken": (3, 5)}, False, r"taken: must be the batches of 7 steps, found \[3, 5\]"),
        ({"taken": (3, 4)}, True, r"taken: must be the batches of 7 joint steps, found \[3, 4\]"),
        ({"evaluated": 8}, False, "evaluated: 8, with 7 steps done"),
        ({"stale": 8}, False, "stale: 8, with 7 steps done"),
        ({"conflicting": 8}, False, "conflicting: 8, with 7 steps done"),
    ],
)
def test_numbers_that_contradict_each_other_are_named(change: dict[str, Any], joint: bool, said: str):
    with pytest.raises(ValueError, match=said):
        run_state.check_values(values(**change), steps=10, tables=2, joint=joint)


def test_numbers_that_fit_each_other_pass():
    run_state.check_values(values(), steps=7, tables=2, joint=False)
    run_state.check_values(values(taken=(7, 7)), steps=7, tables=2, joint=True)


@pytest.mark.parametrize("name", ["done", "evaluated", "stale", "conflicting", "metrics_bytes", "tensors"])
def test_no_count_is_negative(name: str):
    with pytest.raises(ValueError, match=name):
        values(**{name: -1})


def test_tensors_must_have_the_expected_names_shapes_and_dtypes():
    expected = {"a": torch.zeros(2, 3), "b": torch.zeros(())}
    run_state.check_tensors({"a": torch.ones(2, 3), "b": torch.ones(())}, expected)
    for found, said in (
        ({"a": torch.ones(2, 3)}, "there must be b"),
        ({"a": torch.ones(2, 3), "b": torch.ones(()), "c": torch.ones(1)}, "this run has no c"),
        ({"a": torch.ones(3, 2), "b": torch.ones(())}, r"a must be float32 \[2, 3\], found float32 \[3, 2\]"),
        ({"a": torch.ones(2, 3).double(), "b": torch.ones(())}, r"a must be float32 \[2, 3\], found float64 \[2, 3\]"),
    ):
        with pytest.raises(ValueError, match=said):
            run_state.check_tensors(found, expected)


# Digests ---------------------------------------------------------------------------------------------------


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    for name in (*run_state.SEALED, "predictions.safetensors"):
        (tmp_path / name).write_text(name)
    run_state.seal(tmp_path, "run")
    return tmp_path


def test_a_digest_is_the_sha256_of_each_file(sealed: Path):
    found = json.loads((sealed / "digest.json").read_text())
    assert found["run"] == "run"
    assert set(found["files"]) == {path.name for path in sealed.iterdir()} - {"digest.json"}
    # echo -n state.json | sha256sum
    assert found["files"]["state.json"] == "d5f808a21e99d4c15beb19a5b6a1d445f21e3e704fe633884bb829ee6769424b"
    assert run_state.check_seal(sealed) == "run"


@pytest.mark.parametrize("name", [*run_state.SEALED, "predictions.safetensors"])
def test_each_file_that_was_changed_or_removed_is_named(sealed: Path, name: str):
    content = bytearray((sealed / name).read_bytes())
    content[-1] ^= 1
    (sealed / name).write_bytes(content)
    with pytest.raises(
        ValueError, match=f"{name}: damaged: not the file that was saved, according to digest.json. {REPAIR}"
    ):
        run_state.check_seal(sealed)
    (sealed / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}: not there. {REPAIR}"):
        run_state.check_seal(sealed)
    (sealed / name).mkdir()
    with pytest.raises(ValueError, match=f"{name}: a folder, not a file. {REPAIR}"):
        run_state.check_seal(sealed)


def test_a_digest_that_names_no_files_or_paths_is_refused(sealed: Path):
    found = json.loads((sealed / "digest.json").read_text())
    for digests, said in (
        ({}, "digest.json: damaged: has no digest of config.json"),
        (found["files"] | {"../x": "0"}, "digest.json: damaged: '../x' is not the name of a file"),
    ):
        (sealed / "digest.json").write_text(json.dumps({"run": "run", "files": digests}))
        with pytest.raises(ValueError, match=said):
            run_state.check_seal(sealed)
    (sealed / "digest.json").unlink()
    assert run_state.check_seal(sealed) is None


def test_replacing_values_takes_no_room_for_the_files_that_stay(tmp_path: Path):
    folder = tmp_path / "last"
    folder.mkdir()
    for name in (*run_state.SEALED, "predictions.safetensors"):
        (folder / name).write_text(name)
    run_state.seal(folder, "run")
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    run_state.replace_values(folder, values(done=9), "longer")
    after = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert {name for name in before if after[name] != before[name]} == {"state.json", "digest.json"}
    assert json.loads((folder / "state.json").read_text())["done"] == 9
    assert run_state.check_seal(folder) == "longer"


def test_files_are_copied_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_text("content")
    files.link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "content"
