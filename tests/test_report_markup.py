"""Charts on the page of a report: places, words and sizes, in markup that no text of the data can break."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from mtbert.studying.charts import Chart, Curve, Curves, Interval, Intervals, Matrix, Panel, short, ticks
from mtbert.studying.markup import chart_markup

HOSTILE = "</script><b>\"'&\x1b[2J\u202e"
SHOWN = "</script><b>\"'&" + r"\x1b[2J\u202e"


def drawn(panel: Panel, *legend: str) -> ElementTree.Element:
    """Returns the markup of a chart with one panel, read as XML: so it is well formed."""
    text = chart_markup(Chart("name", "Title", "alt", "scores", [panel], legend))
    return ElementTree.fromstring(f"<div>{text}</div>".replace("&nbsp;", " "))


def marks(chart: ElementTree.Element) -> list[ElementTree.Element]:
    return [part for part in chart.iter() if "mark" in part.get("class", "").split()]


def test_an_interval_is_placed_on_the_scale_of_its_panel():
    lines = (Interval("a", 0.5, (0.0, 1.0), "better"), Interval("b", -1.0, (-2.0, 0.0), "worse", more="p 0.010"))
    chart = drawn(Intervals("overall", lines))
    # The scale goes from -2 to 1, and a twentieth further at both ends: 3.3 wide from -2.15.
    assert [mark.get("aria-label") for mark in marks(chart)] == [
        "a: +0.500, 95% interval 0.000 to +1.000",
        "b: -1.000, 95% interval -2.000 to 0.000; p 0.010",
    ]
    ranges = [part for part in chart.iter("line") if part.get("class") == "range"]
    assert [(part.get("x1"), part.get("x2")) for part in ranges] == [("65.15%", "95.45%"), ("4.55%", "65.15%")]
    zeros = {part.get("x1") for part in chart.iter("line") if part.get("class") == "zero"}
    assert zeros == {"65.15%"}
    assert [mark.get("class") for mark in marks(chart)] == ["mark line better", "mark line worse"]


def test_scores_have_no_sign_and_no_zero_but_the_score_beside_them():
    lines = (Interval("sst", 0.5, (0.4, 0.6), beside=0.3),)
    chart = drawn(Intervals("run", lines, None, signed=False))
    (mark,) = marks(chart)
    assert (mark.get("aria-label"), mark.get("class")) == ("sst: 0.500, 95% interval 0.400 to 0.600", "mark line plain")
    assert [part.get("x1") for part in chart.iter("line") if part.get("class") in ("zero", "other")] == ["4.55%"]


def test_an_interval_that_is_not_known_is_said_and_not_drawn():
    chart = drawn(Intervals("run", (Interval("sst", 1.0, None),), None, signed=False))
    (mark,) = marks(chart)
    assert mark.get("aria-label") == "sst: 1.000, no interval"
    assert "(no interval)" in "".join(mark.itertext())
    assert [part for part in chart.iter("line") if part.get("class") == "range"] == []


def test_a_curve_goes_through_its_points_and_says_where_it_begins_and_ends():
    curve = Curve("seed 0", np.array([1.0, 2.0, 3.0]), np.array([4.0, 0.0, 2.0]), more=("", "low", ""))
    chart = drawn(Curves("sst", "step", "loss", (curve,), ("none", 1.0), up=(0.0, 4.0)))
    (mark,) = marks(chart)
    (level,) = (part for part in chart.iter("line") if part.get("class") == "level")
    assert [level.get(name) for name in ("x1", "x2", "y1", "y2")] == ["0", "100%", "151.5", "151.5"]
    grid = [part for part in chart.iter("line") if part.get("class") == "grid"]
    assert [(part.get("x2"), part.get("y1")) for part in grid] == [
        ("100%", "198.0"),
        ("100%", "105.0"),
        ("100%", "12.0"),
    ]
    assert mark.get("d") == "M0 12.0L500 198.0L1000 105.0"  # between 12 and 198 pixels, over a width of 1000
    assert mark.get("aria-label") == "seed 0: from 4 at 1 to 2 at 3; lowest 0 at 2, highest 4 at 1"
    assert [mark.get(f"data-{name}") for name in ("x", "y", "more")] == ["1|2|3", "4|0|2", "|low|"]


def test_the_legend_names_only_the_colours_that_are_drawn():
    curve = Curve("b, seed 0", np.zeros(1), np.zeros(1), 1)
    keys = drawn(Curves("sst", "step", "loss", (curve,)), "a", "b", "c").iter("li")
    assert [("".join(key.itertext()), key[0][0].get("class")) for key in keys] == [("b", "curve s1")]


def test_points_are_as_large_as_their_weights():
    curve = Curve("a", np.array([0.0, 1.0]), np.array([0.0, 1.0]), 1, "marks", weights_P=np.array([25.0, 100.0]))
    chart = drawn(Curves("sst", "confidence", "right", (curve,), diagonal=True))
    assert [float(dot.get("r", 0)) for dot in chart.iter("circle")] == [4.0, 6.5]
    assert {dot.get("class") for dot in chart.iter("circle")} == {"s1"}


def test_the_diagonal_joins_equal_values_where_the_points_are():
    curve = Curve("a", np.array([0.0, 2.0]), np.array([1.0, 1.0]), form="dots")
    chart = drawn(Curves("sts", "label", "answer", (curve,), diagonal=True))
    (line,) = (part for part in chart.iter("line") if part.get("class") == "level")
    assert [line.get(name) for name in ("x1", "y1", "x2", "y2")] == ["0.00%", "198.0", "100.00%", "12.0"]
    assert marks(chart)[0].get("d") == "M45 105.0h0M955 105.0h0"  # both axes go from -0.1 to 2.1


def test_a_cell_of_a_matrix_says_its_row_and_column_and_unknown_shares_are_empty():
    shares_KK = np.array([[0.25, 0.75], [np.nan, 1.0]])
    chart = drawn(Matrix("plain", ("no", "yes"), shares_KK, "true label", "answer"))
    (caption,) = chart.iter("caption")
    assert caption.text.split() == "row: true label column: answer".split()
    assert [(mark.get("aria-label"), mark.text) for mark in marks(chart)] == [
        ("true label no, answer no: 25.0%", "25"),
        ("true label no, answer yes: 75.0%", "75"),
        ("true label yes, answer yes: 100.0%", "100"),
    ]
    cells = [[cell.get("class") for cell in row.iter("td")] for row in chart.iter("tr")][1:]
    assert cells == [["h2", "h8"], [None, "h10"]]


def test_a_large_matrix_is_drawn_small():
    for size, dense in ((12, False), (13, True)):
        chart = drawn(Matrix("plain", tuple(map(str, range(size))), np.eye(size), "label", "answer"))
        (table,) = chart.iter("table")
        assert ("dense" in table.get("class", "").split()) is dense


@pytest.mark.parametrize(
    "panel",
    [
        Intervals(HOSTILE, (Interval(HOSTILE, 1.0, (0.0, 2.0), more=HOSTILE),)),
        Curves(HOSTILE, HOSTILE, HOSTILE, (Curve(HOSTILE, np.zeros(1), np.zeros(1), more=(HOSTILE,)),), (HOSTILE, 1.0)),
        Curves("a", "b", "c", (Curve(HOSTILE, np.zeros(1), np.zeros(1), form="dots"),), names=(HOSTILE,)),
        Matrix(HOSTILE, (HOSTILE,), np.ones((1, 1)), HOSTILE, HOSTILE),
    ],
    ids=["intervals", "curves", "dots", "matrix"],
)
def test_names_of_the_data_stay_text(panel: Panel):
    chart = drawn(panel, HOSTILE)
    assert not list(chart.iter("b"))
    assert not list(chart.iter("script"))
    said = "".join(chart.itertext()) + "".join(value for part in chart.iter() for value in part.attrib.values())
    assert said.count(SHOWN) >= 3
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", said)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e9])
def test_a_scale_has_few_round_numbers_within_its_ends(scale: float):
    found = ticks(0.31 * scale, 0.58 * scale)
    assert found == pytest.approx([x * scale for x in (0.35, 0.4, 0.45, 0.5, 0.55)])
    assert ticks(2.0, 2.0) == [2.0]
    assert ticks(float("nan"), 1.0) == []


def test_numbers_are_short():
    assert [short(x) for x in (0.0, -3.0, 1234567.0, 0.123456, 1e20)] == ["0", "-3", "1,234,567", "0.1235", "1e+20"]
