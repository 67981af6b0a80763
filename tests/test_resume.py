"""Resuming trusts a run's folder only if it is as the run left it."""

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import toy_run
import yaml
from children import killed
from full_disk import files_of_at_most
from rich.console import Console
from safetensors.torch import load_file, save_file

from mtbert import yaml_text
from mtbert.cli import main
from mtbert.recipe.files import load_recipe
from mtbert.recipe.identity import identity
from mtbert.storage import run_state
from mtbert.training import history
from mtbert.training.resume import resume_run
from mtbert.training.start import start_run

SILENT = Console(quiet=True)
SETS = ["train.epochs=2", "train.rounds=4", "train.evaluate_every=4", "train.checkpoint_every=3"]


def everything(run: Path) -> dict[str, bytes]:
    """Returns the files of a run that must be bitwise equal."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name not in ("lock", "timings.jsonl", "environment.json")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set-up and a finished run of it, ``whole``."""
    folder = tmp_path_factory.mktemp("resume")
    toy_run.set_up(folder)
    start_run(load_recipe(str(folder / "toy.yaml"), SETS), folder / "whole", SILENT)
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(folder / "whole", tmp_path / "run"))


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def seal(run: Path) -> None:
    """Makes the digests fit the present files."""
    (run / "last/digest.json").unlink()
    run_state.seal(run / "last", identity(load_recipe(str(run / "recipe.yaml"))))


def unsealed(run: Path) -> None:
    """Removes the digests and the record that says they exist, as in a run of an older version."""
    (run / "last/digest.json").unlink(missing_ok=True)
    change(run / "environment.json", sealed=False)


def refusal(run: Path) -> str:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        resume_run(run, SILENT)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert "\n" not in str(error.value)
    return str(error.value)


# Damage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"\xff\xfe", b"{}"])
@pytest.mark.parametrize("name", ["mtbert.json", "state.json", "training.safetensors", "predictions.safetensors"])
def test_a_damaged_file_in_last_is_named_before_anything_is_read(run: Path, name: str, content: bytes):
    (run / "last" / name).write_bytes(content)
    said = f"{run}/last/{name}: damaged: not the file that was saved, according to digest.json. "
    assert refusal(run) == said + "Put the file back as it was, or start the run again."


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"\xff", b'{"run": "x", "files": {}}'])
def test_a_damaged_digest_is_named(run: Path, content: bytes):
    (run / "last/digest.json").write_bytes(content)
    assert refusal(run).startswith(f"{run}/last/digest.json: ")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"done": 99}, "last/state.json: done: 99 steps, but the run has 8."),
        ({"done": 1}, "last/state.json: taken: must be the batches of 1 joint steps, found [8, 8, 8]."),
        ({"taken": []}, "last/state.json: taken: must be a count for each of 3 tables, found []."),
        ({"taken": [10**30] * 3}, "last/state.json: taken: must be the batches of 8 joint steps"),
        (
            {"done": 7, "taken": [7, 7, 7], "evaluated": 4},
            "state.json: the steps must be [1, 2, 3, 4, 5, 6, 7], found [1,",
        ),
        ({"evaluated": 4}, "state.json: the last evaluation must be 4, found 8."),
        ({"best": 10.0}, "state.json: the best score must be 10.0, found 0."),
        ({"best": None}, "state.json: the best score must be -inf, found 0."),
        ({"stale": 5}, "state.json: the evaluations since the best must be 5, found "),
        ({"metrics_bytes": 7}, "metrics.jsonl: has half a line at byte 7, where the last checkpoint was saved."),
        ({"metrics_bytes": 10**9}, "metrics.jsonl: shorter than at the last checkpoint."),
        ({"metrics_bytes": 0}, "state.json: the steps must be [1, 2, 3, 4, 5, 6, 7, 8], found []."),
        ({"generator": "00"}, "last/state.json: generator: '00' is not the state of a generator on cpu."),
        ({"generator": "xyz"}, "last/state.json: generator: 'xyz' is not the state of a generator on cpu."),
        ({"tensors": 3}, "last/training.safetensors: must have 3 tensors by state.json, found "),
    ],
)
def test_numbers_that_do_not_fit_the_run_are_refused_even_with_digests_that_fit(
    run: Path, values: dict[str, Any], said: str
):
    change(run / "last/state.json", **values)
    seal(run)
    assert said in refusal(run)


