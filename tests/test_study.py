"""A study from its file to its tables: what is run, what is compared, and that a kill changes nothing."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_run
import toy_study
from rich.console import Console
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from mtbert import cli, recipe, use
from mtbert.study import cells, launch, plan, results, worker
from mtbert.study import held_out as scoring
from mtbert.study import report as pages
from mtbert.study.summary import summarise
from mtbert.train import Stopped

SILENT = Console(quiet=True)
STUDY = """
rows:
  sum: toy.yaml
  pcgrad: {recipe: toy.yaml, set: [train.aggregation=pcgrad], control: sum}
seeds: [0, 1]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    toy_run.set_up(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def refusal(folder: Path, text: str) -> str:
    (folder / "study.yaml").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        plan.load(str(folder / "study.yaml"))
    return str(error.value).replace(str(folder), "")


def tables(out: Path) -> dict[str, bytes]:
    found = {p.name: p.read_bytes() for p in (out / "tables").iterdir()}
    assert len(found) == 24
    return found


# The file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", plan.shipped())
def test_shipped_studies_load_and_compare_each_row_with_a_control(name: str):
    found = plan.load(name)
    assert found.variants[found.reference].control is None
    for variant in found.variants.values():
        assert variant.control is None or variant.control in found.variants


def test_quick_is_the_papers_table_4_with_its_controls():
    found = plan.load("quick")
    controls = {row: v.control for row, v in found.variants.items()}
    assert controls == {
        "base": None,
        "smart": "base",
        "smart-ceoll": "smart",
        "pal": "base",
        "annealed": "base",
        "pal-annealed": "pal",
        "base-joint": "base",
        "surgery": "base-joint",
        "se-base": "base",
        "se-cosine": "se-base",
        "se-mnrl": "se-base",
        "se-simcse": "se-base",
    }
    for variant in found.variants.values():
        train = variant.recipe.train
        assert (train.rounds, train.epochs, train.evaluate_every) == (151, 5, 755)
    assert len(found.seeds) >= 3


def test_best_is_given_as_many_examples_as_each_row_of_quick():
    rows = plan.load("best").variants
    assert list(rows) == [*plan.load("quick").variants, "best"]
    recipe = rows["best"].recipe
    assert recipe == plan.load("best-parts").variants["best"].recipe
    assert recipe.train.rounds * recipe.train.epochs == 755
    assert {name: task.batch_size for name, task in recipe.tasks.items()} == {"sst": 8, "quora": 16, "sts": 8}


def test_a_study_extends_another(folder: Path):
    (folder / "more.yaml").write_text(
        "extends: study.yaml\nrows:\n  slow: {recipe: toy.yaml, set: [train.lr=1e-6], control: sum}\nreference: slow\n"
    )
    found = plan.load(str(folder / "more.yaml"))
    assert {row: v.control for row, v in found.variants.items()} == {"sum": None, "pcgrad": "sum", "slow": "sum"}
    assert (found.seeds, found.reference) == ((0, 1), "slow")
    assert found.variants["slow"].recipe.train.lr == 1e-6
    (folder / "study.yaml").write_text(STUDY + "extends: more.yaml\n")
    with pytest.raises(
        ValueError, match=r"extends: a study's name or path, and not its own, found '(more|study)\.yaml'"
    ):
        plan.load(str(folder / "more.yaml"))
    (folder / "more.yaml").write_text("extends: [study.yaml]\n")
    with pytest.raises(ValueError, match=r"extends: a study's name or path"):
        plan.load(str(folder / "more.yaml"))
    (folder / "more.yaml").write_text("extends: not-there.yaml\n")
    with pytest.raises(FileNotFoundError, match=r"not-there\.yaml: no such file"):
        plan.load(str(folder / "more.yaml"))


def test_every_paper_row_differs_from_its_control_in_the_technique_alone():
    """Of the settings of a row and its control, only those named here may differ."""
    allowed = {
        "smart": r"tasks\.\w+\.losses",
        "smart-ceoll": r"tasks\.sst\.losses",
        "pal": r"model\.pal",
        "annealed": r"train\.sampler",
        "pal-annealed": r"train\.sampler",
        "base-joint": r"train\.mode",
        "surgery": r"train\.(aggregation|conflicts)",
        "se-base": r"tasks\.(quora|sts)\.(inputs|head)",
        "se-cosine": r"tasks\.(quora|sts)\.(head|losses)",
        "se-mnrl": r"tasks\.quora\.losses",
        "se-simcse": r"tasks\.quora\.losses",
        "loss-oll": r"tasks\.sst\.losses",
        "loss-ceoll": r"tasks\.sst\.losses",
        "single-sst": r"tasks\.(quora|sts)|train\.rounds",
        "single-quora": r"tasks\.(sst|sts)|train\.rounds",
        "single-sts": r"tasks\.(sst|quora)|train\.rounds",
    }
    variants = plan.load("paper").variants
    assert {row for row, v in variants.items() if v.control} == set(allowed)
    for row, pattern in allowed.items():
        control = variants[row].control
        assert control is not None
        mine, theirs = (v.recipe.model_dump() for v in (variants[row], variants[control]))
        differing = [
            f"{part}.{key}" + (f".{field}" if part == "tasks" and mine[part].get(key) and theirs[part].get(key) else "")
            for part in ("tasks", "model", "train")
            for key in mine[part].keys() | theirs[part].keys()
            for field in ((mine[part].get(key) or {}).keys() if part == "tasks" and mine[part].get(key) else [""])
            if mine[part].get(key) != theirs[part].get(key)
            if not field or not theirs[part].get(key) or mine[part][key][field] != theirs[part][key][field]
        ]
        assert differing
        assert [d for d in differing if not re.fullmatch(pattern, d)] == []


def test_changes_come_in_order_study_row_grid_command(folder: Path):
    (folder / "study.yaml").write_text(
        "rows: {a: {recipe: toy.yaml, set: [train.lr=2, train.clip=2]}}\n"
        "set: [train.lr=1, train.eps=1]\ngrid: {train.clip: [3, 4], train.warmup: [0.5]}\n"
    )
    found = plan.load(str(folder / "study.yaml"), ["train.warmup=0.25"])
    trains = {name: v.recipe.train for name, v in found.variants.items()}
    assert {n: (t.lr, t.eps, t.clip, t.warmup) for n, t in trains.items()} == {
        "a,clip=3,warmup=0.5": (2, 1, 3, 0.25),
        "a,clip=4,warmup=0.5": (2, 1, 4, 0.25),
    }


def test_a_grid_keeps_controls_at_the_same_point(folder: Path):
    (folder / "study.yaml").write_text(STUDY + "grid: {train.lr: [1e-4, 1e-3]}\n")
    found = plan.load(str(folder / "study.yaml"))
    assert [(v.name, v.control) for v in found.variants.values() if v.control] == [
        ("pcgrad,lr=0.0001", "sum,lr=0.0001"),
        ("pcgrad,lr=0.001", "sum,lr=0.001"),
    ]


def test_the_recipe_names_the_control_and_extends_does_not_pass_it_on(folder: Path):
    (folder / "tried.yaml").write_text("extends: toy.yaml\ncontrol: toy.yaml\ntrain: {lr: 1}\n")
    (folder / "more.yaml").write_text("extends: tried.yaml\n")
    (folder / "study.yaml").write_text("rows: {more: more.yaml, tried: tried.yaml, toy: toy.yaml}")
    found = plan.load(str(folder / "study.yaml"))
    assert {v.name: v.control for v in found.variants.values()} == {"more": None, "tried": "toy", "toy": None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rows: {}", "study /study.yaml, rows: must not be empty"),
        ("row: {a: b}", "unknown key 'row'. Did you mean 'rows'?"),
        ("- a", "study /study.yaml: a study is a mapping with the key 'rows', found a list."),
        ("rows: {a/b: toy.yaml}", "rows.a/b"),
        ("rows: {a: nope.yaml}", "study /study.yaml, rows.a: recipe nope.yaml: no such file"),
        ("rows: {a: toy.yaml}\nset: [train.lrr=1]", "rows.a: recipe toy.yaml, train: unknown key 'lrr'"),
        ("rows: {a: toy.yaml}\nreference: b", "reference: there is no row 'b'. Known: a."),
        ("rows: {a: {recipe: toy.yaml, control: a}, b: toy.yaml}", "control 'a' is no other row. Known: b."),
        ("rows: {a: paper/surgery}", "names paper/base-joint as its control, which is no row here"),
        ("rows: {a: toy.yaml}\nseeds: [1, 1]", "names one twice"),
        ("rows: {a: toy.yaml}\nseeds: []", "seeds: must not be empty"),
        ("rows: {a: toy.yaml}\nseeds: [0.5]", "study /study.yaml, seeds.0: must be a valid integer, found 0.5."),
        ("rows: {a: toy.yaml}\ngrid: {train.lr: []}", "grid.train.lr: has no values"),
        (
            "rows: {a: toy.yaml}\ngrid: {model.path: [../b]}",
            "with its grid it is called 'a,path=../b', which can be no",
        ),
    ],
)
def test_a_wrong_file_is_one_line_that_says_where(folder: Path, text: str, said: str):
    found = refusal(folder, text)
    assert said in found
    assert "\n" not in found


