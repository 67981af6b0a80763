"""From Python: warnings, the check of data, rows to score, and advice that names calls instead of commands."""

import re
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import toy_run
from commands import Mtbert
from toy_rows import data, recipe

import mtbert
from mtbert import check
from mtbert.advice import worded_for_shell
from mtbert.messages import caller_console
from mtbert.recipe.settings import validate_recipe
from mtbert.splits import check_files
from mtbert.studying.plan import load_study
from mtbert.training.assemble import assemble, check_data
from mtbert.training.start import start_run

folder = toy_run.shared_folder


def frame(labels: list[str], index: list[Any] | None = None) -> pd.DataFrame:
    texts = [f"{one} {two}" for one in toy_run.WORDS for two in toy_run.WORDS]
    return pd.DataFrame({"text": texts[: len(labels)], "label": labels}, index=index)


def moods(folder: Path, *names: str) -> dict[str, Any]:
    tasks = {name: {"type": "classification", "inputs": "single", "batch_size": 4} for name in names}
    return recipe(folder) | {"tasks": tasks}


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[mtbert.Trained, list[warnings.WarningMessage]]:
    """A run of rows that a DataFrame holds, and the warnings of its training."""
    rows = frame([("bad", "good")[i % 2] for i in range(24)], [f"id-{i}" for i in range(24)])
    rows.loc["id-5", "label"] = None
    with pytest.warns(mtbert.MtbertWarning) as heard:
        found = mtbert.train(
            moods(folder, "mood"),
            {"mood": {"train": rows, "dev": rows}},
            tmp_path_factory.mktemp("frames") / "run",
            changes={"train.rounds": 1},
        )
    return found, list(heard)


def test_without_progress_the_warnings_of_a_run_are_python_warnings_at_the_line_that_called(run):
    trained, heard = run
    said = [str(one.message) for one in heard]
    assert said == list(trained.scores.warnings)
    dropped = "dropped 1 row without a label in column 'label' (first: row 6, index 'id-5')."
    assert said[0] == f"data of task mood: {dropped}"
    assert {one.filename for one in heard} == {__file__}


def test_rows_to_score_are_given_as_for_training(run, folder: Path):
    path = run[0].path
    rows = frame(["bad", "good", "good"], ["x", "y", "z"])
    found = mtbert.evaluate(path, data={"mood": rows})
    (folder / "rows.csv").write_text(rows.to_csv())
    assert dict(found) == dict(mtbert.evaluate(path, folder / "rows.csv", task="mood"))
    (seen,) = found.warnings
    assert seen.startswith("task mood: 3 of 3 examples have a text that it was trained on, so the scores look better ")
    assert found.title == f"given rows: {run[0].predictor.name}"
    with pytest.raises(TypeError, match=r"^data: must be a dict of rows by task or table, found DataFrame\. Give "):
        mtbert.evaluate(path, data=rows)
    rows.loc["z", "label"] = None
    with pytest.warns(
        mtbert.MtbertWarning, match=r"^data of task mood: dropped 1 row .* \(first: row 3, index 'z'\)\.$"
    ):
        mtbert.evaluate(path, data={"mood": rows})
    rows.loc["z", "label"] = "ugly"
    with pytest.raises(ValueError, match=r"^data of task mood, row 3, index 'z', column 'label': .*'ugly'"):
        mtbert.evaluate(path, data={"mood": rows})
    with pytest.raises(ValueError, match=r"^data: no task or table 'moods'\. Did you mean 'mood'\?$"):
        mtbert.evaluate(path, data={"moods": rows})
    with pytest.raises(ValueError, match=r"^data: no task to score reads these rows\. Give {TASK: rows}, with mood\.$"):
        mtbert.evaluate(path, data={})
    with pytest.raises(ValueError, match=r"^evaluate: give split or data, not both\.$"):
        mtbert.evaluate(path, "test", data={"mood": rows})


def test_a_text_that_is_refused_is_named_by_its_number_and_its_index(run):
    texts = frame(["a"] * 3, ["x", "y", "z"])["text"]
    texts["y"] = " "
    said = "task mood, text 2{}: must be UTF-8 text and not empty, found ' '. Give it a text, or leave it out."
    for given, label in ((texts, ", index 'y'"), (list(texts), "")):
        with pytest.raises(ValueError) as error:  # noqa: PT011 - compared below
            run[0].predictor(given)
        assert str(error.value) == said.format(label)


def test_a_notebook_shows_progress_unless_it_is_told_not_to(monkeypatch: pytest.MonkeyPatch):
    assert [caller_console(progress).quiet for progress in (None, False, True)] == [True, True, False]
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert [caller_console(progress).quiet for progress in (None, False, True)] == [False, True, False]


def test_a_class_without_a_train_example_is_told_by_training_in_the_words_of_the_check(folder: Path):
    raw = toy_run.raw_recipe(folder)
    raw["tasks"] = {"sst": raw["tasks"]["sst"] | {"labels": ["0", "1", "2", "3", "4", "5"]}}
    settings = validate_recipe(raw, "toy")
    said = "sst, train: no example of class '5'."
    assert said in check_data(settings).warnings
    assert said in [note.text for note in assemble(settings).data_notes if note.warning]


TOGETHER = " Let tasks about the same rows read one table, whose dev is drawn once for all of them. (mtbert docs {})"


