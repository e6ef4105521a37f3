"""How numbers are written: three significant digits, units beside them, a dash for what is missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MISSING = "–"
_MINUS, _NARROW = "\u2212", "\u202f"
_SI = ((1e24, "Y"), (1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
AXIS_NAMES = {"flops": "FLOPs", "tokens": "tokens", "seconds": "device seconds", "usd": "dollars", "labels": "labels"}
"""What compute is matched on."""
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def absent(value: Any) -> bool:
    """Whether `value` is no finite number."""
    return value is None or isinstance(value, str) or not math.isfinite(float(value))


def _minus(text: str) -> str:
    return text.replace("-", _MINUS)


def number(value: Any) -> str:
    """Three significant digits, thousands grouped; powers of ten outside 0.001 … 10 million."""
    if absent(value):
        return MISSING
    value = float(value)
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -4 < exponent < 7:
        return _minus(f"{value / 10**exponent:.2f}") + f"{_NARROW}×{_NARROW}10" + str(exponent).translate(_SUPERSCRIPT)
    decimals = max(0, 2 - exponent)
    text = f"{value:,.{decimals}f}".replace(",", _NARROW)
    return _minus(text.rstrip("0").rstrip(".") if "." in text and value == int(value) else text)


def count(value: Any) -> str:
    """A whole number with thousands grouped."""
    return MISSING if absent(value) else _minus(f"{round(float(value)):,}".replace(",", _NARROW))


def percent(value: Any) -> str:
    """A share as "41.2 %"."""
    return MISSING if absent(value) else _minus(f"{100 * float(value):.1f}{_NARROW}%")


def points(value: Any) -> str:
    """A difference of shares as signed percentage points, "+3.4 pp"."""
    return MISSING if absent(value) else _minus(f"{100 * float(value):+.1f}{_NARROW}pp")


def signed_percent(value: Any) -> str:
    """A relative difference as "+12.3 %"."""
    return MISSING if absent(value) else _minus(f"{100 * float(value):+.1f}{_NARROW}%")


def factor(value: Any) -> str:
    """A ratio as "0.62×"."""
    return MISSING if absent(value) else f"{number(value)}×"


def flops(value: Any) -> str:
    """Floating-point operations with an SI prefix, "1.23 PFLOP"."""
    return prefixed(value, "FLOP")


def energy(value: Any) -> str:
    """Joules with an SI prefix, or "not available" where no counter was read."""
    return "not available" if absent(value) else prefixed(value, "J")


def prefixed(value: Any, unit: str) -> str:
    """Any amount with an SI prefix before its unit."""
    if absent(value):
        return MISSING
    scale, prefix = si_scale(float(value))
    return f"{number(float(value) / scale)}{_NARROW}{prefix}{unit}"


def si_scale(value: float) -> tuple[float, str]:
    """The power of 1000 that suits `value`, and its SI prefix."""
    return next(((scale, prefix) for scale, prefix in _SI if abs(value) >= scale), (1.0, ""))


def dollars(value: Any) -> str:
    """US dollars, "$12.30"; below ten cents three significant digits, nothing below a tenth of a cent."""
    if absent(value):
        return MISSING
    value = float(value)
    if 0 < abs(value) < 0.001:
        return f"<{_NARROW}$0.001"
    return f"${number(value)}" if 0 < abs(value) < 0.1 else f"${value:,.2f}".replace(",", _NARROW)


def seconds(value: Any) -> str:
    """A duration as "3.2 s", "4 min 10 s" or "2 h 05 min"."""
    if absent(value):
        return MISSING
    value = float(value)
    if value < 60:
        return f"{number(value)}{_NARROW}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{_NARROW}min {rest:02d}{_NARROW}s"
    return f"{minutes // 60}{_NARROW}h {minutes % 60:02d}{_NARROW}min"


def p_value(value: Any) -> str:
    """A p-value: three decimals, "< 0.001" below."""
    if absent(value):
        return MISSING
    return "< 0.001" if float(value) < 0.001 else f"{float(value):.3f}"


def amount(value: Any, unit: str) -> str:
    """A measured value in its unit: "share", "USD", "s" or any other counted thing."""
    if absent(value) or unit == "share":
        return percent(value)
    if unit in ("USD", "s"):
        return dollars(value) if unit == "USD" else seconds(value)
    return f"{number(value)} {unit}"


def effect(value: Any, estimand: str, unit: str = "share") -> str:
    """An effect on its scale: a ratio as a factor, a relative difference in %, an absolute one in points or in `unit`."""
    if absent(value):
        return MISSING
    if "ratio" in estimand:
        return factor(value)
    if "relative" in estimand or unit == "share":
        return signed_percent(value) if "relative" in estimand else points(value)
    return ("+" if float(value) > 0 else "") + f"{number(value)} {unit}"


def magnitude(value: Any, estimand: str, unit: str = "share") -> str:
    """The size of an effect on its scale, without a direction."""
    return effect(value, estimand, unit).removeprefix("+")


def interval(bounds: Sequence[Any] | None, write: Any = percent) -> str:
    """ "[lo, hi]" with both ends written by `write`."""
    if bounds is None or len(bounds) != 2 or all(absent(bound) for bound in bounds):
        return MISSING
    low, high = (("−∞", "∞")[side] if absent(bound) else write(bound) for side, bound in enumerate(bounds))
    return f"[{low}, {high}]"


def effect_interval(bounds: Sequence[Any] | None, estimand: str, unit: str = "share") -> str:
    """The interval of an effect, on the effect's scale."""
    return interval(bounds, lambda bound: effect(bound, estimand, unit))


def claimed(verdict: Mapping[str, Any]) -> str:
    """What a reading claims: "≥ +25.0 %", "> 0" where no size is claimed, "within ±2.0 pp" of no difference."""
    estimand, unit = str(verdict["estimand"]), str(verdict["unit"])
    is_ratio = "ratio" in estimand
    direction = str(verdict["direction"]).lower()
    if direction == "equal":
        return f"within ±{number(verdict['margin'])} of 1×" if is_ratio else f"within ±{magnitude(verdict['margin'], estimand, unit)}"
    lower = direction in ("less", "lower", "below", "smaller", "decrease")
    if verdict["threshold"] == (1 if is_ratio else 0):
        return f"{'<' if lower else '>'} {'1×' if is_ratio else '0'}"
    return f"{'≤' if lower else '≥'} {effect(verdict['threshold'], estimand, unit)}"


def spend(value: Any, axis: str) -> str:
    """What was spent on an axis of matching, in its unit."""
    write = {"flops": flops, "seconds": seconds, "usd": dollars}.get(axis, count)
    return write(value)
