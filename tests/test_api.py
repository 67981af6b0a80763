"""From Python: training, scoring and asking, with data from memory and nothing printed."""

import copy
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import toy_run
import yaml
from toy_rows import data, recipe
from typer.testing import CliRunner

import mtbert
from mtbert import cli
from mtbert.part_share import PartShare
from mtbert.studying.commands import EndedStudy

QUICK = {"train.epochs": 1, "train.rounds": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    toy_run.set_up(tmp_path)
    return tmp_path


def test_rows_from_memory_train_score_and_answer_without_a_word(folder: Path, capfd: pytest.CaptureFixture[str]):
    rows = data()
    before = rows["mood"]["train"].copy(deep=True)
    result = mtbert.train(recipe(folder), data=rows, out=folder / "run")
    assert result.path == folder / "run"
    assert set(result.scores) == {"mood", "same"}
    assert set(result.scores["mood"]) >= {"accuracy", "macro_f1"}
    assert result.scores.overall == pytest.approx(
        (result.scores["mood"]["accuracy"] + (result.scores["same"]["pearson"] + 1) / 2) / 2
    )
    again = mtbert.evaluate(result.path)
    assert dict(again) == {task: pytest.approx(metrics, abs=1e-6) for task, metrics in result.scores.items()}
    answers = mtbert.load(result.path)(["the dog", "a fine film"])
    assert answers == [{"mood": one} for one in result.predictor.predict("mood", ["the dog", "a fine film"])]
    assert mtbert.load(result.path)(("the dog", "a fine film")) == answers  # two texts, as a task takes single ones
    (pair,) = mtbert.load(str(result.path))([("the dog", "a dog")])
    assert set(pair) == {"same"}
    pd.testing.assert_frame_equal(rows["mood"]["train"], before)
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in folder.iterdir()} == {"encoder", "data", "toy.yaml", "run"}


def test_a_run_of_rows_from_memory_is_moved_and_then_goes_on_is_scored_and_reported(folder: Path):
    mtbert.train(recipe(folder), data=data(), out=folder / "run")
    assert {path.name for path in (folder / "run/data").iterdir()} == {
        *("mood-train.parquet", "mood-dev.parquet", "same-train.parquet"),
    }
    moved = folder / "elsewhere/moved"
    moved.parent.mkdir()
    (folder / "run").rename(moved)
    steps = len((moved / "metrics.jsonl").read_text().splitlines())
    went_on = mtbert.train(resume=moved, epochs=2)
    assert len((moved / "metrics.jsonl").read_text().splitlines()) > steps
    (folder / "elsewhere").rename(folder / "third")
    moved = folder / "third/moved"
    assert mtbert.evaluate(moved)["same"] == pytest.approx(went_on.scores["same"], abs=1e-6)
    assert CliRunner().invoke(cli.app, ["report", str(moved)]).exit_code == 0
    assert "mood" in (moved / "report.html").read_text()
    # Another recipe may start from that of the run, as in a study.
    other = folder / "other.yaml"
    other.write_text(yaml.safe_dump({"extends": str(moved / "recipe.yaml"), "train": {"seed": 5}}))
    assert set(mtbert.train(other, out=folder / "again", changes=QUICK).scores) == {"mood", "same"}


def test_stopping_at_any_point_and_going_on_is_one_run(folder: Path):
    mtbert.train(recipe(folder), data=data(), out=folder / "whole", changes={"train.epochs": 2})
    mtbert.train(recipe(folder), data=data(), out=folder / "parts")
    parts = mtbert.train(resume=folder / "parts", epochs=2)
    ours, theirs = (json.loads((folder / name / "environment.json").read_text()) for name in ("whole", "parts"))
    assert ours["data"] == theirs["data"]
    assert set(ours["data"]) == {f"data/{name}.parquet" for name in ("mood-train", "mood-dev", "same-train")}
    assert parts.path == folder / "parts"


