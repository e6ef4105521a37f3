import math

import pytest

from harness.report import numbers


def plain(text):
    return text.replace("\u2212", "-").replace("\u202f", " ")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"), (1, "1"), (0.5, "0.500"), (0.0123456, "0.0123"), (12.345, "12.3"), (123.456, "123"), (1234567, "1 234 567"),
        (-2.5, "-2.50"),
        (1.5e10, "1.50 × 10¹⁰"), (2e-7, "2.00 × 10⁻⁷"), (None, "–"), (math.nan, "–"), (math.inf, "–"),
    ],
)  # fmt: skip
def test_number_has_three_significant_digits(value, expected):
    assert plain(numbers.number(value)) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.percent(0.4125), "41.2 %"), (numbers.points(-0.034), "-3.4 pp"), (numbers.points(0.034), "+3.4 pp"),
        (numbers.flops(2.4e14), "240 TFLOP"), (numbers.flops(1.234e15), "1.23 PFLOP"), (numbers.flops(0), "0 FLOP"),
        (numbers.dollars(12.3), "$12.30"), (numbers.dollars(0.00123), "$0.00123"), (numbers.dollars(0), "$0.00"),
        (numbers.dollars(2e-5), "< $0.001"), (numbers.magnitude(0.115, "relative difference"), "11.5 %"),
        (numbers.seconds(3.24), "3.24 s"), (numbers.seconds(250), "4 min 10 s"), (numbers.seconds(7500), "2 h 05 min"),
        (numbers.seconds(59.999), "60.0 s"), (numbers.p_value(0.00001), "< 0.001"), (numbers.p_value(0.04), "0.040"),
        (numbers.interval([0.1, 0.25]), "[10.0 %, 25.0 %]"), (numbers.interval([None, 0.25]), "[-∞, 25.0 %]"),
        (numbers.interval(None), "–"),
    ],
)  # fmt: skip
def test_units(written, expected):
    assert plain(written) == expected


@pytest.mark.parametrize(
    ("estimand", "unit", "expected"),
    [
        ("relative difference", "share", "+12.0 %"), ("absolute difference", "share", "+12.0 pp"), ("ratio", "share", "0.120×"),
        ("relative difference", "USD", "+12.0 %"), ("absolute difference", "USD", "+0.120 USD"),
    ],
)  # fmt: skip
def test_effect_is_written_on_its_own_scale(estimand, unit, expected):
    assert plain(numbers.effect(0.12, estimand, unit)) == expected
    assert numbers.effect(None, estimand, unit) == "–"


def test_amount_takes_its_unit():
    assert [plain(numbers.amount(0.5, unit)) for unit in ("share", "USD", "s", "labels")] == ["50.0 %", "$0.50", "0.500 s", "0.500 labels"]


@pytest.mark.parametrize(
    ("estimand", "unit", "direction", "threshold", "margin", "text"),
    [
        ("relative difference", "share", "higher", 0.25, None, "≥ +25.0 %"),
        ("relative difference", "share", "lower", -0.4, None, "≤ −40.0 %"),
        ("absolute difference", "share", "higher", 0.0, None, "> 0"),
        ("ratio", "queries", "lower", 1.0, None, "< 1×"),
        ("ratio", "queries", "lower", 0.0573, None, "≤ 0.0573×"),
        ("absolute difference", "share", "equal", 0.02, 0.02, "within ±2.0 pp"),
        ("relative difference", "share", "equal", 0.05, 0.05, "within ±5.0 %"),
        ("ratio", "USD", "equal", 1.1, 0.1, "within ±0.100 of 1×"),
        ("absolute difference", "reward", "equal", 0.5, 0.5, "within ±0.500 reward"),
    ],
)
def test_claimed(estimand, unit, direction, threshold, margin, text):
    row = {"estimand": estimand, "unit": unit, "direction": direction, "threshold": threshold, "margin": margin}
    assert numbers.claimed(row).replace("\u202f", " ") == text


def test_energy_is_written_with_its_unit_or_said_to_be_missing():
    assert numbers.energy(12_500.0).endswith("kJ")
    assert numbers.energy(float("nan")) == numbers.energy(None) == "not available"
