"""Tables as files: in a CSV file, every number has a cell of its own, so that pandas reads it as a number."""

from pathlib import Path

import pandas as pd
import toy_report

from mtbert.studying import tables
from mtbert.studying.results import Results
from mtbert.studying.summary import summarise
from mtbert.studying.text_table import NumberCell, TextTable, counted

recipe, results = toy_report.recipe, toy_report.results


def test_each_number_of_a_cell_has_a_column_and_other_cells_stay(tmp_path: Path):
    spread = NumberCell("0.5000 ± 0.1000", {"": "0.5000", "sd": "0.1000"})
    rows = (("a", counted(1200), spread), ("1,000", "", "0.2500"))
    TextTable("t", "Title", ("row", "size", "score"), rows).write(tmp_path)
    assert (tmp_path / "t.csv").read_text() == 'row,size,score,score sd\na,1200,0.5000,0.1000\n"1,000",,0.2500,\n'
    assert "| a     | 1,200  | 0.5000 ± 0.1000 |" in (tmp_path / "t.md").read_text()


def test_pandas_reads_scores_and_differences_as_numbers(results: Results, tmp_path: Path):
    summary = summarise(results)
    for table in (tables.dev_score_table(results, summary), tables.difference_table(results, summary, "control")):
        table.write(tmp_path)
    scores = pd.read_csv(tmp_path / "scores.csv", index_col="row")
    strong = summary.rows["strong"].scores["sst"]
    assert strong.interval is not None
    found = scores.loc["strong", ["sst", "sst sd", "sst low", "sst high"]].tolist()
    assert found == [round(x, 4) for x in (strong.mean, strong.sd, *strong.interval)]
    differences = pd.read_csv(tmp_path / "against-control.csv", index_col="row")
    one = summary.comparisons["control"]["strong"]["sst"]
    assert differences.loc["strong", "sst"] == round(one.difference.mean, 4)
    assert differences.loc["strong", "sst p"] == float(f"{one.corrected:.4g}")
    numbers = [*scores.columns.drop("seeds"), *differences.columns.drop(["compared with", "seeds"])]
    assert all(pd.concat([scores, differences])[name].dtype == float for name in numbers)
