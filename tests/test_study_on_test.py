"""One recipe of a study is scored on test once; a test that cannot be made is not recorded."""

import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import toy_study
from rich.console import Console
from typer.testing import CliRunner

import mtbert
from mtbert import cli
from mtbert.studying import commands
from mtbert.studying.held_out_scores import read_held_out

SILENT = Console(quiet=True)
ended = toy_study.ended
undrawn = toy_study.undrawn


def held_out(folder: Path) -> list[str]:
    """Returns ``--test`` options with a file for each task, whose rows are in no dev file."""
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
            name: mtbert.evaluate(
                out / f"cells/pcgrad-{seed}/run", tmp_path / f"test/{name}.csv", task=name
            ).evaluations
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
    table = (out / "tables/test.csv").read_text().splitlines()
    assert table[0].startswith("row,seeds,sst,sst sd,sst low,sst high,quora,")
    assert table[1].startswith(f"pcgrad,2,{parts[0]:.4f},")
    assert "Scores on test" in (out / "report.html").read_text()

    before = (out / "test.json").read_bytes()
    again = CliRunner().invoke(cli.app, ["report", str(out), "--row", "sum", *options])
    assert isinstance(again.exception, ValueError)
    assert "row pcgrad was scored on test before" in str(again.exception)
    printed = Console(file=io.StringIO(), width=300)
    commands.report_on(out, printed)
    means = pd.read_csv(out / "tables/scores.csv", index_col="row")["overall"].drop("best constant")
    best = means.idxmax()
    assert printed.file.getvalue().splitlines()[-2:] == [
        f"done: the report is {out}/report.html",
        f"next: mtbert.load('{out}/cells/{best}-0/run')(['some text'])",
    ]
    assert (out / "test.json").read_bytes() == before
    assert (out / "tables/test.csv").read_text().splitlines() == table


def test_a_file_that_the_runs_were_made_with_is_refused_as_a_test_file(ended: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(ended / "out", out)
    options = held_out(tmp_path / "test")
    shutil.copy(ended / "data/sst.csv", tmp_path / "test/sst.csv")
    done = CliRunner().invoke(cli.app, ["report", str(out), "--row", "sum", *options])
    assert isinstance(done.exception, ValueError)
    assert "sst.csv: has the same content as sst.csv, which the runs were made with." in str(done.exception)
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
        (["--test", "sst=test/sst.csv"], r"^--row: --test needs the row to score\. Give --row sum or --row pcgrad\."),
        (["--row", "smart"], r"^--row 'smart': --test needs the row"),
        (["--row", "sum"], r"^--test: needs a file for each of sst, quora, sts, found none\."),
        (["--row", "sum", "--test", "sst=test/sst.csv"], r"needs a file for each of sst, quora, sts, found sst\."),
        (["--row", "sum", "--test", "sst"], r"^--test sst: give TASK=FILE, once for each task\."),
        (["--row", "sum", "--test", "sst=a", "--test", "sst=b"], r"^--test sst=b: give TASK=FILE, once"),
    ],
)
def test_a_mistake_in_a_test_is_reported_and_nothing_is_recorded(ended: Path, options: list[str], message: str):
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
        read_held_out(tmp_path)