# Running -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study run to its end, to look at."""
    folder = tmp_path_factory.mktemp("ended")
    toy_run.set_up(folder)
    (folder / "study.yaml").write_text(STUDY)
    toy_study.run_here(plan.load(str(folder / "study.yaml")), folder / "out")
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, which take longer than all else in them."""
    monkeypatch.setattr(pages, "figures", lambda results, summary: [])


def test_a_study_runs_each_row_with_each_seed_and_keeps_what_it_needs(ended: Path):
    folders = {p.name for p in (ended / "out/cells").iterdir()}
    assert folders == {"sum-0", "sum-1", "pcgrad-0", "pcgrad-1"}
    for name in folders:
        made = recipe.load(str(ended / "out/cells" / name / "run/recipe.yaml"))
        assert made.train.seed == int(name[-1])
        assert made.train.aggregation.kind == name[:-2]
        kept = {p.name for p in (ended / "out/cells" / name / "run/best").iterdir()}
        assert "predictions.safetensors" in kept
        assert "training.safetensors" not in kept
        assert not (ended / "out/cells" / name / "run/last").exists()


def test_the_scores_are_those_that_the_runs_logged_of_the_models_that_predict(ended: Path):
    found = results.read_study(ended / "out")
    summary = summarise(found)
    evaluations = [[s for s in found.runs["sum"][seed].steps if "evaluation" in s] for seed in (0, 1)]
    logged = [max(lines, key=lambda line: line["aggregates"]["overall"]) for lines in evaluations]
    for task, metric in (("sst", "accuracy"), ("quora", "accuracy"), ("sts", "pearson")):
        values = [line["evaluation"][task]["metrics"][metric] for line in logged]
        assert summary.rows["sum"].scores[task].mean == pytest.approx(np.mean(values), abs=1e-12)
        assert summary.rows["sum"].scores[task].sd == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    overall = [line["aggregates"]["overall"] for line in logged]
    assert summary.rows["sum"].scores["overall"].mean == pytest.approx(np.mean(overall), abs=1e-12)


def test_a_difference_is_that_of_the_means_seed_by_seed(ended: Path):
    summary = summarise(results.read_study(ended / "out"))
    compared = summary.comparisons["control"]["pcgrad"]["sts"]
    scores = [summary.rows[row].scores["sts"].mean for row in ("pcgrad", "sum")]
    assert compared.other == "sum"
    assert compared.difference.mean == pytest.approx(scores[0] - scores[1], abs=1e-12)
    assert set(summary.comparisons["control"]) == {"pcgrad"}


@pytest.mark.usefixtures("undrawn")
def test_a_study_that_has_ended_is_not_run_again(ended: Path):
    before = tables(ended / "out")
    logs = {p: p.stat().st_mtime_ns for p in (ended / "out/cells").rglob("log.txt")}
    launch.run(plan.load(str(ended / "study.yaml")), ended / "out", 1, SILENT)
    assert {p: p.stat().st_mtime_ns for p in logs} == logs
    assert tables(ended / "out") == before


def test_other_settings_under_the_same_name_are_refused(ended: Path):
    with pytest.raises(ValueError, match=r"cells/sum-0: was run with other settings"):
        launch.run(plan.load(str(ended / "study.yaml"), ["train.lr=2e-3"]), ended / "out", 1, SILENT)


def test_runs_that_have_not_begun_take_other_settings(ended: Path, tmp_path: Path):
    shutil.copytree(ended, tmp_path / "copy")
    out = tmp_path / "copy/out"
    for seed in (0, 1):
        shutil.rmtree(out / f"cells/pcgrad-{seed}/run")
        (out / f"cells/pcgrad-{seed}/ended.json").unlink()
    (tmp_path / "copy/study.yaml").write_text(STUDY.replace("[train.", "[train.warmup=0.5, train."))
    cells.lay_out(cells.wanted(plan.load(str(tmp_path / "copy/study.yaml")), out, 1))
    assert recipe.load(str(out / "cells/pcgrad-0/recipe.yaml")).train.warmup == 0.5


@pytest.mark.usefixtures("undrawn")
def test_a_study_goes_on_with_data_that_were_moved(ended: Path, tmp_path: Path):
    shutil.copytree(ended, tmp_path / "copy")
    (tmp_path / "copy/data").rename(tmp_path / "elsewhere")
    out = tmp_path / "copy/out"
    before = tables(out)
    shutil.rmtree(out / "cells/sum-1")
    moved = plan.load(str(ended / "study.yaml"), [f"data.root={tmp_path / 'elsewhere'}"])
    assert launch.run(moved, out, 1, SILENT) == {}
    assert tables(out) == before
    assert {recipe.load(str(p)).data.root for p in out.rglob("recipe.yaml")} == {str(tmp_path / "elsewhere")}


@pytest.mark.parametrize(
    ("change", "task"),
    [
        ("tasks.sst.dev_seed=1", "sst"),
        ("tasks.quora.dev_fraction=0.2", "quora"),
        ("tasks.sst.train=quora.csv", "sst"),
        ("tasks.sts.dev=sst.csv", "sts"),
        ("tasks.sts.metric=spearman", "sts"),
        ("data.root=elsewhere", "sst"),
    ],
)
def test_rows_with_other_dev_data_are_refused_before_anything_is_run(folder: Path, change: str, task: str):
    text = f"rows: {{a: toy.yaml, b: {{recipe: toy.yaml, set: [{change}], control: a}}}}"
    assert f"rows.b: task {task} has other dev examples than in row a, or another metric." in refusal(folder, text)


def test_rows_may_differ_in_what_they_train_on(folder: Path):
    (folder / "study.yaml").write_text(
        "rows: {a: toy.yaml, b: {recipe: toy.yaml, set: [tasks.sts.train=other.csv, tasks.sts.inputs=separate]}}"
    )
    assert len(plan.load(str(folder / "study.yaml")).variants) == 2


@pytest.mark.usefixtures("undrawn")
def test_answers_to_data_that_were_changed_since_are_refused(ended: Path, tmp_path: Path):
    shutil.copytree(ended, tmp_path / "copy")
    data, out = tmp_path / "copy/data/sts.csv", tmp_path / "copy/out"
    for file in out.rglob("recipe.yaml"):
        file.write_text(file.read_text().replace(str(ended), str(tmp_path / "copy")))
    launch.report(out, SILENT)
    header, *rows = data.read_text().splitlines()
    data.write_text("\n".join([header, *reversed(rows)]) + "\n")
    with pytest.raises(ValueError, match=r"sum, seed 0: its answers to sts are not to the dev examples that are there"):
        launch.report(out, SILENT)


def test_a_run_in_the_place_of_another_is_refused(ended: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(ended / "out", out)
    shutil.rmtree(out / "cells/sum-0/run")
    shutil.copytree(out / "cells/sum-1/run", out / "cells/sum-0/run")
    with pytest.raises(ValueError, match=r"sum-0/run: is a run of seed 1\. Remove .*cells/sum-0, and run it again"):
        launch.report(out, SILENT)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t | {"sst.decided": torch.full_like(t["sst.decided"], 99)},
        lambda t: t | {"sst.decided": t["sst.decided"][:-1]},
        lambda t: t | {"sst.raw": t["sst.raw"][:, :2].contiguous()},
        lambda t: t | {"sts.decided": t["sts.decided"] * torch.nan},
        lambda t: t | {"sts.decided": t["sts.decided"].to(torch.int32)},
        lambda t: t | {"sst.decided": t["sst.decided"].double()},
        lambda t: t | {"sst.raw": t["sst.raw"].to(torch.complex64)},
        lambda t: t | {"sst.raw": t["sst.raw"].bool()},
        lambda t: {k: v for k, v in t.items() if not k.startswith("sts")},
        lambda t: t | {"more.raw": t["sts.raw"].clone(), "more.decided": t["sts.decided"].clone()},
    ],
)
def test_answers_that_cannot_be_are_refused(ended: Path, tmp_path: Path, spoil: Callable[..., dict[str, torch.Tensor]]):
    out = tmp_path / "out"
    shutil.copytree(ended / "out", out)
    file = out / "cells/sum-1/run/best/predictions.safetensors"
    save_file(spoil(load_file(file)), file)
    with pytest.raises(ValueError, match=r"its answers (to s\w+ )?are not "):
        launch.report(out, SILENT)


def test_a_worker_that_was_killed_is_told_so(folder: Path, monkeypatch: pytest.MonkeyPatch):
    kill = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: real(kill, **options))
    failed = launch.run(plan.load(str(folder / "study.yaml"), []), folder / "out", 4, SILENT)
    assert failed["sum, seed 0"] == "killed by signal 9: was there enough memory?"


def test_steps_that_were_taken_again_count_once(tmp_path: Path):
    lines = [
        '{"step": 1, "seconds": 1.0}',
        '{"step": 2, "seconds": 5.0}',
        '{"step": 2, "seconds": 2.0}',
        '{"step": 3, "se',
    ]
    (tmp_path / "timings.jsonl").write_text("\n".join(lines))
    assert worker._seconds(tmp_path / "timings.jsonl") == 3.0


def test_a_run_that_was_stopped_has_no_report_yet(ended: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(ended / "out/cells/sum-0/run", run)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:3]) + "\n")
    with pytest.raises(ValueError, match=rf"stopped at step 3 of \d+\. Go on with: mtbert train --resume {run}"):
        launch.report(run, SILENT)


def test_a_folder_that_is_no_study_is_left_alone(folder: Path):
    (folder / "out").mkdir()
    (folder / "out/mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is no study"):
        launch.run(plan.load(str(folder / "study.yaml")), folder / "out", 1, SILENT)


@pytest.mark.usefixtures("undrawn")
def test_one_failed_run_does_not_keep_the_others(ended: Path, tmp_path: Path):
    out, study = tmp_path / "out", tmp_path / "study.yaml"
    text = STUDY.replace("toy.yaml", str(ended / "toy.yaml")).replace("seeds: [0, 1]", "seeds: [0]")
    broken = f"  broken: {{recipe: {ended / 'toy.yaml'}, set: [train.lr=1e30]}}"
    study.write_text(text.replace("rows:", f"rows:\n{broken}"))
    shutil.copytree(ended / "out/cells/pcgrad-0", out / "cells/pcgrad-0")  # ended before, to save a worker
    shutil.copy(ended / "out/study.json", out)
    done = CliRunner().invoke(cli.app, ["study", str(study), "--out", str(out)])
    assert done.exit_code == 1
    assert re.search(r"failed: broken, seed 0: FloatingPointError: step 2", done.output)
    found = results.read_study(out)
    assert set(found.runs) == {"sum", "pcgrad"}
    assert list(found.missing) == ["broken, seed 0"]
    assert set(summarise(found).comparisons["control"]) == {"pcgrad"}


def command(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "mtbert", "study", str(folder / "study.yaml"), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_study_killed_and_started_again_gives_the_same_tables_bitwise(ended: Path, tmp_path: Path, how: int):
    out = tmp_path / "out"
    shutil.copytree(ended / "out", out)
    for made in ("tables", "figures", "cells/pcgrad-1"):
        shutil.rmtree(out / made)
    process = command(ended, out)
    metrics = out / "cells/pcgrad-1/run/metrics.jsonl"
    until = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < until:
        assert process.poll() is None, process.stdout and process.stdout.read()
        time.sleep(0.01)
    process.send_signal(how)
    said, _ = process.communicate(timeout=60)
    if how == signal.SIGTERM:
        assert process.returncode == 130
        assert b"Go on with the same command" in said
    assert not (out / "tables").exists()
    launch.run(plan.load(str(ended / "study.yaml")), out, 1, SILENT)
    assert tables(out) == tables(ended / "out")


def test_no_worker_outlives_a_killed_study(folder: Path):
    (folder / "study.yaml").write_text(STUDY + "set: [train.epochs=5000]\n")
    process = command(folder, folder / "out")
    log = folder / "out/cells/sum-0/run/metrics.jsonl"
    until = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert process.stdout is not None
    until = time.monotonic() + 60
    while "stopped at step" not in (folder / "out/cells/sum-0/log.txt").read_text() and time.monotonic() < until:
        time.sleep(0.05)
    assert "stopped at step" in (folder / "out/cells/sum-0/log.txt").read_text()
    process.stdout.close()


def test_a_second_worker_waits_for_memory(monkeypatch: pytest.MonkeyPatch):
    class Memory:
        available = 3 * 1024**3

    class Running:
        pid = 1

        def __init__(self, gib: float) -> None:
            self.rss = gib * 1024**3

        def poll(self) -> None:
            return None

    monkeypatch.setattr(cells.psutil, "virtual_memory", Memory)
    sizes = iter([2.5, 3.5])

    class Process:
        def __init__(self, pid: int) -> None: ...

        def memory_info(self) -> Running:
            return Running(next(sizes))

    monkeypatch.setattr(cells.psutil, "Process", Process)
    assert cells._room([])
    assert cells._room([Running(0)])
    assert not cells._room([Running(0)])


def test_stopping_says_how_many_runs_are_left(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from contextlib import nullcontext

    monkeypatch.setattr(cells, "signals", lambda: nullcontext(lambda: True))
    with pytest.raises(Stopped, match="4 of 4 runs to go"):
        launch.run(plan.load(str(folder / "study.yaml")), folder / "out", 1, SILENT)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"rows": 1}'])
def test_a_damaged_record_is_named(tmp_path: Path, content: str):
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(ValueError, match=r"study\.json: (damaged: |not JSON )"):
        results.read_study(tmp_path)


def test_a_folder_without_a_study_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no study here"):
        results.read_study(tmp_path)


def test_runs_on_other_threads_are_warned_of(ended: Path, tmp_path: Path):
    shutil.copytree(ended / "out", tmp_path / "out")
    file = tmp_path / "out/cells/sum-1/run/environment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"threads": 7}))
    assert results.read_study(tmp_path / "out").warnings == ["runs differ in threads: 2 kinds"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("study.json", '{"rows": {', r"out/study\.json: not JSON \(.*\)\. Start the study again\."),
        ("study.json", "[]", r"out/study\.json: damaged: .*Start the study again\."),
        ("cells/sum-0/ended.json", "{}", r"ended\.json: damaged: .*\. Remove .*/cells/sum-0, and start"),
        ("cells/sum-0/ended.json", '{"seconds": null}', r"ended\.json: damaged: seconds: "),
        ("cells/sum-0/run/metrics.jsonl", '{"step": 1', r"metrics\.jsonl, line 1: damaged or half-written\."),
        ("cells/sum-0/run/metrics.jsonl", "[1]", r"metrics\.jsonl, line 1: damaged or half-written\."),
        ("cells/sum-0/run/metrics.jsonl", '{"step": 1}\n{}\n', r"metrics\.jsonl, line 2: damaged or half-written\."),
        ("cells/sum-0/run/metrics.jsonl", '{"step": 1, "losses": 3}', r"metrics\.jsonl, line 1: damaged or half"),
        ("cells/sum-0/run/metrics.jsonl", '{"step": 1}\n', r"sum, seed 0: its answers to \w+ are not "),
        ("cells/sum-0/run/metrics.jsonl", b"\xff", r"metrics\.jsonl, line 1: damaged or half-written\."),
        ("cells/sum-0/run/metrics.jsonl", None, r"metrics\.jsonl: not there\."),
        ("cells/sum-0/run/best/predictions.safetensors", "{}", r"predictions\.safetensors: damaged or half-written"),
        ("cells/sum-0/run/best/predictions.safetensors", None, r"predictions\.safetensors: not there\."),
    ],
)
def test_a_damaged_file_of_a_study_is_named(
    ended: Path, tmp_path: Path, file: str, content: str | bytes | None, message: str
):
    out = tmp_path / "out"
    shutil.copytree(ended / "out", out)
    (out / file).unlink()
    if content is not None:
        (out / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        launch.report(out, SILENT)
    assert "\n" not in str(error.value)


def test_what_is_no_study_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file", tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"no study here \(no study\.json\)"):
            launch.report(path, SILENT)


# On test -------------------------------------------------------------------------------------------


def held_out(folder: Path) -> list[str]:
    """``--test`` for a file of each task, with rows that no dev file has."""
    folder.mkdir()
    lines = {
        "sst": ["id,sentence,sentiment", *(f"x{i},the {'good' if i % 2 else 'dull'} film,{i % 5}" for i in range(10))],
        "quora": [
            "id,sentence1,sentence2,is_duplicate",
            *(f"x{i},why,how is the {'cat dog'[i % 2 :]},{i % 2}" for i in range(8)),
        ],
        "sts": ["id,sentence1,sentence2,similarity", *(f"x{i},a cat,{'a ' * i}dog,{i / 2}" for i in range(1, 9))],
    }
    for name, text in lines.items():
        (folder / f"{name}.csv").write_text("\n".join(text) + "\n")
    return [option for name in lines for option in ("--test", f"{name}={folder / name}.csv")]


@pytest.mark.usefixtures("undrawn")
def test_a_row_is_scored_on_test_once_and_the_report_keeps_that(ended: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(ended / "out", out)
    options = held_out(tmp_path / "test")
    done = CliRunner().invoke(cli.app, ["report", str(out), "--row", "pcgrad", *options])
    assert done.exit_code == 0, done.output
    record = json.loads((out / "test.json").read_text())
    assert (record["row"], record["seeds"]) == ("pcgrad", 2)
    assert record["files"]["sst"] == hashlib.sha256((tmp_path / "test/sst.csv").read_bytes()).hexdigest()
    scored = [
        {
            name: use.evaluate(out / f"cells/pcgrad-{seed}/run", f"{tmp_path}/test/{name}.csv", name, SILENT, SILENT)
            for name in ("sst", "quora", "sts")
        }
        for seed in (0, 1)
    ]
    for name, metric in (("sst", "accuracy"), ("quora", "accuracy"), ("sts", "pearson")):
        values = [by[name][name].metrics[metric] for by in scored]
        assert record["scores"][name]["mean"] == pytest.approx(np.mean(values))
        assert record["scores"][name]["sd"] == pytest.approx(np.std(values, ddof=1))
    parts = [record["scores"][name]["mean"] for name in ("sst", "quora", "sts")]
    assert record["scores"]["overall"]["mean"] == pytest.approx((parts[0] + parts[1] + (parts[2] + 1) / 2) / 3)
    table = (out / "tables/paper-table-5.csv").read_text().splitlines()
    assert table[1].startswith(f'pcgrad,2,,"{parts[0]:.4f} ± ')
    assert "Table 5: test" in (out / "report.html").read_text()

    before = (out / "test.json").read_bytes()
    again = CliRunner().invoke(cli.app, ["report", str(out), "--row", "sum", *options])
    assert isinstance(again.exception, ValueError)
    assert "row pcgrad was scored on test before" in str(again.exception)
    launch.report(out, SILENT)
    assert (out / "test.json").read_bytes() == before
    assert (out / "tables/paper-table-5.csv").read_text().splitlines() == table


def test_what_the_runs_were_made_with_is_no_test_file(ended: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(ended / "out", out)
    options = held_out(tmp_path / "test")
    shutil.copy(ended / "data/sst.csv", tmp_path / "test/sst.csv")
    done = CliRunner().invoke(cli.app, ["report", str(out), "--row", "sum", *options])
    assert isinstance(done.exception, ValueError)
    assert "sst.csv: is sst.csv, which the runs were made with." in str(done.exception)
    assert not (out / "test.json").exists()


def test_a_row_is_not_scored_on_test_before_all_its_seeds_have_ended(ended: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(ended / "out", out)
    (out / "cells/sum-1/ended.json").unlink()
    done = CliRunner().invoke(cli.app, ["report", str(out), "--row", "sum", *held_out(tmp_path / "test")])
    assert isinstance(done.exception, ValueError)
    assert str(done.exception).startswith("sum, seed 1: has not ended")
    assert not (out / "test.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--test", "sst=test/sst.csv"], r"--test wants one row to score\. Give --row sum or --row pcgrad\."),
        (["--row", "smart"], r"^--row smart: --test wants one row"),
        (["--row", "sum"], r"^--test: wants a file for each of sst, quora, sts, found none\."),
        (["--row", "sum", "--test", "sst=test/sst.csv"], r"wants a file for each of sst, quora, sts, found sst\."),
        (["--row", "sum", "--test", "sst"], r"^--test sst: give TASK=FILE, once for each task\."),
        (["--row", "sum", "--test", "sst=a", "--test", "sst=b"], r"^--test sst=b: give TASK=FILE, once"),
    ],
)
def test_what_is_wrong_with_a_test_is_told_and_nothing_recorded(ended: Path, options: list[str], message: str):
    done = CliRunner().invoke(cli.app, ["report", str(ended / "out"), *options])
    assert isinstance(done.exception, ValueError)
    assert re.search(message, str(done.exception)), done.exception
    assert not (ended / "out/test.json").exists()


def test_a_test_file_that_cannot_be_read_leaves_the_test_unseen(ended: Path, tmp_path: Path):
    options = held_out(tmp_path / "test")
    (tmp_path / "test/sts.csv").write_text("id,sentence1\nx,a\n")
    done = CliRunner().invoke(cli.app, ["report", str(ended / "out"), "--row", "sum", *options])
    assert isinstance(done.exception, ValueError)
    assert "sts.csv" in str(done.exception)
    assert not (ended / "out/test.json").exists()


def test_a_damaged_record_of_a_test_is_named(tmp_path: Path):
    (tmp_path / "test.json").write_text('{"row": ')
    with pytest.raises(ValueError, match=r"test\.json: not JSON \(.*\)\. Put the old file back\."):
        scoring.read(tmp_path)
