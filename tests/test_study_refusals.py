"""A study refuses answers to other data, impossible answers, and damaged files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import toy_study
from rich.console import Console
from safetensors.torch import load_file, save_file

from mtbert.studying import commands, results

SILENT = Console(quiet=True)
ended = toy_study.ended
undrawn = toy_study.undrawn


@pytest.mark.usefixtures("undrawn")
def test_answers_to_data_that_were_changed_since_are_refused(ended: Path, tmp_path: Path):
    shutil.copytree(ended, tmp_path / "copy")
    data, out = tmp_path / "copy/data/sts.csv", tmp_path / "copy/out"
    for file in out.rglob("recipe.yaml"):
        file.write_text(file.read_text().replace(str(ended), str(tmp_path / "copy")))
    commands.report_on(out, SILENT)
    header, *rows = data.read_text().splitlines()
    data.write_text("\n".join([header, *reversed(rows)]) + "\n")
    with pytest.raises(ValueError, match=r"sum, seed 0: its answers to sts are not to the dev examples that are there"):
        commands.report_on(out, SILENT)


def test_a_run_in_the_place_of_another_is_refused(ended: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(ended / "out", out)
    shutil.rmtree(out / "cells/sum-0/run")
    shutil.copytree(out / "cells/sum-1/run", out / "cells/sum-0/run")
    with pytest.raises(ValueError, match=r"sum-0/run: is a run of seed 1\. Remove .*cells/sum-0, and run it again"):
        commands.report_on(out, SILENT)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t | {"sst.decided": torch.full_like(t["sst.decided"], 99)},
        lambda t: t | {"sst.decided": t["sst.decided"][:-1]},
        lambda t: t | {"sst.raw": t["sst.raw"][:, :2].contiguous()},
        lambda t: t | {"sts.decided": t["sts.decided"] * torch.nan},
        lambda t: t | {"sst.raw": t["sst.raw"] * torch.nan},  # its metric reads the decisions alone
        lambda t: t | {"sts.decided": t["sts.decided"].to(torch.int32)},
        lambda t: t | {"sst.decided": t["sst.decided"].double()},
        lambda t: t | {"sst.decided": t["sst.decided"].bfloat16()},
        lambda t: t | {"sst.raw": t["sst.raw"].to(torch.complex64)},
        lambda t: t | {"sst.raw": t["sst.raw"].bool()},
        lambda t: {k: v for k, v in t.items() if not k.startswith("sts")},
        lambda t: t | {"more.raw": t["sts.raw"].clone(), "more.decided": t["sts.decided"].clone()},
    ],
)
def test_impossible_answers_are_refused(ended: Path, tmp_path: Path, spoil: Callable[..., dict[str, torch.Tensor]]):
    out = tmp_path / "out"
    shutil.copytree(ended / "out", out)
    file = out / "cells/sum-1/run/best/predictions.safetensors"
    save_file(spoil(load_file(file)), file)
    with pytest.raises(ValueError, match=r"its answers (to s\w+ )?are not "):
        commands.report_on(out, SILENT)


def test_a_run_that_was_stopped_before_dev_was_scored_has_no_report_yet(ended: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(ended / "out/cells/sum-0/run", run)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join(lines[:3]) + "\n")
    said = (
        r"stopped at step 3 of \d+, before dev was scored for the first time\. Go on with: "
        rf"mtbert\.train\(resume='{run}'\)"
    )
    with pytest.raises(ValueError, match=said):
        commands.report_on(run, SILENT)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"rows": 1}'])
def test_a_damaged_record_is_named(tmp_path: Path, content: str):
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(ValueError, match=r"study\.json: (damaged: |not JSON )"):
        results.read_study(tmp_path)


def test_a_folder_without_a_study_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no study here"):
        results.read_study(tmp_path)


def test_runs_on_other_numbers_of_threads_cause_a_warning(ended: Path, tmp_path: Path):
    shutil.copytree(ended / "out", tmp_path / "out")
    file = tmp_path / "out/cells/sum-1/run/environment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"threads": 7}))
    assert results.read_study(tmp_path / "out").warnings == ["Runs differ in threads: there are 2 different ones."]


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
        ("cells/sum-0/run/metrics.jsonl", '{"step": 1, "lr": Infinity}', r"metrics\.jsonl, line 1: damaged or half"),
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
        commands.report_on(out, SILENT)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_a_study_is_reported(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(FileNotFoundError, match=r"no study here \(no study\.json\)"):
            commands.report_on(path, SILENT)
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
        commands.report_on(tmp_path / "nowhere", SILENT)
