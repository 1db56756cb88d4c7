"""Charts as SVG elements: points against a cost, and stacked bars. Shapes tell apart what colours do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from markupsafe import Markup

WIDTH, HEIGHT = 480, 350
LEFT, RIGHT, TOP, BOTTOM = 62, 22, 14, 56
FONT, ROW = 14, 23
"""Size of text, which a phone shows at two thirds, and height of a line of a legend."""
BAR = 42
SUFFIXES = {1e9: "G", 1e6: "M", 1e3: "k"}
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Okabe and Ito's colours, which every kind of colour vision tells apart."""
GREY, RED = "#595959", "#D55E00"


@dataclass(frozen=True)
class Dots:
    """A kind of points: name, shape (circle, square, triangle or star), colour, and (x, y, what it says) of each."""

    name: str
    shape: str
    color: str
    points: Sequence[tuple[float, float, str]]


@dataclass(frozen=True)
class Line:
    """A dashed line across the chart, at a value of one axis."""

    name: str
    value: float
    color: str


@dataclass(frozen=True)
class Scatter:
    """Points against a cost; ``front`` joins (x, y, short label) in steps, from left to right."""

    title: str
    description: str
    x_label: str
    y_label: str
    dots: Sequence[Dots]
    front: Sequence[tuple[float, float, str]]
    at_x: Sequence[Line] = ()
    at_y: Sequence[Line] = ()


@dataclass(frozen=True)
class Bars:
    """Horizontal bars of stacked parts, all on one scale: (name, values by part) each."""

    title: str
    description: str
    parts: Sequence[str]
    bars: Sequence[tuple[str, Sequence[float]]]
    unit: str


class _Axis:
    """From values to places, over nice numbers."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        low, high = min(values), max(values)
        margin = (high - low or abs(high) or 1.0) * 0.06
        span = high - low + 2 * margin
        power = 10.0 ** math.floor(math.log10(span / 5))
        self.step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 6)
        self.low, self.high = low - margin, high + margin
        self.start, self.end = start, end

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels of all multiples of the step, in thousands, millions or billions where they are many."""
        unit = next((unit for unit in SUFFIXES if self.step * 10 >= unit), 1.0)
        decimals = max(0, -math.floor(math.log10(self.step / unit) + 1e-9))
        first, last = math.ceil(self.low / self.step), math.floor(self.high / self.step)
        suffix = SUFFIXES.get(unit, "")
        numbers = [number * self.step for number in range(first, last + 1)]
        return [(self.place(value), f"{value / unit:.{decimals}f}{suffix if value else ''}") for value in numbers]


