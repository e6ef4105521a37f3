"""Charts whose subject is uncertainty: the front of cost and quality with joint regions, and values with intervals, one line a method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from harness.report import numbers
from harness.report.charts import MUTED, PAPER, STYLE, Palette, figure_of, legend_below, named, share_axis, to_svg


@dataclass(frozen=True)
class Region:
    """One method on the chart of cost and quality: its means, the ellipse around them (harness.stats.pareto), and each seed."""

    method: str
    cost: float
    quality: float
    cost_se: float
    quality_se: float
    correlation: float
    radius: float
    on_front: bool
    seeds: Sequence[tuple[float, float]] = field(default_factory=tuple)

    def outline(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Costs and scores along the ellipse; costs end at 0."""
        turn = np.linspace(0, 2 * np.pi, 73)
        across, along = np.cos(turn), self.correlation * np.cos(turn) + np.sqrt(1 - self.correlation**2) * np.sin(turn)
        cost = self.cost + self.radius * self.cost_se * across
        return np.maximum(cost, 0.0), self.quality + self.radius * self.quality_se * along


def front(regions: Sequence[Region], palette: Palette, *, axis: str, unit: str, words: str) -> Markup:
    """Mean score against mean cost with a 95 % region for both together; filled marks are on the front, which a dashed line joins."""
    largest = max(max(region.cost, *(seed[0] for seed in region.seeds), 0.0) for region in regions) or 1.0
    above_zero = [region.cost for region in regions if region.cost > 0]
    with mpl.rc_context(STYLE):
        figure, axes = figure_of(4.7, 3.9)
        plot = axes[0, 0]
        ahead = sorted((region for region in regions if region.on_front), key=lambda region: (region.cost, region.quality))
        plot.plot([r.cost for r in ahead], [r.quality for r in ahead], color=MUTED, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
        for region in regions:
            color, marker = palette.color(region.method), palette.marker(region.method)
            plot.fill(*region.outline(), color=color, alpha=0.13, linewidth=0)
            plot.plot(*region.outline(), color=color, alpha=0.6, linewidth=0.8)
            if region.seeds:
                plot.scatter(*zip(*region.seeds, strict=True), s=9, color=color, marker=marker, alpha=0.5, linewidths=0)
            face = color if region.on_front else PAPER
            plot.plot(
                region.cost, region.quality, color=color, marker=marker, markersize=7, markerfacecolor=face, linestyle="none",
                label=named(region.method), zorder=3,
            )  # fmt: skip
        _cost_axis(plot, axis, unit, words, largest, min(above_zero, default=1.0))
        share_axis(plot.yaxis)
        plot.set_ylabel("mean score")
        legend_below(figure)
        ahead_names = ", ".join(region.method for region in ahead)
        return to_svg(figure, label=f"Mean score against {words}, one mark per method; on the front: {ahead_names}", name=f"front-{axis}")


def _cost_axis(plot: Any, axis: str, unit: str, words: str, largest: float, smallest: float) -> None:
    if largest > 30 * smallest:
        plot.set_xscale("symlog", linthresh=smallest / 2, linscale=0.5)
        plot.set_xlim(left=-0.1 * smallest)
        words += ", log scale"
        # Powers of ten that are far enough apart to be read.
        first, last = math.ceil(math.log10(smallest / 2)), math.floor(math.log10(largest))
        powers = range(first, last + 1, math.ceil((last - first + 1) / 5))
        plot.xaxis.set_major_locator(FixedLocator([0.0, *(10.0**power for power in powers)]))
        plot.xaxis.set_minor_locator(NullLocator())
    else:
        plot.set_xlim(left=-0.03 * largest)
        plot.xaxis.set_major_locator(MaxNLocator(5))
    if axis == "flops":
        scale, prefix = numbers.si_scale(largest)
        plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / scale:.3g}"))
        plot.set_xlabel(f"{words} ({prefix}FLOP)")
    else:
        sign = "$" if unit == "USD" else ""
        plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{sign}{value:,.4g}"))
        plot.set_xlabel(words if sign else f"{words} ({unit})" if unit not in words else words)


@dataclass(frozen=True)
class Bar:
    """A value with its interval, open ends None."""

    method: str
    value: float
    interval: Sequence[float | None] | None = None


def forest(title: str, bars: Sequence[Bar], palette: Palette, *, x_label: str, name: str, span: tuple[float, float]) -> Markup:
    """One line a method: its value in percentage points and its interval, zero marked; `span` is the range of the axis."""
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure, axes = figure_of(4.7, 0.95 + 0.25 * len(bars))
        plot = axes[0, 0]
        plot.axvline(0, color=MUTED, linewidth=1)
        for height, bar in enumerate(bars):
            color = palette.color(bar.method)
            low, high = bar.interval or (None, None)
            ends = [span[side] if end is None or numbers.absent(end) else end for side, end in enumerate((low, high))]
            if bar.interval is not None:
                plot.plot(ends, [height, height], color=color, linewidth=2, alpha=0.7, solid_capstyle="butt")
            plot.plot(bar.value, height, marker=palette.marker(bar.method), color=color, markersize=6)
        plot.set_yticks(range(len(bars)), [named(bar.method) for bar in bars])
        plot.set_ylim(len(bars) - 0.4, -0.6)
        plot.set_xlim(*span)
        plot.xaxis.set_major_locator(MaxNLocator(6))
        plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}"))
        plot.set_xlabel(x_label)
        plot.set_title(named(title), fontsize=10, fontweight="bold", loc="left")
        return to_svg(figure, label=f"{title}: {x_label} of each method with its interval", name=name)


def spans(panels: Mapping[str, Sequence[Bar]]) -> tuple[float, float]:
    """A range that holds every value and interval of all panels, and zero."""
    ends = [0.0]
    for bars in panels.values():
        for bar in bars:
            ends += [float(end) for end in (bar.value, *(bar.interval or ())) if end is not None and not numbers.absent(end)]
    margin = 0.05 * (max(ends) - min(ends)) or 0.05
    return min(ends) - margin, max(ends) + margin


@dataclass(frozen=True)
class Line:
    """A method's mean along its runs, with a band (None where there is no interval) at each point."""

    method: str
    x_T: Sequence[float]
    value_T: Sequence[float]
    interval_T: Sequence[Sequence[float] | None]


def score_lines(lines: Sequence[Line], palette: Palette) -> Markup:
    """Mean score along the runs: each method's points with their intervals, a little beside one another so that they can be told apart."""
    largest = max(max(line.x_T) for line in lines) or 1.0
    scale, prefix = numbers.si_scale(largest)
    with mpl.rc_context(STYLE):
        figure, axes = figure_of(7.2, 4.0)
        plot = axes[0, 0]
        for place, line in enumerate(lines):
            color, beside = palette.color(line.method), 0.006 * largest * (place - (len(lines) - 1) / 2)
            x = [x + (beside if x else 0) for x in line.x_T]
            plot.plot(
                x, line.value_T, color=color, linewidth=1.4, marker=palette.marker(line.method), markersize=5, label=named(line.method)
            )
            for at, bounds in zip(x, line.interval_T, strict=True):
                if bounds is not None and at:
                    plot.plot([at, at], list(bounds), color=color, linewidth=1, alpha=0.6)
        plot.xaxis.set_major_locator(MaxNLocator(6))
        plot.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / scale:.4g}"))
        plot.set_xlabel(f"training compute spent ({prefix}FLOP)")
        plot.set_ylabel("mean score")
        share_axis(plot.yaxis)
        figure.legend(loc="outside right center", frameon=False)
        return to_svg(figure, label="Mean score of each method against training compute spent", name="score-tracks")
