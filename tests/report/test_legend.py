"""Legends under a drawing stay inside it, however long the names of a sweep's variants are."""

from __future__ import annotations

import pytest

from harness.report.charts import figure_of, legend_below


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["sft", "dpo", "rlhf"], 3),
        ([f"selfteach:learning_rate={n}" for n in range(14)], 2),
        ([f"selfteach:operations=without-reasoning{n}" for n in range(14)], 1),
    ],
)
def test_columns_fit_the_figure_and_the_figure_grows_with_the_rows(names: list[str], columns: int) -> None:
    figure, axes = figure_of(4.7, 3.9)
    for place, name in enumerate(names):
        axes[0, 0].plot(place, place, marker="o", label=name)
    legend_below(figure)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend._ncols == columns
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0
    assert box.x1 <= whole.x1
    assert axes[0, 0].get_window_extent().height > 200, "the drawing keeps its height"