def test_tensors_of_another_run_are_refused_even_with_digests_that_fit(run: Path):
    file = run / "last/training.safetensors"
    whole = load_file(file)
    first = next(iter(whole))
    moments = [name for name in whole if name.startswith("optimizer.3.")]
    for tensors, said in (
        ({}, "training.safetensors: must have "),
        ({n: t for n, t in whole.items() if n != moments[0]}, f"training.safetensors: there must be {moments[0]}."),
        (
            {n: t.double() if n == first else t for n, t in whole.items()},
            f"training.safetensors: {first} must be float32",
        ),
        ({n: t[..., None] if n == first else t for n, t in whole.items()}, f"training.safetensors: {first} must be "),
        (whole | {"optimizer.3.x": whole[first].clone()}, "training.safetensors: this run has no optimizer.3.x."),
        (
            whole | {"optimizer.999.step": whole[first].clone()},
            "training.safetensors: this run has no optimizer.999.step.",
        ),
        (
            whole | {first: whole[first] * float("nan")},
            f"training.safetensors: {first} has numbers that are nan or inf",
        ),
    ):
        save_file(tensors, file)
        if tensors:
            change(run / "last/state.json", tensors=len(tensors))
        seal(run)
        assert said in refusal(run)


def test_a_card_of_another_run_is_refused(run: Path):
    for values, said in (
        ({"pooling": "mean"}, "last/mtbert.json: belongs to another run, which has another pooling."),
        ({"max_length": 9}, "last/mtbert.json: belongs to another run, which has another max_length."),
    ):
        before = (run / "last/mtbert.json").read_bytes()
        change(run / "last/mtbert.json", **values)
        seal(run)
        assert said in refusal(run)
        (run / "last/mtbert.json").write_bytes(before)


def test_a_run_of_an_older_version_resumes_with_one_warning(folder: Path, run: Path, capsys):
    (run / "last/digest.json").unlink()
    assert refusal(run) == f"{run}/last/digest.json: not there. {run_state.STATE_REPAIR}"
    unsealed(run)
    resume_run(run, Console(width=300))
    assert f"warning: {run}/last/digest.json: not there, as in older runs" in capsys.readouterr().out
    change(run / "last/state.json", best=10.0)
    assert "the best score" in refusal(run)


# Other runs, other machines ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(folder: Path) -> Path:
    start_run(load_recipe(str(folder / "toy.yaml"), [*SETS, "train.seed=5"]), folder / "other", SILENT)
    return folder / "other"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["environment.json"], "environment.json: changed since the run began."),
        (["recipe.yaml"], "recipe.yaml: changed since the run began."),
        (["last"], "last/digest.json: of another run than recipe.yaml."),
        (["recipe.yaml", "environment.json"], "last/digest.json: of another run than recipe.yaml."),
        (["metrics.jsonl"], "metrics.jsonl: "),
    ],
)
def test_a_file_of_another_run_is_named(run: Path, other: Path, names: list[str], said: str):
    for name in names:
        if (run / name).is_dir():
            shutil.rmtree(run / name)
            shutil.copytree(other / name, run / name)
        else:
            shutil.copy(other / name, run / name)
    assert refusal(run).startswith(f"{run}/{said}")


def test_another_version_of_torch_is_one_warning(run: Path, capsys):
    record = json.loads((run / "environment.json").read_text())
    torch_here = record["packages"]["torch"]
    for packages, before in (({"torch": "2.0.0"}, "2.0.0"), ({}, "None")):
        change(run / "environment.json", packages=packages)
        resume_run(run, Console(width=300))
        lines = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
        assert lines == [f"warning: torch was {before}, now {torch_here}: the last bits may differ."]


# Kills and full disks ----------------------------------------------------------------------------------------


def test_leftovers_of_a_kill_are_gone_after_resuming(folder: Path, run: Path):
    (run / "last").rename(run / ".last.old")
    shutil.copytree(run / "best", run / ".best.old")
    (run / ".last.new").mkdir()
    (run / ".last.new/model.safetensors").write_text("half")
    for name in (
        ".recipe.yaml.new",
        ".environment.json.new",
        ".tracking-id.txt.new",
    ):  # leftovers of making a run longer, and of tracking it
        (run / name).write_text("half")
    with (run / "timings.jsonl").open("a") as file:
        file.write('{"step": 9, "sec')
    resume_run(run, SILENT)
    assert everything(run) == everything(folder / "whole")
    assert (run / "timings.jsonl").read_bytes() == (folder / "whole/timings.jsonl").read_bytes()