def scatter(chart: Scatter) -> Markup:
    """The SVG of a scatter chart."""
    entries: list[Dots | Line] = [*chart.dots, *chart.at_y, *chart.at_x]
    height = HEIGHT + ROW * -(-(len(entries) + 1) // 2)
    svg = _svg(height, chart.title, chart.description)
    x = _Axis(
        [px for dots in chart.dots for px, _, _ in dots.points] + [line.value for line in chart.at_x],
        LEFT,
        WIDTH - RIGHT,
    )
    y = _Axis(
        [py for dots in chart.dots for _, py, _ in dots.points] + [line.value for line in chart.at_y],
        HEIGHT - BOTTOM,
        TOP,
    )
    _frame(svg, x, y, chart.x_label, chart.y_label)
    for line in chart.at_x:
        _stroke(svg, [(x.place(line.value), TOP), (x.place(line.value), HEIGHT - BOTTOM)], line.color, "6 4")
    for line in chart.at_y:
        _stroke(svg, [(LEFT, y.place(line.value)), (WIDTH - RIGHT, y.place(line.value))], line.color, "6 4")
    _stroke(svg, _steps([(x.place(px), y.place(py)) for px, py, _ in chart.front]), GREY)
    for dots in chart.dots:
        for px, py, says in dots.points:
            mark = _mark(svg, dots.shape, dots.color, x.place(px), y.place(py))
            SubElement(mark, "title").text = says
    for px, py, label in chart.front:
        _text(svg, x.place(px) + 6, y.place(py) - 8, label)
    _legend(svg, entries)
    return Markup(ElementTree.tostring(svg, encoding="unicode"))


def bars(chart: Bars) -> Markup:
    """The SVG of stacked bars, with a legend of the parts."""
    longest = max(sum(values) for _, values in chart.bars)
    legend = BAR * len(chart.bars) + 10
    svg = _svg(legend + ROW * -(-len(chart.parts) // 3), chart.title, chart.description)
    for number, (name, values) in enumerate(chart.bars):
        y = BAR * number
        _text(svg, 0, y + 14, f"{name}: {sum(values):,.0f} {chart.unit}")
        left = 0.0
        for color, part, value in zip(PALETTE, chart.parts, values, strict=False):
            width = WIDTH * value / longest
            box = {"x": f"{left:.2f}", "y": str(y + 20), "width": f"{width:.2f}", "height": "14", "fill": color}
            SubElement(SubElement(svg, "rect", box), "title").text = f"{name}, {part}: {value:,.0f} {chart.unit}"
            left += width
    for number, (color, part) in enumerate(zip(PALETTE, chart.parts, strict=False)):
        left, y = WIDTH / 3 * (number % 3), legend + ROW * (number // 3)
        SubElement(svg, "rect", {"x": f"{left:.0f}", "y": str(y), "width": "14", "height": "14", "fill": color})
        _text(svg, left + 20, y + 12, part)
    return Markup(ElementTree.tostring(svg, encoding="unicode"))


def _svg(height: float, title: str, description: str) -> Element:
    label = f"{title}. {description}"
    return Element("svg", {"viewBox": f"0 0 {WIDTH} {height:.0f}", "role": "img", "aria-label": label})


def _frame(svg: Element, x: _Axis, y: _Axis, x_label: str, y_label: str) -> None:
    """Grid, ticks and labels of both axes."""
    for place, label in x.ticks():
        _stroke(svg, [(place, TOP), (place, HEIGHT - BOTTOM)], "#e3e3e3")
        _text(svg, place, HEIGHT - BOTTOM + 18, label, anchor="middle")
    for place, label in y.ticks():
        _stroke(svg, [(LEFT, place), (WIDTH - RIGHT, place)], "#e3e3e3")
        _text(svg, LEFT - 7, place + 5, label, anchor="end")
    _stroke(svg, [(LEFT, TOP), (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM)], GREY)
    _text(svg, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 42, x_label, anchor="middle")
    upright = _text(svg, 0, 0, y_label, anchor="middle")
    upright.set("transform", f"translate(15 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)")


def _legend(svg: Element, entries: Sequence[Dots | Line]) -> None:
    """Two columns below the chart; the first entry is the front."""
    for number in range(len(entries) + 1):
        left, y = 8 + WIDTH / 2 * (number % 2), HEIGHT + ROW * (number // 2) + 6
        entry = entries[number - 1] if number else None
        if entry is None:
            _stroke(svg, [(left, y), (left + 22, y)], GREY)
        elif isinstance(entry, Line):
            _stroke(svg, [(left, y), (left + 22, y)], entry.color, "6 4")
        else:
            _mark(svg, entry.shape, entry.color, left + 11, y)
        _text(svg, left + 30, y + 5, entry.name if entry else "no point is better")


def _steps(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of a line that keeps its height until the next place."""
    corners = list(places[:1])
    for x, y in places[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return corners


def _stroke(svg: Element, places: Sequence[tuple[float, float]], color: str, dash: str = "none") -> None:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    SubElement(svg, "polyline", {"points": points, "fill": "none", "stroke": color, "stroke-dasharray": dash})


def _text(svg: Element, x: float, y: float, text: str, anchor: str = "start") -> Element:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "font-size": str(FONT), "text-anchor": anchor, "fill": "#222"}
    element = SubElement(svg, "text", place)
    element.text = text
    return element


_SHAPES = {
    "square": [(-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)],
    "triangle": [(0.0, -6.0), (5.5, 4.5), (-5.5, 4.5)],
    "star": [(r * math.sin(i * math.pi / 5), -r * math.cos(i * math.pi / 5)) for i, r in enumerate((12, 5) * 5)],
}
"""Corners around the place of a point."""


def _mark(svg: Element, shape: str, color: str, x: float, y: float) -> Element:
    paint = {"fill": color, "stroke": "#111" if shape == "star" else "#fff", "stroke-width": "1"}
    if shape == "circle":
        return SubElement(svg, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "5", **paint})
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in _SHAPES[shape])
    return SubElement(svg, "polygon", {"points": points, **paint})
