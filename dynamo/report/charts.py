"""Small drawings for a page, as SVG: bars, dots in rows, a line. They have the colours of the page, in the dark too."""

from collections.abc import Sequence
from math import isfinite

import numpy as np

from dynamo.report.markup import Markup, element
from dynamo.report.section import Bars, Dots, Line

_INK, _QUIET, _LINE, _ACCENT = (
    "var(--ink, #222)",
    "var(--quiet, #666)",
    "var(--line, #ccc)",
    "var(--accent, #0072b2)",
)
_WIDTH = 640


def chart(drawn: Bars | Dots | Line, told: str) -> Markup:
    """A drawing.

    Args:
        drawn: what.
        told: what is seen, for those who do not see it.
    """
    if isinstance(drawn, Bars):
        return _bars(drawn.heights, drawn.marked, told)
    return _dots(drawn.rows, told) if isinstance(drawn, Dots) else _line(drawn.values, told)


#: The most bars.
MOST = 40


def _bars(heights: Sequence[float], marked: int, told: str) -> Markup:
    shown, tall, room = [*heights][:MOST], 150.0, 24.0
    top = max([*shown, 1e-12])
    step = min((_WIDTH - 40) / max(len(shown), 1), 60.0)
    parts = []
    for number, share in enumerate(shown):
        height, x = (tall - 2 * room) * share / top, 30 + number * step
        colour = _ACCENT if number < marked else _LINE
        parts.append(_rectangle(x, tall - room - height, 0.8 * step, height, colour))
        if len(shown) <= 20 or number % 5 == 0:
            parts.append(_text(x + 0.4 * step, tall - 7, str(number + 1), "middle", _QUIET))
        if number < 3 and step > 30:
            parts.append(_text(x + 0.4 * step, tall - room - height - 4, f"{share:.0%}", "middle", _INK))
    return _svg(parts, tall, told)


def _dots(rows: Sequence[tuple[str, Sequence[float]]], told: str) -> Markup:
    """With a stroke at each median; numbers that are not finite are left out."""
    known = [[value for value in values if isfinite(value)] for _, values in rows]
    everything = [value for values in known for value in values]
    low, high = min([*everything, 0.0]), max([*everything, 1.0])
    low = max(low, high - 4 * (high - min(0.0, low))) if everything else low
    left, right, tall = 16.0, _WIDTH - 16.0, 46.0

    def at(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    parts = []
    bottom = tall * len(rows) + 6
    for tick in np.linspace(low, high, 5).tolist():
        parts.append(_stroke(at(tick), 4, at(tick), bottom, _LINE))
        parts.append(_text(at(tick), bottom + 15, f"{tick:.2g}", "middle", _QUIET))
    for number, ((name, _), values) in enumerate(zip(rows, known, strict=True)):
        y = tall * (number + 0.75)
        parts.append(_text(left, y - 16, name, "start", _INK))
        spread = np.random.default_rng(0).uniform(-6, 6, len(values)).tolist()
        shown = list(zip(values, spread, strict=True))[:: max(1, len(values) // 400)]
        parts += [_circle(at(value), y + shift) for value, shift in shown]
        if values:
            middle = float(np.median(values))
            parts.append(_stroke(at(middle), y - 10, at(middle), y + 10, _INK, 2))
    return _svg(parts, bottom + 24, told)


def _line(values: Sequence[float], told: str) -> Markup:
    tall, left = 130.0, 56.0
    kept = np.asarray(values, dtype=np.float64)[:: max(1, len(values) // 500)]
    logs = bool((kept > 0).all())
    heights = np.log(kept) if logs else kept
    low, high = float(heights.min()), float(heights.max())
    xs = left + (_WIDTH - left - 12) * np.arange(len(kept)) / max(len(kept) - 1, 1)
    ys = 10 + (tall - 34) * (high - heights) / ((high - low) or 1.0)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True))
    ends = [(10.0, float(kept.max())), (tall - 24, float(kept.min()))]
    parts = [element("polyline", points=points, fill="none", stroke=_ACCENT, stroke_width="1.5")]
    parts += [_text(left - 8, y + 4, f"{value:.3g}", "end", _QUIET) for y, value in ends]
    parts.append(_text(left, tall - 6, "step 1", "start", _QUIET))
    parts.append(_text(_WIDTH - 12, tall - 6, f"step {len(values)}", "end", _QUIET))
    return _svg(parts, tall, told)


def _svg(parts: Sequence[Markup], tall: float, told: str) -> Markup:
    return element(
        "svg",
        element("title", told),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {tall:.0f}",
        role="img",
        font_family="system-ui, sans-serif",
        font_size="12",
    )


def _text(x: float, y: float, text: str, anchor: str, colour: str) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, fill=colour)


def _rectangle(x: float, y: float, wide: float, tall: float, colour: str) -> Markup:
    return element("rect", x=f"{x:.1f}", y=f"{y:.1f}", width=f"{wide:.1f}", height=f"{tall:.1f}", fill=colour)


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> Markup:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return element(
        "line", **{key: f"{value:.1f}" for key, value in ends.items()}, stroke=colour, stroke_width=str(width)
    )


def _circle(x: float, y: float) -> Markup:
    return element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="3", fill=_ACCENT, fill_opacity="0.45")
