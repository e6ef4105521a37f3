"""Drawings of a sweep, in the style of harness.report.charts: effects with their intervals, and scores against the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, NullFormatter

from harness.report import charts, numbers


@dataclass(frozen=True)
class Bar:
    """One effect, a difference of shares."""

    name: str
    effect: float
    interval: Sequence[float]


@dataclass(frozen=True)
class ScalingCurve:
    """A method's points: {train_flops, value, interval}."""

    name: str
    points: Sequence[Mapping[str, Any]]


def effects(bars: Sequence[Bar], *, name: str) -> Markup:
    """One line per effect, its interval and the line of no effect."""
    with mpl.rc_context(charts.STYLE | {"axes.grid.axis": "x"}):
        figure, axes = charts.figure_of(7.2, 0.9 + 0.3 * len(bars))
        axis, heights = axes[0, 0], list(range(len(bars)))
        axis.axvline(0, color=charts.INK, linewidth=1)
        for height, bar in zip(heights, bars, strict=True):
            axis.plot(bar.interval, [height, height], color=charts.SERIES[0], linewidth=2)
            axis.plot(bar.effect, height, marker="o", color=charts.SERIES[0], markersize=6)
        axis.set_yticks(heights, [charts.named(bar.name) for bar in bars])
        axis.set_ylim(len(bars) - 0.4, -0.6)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.3g}"))
        axis.set_xlabel("difference in percentage points")
        return charts.to_svg(figure, label="Effects with 95 % intervals, one line per variant or level", name=name)


def scaling(curves: Sequence[ScalingCurve], *, name: str) -> Markup:
    """Score against training FLOPs on a logarithmic axis, one line per method."""
    budgets = sorted({float(point["train_flops"]) for curve in curves for point in curve.points})
    scale, prefix = numbers.si_scale(budgets[-1])
    with mpl.rc_context(charts.STYLE):
        figure, axes = charts.figure_of(7.2, 3.9)
        axis = axes[0, 0]
        axis.set_xscale("log", base=2)
        for index, curve in enumerate(curves):
            drawn = [point for point in curve.points if not numbers.absent(point["value"])]
            flops, values = [float(point["train_flops"]) for point in drawn], [float(point["value"]) for point in drawn]
            # An error bar for every point that has one; shifted a little, so that methods do not cover one another.
            shifted = [x * 2 ** (0.03 * (index - (len(curves) - 1) / 2)) for x in flops]
            color, marker = charts.SERIES[index % len(charts.SERIES)], charts.MARKERS[index % len(charts.MARKERS)]
            axis.plot(shifted, values, color=color, marker=marker, linewidth=1.6, markersize=7, label=charts.named(curve.name))
            for x, point in zip(shifted, drawn, strict=True):
                if point["interval"]:
                    axis.plot([x, x], point["interval"], color=color, linewidth=1.2)
        axis.set_xticks(budgets, [f"{flops / scale:.4g}" for flops in budgets])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(f"training budget ({prefix}FLOP)")
        axis.set_ylabel("mean score")
        charts.share_axis(axis.yaxis)
        figure.legend(loc="outside right center", frameon=False)
        return charts.to_svg(figure, label="Mean score against training budget, one line per method", name=name)
