"""``predict --ray``: the actors make the parts that the command alone would make, and their errors are its errors."""

import logging
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import toy_ray
from full_disk import files_of_at_most
from toy_parts import ROWS, inputs, parts, rows_of, write_rows

from mtbert.part_share import PartShare
from mtbert.use import ray_parts
from mtbert.use.bulk_inputs import find_inputs
from mtbert.use.making import PartPlan
from mtbert.use.trained import load_whole, recipe_of


@pytest.fixture
def plan(toy, tmp_path) -> PartPlan:
    (tmp_path / "out/.mtbert").mkdir(parents=True)
    return PartPlan(
        run=toy / "run",
        recipe=recipe_of(toy / "run", ()),
        tasks=("sst", "quora", "sts"),
        single=False,
        columns=tuple(rows_of(0)[0]),
        name="f0",
        suffix=".csv",
        folder=tmp_path / "out",
        part_rows=10,
        model=load_whole(toy / "run")[1],
        share=PartShare(),
    )


@pytest.fixture
def predicted(toy, mtbert, tmp_path, monkeypatch):
    """Calls ``predict`` for the files in ``in``, with or without the stand-in for Ray."""
    toy_ray.install(monkeypatch)

    def run(suffix: str, out: str, *more: object):
        call = ("--input", f"{tmp_path}/in/*{suffix}", "--output", f"{tmp_path}/{out}/", "--part-rows", 10)
        return mtbert("predict", toy / "run", *call, *more)

    return run


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_parts_are_those_of_the_command_without_ray(predicted, tmp_path, suffix):
    inputs(tmp_path / "in", suffix)
    assert predicted(suffix, "whole").code == 0
    done = predicted(suffix, "out", "--ray", "local")
    assert (done.code, parts(tmp_path / "out")) == (0, parts(tmp_path / "whole"))
    assert f"{2 * ROWS} rows with the answers of sst, quora, sts in 6 parts in " in done.err


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_each_share_has_its_own_parts_on_a_cluster_too(predicted, tmp_path, suffix):
    inputs(tmp_path / "in", suffix)
    assert predicted(suffix, "whole").code == 0
    assert predicted(suffix, "out", "--ray", "local", "--part", "1/2").code == 0
    first = list(parts(tmp_path / "out"))
    assert first == [f"f{file}-0000{part}{suffix}" for file, part in ((0, 0), (0, 2), (1, 1))]
    assert predicted(suffix, "out", "--ray", "local", "--part", "2/2").code == 0
    assert parts(tmp_path / "out") == parts(tmp_path / "whole")


def test_a_mistake_and_a_full_disk_have_the_line_and_the_exit_code_of_the_command_without_ray(predicted, tmp_path):
    inputs(tmp_path / "in", ".csv", files=1)
    file = tmp_path / "in/f0.csv"
    good = file.read_text()
    file.write_text(good + 'x,"open')
    assert predicted(".csv", "out", "--ray", "local").mistake.startswith(f"{file}, line 25: not a row of CSV (")
    file.write_text(good)
    assert predicted(".csv", "new").code == 0
    (tmp_path / "new/f0-00001.csv").unlink()
    with files_of_at_most(600):
        done = predicted(".csv", "new", "--ray", "local")
    line = f"mtbert: {tmp_path}/new/f0-00001.csv: File too large. Make room, and go on."
    assert (done.code, done.err.splitlines()[-1]) == (1, line)


def test_a_process_of_the_cluster_that_dies_is_one_line(predicted, tmp_path, monkeypatch):
    def die(*_: object) -> None:
        raise toy_ray.RayError("The actor died unexpectedly before finishing this task.\n\tclass_name: MapWorker")

    monkeypatch.setattr(ray_parts.PartActor, "__call__", die)
    inputs(tmp_path / "in", files=1)
    done = predicted(".parquet", "out", "--ray", "local")
    assert (done.code, done.err.splitlines()[-1]) == (
        1,
        "mtbert: --ray local: a process of the cluster died (The actor died unexpectedly before finishing this task). "
        "If memory ran out, give Ray fewer CPUs. Run the command again: finished parts are kept.",
    )


def test_lines_of_ray_stay_off_the_terminal_and_in_its_files(predicted, tmp_path, monkeypatch):
    terminal, file = logging.StreamHandler(), logging.Handler()
    monkeypatch.setattr(logging.getLogger("ray.data"), "handlers", [terminal, file])
    inputs(tmp_path / "in", files=1)
    assert predicted(".parquet", "out", "--ray", "local").code == 0
    assert (terminal.level, file.level) == (logging.CRITICAL, logging.NOTSET)


def test_an_actor_returns_the_error_of_loading_its_model(plan, tmp_path):
    pattern = inputs(tmp_path / "in", ".csv", files=1)
    (given,) = find_inputs(pattern, plan.folder)
    batch = {"path": [given.path], "place": [given.place], "number": [0], "part": [ray_parts.ALL]}
    for other, kind, said in (
        (replace(plan, run=tmp_path / "gone"), FileNotFoundError, "gone: no trained model here"),
        (replace(plan, model="d1"), ValueError, "run: its model was replaced since the command began."),
    ):
        found = ray_parts.PartActor(other)(batch)
        assert (found["parts"], found["rows"]) == ([0], [0])
        error = pickle.loads(found["error"][0])
        assert type(error) is kind
        assert said in str(error)


def test_an_actor_returns_the_line_of_an_input_that_has_changed(plan, tmp_path):
    pattern = inputs(tmp_path / "in", ".csv", files=1)
    (given,) = find_inputs(pattern, plan.folder)
    batch = {"path": [given.path], "place": [given.place], "number": [0], "part": [ray_parts.ALL]}
    actor = ray_parts.PartActor(plan)
    assert actor(batch) == {"parts": [3], "rows": [ROWS], "error": [b""]}
    write_rows(Path(given.path), rows_of(1))
    assert "has changed since" in str(pickle.loads(actor(batch)["error"][0]))
