"""``predict`` with a pattern, when its output folder has parts: a later call fits the parts, or is refused."""

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from toy_parts import inputs, parts, rows_of, write_rows

from mtbert import files
from mtbert.data import cache
from mtbert.part_share import PartShare
from mtbert.use import making, trained
from mtbert.use.bulk import score_files
from mtbert.use.part_files import Job, PartFolder
from mtbert.use.predictor import load
from mtbert.use.trained import load_whole, recipe_of

JOB = Job(
    model="d1",
    tasks=("sst",),
    single=True,
    texts={"sst": ("sentence",)},
    ids=("id",),
    numbered=None,
    columns=("id", "sentence"),
    types={"id": "text", "sentence": "text"},
    names={"label": "label"},
    separators={"sst": None},
    part_rows=10,
    suffix=".csv",
)


def score(toy: Path, pattern: str, out: Path, *tasks: str) -> None:
    score_files(toy / "run", pattern, str(out), Console(quiet=True), part_rows=10, tasks=tasks)


# Another job -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "d2"}, "another model. "),
        ({"tasks": ("sts",)}, "other tasks (('sst',), not ('sts',)). "),
        ({"single": False}, "other tasks (True, not False). "),
        ({"texts": {"sst": ("text",)}}, "other columns ({'sst': ('sentence',)}, not {'sst': ('text',)}). "),
        ({"ids": ()}, "another id column (('id',), not ()). "),
        ({"numbered": "id"}, "ids from another place (None, not 'id'). "),
        (
            {"columns": ("id", "sentence", "lang")},
            "other columns of the input (('id', 'sentence'), not ('id', 'sentenc",
        ),
        (
            {"types": {"id": "text", "sentence": "int"}},
            "other types of columns ({'id': 'text', 'sentence': 'text'}, not",
        ),
        ({"names": {"label": "predicted_label"}}, "other names of answers ({'label': 'label'}, not {'label': 'predict"),
        ({"separators": {"sst": "|"}}, "another separator of labels ({'sst': None}, not {'sst': '|'}). "),
        ({"part_rows": 20}, "another --part-rows (10, not 20). "),
        ({"suffix": ".tsv"}, "input files of another format ('.csv', not '.tsv'). "),
    ],
)
def test_a_folder_of_another_job_is_refused(tmp_path, change, said):
    folder = PartFolder(tmp_path / "out", ".csv")
    folder.begin(JOB)
    folder.begin(JOB)
    with pytest.raises(ValueError, match="its parts were made with") as caught:
        folder.begin(JOB.model_copy(update=change))
    assert str(caught.value).startswith(f"--output {tmp_path}/out: its parts were made with {said}")


def test_of_many_columns_only_those_that_differ_are_said(tmp_path):
    folder = PartFolder(tmp_path / "out", ".csv")
    many = tuple(f"column number {i}" for i in range(90))
    types = dict.fromkeys(many, "text")
    folder.begin(JOB.model_copy(update={"columns": (*many, "old"), "types": types}))
    with pytest.raises(ValueError, match=r"\(now more: 'lang', 'new'; now missing: 'old'\)"):
        folder.begin(JOB.model_copy(update={"columns": (*many, "lang", "new"), "types": types}))
    with pytest.raises(ValueError, match=r"\('column number 80': 'text', not 'int64'\)"):
        folder.begin(JOB.model_copy(update={"columns": (*many, "old"), "types": types | {many[80]: "int64"}}))


def test_a_folder_of_an_older_version_is_one_line(tmp_path):
    folder = PartFolder(tmp_path / "out", ".csv")
    folder.begin(JOB)
    file = tmp_path / "out/.mtbert/job.json"
    kept = json.loads(file.read_text())
    for key in ("numbered", "columns", "types", "names", "separators"):
        del kept[key]
    file.write_text(json.dumps(kept))
    with pytest.raises(ValueError, match=r"job\.json: .*numbered.* Give another folder, or remove this one\."):
        folder.begin(JOB)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_with_more_columns_do_not_go_into_the_same_folder(toy, tmp_path, suffix):
    write_rows(tmp_path / f"in/a2024{suffix}", rows_of(0))
    write_rows(tmp_path / f"in/a2025{suffix}", [row | {"lang": "en", "sst.label": "0"} for row in rows_of(1)])
    score(toy, str(tmp_path / "in/*2024*"), tmp_path / "out")
    before = parts(tmp_path / "out")
    with pytest.raises(ValueError, match=r"other columns of the input .*, 'n', 'lang', 'sst.label'"):
        score(toy, str(tmp_path / "in/*2025*"), tmp_path / "out")
    assert parts(tmp_path / "out") == before


