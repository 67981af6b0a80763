"""The report of sets of labels: a table of the labels, and which of them occur together in labels and in answers.

Dimension key: B examples, K labels.
"""

import numpy as np
import pytest
import toy_run
import yaml
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from toy_study import run_here

from mtbert.studying import plan
from mtbert.studying.results import Results, read_study
from mtbert.studying.sets import MOST_LABELS, co_occurrence, commonest, label_tables, shares_together
from mtbert.studying.summary import summarise

STUDY = """
rows:
  bce: toy.yaml
  asl: {recipe: toy.yaml, set: ['tasks.topics.losses=[asl]'], control: bce}
seeds: [0, 1]
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A study with a task of sets, some of whose labels are unknown, and a task of classes."""
    folder = tmp_path_factory.mktemp("sets")
    toy_run.set_up(folder)
    rows = ["text,a,b,c"]
    for i in range(90):
        known = "" if i % 7 == 0 else i % 3 % 2
        rows.append(f"{toy_run.WORDS[i % 9]} {toy_run.WORDS[i % 5]},{int(i % 9 > 4)},{known},{int(i % 5 == 0)}")
    (folder / "data/topics.csv").write_text("\n".join(rows) + "\n")
    raw = toy_run.raw_recipe(folder, lr=0.01)
    topics = {"type": "multilabel", "inputs": "single", "pooling": "mean", "train": "topics.csv", "dev": "topics.csv"}
    raw["tasks"] = {"topics": topics | {"columns": {"label": ["a", "b", "c"]}}, "sst": raw["tasks"]["sst"]}
    (folder / "toy.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    (folder / "study.yaml").write_text(STUDY)
    run_here(plan.load_study(str(folder / "study.yaml")), folder / "out")
    return read_study(folder / "out")


def test_the_table_has_the_scores_of_each_label_as_scikit_learn_computes_them(results: Results):
    (table,) = label_tables(results, summarise(results))
    dev = results.dev["topics"]
    shown = [head.removeprefix("precision (").removesuffix(")") for head in table.columns[2::4]]
    assert "bce" in shown or shown == ["precision"]
    heads = ("precision", "recall", "f1", "average precision")
    rows = ["bce"] if shown == ["precision"] else shown
    assert table.columns[2:] == (heads if len(rows) == 1 else tuple(f"{h} ({row})" for row in rows for h in heads))
    assert [line[0] for line in table.rows] == ["a", "b", "c"]
    for k, line in enumerate(table.rows):
        known_B = ~np.isnan(dev.labels[:, k])
        truth_B = dev.labels[known_B, k]
        assert line[1] == str(int(truth_B.sum()))
        for i, row in enumerate(rows):
            found = []
            for run in results.runs[row].values():
                answers = run.predicted["topics"]
                decided_B = answers.decision.numpy()[known_B, k]
                p, r, f, _ = precision_recall_fscore_support(truth_B, decided_B, average="binary", zero_division=0.0)
                found.append((p, r, f, average_precision_score(truth_B, answers.prediction.numpy()[known_B, k])))
            assert [float(x) for x in line[2 + 4 * i : 6 + 4 * i]] == pytest.approx(np.mean(found, 0), abs=6e-5)


def test_the_report_has_the_table_and_the_figure_and_classes_have_neither(results: Results):
    run = next(iter(results.runs["bce"].values())).folder
    out = next(folder for folder in run.parents if (folder / "report.html").is_file())
    assert (out / "tables/labels-topics.csv").read_text().startswith("label,examples,precision")
    assert {file.name for file in (out / "figures").glob("together-*.svg")} == {"together-topics.svg"}
    assert {file.name for file in (out / "tables").glob("labels-*.csv")} == {"labels-topics.csv"}
    page = (out / "report.html").read_text()
    assert "By label: topics" in page
    assert "Labels that occur together: topics" in page


def test_the_figure_shows_the_labels_and_the_answers_of_the_shown_rows(results: Results):
    (drawn,) = co_occurrence(results, summarise(results))
    labels, answers = drawn.panels[:2]
    assert (labels.title, answers.title) == ("labels", "answers of bce")
    labels_BK = results.dev["topics"].labels
    known_BK = ~np.isnan(labels_BK)
    np.testing.assert_array_equal(labels.shares_KK, shares_together(labels_BK, known_BK))
    runs = results.runs["bce"].values()
    both = [run.predicted["topics"].decision.numpy() for run in runs]
    expected = shares_together(np.concatenate(both), np.concatenate([known_BK] * len(both)))
    np.testing.assert_array_equal(answers.shares_KK, expected)
    assert labels.labels == ("a", "b", "c")


def test_shares_count_examples_in_which_both_labels_are_known():
    nan = np.nan
    sets_BK = np.array([[1, 1, 0, 0], [1, nan, 1, 0], [1, 0, 1, 0], [0, 1, nan, 0]])
    expected = [
        [nan, 1 / 2, 2 / 3, 0],  # of the three with the first label, two know the second and all know the others
        [1 / 2, nan, 0, 0],
        [1, 0, nan, 0],
        [nan, nan, nan, nan],  # no example has the last label
    ]
    np.testing.assert_allclose(shares_together(sets_BK, ~np.isnan(sets_BK)), expected)


def test_of_many_labels_the_commonest_are_shown_in_their_order():
    labels_BK = np.tril(np.ones((40, 40)))  # the first label is in all rows, the last in one
    assert commonest(labels_BK).tolist() == list(range(MOST_LABELS))
    assert commonest(labels_BK[:, ::-1]).tolist() == list(range(40 - MOST_LABELS, 40))
    assert commonest(labels_BK[:, :3]).tolist() == [0, 1, 2]