def test_rows_and_files_may_be_mixed_and_the_run_may_be_moved(folder: Path):
    rows = pd.DataFrame({"sentence": ["the dog", "a cat"] * 20, "sentiment": range(40), "id": range(40)})
    rows["sentiment"] %= 5
    result = mtbert.train(folder / "toy.yaml", data={"sst": rows}, out=folder / "run", changes=QUICK)
    assert list(result.scores) == ["sst", "quora", "sts"]
    written = yaml.safe_load((folder / "run/recipe.yaml").read_text())
    assert written["data"]["root"] is None
    assert written["tasks"]["sst"]["train"]["path"] == "data/sst-train.parquet"
    assert written["tasks"]["quora"]["train"]["path"] == str(folder / "data/quora.csv")
    (folder / "run").rename(folder / "moved")
    assert set(mtbert.evaluate(folder / "moved")) == {"sst", "quora", "sts"}


def test_a_recipe_may_be_a_path_a_dict_or_a_recipe(folder: Path):
    from mtbert.recipe.files import load_recipe

    settings = load_recipe(str(folder / "toy.yaml"))
    forms = {"path": folder / "toy.yaml", "dict": toy_run.raw_recipe(folder), "recipe": settings}
    forms["extends"] = {"extends": str(folder / "toy.yaml")}
    before = copy.deepcopy(forms)
    losses = set()
    for name, form in forms.items():
        mtbert.train(form, out=folder / name, changes=QUICK)
        losses.add((folder / name / "metrics.jsonl").read_bytes())
    assert len(losses) == 1
    assert isinstance(settings, mtbert.Recipe)
    assert forms == before