def test_a_kill_at_any_file_operation_of_training_loses_nothing(folder: Path, tmp_path: Path):
    """The kills begin after the last checkpoint but one; steps, an evaluation, ``best/`` and ``last/`` follow it."""
    before, run = tmp_path / "before", tmp_path / "run"
    settings = load_recipe(str(folder / "toy.yaml"), SETS)
    assert killed(lambda: start_run(settings, before, SILENT), 75)
    assert (before / "last").exists()
    launch_again = lambda: resume_run(run, SILENT)  # noqa: E731
    operations = 0
    for operation in range(2, 200, 11):
        shutil.copytree(before, run)
        died = killed(launch_again, operation)
        resume_run(run, SILENT)
        assert not list(run.rglob(".*")), operation
        whole = everything(run)
        operations += 1
        if operation == 2:
            expected = whole
        assert whole == expected, operation
        shutil.rmtree(run)
        if not died:
            break
    assert operations > 5


def test_a_line_that_the_disk_takes_in_parts_is_whole(tmp_path: Path):
    class Slow(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[:3])

    with Slow(tmp_path / "log", "a") as file:
        history._append(file, {"step": 1, "seconds": 0.25})
    assert (tmp_path / "log").read_text() == '{"step": 1, "seconds": 0.25}\n'


def test_a_run_made_longer_and_killed_at_once_still_has_its_patience(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    patient = [*SETS, "train.patience=1", "train.lr=1e-9", "train.epochs=9", "train.evaluate_every=1"]
    start_run(load_recipe(str(folder / "toy.yaml"), patient), run, SILENT)
    done = json.loads((run / "last/state.json").read_text())["done"]
    assert done < 9 * 4
    with monkeypatch.context() as killed_here:
        killed_here.setattr("mtbert.training.session.lead", lambda *_: {})
        resume_run(run, SILENT, epochs=10)
    assert not list(run.rglob(".*"))
    resume_run(run, SILENT)
    assert json.loads((run / "last/state.json").read_text())["done"] > done


@pytest.mark.parametrize(
    ("room", "named", "changes"),
    [
        (500, "", []),  # recipe.yaml
        (12_000, "/last", []),  # the first checkpoint is before the first evaluation
        (12_000, "/best", ["train.checkpoint_every=100"]),
        (30_000, "/last", ["train.checkpoint_every=100"]),  # the moments are larger than the model
        (5_000, "/metrics.jsonl", ["train.checkpoint_every=100", "train.evaluate_every=40", "train.rounds=20"]),
    ],
)
def test_a_full_disk_is_one_line_and_the_run_resumes_bitwise_when_there_is_room(
    folder: Path, tmp_path: Path, room: int, named: str, changes: list[str], monkeypatch, capsys
):
    out, sets = tmp_path / "run", [*SETS, *changes]
    words = [word for change in sets for word in ("--set", change)]
    monkeypatch.setattr("sys.argv", ["mtbert", "train", str(folder / "toy.yaml"), "--out", str(out), *words])
    with files_of_at_most(room), pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert (end.value.code, said) == (1, f"mtbert: {out}{named}: File too large. Make room, and go on.\n")
    assert not list(tmp_path.rglob(".*"))
    settings = load_recipe(str(folder / "toy.yaml"), sets)
    if named:
        resume_run(out, SILENT)
    else:
        assert not out.exists()
        start_run(settings, out, SILENT)
    start_run(settings, tmp_path / "whole", SILENT)
    assert everything(out) == everything(tmp_path / "whole")


def test_a_run_of_a_version_with_fewer_settings_resumes(run: Path, folder: Path):
    text = (run / "recipe.yaml").read_text()
    older = "".join(
        line for line in text.splitlines(keepends=True) if line.strip() not in ("test: null", "codes: null")
    )
    assert older.count("\n") == text.count("\n") - 6  # two settings of each of three tasks
    (run / "recipe.yaml").write_text(older)
    placeless = yaml.safe_load(older) | {"data": {"root": None}}
    digest = hashlib.sha256(yaml_text.dump(placeless).encode()).hexdigest()
    change(run / "environment.json", recipe=digest)
    unsealed(run)
    resume_run(run, SILENT)
    assert (run / "best/model.safetensors").read_bytes() == (folder / "whole/best/model.safetensors").read_bytes()
    (run / "recipe.yaml").write_text(older.replace("epochs: 2", "epochs: 3"))
    assert "recipe.yaml: changed since the run began" in refusal(run)
