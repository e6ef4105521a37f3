"""Three pictures of the calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.stats.freedom import DegreesOfFreedom
from harness.verdicts.calibration.normal_theory import ITEM_PARTS, SEED_PARTS, error_rate
from harness.verdicts.calibration.tables import COVERAGE_BAND, FALSE_ALARM_BAND, RATIO_INTERVALS, RULES

COLOURS = {1: "#999999", 3: "#0072b2", 5: "#009e73", 10: "#d55e00"}
RULE_COLOURS: dict[DegreesOfFreedom, str] = {"corrected": "#0072b2", "satterthwaite": "#d55e00", "hillis": "#cc79a7"}
BAND_COLOUR = "#dddddd"


def draw(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Writes the pictures as PNG and returns their paths."""
    pictures = {"false_alarms": _false_alarms(results), "coverage": _coverage(results), "normal_theory": _normal_theory()}
    paths = [folder / f"{name}.png" for name in pictures]
    for path, figure in zip(paths, pictures.values(), strict=True):
        figure.savefig(path, dpi=110, metadata={"Software": None})
    return paths


def _false_alarms(results: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(*FALSE_ALARM_BAND, color=BAND_COLOUR, lw=0)
    _strips(axes, results[results["kind"] == "null"], RULES)
    axes.set(xscale="log", xlabel="false alarms at nominal .05 (each dot one world without a difference)", xlim=(0.012, 1))
    axes.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5, 1], labels=[".02", ".05", ".1", ".2", ".5", "1"])
    axes.minorticks_off()
    return figure


def _coverage(results: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(*COVERAGE_BAND, color=BAND_COLOUR, lw=0)
    effect = results[results["kind"].isin(["effect", "ratio"])].rename(columns={"coverage": "difference"})
    _strips(axes, effect[effect["n_seeds"] > 1], ("difference", *RATIO_INTERVALS))
    axes.set(xlabel="coverage of 95 % intervals (each dot one world with an effect)")
    axes.set_yticks(range(4), labels=["difference", "ratio: inverted test", "ratio: textbook Fieller", "ratio: log scale"])
    return figure


def _strips(axes: Axes, rows: pd.DataFrame, measures: tuple[str, ...]) -> None:
    """One line of dots per measure, coloured and offset by the number of seeds."""
    for line, measure in enumerate(measures):
        for offset, (n_seeds, colour) in zip((-0.27, -0.09, 0.09, 0.27), COLOURS.items(), strict=True):
            values = rows.loc[rows["n_seeds"] == n_seeds, measure].dropna()
            label = f"{n_seeds} seed{'s' if n_seeds > 1 else ''}" if line == 0 and len(values) else None
            axes.scatter(values, line + offset + np.linspace(-0.06, 0.06, len(values)), s=9, color=colour, label=label, lw=0)
    axes.set_yticks(range(len(measures)), labels=["crossed (default)" if name == "corrected" else name for name in measures])
    axes.invert_yaxis()
    axes.legend(loc="best", fontsize="small", frameon=False)


def _normal_theory() -> Figure:
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axes, n_seeds in zip(figure.subplots(1, 3, sharey=True), (3, 5, 10), strict=True):
        axes.axhspan(*FALSE_ALARM_BAND, color=BAND_COLOUR, lw=0)
        for rule, colour in RULE_COLOURS.items():
            rates = np.array([[error_rate(rule, n_seeds, 200, seed=seed, item=item) for item in ITEM_PARTS] for seed in SEED_PARTS])
            axes.fill_between(range(len(SEED_PARTS)), rates.min(axis=1), rates.max(axis=1), color=colour, alpha=0.35, lw=0)
            label = "crossed (default)" if rule == "corrected" else rule
            axes.plot(range(len(SEED_PARTS)), rates.max(axis=1), color=colour, lw=1, label=label)
        axes.set_title(f"{n_seeds} seeds × 200 items")
        axes.set_xticks(range(0, len(SEED_PARTS), 2), labels=[f"{part:g}" for part in SEED_PARTS[::2]])
    figure.supxlabel("seed variance of the mean, in units of the residual's", fontsize="medium")
    figure.axes[0].set_ylabel("error rate at nominal .05\n(range over item variance)")
    figure.axes[0].legend(fontsize="small", frameon=False)
    return figure
