"""Charts as figures for papers, drawn with matplotlib and written as PNG and SVG.

Colours (palette of Okabe and Ito) always come with different dashes or markers, so that the figures can be read in grey
and by colour-blind people.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtbert.studying.charts import NAMED_CLASSES, Chart, Curve, Curves, Intervals, Matrix
from mtbert.studying.summary import Verdict

LINES = (("#0072B2", "-"), ("#D55E00", "--"), ("#009E73", "-."), ("#CC79A7", ":"), ("#000000", (0, (1, 3))))
MARKERS = ("o", "v", "s", "^", "D")
MARKS: Mapping[Verdict, tuple[str, str, str]] = {  # marker, line and fill
    "better": ("^", "#0072B2", "#0072B2"),
    "worse": ("v", "#D55E00", "#D55E00"),
    "unclear": ("o", "#555555", "#ffffff"),
}
ACROSS = 3  # panels of curves side by side
GREY = "#999999"


def write_figure(chart: Chart, folder: Path) -> None:
    """Writes ``NAME.png`` and ``NAME.svg`` into ``folder``. Drawing the same chart again gives identical files."""
    with _in_style():
        figure = figure_of(chart)
        figure.savefig(folder / f"{chart.name}.png", dpi=150, metadata={"Software": None})
        figure.savefig(folder / f"{chart.name}.svg", metadata={"Date": None, "Creator": None})


def figure_of(chart: Chart) -> Figure:
    """Returns a figure of a chart, with one pair of axes for each panel."""
    across, width, height, share = _layout(chart.panels)
    down = -(-len(chart.panels) // across)
    size = (max(3.4, width * across + 0.8), max(1.8, height * down + 0.5))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, **share)
    for ax, panel in zip_longest(axes.flat, chart.panels):
        match panel:
            case None:
                ax.axis("off")
                continue
            case Intervals():
                _draw_intervals(ax, panel)
            case Curves():
                _draw_curves(ax, panel, named=not chart.legend)
            case Matrix():
                _draw_matrix(ax, panel)
        ax.set_title(panel.title)
    if chart.legend:
        styles = [mpl.lines.Line2D([], [], **_style(i)) for i in range(len(chart.legend))]
        figure.legend(styles, chart.legend, loc="outside lower center", ncols=ACROSS, fontsize=6)
    return figure


def _layout(panels: Sequence[Any]) -> tuple[int, float, float, dict[str, Any]]:
    """Returns how many panels stand side by side, the width and height of each in inches, and which axes they share."""
    match panels[0]:
        case Intervals():
            same = len({tuple(line.name for line in panel.lines) for panel in panels}) == 1
            return min(ACROSS, len(panels)), 2.6, 0.34 * max(len(p.lines) for p in panels) + 0.8, {"sharey": same}
        case Matrix():
            size = (0.42 if len(panels[0].labels) <= NAMED_CLASSES else 0.16) * len(panels[0].labels)
            return len(panels), size + 1.8, size + 1.6, {}
        case _:
            return min(ACROSS, len(panels)), 2.8, 1.9, {}


def _draw_intervals(ax: Axes, panel: Intervals) -> None:
    if panel.zero is not None:
        ax.axvline(panel.zero, color="black", linewidth=0.8)
    for y, line in enumerate(panel.lines):
        marker, colour, fill = MARKS[line.verdict]
        if line.interval is not None:
            ax.plot(line.interval, [y, y], color=colour, linewidth=1.4)
        ax.plot(line.value, y, marker, color=colour, markerfacecolor=fill)
        if line.beside is not None:
            ax.plot(line.beside, y, "|", color=GREY, markersize=8)
    ax.set_yticks(range(len(panel.lines)), [line.name for line in panel.lines])
    ax.set_ylim(len(panel.lines) - 0.5, -0.5)
    ax.grid(axis="x", alpha=0.3)


def _draw_curves(ax: Axes, panel: Curves, *, named: bool) -> None:
    if panel.level is not None:
        ax.axhline(panel.level[1], color=GREY, linewidth=0.8, zorder=1)
    for curve in panel.curves:
        ax.plot(curve.x_P, curve.y_P, label=curve.name, **_form(curve))
    if panel.diagonal:
        both = np.array([*ax.get_xlim(), *ax.get_ylim()])
        ax.plot([both.min(), both.max()], [both.min(), both.max()], color=GREY, linewidth=0.8, zorder=1)
    if panel.names:
        ax.set_xticks(range(len(panel.names)), panel.names)
    if panel.across is not None:
        ax.set_xlim(panel.across)
    if panel.up is not None:
        ax.set_ylim(panel.up)
    ax.set_xlabel(panel.x)
    ax.set_ylabel(panel.y)
    if named and len(panel.curves) > 1:
        ax.legend(fontsize=6)


def _style(number: int) -> dict[str, Any]:
    colour, dash = LINES[number % len(LINES)]
    return {"color": colour, "linestyle": dash, "linewidth": 1.1}


def _form(curve: Curve) -> dict[str, Any]:
    style = _style(curve.style)
    if curve.form == "line":
        return style
    if curve.form == "dots":
        return {"color": style["color"], "linestyle": "", "marker": ".", "alpha": 0.35, "markersize": 3}
    return style | {"marker": MARKERS[curve.style % len(MARKERS)], "markersize": 3}


def _draw_matrix(ax: Axes, panel: Matrix) -> None:
    ax.patch.set(hatch="////", edgecolor="#bbbbbb", linewidth=0)  # seen where there is no share
    ax.imshow(np.ma.masked_invalid(panel.shares_KK), cmap="Greys", vmin=0, vmax=1)
    if len(panel.labels) <= NAMED_CLASSES:
        for (i, j), share in np.ndenumerate(panel.shares_KK):
            if not np.isnan(share):
                ink = "w" if share > 0.5 else "k"
                ax.text(j, i, f"{share:.0%}", ha="center", va="center", fontsize=7, color=ink)
        names = [label if len(label) <= 14 else f"{label[:13]}…" for label in panel.labels]
        ax.set_xticks(range(len(names)), names, rotation=90)
        ax.set_yticks(range(len(names)), names)
    ax.set_xlabel(panel.column)
    ax.set_ylabel(panel.row)


@contextmanager
def _in_style() -> Iterator[None]:
    """A context manager: figures that are drawn inside it have the style of the report."""
    with mpl.rc_context(
        {
            "font.size": 8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 8,
            "text.parse_math": False,  # a $ in a label is a dollar
            "svg.hashsalt": "mtbert",  # otherwise ids of parts are random
        }
    ):
        yield
