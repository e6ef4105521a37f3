import numpy as np
import pytest

from harness.report.charts import Curve, Palette, learning_curves

PALETTE = Palette(["base", "sft", "rlhf"])


def curve(method, flops, value=None):
    return Curve(method, np.array(flops, float), np.arange(len(flops), dtype=float) if value is None else np.array(value, float))


@pytest.mark.parametrize(
    ("curves", "axis"),
    [
        ([curve("sft", [1e12, 2e12]), curve("sft", [1.5e12, 3e12])], "training compute spent (TFLOP)"),
        ([curve("rlhf", [1e12, 2e12]), curve("rlhf", [3e12, 4e12])], "training compute spent (TFLOP)"),
        ([curve("rlhf", [1e12]), curve("rlhf", [2e12]), curve("sft", [2e12, 3e12])], "training compute spent (TFLOP)"),
        ([curve("rlhf", [4.70e12, 4.71e12, 4.72e12]), curve("rlhf", [5.10e12, 5.11e12, 5.12e12])], "observation"),
    ],
    ids=["overlapping", "without overlap", "single observations", "observed within no compute"],
)
def test_every_method_is_named_once_and_drawn_against_what_tells_its_points_apart(curves, axis):
    svg = learning_curves("loss", curves, PALETTE, 0)
    assert f">{axis}</text>" in svg
    for method in {curve.method for curve in curves}:
        assert svg.count(f">{method}</text>") == 1