def test_two_tasks_with_the_same_frame_are_pointed_to_tables(folder: Path, tmp_path: Path, monkeypatch):
    rows = frame([("bad", "good")[i % 2] for i in range(60)])
    found = mtbert.check(moods(folder, "one", "two"), {"one": rows, "two": rows.sample(frac=1, random_state=0)})
    advice = TOGETHER.format("python/several-questions-about-the-same-rows")
    leaks = [line for line in found.warnings if "trains on" in line]
    assert [line.partition(" have a text that task ")[2] for line in leaks] == [
        f"two trains on.{advice}",
        f"one trains on.{advice}",
    ]
    monkeypatch.setattr("mtbert.training.session.lead", lambda *given: given[-1])
    rows.to_csv(tmp_path / "rows.csv")
    raw = moods(folder, "one", "two")
    raw["tasks"]["one"]["train"] = raw["tasks"]["two"]["train"] = "rows.csv"
    raw["tasks"]["two"]["dev_seed"] = 5
    raw["data"] = {"root": str(tmp_path)}
    with worded_for_shell():
        notes = start_run(validate_recipe(raw, "raw"), tmp_path / "run", caller_console(progress=False))
    assert all(note.text.endswith(TOGETHER.format("recipes/tables")) for note in notes)
    assert len(notes) == 2


def test_the_check_returns_the_tables_and_warnings_that_the_command_prints(
    folder: Path, mtbert: Mtbert, capfd: pytest.CaptureFixture[str]
):
    capfd.readouterr()
    found = check(folder / "toy.yaml")
    assert capfd.readouterr() == ("", "")
    printed = mtbert("data", "check", folder / "toy.yaml").out
    assert repr(found).split() == printed.split()
    assert len(found.warnings) == printed.count("warning: ") > 0
    assert re.sub("<[^>]*>", "", found._repr_html_()).strip() == f"data check: {len(found.warnings)} warnings"


def test_a_check_with_progress_prints_its_report_even_if_the_result_is_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    kept = check(folder / "toy.yaml", progress=True)
    said = capsys.readouterr().out
    assert kept.warnings
    assert all(" ".join(line.split()) in " ".join(said.split()) for line in kept.warnings)
    assert "each is seen in training" in said


def test_the_check_of_rows_names_them_and_leaves_no_folder(folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = data()
    rows["mood"]["train"].loc[5, "text"] = ""
    (dropped,) = [line for line in mtbert.check(recipe(folder), rows).warnings if "dropped" in line]
    assert dropped == "data of task mood: dropped 1 row with an empty text (first: row 6, index 5)."
    assert list(tmp_path.iterdir()) == []


def test_advice_names_calls_from_python(run, tmp_path: Path):
    path = run[0].path
    with pytest.raises(ValueError) as error:  # noqa: PT011 - compared below
        mtbert.train(moods(tmp_path, "mood"), {"mood": frame(["a", "b"] * 9)}, path)
    assert str(error.value) == (
        f"{path}: exists. Go on with: mtbert.train(resume='{path}'); or give another folder with out, or replace the "
        "run with overwrite=True. (mtbert docs resume)"
    )
    with pytest.raises(FileNotFoundError, match=rf"Start one with: mtbert\.train\(RECIPE, out='{tmp_path}'\)$"):
        mtbert.train(resume=tmp_path)


def test_a_study_starts_from_the_recipe_of_a_run_that_keeps_its_rows(run):
    start = str(run[0].path / "recipe.yaml")
    smooth = {"recipe": start, "set": ["tasks.mood.losses=[{kind: ce, smoothing: 0.1}]"], "control": "plain"}
    found = load_study({"rows": {"plain": start, "smooth": smooth}, "seeds": [0, 1, 2]})
    check_files(found.rows["smooth"].recipe)  # they are there
    assert found.rows["plain"].recipe.root() == run[0].path
    assert [row.recipe.tasks["mood"].train.path for row in found.rows.values()] == ["data/mood-train.parquet"] * 2


def test_check_tells_test_rows_whose_texts_are_in_train(folder: Path):
    rows = frame([("bad", "good")[i % 2] for i in range(24)])
    given = {"one": {"train": rows[:12], "dev": rows[12:18], "test": rows[9:]}}
    said = "one, test: 3 of 15 examples (20.0%) have a text that is in train too, so scores on test may be too good."
    assert said in mtbert.check(moods(folder, "one"), given).warnings
    given["one"]["test"] = rows[18:]
    assert not [line for line in mtbert.check(moods(folder, "one"), given).warnings if "test" in line]


def test_rows_of_a_table_that_lack_a_label_of_one_task_are_no_doubt_about_the_scores_of_others(folder: Path):
    raw = moods(folder, "mood", "tone")
    for name, label in (("mood", "label"), ("tone", "tone")):
        raw["tasks"][name] |= {"table": "both", "label": label}
        raw["tasks"][name].pop("batch_size")
    raw["tables"] = {"both": {"batch_size": 4}}
    rows = frame([("bad", "good")[i % 2] for i in range(24)])
    rows["tone"] = [("calm", None, "angry")[i % 3] for i in range(24)]
    run = mtbert.train(raw, data={"both": {"train": rows, "dev": rows}}, out=folder / "gaps", overwrite=True).path
    scores = mtbert.evaluate(run, data={"both": rows})
    assert [scores.evaluations[name].examples for name in ("mood", "tone")] == [24, 16]
    assert not [line for line in scores.warnings if "without a label" in line]
    alone = mtbert.evaluate(run, data={"both": rows}, task="tone")
    assert [line for line in alone.warnings if "dropped 8 rows without a label in column 'tone'" in line]
