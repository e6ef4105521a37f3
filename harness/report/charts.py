"""The report's charts: matplotlib drawings turned into inline SVG whose colours and fonts are the page's own (dark and light).

Each function takes plain numbers and gives markup. Colours are drawn as marker values and replaced afterwards by CSS variables.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.report import numbers
from harness.report.text import visible
from harness.stats.student import t_quantile

INK, MUTED, GRID, PAPER = "#010203", "#010204", "#010205", "#010206"
SERIES = tuple(f"#01021{index:x}" for index in range(12))
PHASES = tuple(f"#01022{index}" for index in range(8))
"""Colours of phases, apart from those of methods."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h", "*")
_CSS = {INK: "currentColor", MUTED: "var(--muted)", GRID: "var(--rule)", PAPER: "var(--paper)"} | {
    color: f"var(--{letter}{index})" for letter, colors in (("s", SERIES), ("p", PHASES)) for index, color in enumerate(colors)
}
STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "selfteach", "text.parse_math": False, "font.size": 10, "text.color": INK,
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK,
    "ytick.labelcolor": INK, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.8, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none", "figure.facecolor": "none",
    "savefig.facecolor": "none", "path.simplify": True,
}  # fmt: skip


@dataclass(frozen=True)
class Palette:
    """Colour and marker of each method, equal on every chart; the first method (the untrained one) is drawn in muted ink."""

    methods: Sequence[str]

    def color(self, method: str) -> str:
        """The marker colour that stands for the method's CSS variable."""
        index = list(self.methods).index(method)
        return MUTED if method == "base" else SERIES[index % len(SERIES)]

    def marker(self, method: str) -> str:
        """matplotlib's name of the method's marker shape."""
        index = list(self.methods).index(method)
        # A shift with every round of colours, so that no two methods share both.
        return MARKERS[(index + index // len(SERIES)) % len(MARKERS)]

    def css(self, method: str) -> str:
        """The CSS colour of the method, for use outside charts."""
        return _CSS[self.color(method)]


def to_svg(figure: Figure, *, label: str, name: str) -> Markup:
    """Inline SVG of `figure`: themed, without fixed fonts, ids made unique by `name`, described by `label` for screen readers."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tail = None
        element.text = element.text if element.text and element.text.strip() else None
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: _attribute(key, value, name) for key, value in element.attrib.items()}
    pixels = round(float(root.attrib["width"].removesuffix("pt")) * 4 / 3)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": visible(label), "style": f"width:{pixels}px"}
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))


def _attribute(key: str, value: str, name: str) -> str:
    plain = key.rpartition("}")[2]
    if plain == "id":
        return f"{name}-{value}"
    if plain == "href":
        return value.replace("#", f"#{name}-", 1)
    for color, css in _CSS.items():
        value = value.replace(color, css)
    value = value.replace("url(#", f"url(#{name}-")
    value = re.sub(r"font: [^;]*?([\d.]+px)[^;]*", r"font-size: \1", value)
    value = re.sub(r"font-family: [^;]*(; )?", "", value)
    return value if plain in ("style", "viewBox") else re.sub(r"(\.\d\d)\d+", r"\1", value)


def figure_of(width: float, height: float, rows: int = 1, columns: int = 1, **layout: Any) -> tuple[Figure, np.ndarray[Any, Any]]:
    """A figure of that many inches with its axes; to be drawn on inside `mpl.rc_context(STYLE)`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **layout)


def named(text: str) -> str:
    """A label that leaves room for the drawing."""
    shown = visible(text).replace("\n", " ")
    return shown if len(shown) <= 40 else f"{shown[:39]}…"


def legend_below(figure: Figure) -> None:
    """Puts the legend under the drawing, in as many columns as its longest label leaves room for, and makes the figure taller for it."""
    labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    width, height = figure.get_size_inches()
    columns = min(3, max(1, int(width / (0.4 + 0.075 * max(map(len, labels), default=1)))))  # inches: a mark with its gaps, a letter
    rows = math.ceil(len(labels) / columns)
    figure.set_size_inches(width, height + 0.18 * max(0, rows - 3))
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def share_axis(axis: Any) -> None:
    """Writes an axis of shares in percent."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))


def _flops_axis(axis: Any, label: str, largest: float) -> None:
    scale, prefix = numbers.si_scale(largest)
    axis.set_major_locator(MaxNLocator(6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / scale:.4g}"))
    axis.set_label_text(f"{label} ({prefix}FLOP)")


def phase_shares(shares: Mapping[str, Mapping[str, float]]) -> Markup:
    """Stacked bars: what share of each method's training FLOPs went to which phase; `shares[method][phase]` in [0, 1]."""
    phases = list(dict.fromkeys(phase for row in shares.values() for phase in row))
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure, axes = figure_of(7.2, 0.9 + 0.42 * len(shares))
        axis, names = axes[0, 0], [named(method) for method in shares]
        left = np.zeros(len(names))
        for index, phase in enumerate(phases):
            widths = np.array([row.get(phase, 0.0) for row in shares.values()])
            hatch = "" if index < len(PHASES) else "///"
            axis.barh(names, widths, left=left, color=PHASES[index % len(PHASES)], label=phase, hatch=hatch, edgecolor=PAPER, height=0.66)
            left += widths
        axis.invert_yaxis()
        axis.set_xlim(0, max(1.0, float(left.max(initial=0.0))))
        share_axis(axis.xaxis)
        axis.set_xlabel("share of training FLOPs (mean over seeds)")
        figure.legend(loc="outside right center", frameon=False)
        return to_svg(figure, label="Share of training FLOPs by phase, one bar per method", name="phases")


@dataclass(frozen=True)
class Curve:
    """One trial's training curve: `value` against `flops` spent."""

    method: str
    flops: np.ndarray[Any, Any]
    value: np.ndarray[Any, Any]


def thin(flops: np.ndarray[Any, Any], value: np.ndarray[Any, Any], points: int = 120) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Means of `points` runs of neighbouring observations; shorter curves are returned as they are."""
    if len(value) <= points:
        return flops, value
    edges = np.linspace(0, len(value), points + 1).astype(int)[:-1]
    sizes = np.diff(np.append(edges, len(value)))
    return np.add.reduceat(flops, edges) / sizes, np.add.reduceat(value, edges) / sizes


def mean_band(values_S_T: np.ndarray[Any, Any], *, level: float = 0.95) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mean over seeds at each point and half the width of its t interval; infinite for one seed."""
    seeds = len(values_S_T)
    if seeds < 2:
        return values_S_T[0], np.full(values_S_T.shape[1], np.inf)
    error_T = values_S_T.std(axis=0, ddof=1) / np.sqrt(seeds)
    return values_S_T.mean(axis=0), float(t_quantile((1 + level) / 2, seeds - 1)) * error_T


def counted(curves: Sequence[Curve]) -> bool:
    """Whether curves were observed within almost no compute, so that they are read by number of observation."""
    return all(len(curve.flops) > 2 and np.ptp(curve.flops) < 0.02 * curve.flops[-1] for curve in curves)


def by_observation(curve: Curve) -> Curve:
    """The curve against the number of the observation."""
    return Curve(curve.method, np.arange(1.0, len(curve.flops) + 1), curve.value)


def common(
    own: Sequence[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]], points: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Where all of a method's curves (x, value) were observed, and their values there (seeds × points); empty where nowhere."""
    start, end = max(float(x[0]) for x, _ in own), min(float(x[-1]) for x, _ in own)
    if start >= end:
        return np.zeros(0), np.zeros((len(own), 0))
    grid = np.linspace(start, end, points)
    return grid, np.array([np.interp(grid, x, value) for x, value in own])


def learning_curves(name: str, curves: Sequence[Curve], palette: Palette, index: int) -> Markup:
    """One panel: every seed as a thin line; each method's mean over seeds as a thick one with its 95 % band where all were observed.

    Curves that were observed within almost no compute are drawn against the number of the observation.
    """
    by_number = counted(curves)
    curves = [by_observation(curve) for curve in curves] if by_number else curves
    methods = list(dict.fromkeys(curve.method for curve in curves))
    with mpl.rc_context(STYLE):
        figure, axes = figure_of(4.6, 2.9 + 0.17 * ((len(methods) - 1) // 3))
        axis = axes[0, 0]
        for method in methods:
            _draw_method(axis, method, [thin(curve.flops, curve.value) for curve in curves if curve.method == method], palette)
        axis.set_title(named(name), fontsize=10, fontweight="bold", loc="left")
        if by_number:
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axis.set_xlabel("observation")
        else:
            _flops_axis(axis.xaxis, "training compute spent", max(float(curve.flops[-1]) for curve in curves))
        legend_below(figure)
        against = "observations" if by_number else "FLOPs spent"
        label = f"Training curve {name} against {against}: seeds as thin lines, mean over seeds as thick line with its 95 % band"
        return to_svg(figure, label=label, name=f"curve{index}")


def _draw_method(axis: Any, method: str, own: Sequence[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]], palette: Palette) -> None:
    color, marker = palette.color(method), palette.marker(method)
    single = all(len(value) == 1 for _, value in own)
    for place, (flops, value) in enumerate(own):
        dots = {"marker": marker, "markersize": 5, "linestyle": "none"} if len(value) == 1 else {}
        first = named(method) if single and place == 0 else None
        axis.plot(flops, value, color=color, linewidth=0.6, alpha=1 if single else 0.35, label=first, **dots)
    if single:
        return
    grid, values_S_T = common(own, 60)
    if not len(grid):  # no compute at which all seeds were observed: one line stands for the method
        flops, value = max(own, key=lambda line: len(line[1]))
        axis.plot(flops, value, color=color, linewidth=0.7, label=named(method), marker=marker, markevery=[-1])
        return
    mean_T, half_T = mean_band(values_S_T)
    if len(own) > 1:
        axis.fill_between(grid, mean_T - half_T, mean_T + half_T, color=color, alpha=0.14, linewidth=0)
    ends = [0, len(grid) - 1] if len(own) > 1 else [0]
    axis.plot(grid, mean_T, color=color, linewidth=2, label=named(method), marker=marker, markevery=ends, markersize=5)


def dumbbells(
    rows: Sequence[tuple[str, str, float, float]], palette: Palette, *, x_label: str, first: str, second: str, name: str
) -> Markup:
    """One line per row from a hollow mark to a filled one. `rows` hold (line label, method, first value, second value)."""
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure, axes = figure_of(7.2, 1.0 + 0.3 * len(rows))
        axis, heights = axes[0, 0], range(len(rows))
        for height, (_, method, before, after) in zip(heights, rows, strict=True):
            color = palette.color(method)
            axis.plot([before, after], [height, height], color=color, linewidth=2, alpha=0.6)
            axis.plot(before, height, marker="o", color=color, markerfacecolor=PAPER, markersize=7)
            axis.plot(after, height, marker="o", color=color, markersize=7)
        axis.plot([], [], marker="o", color=INK, markerfacecolor=PAPER, linestyle="none", label=first)
        axis.plot([], [], marker="o", color=INK, linestyle="none", label=second)
        axis.set_yticks(list(heights), [named(row[0]) for row in rows])
        axis.set_ylim(len(rows) - 0.4, -0.6)
        share_axis(axis.xaxis)
        axis.set_xlabel(x_label)
        figure.legend(loc="outside right center", frameon=False)
        return to_svg(figure, label=f"{x_label}: {first} (hollow) and {second} (filled)", name=name)