def test_json_lines_may_have_more_keys_but_not_one_that_renames_an_answer(toy, tmp_path):
    for name, more in (("a", {}), ("b", {"lang": "en"}), ("c", {"sst": 1})):
        write_rows(tmp_path / f"in/{name}.jsonl", [row | more for row in rows_of(0)])
    for name in ("a", "b"):
        score(toy, str(tmp_path / f"in/{name}*"), tmp_path / "out")
    with pytest.raises(ValueError, match=r"other names of answers .* not {'sst': 'predicted_sst'"):
        score(toy, str(tmp_path / "in/c*"), tmp_path / "out")
    assert len(parts(tmp_path / "out")) == 6


# Another model -----------------------------------------------------------------------------------------------


@pytest.fixture
def run_copy(toy, tmp_path) -> Path:
    """A copy of the trained run, whose best model a test may replace."""
    shutil.copytree(toy / "run", tmp_path / "copy/run")
    return tmp_path / "copy"


def replace_model(run: Path) -> None:
    """Replaces the best model by one with other weights, as training does."""
    from safetensors.numpy import load_file, save_file

    def fill(new: Path) -> None:
        for file in (run / "best").iterdir():
            shutil.copy(file, new / file.name)
        heads = load_file(new / "heads.safetensors")
        save_file({name: value * 2 for name, value in heads.items()}, new / "heads.safetensors")

    files.write_folder(run / "best", fill)


def test_a_model_that_is_replaced_while_it_is_loaded_is_loaded_again(run_copy, tmp_path, monkeypatch):
    times = []

    def replacing(path):
        found = load(path)
        if not times:
            replace_model(run_copy / "run")
        times.append(path)
        return found

    monkeypatch.setattr(trained, "load", replacing)
    pattern = inputs(tmp_path / "in", files=1)
    score(run_copy, pattern, tmp_path / "out")
    assert len(times) == 2
    monkeypatch.setattr(trained, "load", load)
    score(run_copy, pattern, tmp_path / "whole")  # only the new model is there now
    assert parts(tmp_path / "out") == parts(tmp_path / "whole")
    jobs = [(tmp_path / name / ".mtbert/job.json").read_text() for name in ("out", "whole")]
    assert jobs[0] == jobs[1]


def test_a_model_that_is_replaced_all_the_time_is_one_line(run_copy, monkeypatch):
    def replacing(path):
        replace_model(run_copy / "run")
        return load(path)

    monkeypatch.setattr(trained, "load", replacing)
    with pytest.raises(ValueError, match=r"run: training replaces the model too often to read it\. Try again when"):
        load_whole(run_copy / "run")


def test_a_process_whose_model_is_another_one_makes_no_part(run_copy, tmp_path):
    columns = tuple(rows_of(0)[0])
    _, model = load_whole(run_copy / "run")
    plan = making.PartPlan(
        run=run_copy / "run",
        recipe=recipe_of(run_copy / "run", ()),
        tasks=("sst",),
        single=True,
        columns=columns,
        name="f0",
        suffix=".csv",
        folder=tmp_path / "out",
        part_rows=10,
        model=model,
        share=PartShare(),
    )
    plan.maker()
    replace_model(run_copy / "run")
    with pytest.raises(ValueError, match=r"copy/run: its model was replaced since the command began\. Start again"):
        plan.maker()


# Input that changes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_file_without_rows_that_gets_rows_is_scored_by_the_next_call(toy, tmp_path, suffix):
    pattern = inputs(tmp_path / "in", suffix, files=1)
    file = tmp_path / f"in/f1{suffix}"
    write_rows(file, rows_of(1))
    whole = file.read_bytes()
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(pq.read_table(file).slice(0, 0), file)
    else:
        file.write_bytes(b"" if suffix == ".jsonl" else whole.splitlines(keepends=True)[0])
    score(toy, pattern, tmp_path / "out")
    assert len(parts(tmp_path / "out")) == 3
    score(toy, pattern, tmp_path / "out")
    file.write_bytes(whole)
    score(toy, pattern, tmp_path / "out")
    score(toy, pattern, tmp_path / "whole")
    assert parts(tmp_path / "out") == parts(tmp_path / "whole")
    assert len(parts(tmp_path / "out")) == 6


def test_without_a_cache_an_input_file_is_hashed_once_for_all_its_parts(toy, tmp_path, monkeypatch):
    pattern = inputs(tmp_path / "in", files=1)
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("MTBERT_CACHE", str(tmp_path / "taken"))  # a file, so no cache can be written
    monkeypatch.setattr(cache, "SETTLED", -(10**12))
    hashed = []

    def sha256(file: Path, repair: str) -> str:
        hashed.append(file.name)
        return real(file, repair)

    real = files.sha256
    monkeypatch.setattr(files, "sha256", sha256)
    score(toy, pattern, tmp_path / "out")
    assert len(parts(tmp_path / "out")) == 3
    assert hashed.count("f0.parquet") == 1
    write_rows(tmp_path / "in/f0.parquet", rows_of(5))
    score(toy, pattern, tmp_path / "other")
    assert hashed.count("f0.parquet") == 2
