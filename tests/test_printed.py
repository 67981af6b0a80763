"""Numbers that another source prints for recipes of a study: their place in the study's file, and their tables."""

import io
import re
from collections import Counter
from pathlib import Path

import pytest
import toy_results
import toy_study
from rich.console import Console

from mtbert.json_files import read_settings, write_settings
from mtbert.studying import tables
from mtbert.studying.held_out_scores import HeldOutScore, HeldOutScores
from mtbert.studying.plan import load_study
from mtbert.studying.results import Outline, Results, outline_of
from mtbert.studying.settings import Printed
from mtbert.studying.summary import summarise
from mtbert.studying.text_table import TextTable

folder = toy_study.folder

# A second transcription from the paper.
TABLE_4 = """
base          0.505 0.900 0.809 0.770
pal-annealed  0.513 0.889 0.830 0.772
surgery       0.480 0.897 0.820 0.762
se-base       0.389 0.657 0.266 0.559
se-cosine     0.128 0.705 0.467 0.517
se-mnrl       0.262 0.672 0.039 0.486
se-simcse     0.262 0.637 0.045 0.474
smart-ceoll   0.519 0.899 0.868 0.784
"""
TABLE_3 = "loss-ce 0.526, loss-oll 0.516, loss-ceoll 0.529"


@pytest.fixture(scope="module")
def paper() -> Results:
    """A study with the recipes of the shipped study ``paper``, in which all answers are right."""
    plan = load_study("paper")
    return toy_results.study({row: [toy_results.RIGHT] for row in plan.rows}, printed=plan.printed)


def mine(**printed: object) -> Results:
    """Returns a study with these printed numbers and one recipe, in which all answers are right."""
    return toy_results.study({"mine": [toy_results.RIGHT]}, printed=Printed.model_validate({"source": "X"} | printed))


def scores_table(study: Results) -> TextTable:
    (table,) = (t for t in tables.study_tables(study, summarise(study)) if t.name == "printed-scores")
    return table


def names(study: Results) -> list[str]:
    return [table.name for table in tables.study_tables(study, summarise(study))]


def test_every_printed_score_of_the_paper_stands_beside_ours(paper: Results):
    table = scores_table(paper)
    assert table.columns[1::2] == ("sst (printed)", "quora (printed)", "sts (printed)", "overall (printed)")
    assert table.columns[2::2] == ("sst (here)", "quora (here)", "sts (here)", "overall (here)")
    printed = {row[0]: [cell for cell in row[1::2] if cell] for row in table.rows}
    expected = {line.split()[0]: line.split()[1:] for line in TABLE_4.strip().splitlines()}
    expected |= {line.split()[0]: line.split()[1:] for line in TABLE_3.split(", ")}
    assert printed == expected
    assert {cell for row in table.rows for cell in row[2::2]} == {"1.0000"}


def test_a_note_says_where_the_printed_overall_is_not_that_of_the_printed_scores(paper: Results):
    (_, *notes) = scores_table(paper).notes
    assert notes == [
        "se-cosine: the printed scores of the tasks give an overall of 0.5222, and the printed overall is 0.517.",
        "se-mnrl: the printed scores of the tasks give an overall of 0.4845, and the printed overall is 0.486.",
    ]


@pytest.mark.parametrize(
    ("digits", "overall", "formula"),
    [(3, 0.4992, None), (3, 0.5008, None), (3, 0.499, 0.5), (3, 0.501, 0.5), (3, 0.502, 0.5), (2, 0.492, None)],
)
def test_an_overall_may_be_off_by_what_rounding_explains(digits: int, overall: float, formula: float | None):
    # (0.2 + 0.6 + (0.4 + 1) / 2) / 3 is 0.5; rounding to three places changes both sides by at most 0.0009.
    scores = {"sst.accuracy": 0.2, "quora.accuracy": 0.6, "sts.pearson": 0.4, "overall": overall}
    found = Printed(source="X", digits=digits).contradicted(scores)
    assert found == (None if formula is None else pytest.approx(formula))


@pytest.mark.parametrize("scores", [{"overall": 0.5}, {"sst.accuracy": 0.2, "overall": 0.5}, {"sst.accuracy": 0.2}])
def test_without_several_tasks_no_overall_is_contradicted(scores: dict[str, float]):
    assert Printed(source="X").contradicted(scores) is None


def test_printed_numbers_of_examples_stand_beside_ours(paper: Results):
    (table,) = (t for t in tables.study_tables(paper, summarise(paper)) if t.name == "printed-sizes")
    assert table.columns[1:] == ("train (printed)", "train (here)", "dev (printed)", "dev (here)", "test (printed)")
    assert table.rows == (
        ("sst", "8,544", "100", "1,101", "8", "2,210"),
        ("quora", "283,010", "100", "40,429", "8", "80,859"),
        ("sts", "6,040", "100", "863", "8", "1,725"),
    )


