"""Numbers and times as people read them. What is not known is said so and never becomes a 0."""

from __future__ import annotations

import datetime
import math

NARROW = "\u202f"
"""A narrow space that does not break: between a number and its unit."""

MINUS = "\u2212"


def number(value: float | None, digits: int = 2, unknown: str = "unknown") -> str:
    """A plain number with thousands separators; very small and very large ones in scientific notation."""
    if value is None or not math.isfinite(value):
        return unknown
    if value and (abs(value) < 10.0**-digits or abs(value) >= 1e9):
        return f"{value:.2e}".replace("-", MINUS)
    return f"{value:,.{digits}f}".replace("-", MINUS)


def count(value: int | None, unknown: str = "unknown") -> str:
    """A whole number with thousands separators."""
    return unknown if value is None else f"{value:,}".replace("-", MINUS)


def compact(value: int | None, unknown: str = "unknown") -> str:
    """A large whole number in short: 1.1 M, 7.6 B."""
    if value is None:
        return unknown
    for scale, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.1f}{NARROW}{letter}"
    return str(value)


def percent(value: float | None, digits: int = 1, unknown: str = "unknown") -> str:
    """A share (0 to 1) as a percentage."""
    if value is None or not math.isfinite(value):
        return unknown
    return f"{100 * value:.{digits}f}{NARROW}%".replace("-", MINUS)


def points(value: float | None, digits: int = 1, unknown: str = "unknown") -> str:
    """A difference of shares in percentage points, always with its sign."""
    if value is None or not math.isfinite(value):
        return unknown
    # Adding 0.0 turns a rounded -0.0 into 0.0: "−0.0" would claim a direction.
    shown = round(100 * value, digits) + 0.0
    return f"{shown:+.{digits}f}{NARROW}pts".replace("-", MINUS)


def interval(low: float | None, high: float | None, digits: int = 1, signed: bool = False) -> str:
    """A 95 % interval of shares, in percent: [35.0, 47.1]. Empty where it is not known."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    sign = "+" if signed else ""
    return f"[{100 * low:{sign}.{digits}f}, {100 * high:{sign}.{digits}f}]".replace("-", MINUS)


def duration(seconds: float | None, unknown: str = "unknown") -> str:
    """How long, in the two units that matter: 48 s, 4 min 10 s, 3 h 05 min, 2 d 4 h."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return unknown
    if seconds < 10:
        return f"{seconds:.1f}{NARROW}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NARROW}s"
    if whole < 3600:
        rest = f" {whole % 60:02d}{NARROW}s" if whole < 600 else ""
        return f"{whole // 60}{NARROW}min{rest}"
    if whole < 86400:
        return f"{whole // 3600}{NARROW}h {whole % 3600 // 60:02d}{NARROW}min"
    return f"{whole // 86400}{NARROW}d {whole % 86400 // 3600}{NARROW}h"


def duration_range(low: float | None, high: float | None) -> str:
    """A remaining time as a range: "3 to 5 min". Empty where nothing is known."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    for scale, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s")):
        if high >= 1.5 * scale or scale == 1.0:
            first, last = max(1, round(low / scale)), max(1, round(high / scale))
            return f"{last}{NARROW}{unit}" if first == last else f"{first} to {last}{NARROW}{unit}"
    return ""


def size(num_bytes: float | None, unknown: str = "unknown") -> str:
    """Bytes as KiB, MiB, GiB."""
    if num_bytes is None:
        return unknown
    value, unit = float(num_bytes), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:,.0f}{NARROW}{unit}" if unit == "B" or value >= 100 else f"{value:.1f}{NARROW}{unit}"


def moment(at: float | None, now: float, unknown: str = "never") -> str:
    """A time of day today, a date otherwise; local time of the server."""
    if at is None:
        return unknown
    when, today = datetime.datetime.fromtimestamp(at), datetime.datetime.fromtimestamp(now)
    if when.date() == today.date():
        return when.strftime("%H:%M")
    if when.year == today.year:
        return when.strftime("%-d %b, %H:%M")
    return when.strftime("%-d %b %Y")


def of_unit(value: float | None, unit: str) -> str:
    """A metric's value in its unit (the units of `ttrl_engine.metrics`)."""
    if unit == "share":
        return percent(value)
    if unit == "points":
        return points(value)
    if unit == "s":
        return duration(value)
    if unit in ("tokens", "count"):
        return number(value, 0 if value is not None and float(value).is_integer() else 1)
    return number(value, 3)
