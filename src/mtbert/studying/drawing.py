"""Functions that every drawing module uses: they finish a figure, set its style, and lay out panels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from mtbert.studying.results import Results
from mtbert.studying.summary import Summary


@dataclass(frozen=True)
class Drawn:
    """A finished figure with its title and a description."""

    name: str  # the name of its files
    title: str
    alt: str  # a description, for people who cannot see the figure
    figure: Figure

    def write(self, folder: Path) -> None:
        """Writes ``NAME.png`` and ``NAME.svg`` into ``folder``. Drawing the same figure again gives identical files."""
        with in_style():
            self.figure.savefig(folder / f"{self.name}.png", dpi=150, metadata={"Software": None})
            self.figure.savefig(folder / f"{self.name}.svg", metadata={"Date": None, "Creator": None})


@contextmanager
def in_style() -> Iterator[None]:
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


def grid_of_panels(rows: int, columns: int, width: float, height: float, **share: Any) -> tuple[Figure, Any]:
    """Returns a figure and its grid of panels, ``rows`` x ``columns``, each about ``width`` x ``height`` inches."""
    figure = Figure(figsize=(max(3.4, width * columns + 0.8), max(1.8, height * rows + 0.5)), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **share)


def best_beside_reference(results: Results, summary: Summary, task: str) -> list[str]:
    """Returns the names of two recipes of the study: the reference recipe, and the one with the best score on ``task``.

    If the reference recipe is also the best one, its name is returned once. If it has no score on ``task``, its name is
    left out.
    """
    known = {row: s.scores[task].mean for row, s in summary.rows.items() if task in s.scores}
    wanted = [results.outline.reference, max(known, key=lambda row: known[row], default="")]
    return [row for row in dict.fromkeys(wanted) if row in known]


def cut_label(label: str) -> str:
    """Returns the label, cut to 14 characters."""
    return label if len(label) <= 14 else f"{label[:13]}…"
