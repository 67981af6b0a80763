"""Charts as parts of an HTML page: SVG and tables that can be read without a script, in light and dark, at any width.

The horizontal places are percentages and the vertical ones pixels, so letters keep their size at any width. Every part
that a reader can point at, or reach with the keyboard, is of the class ``mark`` and says in ``aria-label`` what it is;
``report.js`` shows these words.
"""

import math
from collections.abc import Callable

import numpy as np
from markupsafe import Markup

from mtbert.messages import clean
from mtbert.studying.charts import (
    NAMED_CLASSES,
    STYLES,
    Chart,
    Curve,
    Curves,
    Interval,
    Intervals,
    Matrix,
    interval_text,
    scale_ends,
    short,
    signed,
    ticks,
)

HEIGHT = 220  # pixels of a panel of curves
TOP, BOTTOM = 12, 22  # pixels above and below the curves, for the scale
SHORT_LABEL = 3  # characters of a label that stands upright above a column
SHADES = 10  # steps of the shade of a cell

_At = Callable[[float], str]  # from a value to its horizontal place
_Place = Callable[[float], float]


def chart_markup(chart: Chart) -> Markup:
    """Returns the panels of a chart with its legend, without its title and description."""
    drawn = [_panel(panel) for panel in chart.panels]
    kind = type(chart.panels[0]).__name__.lower() if chart.panels else ""
    used = {curve.style for panel in chart.panels if isinstance(panel, Curves) for curve in panel.curves}
    keys = Markup("").join(
        Markup(
            '<li><svg width="26" height="10" aria-hidden="true"><path class="curve s{}" d="M1 5H25"/></svg>{}</li>'
        ).format(i % STYLES, clean(name))
        for i, name in enumerate(chart.legend)
        if i in used
    )
    legend = Markup('<ul class="legend">{}</ul>').format(keys) if chart.legend else Markup("")
    return legend + Markup('<div class="panels of-{}">{}</div>').format(kind, Markup("").join(drawn))


def _panel(panel: Intervals | Curves | Matrix) -> Markup:
    match panel:
        case Intervals():
            inner = _intervals(panel)
        case Curves():
            inner = _curves(panel)
        case Matrix():
            inner = _matrix(panel)
    return Markup('<div class="panel"><h4>{}</h4>{}</div>').format(clean(panel.title), inner)


# Intervals -------------------------------------------------------------------------------------------------


def _intervals(panel: Intervals) -> Markup:
    values = [x for line in panel.lines for x in (*(line.interval or ()), line.value, line.beside) if x is not None]
    low, high = scale_ends([*values, *([] if panel.zero is None else [panel.zero])])

    def at(value: float) -> str:
        return _percent((value - low) / (high - low))

    zero = Markup("")
    if panel.zero is not None:
        zero = Markup('<line class="zero" x1="{0}" x2="{0}" y1="0" y2="100%"/>').format(at(panel.zero))
    scale = Markup("").join(
        Markup('<text x="{}" y="13" text-anchor="{}">{}</text>').format(
            at(x), _anchor((x - low) / (high - low)), short(x)
        )
        for x in ticks(low, high)
    )
    lines = Markup("").join(_interval(line, panel, at, zero) for line in panel.lines)
    axis = Markup('<svg class="axis" width="100%" height="18" aria-hidden="true">{}</svg>').format(scale)
    return Markup('<div class="intervals plot" role="group" aria-label="{}">{}{}</div>').format(
        clean(panel.title), lines, axis
    )