def test_without_out_the_folder_is_named_for_the_recipe_and_is_not_overwritten(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    assert mtbert.train("toy.yaml", changes=QUICK).path == Path("runs/toy")
    assert mtbert.train(recipe(folder), data()).path == Path("runs/run")
    with pytest.raises(ValueError, match=r"^runs/toy: exists\. Go on with: mtbert\.train\(resume='runs/toy'\); or"):
        mtbert.train("toy.yaml", changes=QUICK)
    before = (folder / "runs/run/data/mood-train.parquet").read_bytes()
    mtbert.train(recipe(folder), data(30), out="runs/run", overwrite=True)
    assert (folder / "runs/run/data/mood-train.parquet").read_bytes() != before


MISTAKES: dict[str, tuple[Any, str]] = {
    "type": ("a.csv", "data of task mood: must be a pandas or polars DataFrame"),
    "nested": ([{"text": "a", "label": [1]}], "data of task mood, row 1, column 'label': the label must be one value"),
    "unknown label": (
        {"train": [{"text": "a", "label": 0}, {"text": "b", "label": "maybe"}] * 5},
        r"data of task mood, row 2, column 'label': .*'maybe'",
    ),
    "dev": (
        {"train": [{"text": "a", "label": 0}] * 5, "dev": [{"text": "a", "label": 0}, {"text": "b", "label": "x"}]},
        r"data of task mood, dev, row 2, column 'label': .*'x'",
    ),
    "empty texts": ([{"text": " ", "label": 0}] * 3, "data of task mood: no usable row; dropped 3 rows with an empty"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_in_the_rows_is_named_as_the_caller_knows_it_and_leaves_nothing(folder: Path, kind: str):
    rows, said = MISTAKES[kind]
    with pytest.raises((ValueError, TypeError), match=f"^{said}"):
        mtbert.train(recipe(folder), data=data() | {"mood": rows}, out=folder / "run")
    assert {path.name for path in folder.iterdir()} == {"encoder", "data", "toy.yaml"}


def test_a_task_that_the_recipe_does_not_have_is_said_with_the_nearest(folder: Path):
    with pytest.raises(ValueError, match=r"^data: the recipe has no task 'moods'\. Did you mean 'mood'\?$"):
        mtbert.train(recipe(folder), data={"moods": []}, out=folder / "run")


def test_a_task_without_data_says_so(folder: Path):
    with pytest.raises(ValueError, match=r"^recipe given as a dict, tasks\.same.*train"):
        mtbert.train(recipe(folder), data={"mood": data()["mood"]}, out=folder / "run")


def test_progress_prints_what_the_command_prints(folder: Path, capsys: pytest.CaptureFixture[str]):
    rows = data()
    rows["same"] = [*rows["same"], {"one": "a", "two": "", "score": 1}]
    mtbert.train(recipe(folder), data=rows, out=folder / "run", progress=True)
    said = capsys.readouterr().out
    assert "warning: data of task same: dropped 1 row with an empty text (first: row 25)." in said
    assert "best/, of step" in said


def test_a_notebook_shows_scores_as_a_table(folder: Path):
    result = mtbert.train(recipe(folder), data=data(), out=folder / "run")
    where = [f"run: {folder / 'run'}", f"report: {folder / 'run/report.html'}"]
    assert re.sub("<[^>]*>", "", result._repr_html_()).splitlines() == where  # the table has been shown by then
    page = result.scores._repr_html_()
    assert str(result) == repr(result) == f"{folder / 'run'}\n{result.scores}"
    assert page.startswith("<pre")
    assert re.search(rf"mood.*accuracy.*{result.scores['mood']['accuracy']:.4f}", repr(result.scores))
    for word in ("mood", "same", "overall", "constant", f"{result.scores.overall:.4f}"):
        assert word in page
    assert result.scores.constant["same"]["pearson"] == 0.0


def test_what_makes_scores_doubtful_comes_back_with_them_and_is_shown_below(folder: Path):
    rows = data()
    rows["mood"]["train"].loc[5, "label"] = None
    rows["mood"]["dev"] = rows["mood"]["train"].iloc[[0, 2]]  # one label, so no order to rank by
    result = mtbert.train(recipe(folder), data=rows, out=folder / "run")
    dropped = "dropped 1 row without a label in column 'label' (first: row 6{})."
    assert f"data of task mood: {dropped.format(', index 5')}" in result.scores.warnings
    once = mtbert.evaluate(result.path)
    assert once.warnings == (
        f"data/mood-train.parquet: {dropped.format('')}",
        "task mood: auc where all labels are equal is undefined; reported as 0.5.",
        "task mood: average_precision where all labels are equal is undefined; reported as 0.",
    )
    assert repr(once).splitlines()[-3].startswith(f"warning: {once.warnings[0]}")
    assert "warning:" not in once._repr_html_()  # a notebook shows them during the call
    assert mtbert.evaluate(result.path, task="same").warnings == ()
    shutil.rmtree(result.path / "best")
    assert (
        mtbert.evaluate(result.path).warnings[0].endswith("before its first evaluation, so its newest model answers.")
    )
    resumed = mtbert.train(resume=result.path, epochs=2)
    assert len(set(resumed.scores.warnings)) == len(resumed.scores.warnings)


def test_training_in_another_thread_catches_no_signals(folder: Path):
    found: list[Any] = []
    thread = threading.Thread(
        target=lambda: found.append(mtbert.train(folder / "toy.yaml", out=folder / "run", changes=QUICK))
    )
    thread.start()
    thread.join()
    assert found[0].path == folder / "run"


def test_a_study_and_a_tuning_return_where_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[Any, ...]] = []
    answer = EndedStudy({"a, seed 0": "broke"}, "b is better than a.")
    monkeypatch.setattr("mtbert.studying.commands.run_study", lambda *a, share: seen.append((*a, share)) or answer)
    found = mtbert.study("demo", folder / "out", workers=3, part="2/3")
    assert (found.path, found.report, found.failed) == (
        *(folder / "out", folder / "out/report.html"),
        {"a, seed 0": "broke"},
    )
    assert repr(found) == f"b is better than a.\nfailed: a, seed 0: broke\nreport: {folder / 'out/report.html'}"
    assert repr(mtbert.Studied(folder, {})) == f"no report yet: {folder}"
    assert seen[0][1:3] == (folder / "out", 3)
    assert seen[0][4] == PartShare(1, 3)
    assert seen[0][3].quiet
    monkeypatch.setattr(
        "mtbert.api_studies.run_tuning", lambda tuning, trials, console: (tuning, trials, console.quiet)
    )
    tuning, trials, quiet = mtbert.tune(folder / "toy.yaml", 7, folder / "tuned", changes={"train.lr": 1e-5})
    assert (tuning.name, tuning.overrides, tuning.out) == (
        str(folder / "toy.yaml"),
        ("train.lr=1e-05",),
        folder / "tuned",
    )
    assert (trials, quiet) == (7, True)


def test_importing_needs_no_torch_and_every_name_is_there():
    code = "import sys, mtbert; assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules); print(dir(mtbert))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    names = {*"DataReport MtbertWarning Predictor Recipe Scores Studied Trained".split()}
    names |= {*"check evaluate export load push review study train tune".split()}
    assert set(mtbert.__all__) == names | {"__version__"}
    assert all(name in printed for name in names)
    assert all(callable(getattr(mtbert, name)) for name in names)


def test_training_needs_no_package_that_only_studies_need():
    code = "import sys, mtbert; mtbert.train; print(sorted({'pandas', 'matplotlib', 'jinja2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_what_a_kill_left_beside_a_run_goes_with_the_next_start(folder: Path):
    (folder / ".run.rows/data").mkdir(parents=True)
    (folder / ".run.rows/data/mood-train.parquet").write_text("half")
    mtbert.train(recipe(folder), data=data(), out=folder / "run")
    assert {path.name for path in folder.iterdir()} == {"encoder", "data", "toy.yaml", "run"}


def test_no_module_has_the_name_of_a_function():
    home = Path(mtbert.__file__).parent
    modules = {path.stem for path in home.glob("*.py")} | {path.parent.name for path in home.glob("*/__init__.py")}
    assert not modules & set(mtbert.__all__)


def test_a_model_of_pairs_alone_takes_one_pair_and_refuses_texts(folder: Path):
    one = recipe(folder)
    del one["tasks"]["mood"]
    result = mtbert.train(one, data={"same": data()["same"]}, out=folder / "run")
    model = result.predictor
    assert (
        model(("the dog", "a cat"))
        == model([("the dog", "a cat")])
        == [{"same": model.predict("same", ("the dog", "a cat"))[0]}]
    )
    assert model([]) == []
    with pytest.raises(ValueError, match=r"^no task of this model takes single texts\. Give pairs; its tasks are same"):
        model("the dog")
    for given in (None, 3, ("the dog", None)):
        with pytest.raises(ValueError, match=f"^task same, text 1: must be .*, found {re.escape(repr(given))}"):
            model([given])
    with pytest.raises(ValueError, match=r"^task same, text 1: takes 2 texts, found 3: \('a', 'b', 'c'\)\.$"):
        model([("a", "b", "c")])
    shutil.rmtree(folder / "run/best")
    assert model(("the dog", "a cat"))


def test_the_example_of_the_guide_runs(folder: Path, monkeypatch: pytest.MonkeyPatch):
    guide = (Path(__file__).parent.parent / "docs/python.md").read_text()
    code = guide.split("```python\n", 1)[1].split("```", 1)[0]
    monkeypatch.chdir(folder)
    model = f'"model": {{"path": "{folder}/encoder", "max_length": 24}}'
    named = code.replace('"train": {', f'{model}, "train": {{')
    assert named != code
    found: dict[str, Any] = {}
    exec(named, found)
    assert found["result"].path == Path("runs/topic")
    assert set(found["model"](["The app crashes."])[0]["topic"]) == {"label", "p(bug)", "p(wish)"}
    scores = found["result"].scores  # both sides of the split have both classes
    assert scores.constant["topic"]["accuracy"] < 1
    # The encoder of this test has learnt nothing before, so its score on seven rows is not clear.
    assert scores.warnings == ("Not clearly better than the best constant answer: topic.",)


@pytest.mark.parametrize("starts", [False, True], ids=["data", "encoder"])
def test_a_run_that_the_recipe_reads_is_not_overwritten(starts: bool, folder: Path):
    run = folder / "run"
    mtbert.train(recipe(folder), data=data(), out=run, changes=QUICK)
    before = sorted(path for path in run.rglob("*") if path.name != "lock")
    changes: dict[str, Any] = QUICK | ({"model.path": str(run)} if starts else {})
    reads = run if starts else run / "data/mood-train.parquet"
    again: Any = {"recipe": recipe(folder), "data": data()} if starts else {"recipe": run / "recipe.yaml"}
    (folder / "link").symlink_to(folder)
    with pytest.raises(ValueError, match=f"^{run}: the recipe reads {reads}, which overwriting would remove"):
        mtbert.train(**again, out=folder / "link/run", overwrite=True, changes=changes)
    assert sorted(path for path in run.rglob("*") if path.name != "lock") == before
    mtbert.train(**again, out=folder / "other", overwrite=True, changes=changes)
    mtbert.train(recipe(folder), data=data(), out=run, overwrite=True, changes=QUICK)  # new rows in place of the old
