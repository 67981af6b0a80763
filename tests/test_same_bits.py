"""The comparison of two runs finds every bit, number and file that differs, and names its place."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent.parent))
from benchmarks import same_bits
from mtbert.recipe.files import load_recipe


def store(file: Path, **tensors: list[float]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.tensor(numbers) for name, numbers in tensors.items()}, file)


def log(run: Path, *lines: dict[str, object]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


LINES: list[dict[str, object]] = [{"step": 1, "losses": {"a.ce": 0.1}}, {"step": 2, "losses": {"a.ce": 0.2}}]


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal runs of three tensors."""
    ours = tmp_path / "ours"
    store(ours / "best/model.safetensors", a=[0.0, 1.0, 2.0], b=[3.0])
    store(ours / "last/training.safetensors", a=[1.0])
    log(ours, *LINES)
    return ours, Path(shutil.copytree(ours, tmp_path / "theirs"))


def difference(runs: tuple[Path, Path]) -> str:
    with pytest.raises(same_bits.Difference) as error:
        same_bits.compare(*runs)
    return str(error.value)


def test_equal_runs_are_counted(runs: tuple[Path, Path]):
    assert same_bits.compare(*runs) == same_bits.Equal(tensors=3, lines=2, added=())


def test_values_that_differ_are_counted_and_the_first_is_shown(runs: tuple[Path, Path]):
    store(runs[1] / "best/model.safetensors", a=[0.0, 1.5, 2.5], b=[3.0])
    assert difference(runs) == "best/model.safetensors: a: 2 of 3 values, the first 1.0 here, 1.5 there"


def test_zero_and_minus_zero_have_different_bits(runs: tuple[Path, Path]):
    store(runs[1] / "best/model.safetensors", a=[-0.0, 1.0, 2.0], b=[3.0])
    assert difference(runs) == "best/model.safetensors: a: other bits of the same values"


def test_a_tensor_of_only_one_run_and_one_of_another_shape_are_named(runs: tuple[Path, Path]):
    store(runs[0] / "last/training.safetensors", a=[1.0], d=[1.0])
    store(runs[1] / "last/training.safetensors", a=[1.0], c=[1.0])
    where = "last/training.safetensors"
    assert difference(runs) == f"{where}: d: is only here; {where}: c: is only there"
    store(runs[1] / "last/training.safetensors", a=[1.0, 1.0])
    assert difference(runs) == "last/training.safetensors: a: shape [1] here, [2] there"


def test_a_threshold_that_no_answer_reads_may_be_missing_here_and_all_else_is_compared(runs: tuple[Path, Path]):
    numbers = {"a": [0.0, 1.0, 2.0], "b": [3.0]}
    threshold = {"for_sts.threshold": [0.5]}
    file = "best/model.safetensors"
    store(runs[1] / file, **numbers, **threshold)
    store(runs[1] / "last/training.safetensors", a=[1.0], **{"model.heads.for_sts.threshold": [0.5]})
    dropped = ("for_sts.threshold", "model.heads.for_sts.threshold")
    assert same_bits.compare(*runs) == same_bits.Equal(3, 2, added=(), dropped=dropped)
    store(runs[1] / file, **numbers, **{"for_quora.threshold": [0.5]})
    assert difference(runs) == f"{file}: for_quora.threshold: is only there"
    store(runs[1] / file, **numbers | {"b": [4.0]}, **threshold)
    assert difference(runs) == f"{file}: b: 1 of 1 values, the first 3.0 here, 4.0 there"
    store(runs[0] / file, **numbers, **threshold)
    store(runs[1] / file, **numbers)
    assert difference(runs) == f"{file}: for_sts.threshold: is only here"


def test_a_file_of_only_one_run_is_a_difference(runs: tuple[Path, Path]):
    store(runs[1] / "last/heads.safetensors", a=[1.0])
    said = difference(runs)
    assert said.endswith("last/training.safetensors there")
    assert said.count("last/heads.safetensors") == 1


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([LINES[0]], "metrics.jsonl: 2 lines here, 1 there"),
        ([LINES[0], {"step": 2, "losses": {"a.ce": 0.20000000000000004}}], "0.2 here, 0.20000000000000004 there"),
        ([LINES[0], LINES[1] | {"lr": 0.5}], "metrics.jsonl, line 2: lr: None here, 0.5 there"),
    ],
)
def test_metrics_that_differ_or_are_lost_are_named(runs: tuple[Path, Path], lines: list[dict[str, object]], said: str):
    log(runs[1], *lines)
    assert said in difference(runs)


def test_a_number_that_only_the_newer_version_logs_is_reported_and_is_no_difference(runs: tuple[Path, Path]):
    log(runs[0], LINES[0], LINES[1] | {"evaluation": {"b": {"auc": 0.5}}})
    assert same_bits.compare(*runs).added == ("evaluation.b.auc",)


def test_runs_without_tensors_are_not_called_equal(runs: tuple[Path, Path]):
    for run in runs:
        shutil.rmtree(run / "best")
        shutil.rmtree(run / "last")
    assert difference(runs) == "found 0 tensors and 2 lines, so nothing was compared"


@pytest.mark.parametrize("name", list(same_bits.RECIPES))
def test_its_recipes_are_valid(tmp_path: Path, name: str):
    file = tmp_path / f"{name}.yaml"
    file.write_text(json.dumps(same_bits.RECIPES[name][1]))
    assert len(load_recipe(str(file)).tasks) == 3