def _interval(line: Interval, panel: Intervals, at: _At, zero: Markup) -> Markup:
    write = signed if panel.signed else "{:.3f}".format
    number, ends = write(line.value), [write(end) for end in line.interval or ()]
    said = f"{line.name}: {number}, {f'95% interval {ends[0]} to {ends[1]}' if ends else 'no interval'}"
    said += f"; {line.more}" if line.more else ""
    beside = range_ = Markup("")
    if line.interval is not None:
        range_ = Markup('<line class="range" x1="{}" x2="{}" y1="10" y2="10"/>').format(*map(at, line.interval))
    if line.beside is not None:
        beside = Markup('<line class="other" x1="{0}" x2="{0}" y1="3" y2="17"/>').format(at(line.beside))
    shape = {"better": "M0-6L6 5H-6Z", "worse": "M0 6L6-5H-6Z", "unclear": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0"}
    return Markup(
        '<div class="mark line {verdict}" role="img" tabindex="-1" aria-label="{said}"><span>{name}</span>'
        '<span class="number">{number} <small>{ends}</small></span>'
        '<svg width="100%" height="20" aria-hidden="true"><line class="track" x1="0" x2="100%" y1="10" y2="10"/>'
        "{zero}{beside}{range}"
        '<svg x="{at}" y="10" overflow="visible"><path class="value" d="{shape}"/></svg></svg></div>'
    ).format(
        verdict=line.verdict if panel.signed else "plain",
        said=clean(said),
        name=clean(line.name),
        number=number,
        ends=interval_text(line.interval, write),
        zero=zero,
        beside=beside,
        range=range_,
        at=at(line.value),
        shape=shape[line.verdict],
    )


# Curves ----------------------------------------------------------------------------------------------------


def _curves(panel: Curves) -> Markup:
    (x_low, x_high), (y_low, y_high) = _ends(panel)

    def across(x: float) -> float:
        return float((x - x_low) / (x_high - x_low))

    def down(y: float) -> float:
        return float(TOP + (HEIGHT - TOP - BOTTOM) * (y_high - y) / (y_high - y_low))

    parts = [
        Markup(
            '<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/><text x="-6" y="{1}" text-anchor="end">{2}</text>'
        ).format(f"{down(y):.1f}", f"{down(y) + 4:.1f}", short(y))
        for y in ticks(y_low, y_high, 4)
    ]
    marks = [(float(i), name) for i, name in enumerate(panel.names)] or [(x, short(x)) for x in ticks(x_low, x_high)]
    parts += [
        Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(
            _percent(across(x)), HEIGHT - 6, _anchor(across(x)), clean(name)
        )
        for x, name in marks
    ]
    if panel.level is not None:
        parts.append(
            Markup('<line class="level" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(f"{down(panel.level[1]):.1f}")
        )
    if panel.diagonal:
        parts.append(
            Markup('<line class="level" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
                _percent(across(x_low)), f"{down(x_low):.1f}", _percent(across(x_high)), f"{down(x_high):.1f}"
            )
        )
    drawn = Markup("").join(_curve(curve, panel, across, down) for curve in panel.curves)
    dots = Markup("").join(
        Markup('<circle class="s{}" cx="{}" cy="{}" r="{}"/>').format(
            curve.style % STYLES, _percent(across(x)), f"{down(y):.1f}", f"{radius:.1f}"
        )
        for curve in panel.curves
        if curve.form == "marks"
        for x, y, radius in zip(curve.x_P, curve.y_P, _radii(curve), strict=True)
    )
    said = f"{panel.title}: {panel.y} over {panel.x}"
    said += f"; the grey line is {panel.level[0]}, {short(panel.level[1])}" if panel.level is not None else ""
    inner = Markup('<svg width="100%" height="{0}" viewBox="0 0 1000 {0}" preserveAspectRatio="none">{1}</svg>').format(
        HEIGHT, drawn
    )
    return Markup(
        '<svg class="curves plot" role="group" aria-label="{}" width="100%" height="{}">{}{}{}</svg>'
        '<p class="axis">{}</p>'
    ).format(clean(said), HEIGHT, Markup("").join(parts), inner, dots, clean(panel.x))


def _ends(panel: Curves) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns two pairs: the lowest and the highest value on the horizontal axis, and the same for the vertical axis.

    If the panel has a diagonal, the two pairs are equal.
    """
    xs = [float(x) for curve in panel.curves for x in curve.x_P]
    ys = [float(y) for curve in panel.curves for y in curve.y_P]
    if panel.diagonal:
        both = scale_ends([*xs, *ys])
        return both, both
    ys += [] if panel.level is None else [panel.level[1]]
    return panel.across or scale_ends(xs, 0.0 if len(set(xs)) > 1 else 0.05), panel.up or scale_ends(ys)


def _radii(curve: Curve) -> list[float]:
    """Returns the radius of each point in pixels, [P]: its area grows with the weight of the point."""
    if curve.weights_P is None:
        return [3.5] * len(curve.x_P)
    return [1.5 + 5.0 * math.sqrt(weight / curve.weights_P.max()) for weight in curve.weights_P]


def _curve(curve: Curve, panel: Curves, across: _Place, down: _Place) -> Markup:
    places = [f"{1000 * across(x):.0f} {down(y):.1f}" for x, y in zip(curve.x_P, curve.y_P, strict=True)]
    dots = curve.form == "dots"
    way = "".join(f"M{place}h0" for place in places) if dots else "M" + "L".join(places)
    return Markup(
        '<path class="curve mark s{style}{dots}" role="img" tabindex="-1" aria-label="{said}" data-name="{name}" '
        'data-x="{xs}" data-y="{ys}"{more} d="{way}"/>'
    ).format(
        style=curve.style % STYLES,
        dots=" dots" if dots else "",
        said=clean(_said(curve, panel)),
        name=clean(curve.name),
        xs="|".join(clean(panel.names[round(x)]) if panel.names else short(round(x, 3)) for x in curve.x_P),
        ys="|".join(short(y) for y in curve.y_P),
        more=Markup(' data-more="{}"').format("|".join(map(clean, curve.more))) if curve.more else "",
        way=way,
    )


def _said(curve: Curve, panel: Curves) -> str:
    """Returns a description of a curve for readers who cannot see it: its first, last, lowest and highest point."""
    if curve.form == "dots":
        return f"{curve.name}: {len(curve.x_P):,} points"

    def point(i: int) -> str:
        x = panel.names[round(curve.x_P[i])] if panel.names else short(round(curve.x_P[i], 3))
        return f"{short(curve.y_P[i])} at {x}"

    low, high = int(np.argmin(curve.y_P)), int(np.argmax(curve.y_P))
    return f"{curve.name}: from {point(0)} to {point(-1)}; lowest {point(low)}, highest {point(high)}"


# Matrices --------------------------------------------------------------------------------------------------


def _matrix(panel: Matrix) -> Markup:
    labels = [clean(label) for label in panel.labels]
    heads = Markup("").join(Markup('<th scope="col"><span>{}</span></th>').format(label) for label in labels)
    rows = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            label,
            Markup("").join(_cell(panel, label, other, share) for other, share in zip(labels, shares, strict=True)),
        )
        for label, shares in zip(labels, panel.shares_KK, strict=True)
    )
    return Markup(
        '<div class="scroll" tabindex="0" role="group" aria-label="{title}"><table class="matrix plot{form}">'
        "<caption>row: {row} &nbsp; column: {column}</caption>"
        "<thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    ).format(
        form=" dense" if len(labels) > NAMED_CLASSES else " upright" if max(map(len, labels)) <= SHORT_LABEL else "",
        title=clean(panel.title),
        row=clean(panel.row),
        column=clean(panel.column),
        heads=heads,
        rows=rows,
    )


def _cell(panel: Matrix, label: str, other: str, share: float) -> Markup:
    if np.isnan(share):
        return Markup("<td></td>")
    said = f"{clean(panel.row)} {label}, {clean(panel.column)} {other}: {share:.1%}"
    return Markup('<td class="h{}"><span class="mark" role="img" tabindex="-1" aria-label="{}">{}</span></td>').format(
        round(SHADES * share), said, f"{100 * share:.0f}"
    )


# Numbers ---------------------------------------------------------------------------------------------------


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _anchor(share: float) -> str:
    """Returns SVG's ``text-anchor`` for a label at ``share`` of the scale, so that the label stays inside the chart."""
    return "start" if share < 0.06 else "end" if share > 0.94 else "middle"