def test_printed_scores_on_test_stand_beside_those_of_their_row_alone(paper: Results):
    score = HeldOutScore(mean=0.5, sd=None, interval=(0.25, 0.75))
    scores = dict.fromkeys(("sst", "overall"), score)

    def table(row: str) -> TextTable:
        held_out = HeldOutScores(row=row, seeds=1, files={}, scores=scores)
        return tables.study_tables(paper, summarise(paper), held_out)[-1]

    ours = "0.5000 [0.2500, 0.7500]"
    assert table("smart-ceoll").columns == ("row", "seeds", "sst (printed)", "sst", "overall (printed)", "overall")
    assert table("smart-ceoll").rows == (("smart-ceoll", "1", "0.533", ours, "0.789", ours),)
    assert table("smart-ceoll").notes[1:] == ("printed: by Wang, Xue and Li.",)
    assert (table("base").columns, table("base").notes[1:]) == (("row", "seeds", "sst", "overall"), ())


def test_a_study_without_printed_numbers_has_no_table_of_them():
    plain = toy_results.study({"mine": [toy_results.RIGHT]})
    assert names(plain) == ["data", "scores"]
    assert names(mine(dev={"other": {"overall": 0.5}})) == ["data", "scores"]  # a row that has not ended
    assert names(mine(dev={"mine": {"sst.macro_f1": 0.5}})) == ["data", "scores"]  # sst is scored by accuracy here
    assert names(mine(dev={"mine": {"overall": 0.5}})) == ["data", "scores", "printed-scores"]
    assert scores_table(mine(dev={"mine": {"overall": 0.5}}, digits=1)).rows == (("mine", "0.5", "1.0000"),)


def test_the_report_of_a_study_has_the_printed_numbers_of_its_file(tmp_path: Path):
    plan = load_study("quick")
    write_settings(tmp_path / "outline.json", outline_of(plan, 1, []))
    assert read_settings(tmp_path / "outline.json", Outline, "").printed == plan.printed


def test_the_numbers_of_a_row_stand_at_each_point_of_the_grid(folder: Path):
    (folder / "study.yaml").write_text(
        "rows: {a: toy.yaml}\ngrid: {train.lr: [1, 2]}\nprinted: {source: X, dev: {a: {overall: 0.5}}, test: {a: {}}}"
    )
    printed = load_study(str(folder / "study.yaml")).printed
    assert printed is not None
    assert printed.dev == {"a,lr=1": {"overall": 0.5}, "a,lr=2": {"overall": 0.5}}
    assert list(printed.test) == ["a,lr=1", "a,lr=2"]


def test_a_task_that_the_command_line_drops_may_have_printed_numbers(folder: Path):
    (folder / "study.yaml").write_text("rows: {a: toy.yaml}\nprinted: {source: X, dev: {a: {sst.accuracy: 0.5}}}")
    assert "sst" not in load_study(str(folder / "study.yaml"), ["tasks.sst=null"]).rows["a"].recipe.tasks


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("{dev: {a: {overall: 1}}}", "study.yaml, printed.source: must be given."),
        ("{source: X, dev: {b: {overall: 1}}}", "study.yaml, printed.dev: there is no row 'b'. Known: a."),
        ("{source: X, test: {aa: {overall: 1}}}", "printed.test: there is no row 'aa'. Did you mean 'a'?"),
        ("{source: X, dev: {a: {sts.pearsn: 1}}}", "no score 'sts.pearsn'. Did you mean 'sts.pearson'?"),
        ("{source: X, dev: {a: {sst.pearson: 1}}}", "printed.dev.a: there is no score 'sst.pearson'."),
        ("{source: X, dev: {a: {sts: 1}}}", "printed.dev.a: there is no score 'sts'."),
        ("{source: X, dev: {a: {overall: much}}}", 'printed.dev.a.overall: must be a valid number, found "much".'),
        ("{source: X, dev: {a: {overall: .nan}}}", "printed.dev.a.overall: must be a finite number"),
        ("{source: X, sizes: {stt: {train: 1, dev: 1, test: 1}}}", "printed.sizes: there is no task 'stt'."),
        ("{source: X, sizes: {sst: {train: -1, dev: 1, test: 1}}}", "printed.sizes.sst.train: must be greater than or"),
    ],
)
def test_printed_numbers_of_unknown_rows_tasks_and_metrics_are_refused(folder: Path, printed: str, said: str):
    (folder / "study.yaml").write_text(f"rows: {{a: toy.yaml}}\nprinted: {printed}")
    with pytest.raises(ValueError, match=re.escape(said)):
        load_study(str(folder / "study.yaml"))


def test_a_narrow_terminal_loses_no_digit(paper: Results):
    table = scores_table(paper)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table.printed())
    given = "".join([table.title, *table.notes, *table.columns, *(cell for row in table.rows for cell in row)])
    assert Counter(re.findall(r"\d", console.export_text())) == Counter(re.findall(r"\d", given))
