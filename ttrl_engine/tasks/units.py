r"""Units of measure: when two spellings name one unit, and how metric prefixes convert.

`cm`, `centimetres`, `\text{cm}` and `centimeter` are one unit; `cm^2`, `square cm` and `sq cm` are another. What
differs only in a metric prefix converts exactly: 0.42 m is 42 cm, 2 km^2 is 2,000,000 m^2. Nothing else converts: an
inch is not 2.54 cm here, and a minute not 60 seconds, for where a unit is asked for, leaving it is a mistake.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

_LONGEST: Final = 400
_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textrm|operatorname|mathit|mathbf)\s{0,3}\{([^{}]{0,100})\}")
_DEGREES = re.compile(r"\^\s{0,3}(?:\{\s{0,3}\\circ\s{0,3}\}|\\circ(?![A-Za-z]))|\\degrees?(?![A-Za-z])")
_SPACE = re.compile(r"\\[,;:! ]|~")
_TAIL = re.compile(r"(?<=[\d})\]. ])\s{0,5}((?:[^\W\d_]|[°%$€£])(?:[^\W_]|[ .°%/*·^{}²³-]){0,80})$")
_HEAD = re.compile(r"^[-+]?\s{0,3}(USD|EUR|GBP|Rs\.?|[$€£¥₹])", re.IGNORECASE)
_POWER = re.compile(r"^(.*?)\s{0,3}\^?\s{0,3}\{?([23])\}?$")
_SQUARE = re.compile(r"^(?:square|sq\.?)\s{1,3}(.+)$|^(.+?)\s{1,3}squared$")
_CUBIC = re.compile(r"^(?:cubic|cu\.?)\s{1,3}(.+)$|^(.+?)\s{1,3}cubed$")
_SIGNS: Final = {"²": "^2", "³": "^3", "−": "-", "·": "*", "µ": "μ", "\\%": "%", "\\$": "$", "\\cdot": "*"}

_METRIC: Final = {
    "m": ("metre", "meter"), "g": ("gram", "gramme"), "s": ("second", "sec"), "l": ("litre", "liter"),
    "W": ("watt",), "J": ("joule",), "Pa": ("pascal",), "Hz": ("hertz",), "V": ("volt",), "A": ("ampere", "amp"),
    "N": ("newton",), "B": ("byte",), "Ω": ("ohm",), "mol": ("mole",), "eV": ("electronvolt",),
}  # fmt: skip
_PREFIXES: Final = {
    "p": ("pico", -12), "n": ("nano", -9), "μ": ("micro", -6), "m": ("milli", -3), "c": ("centi", -2),
    "d": ("deci", -1), "k": ("kilo", 3), "M": ("mega", 6), "G": ("giga", 9), "T": ("tera", 12),
}  # fmt: skip
_OTHERS: Final = {
    "dollar": ("$", "usd", "dollars"), "euro": ("€", "eur", "euros"), "pound sterling": ("£", "gbp"),
    "percent": ("%", "per cent", "percentage"), "degree": ("°", "deg", "degrees"),
    "hour": ("h", "hr", "hrs", "hours"), "minute": ("min", "mins", "minutes"), "day": ("d", "days"),
    "foot": ("ft", "feet"), "inch": ("in", "inches"), "mile": ("mi", "miles"), "yard": ("yd", "yards"),
    "pound": ("lb", "lbs", "pounds"), "ounce": ("oz", "ounces"), "cent": ("¢", "cents"), "yen": ("¥", "jpy"),
    "rupee": ("₹", "rs", "inr", "rupees"), "radian": ("rad", "radians"), "year": ("yr", "yrs", "years"),
}  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """A unit by its `base` name, its `power` (2 for an area) and the power of ten of its metric prefix."""

    base: str
    power: int = 1
    prefix: int = 0

    def scale_to(self, other: Unit) -> Fraction | None:
        """What a number in this unit is multiplied by to be in the other; None where they measure differently."""
        if (self.base, self.power) != (other.base, other.power):
            return None
        return Fraction(10) ** (self.power * (self.prefix - other.prefix))

    def __str__(self) -> str:
        return f"e{self.prefix} {self.base}^{self.power}"


def unit_of(raw: str) -> Unit | None:
    """The unit that an answer names; None where it names none."""
    if len(raw) > _LONGEST:
        return None
    text = _plain(raw)
    head = _HEAD.match(text)
    tail = _TAIL.search(text)
    if tail is not None:
        return read_unit(tail.group(1))
    return read_unit(head.group(1)) if head is not None else None


def read_unit(text: str) -> Unit:
    """The unit that a text names; one that is not known is its words in lower case, without a plural s."""
    name = " ".join(_plain(text).split()).strip(" .{}")
    for pattern, power in ((_SQUARE, 2), (_CUBIC, 3)):
        found = pattern.match(name.casefold())
        if found is not None:
            start = found.start(1) if found.group(1) else found.start(2)
            inner = read_unit(name[start : start + len(found.group(1) or found.group(2))])
            return Unit(inner.base, power * inner.power, inner.prefix)
    raised = _POWER.match(name)
    if raised is not None and raised.group(1) and "/" not in name:
        inner = read_unit(raised.group(1))
        return Unit(inner.base, int(raised.group(2)) * inner.power, inner.prefix)
    return _SPELLED.get(name) or _SPELLED.get(name.casefold()) or Unit(_unknown(name))


def _plain(raw: str) -> str:
    text = _DEGREES.sub("°", _TEXT.sub(r" \1 ", raw))
    text = _SPACE.sub(" ", text)
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    # A dollar sign around the answer is mathematics; right before a number it is money.
    stripped = text.strip().rstrip(".")
    inside = stripped[1:-1] if stripped.startswith("$") and stripped.endswith("$") and len(stripped) > 1 else stripped
    return inside.strip()


def _unknown(name: str) -> str:
    words = name.casefold().replace(" per ", "/").replace(" ", "")
    return "/".join(part[:-1] if len(part) > 3 and part.endswith("s") else part for part in words.split("/"))


def _spelled() -> dict[str, Unit]:
    """Every known spelling. Symbols keep their case (mm is not Mm), words do not."""
    found: dict[str, Unit] = {}
    for base, spellings in _OTHERS.items():
        found |= {spelling: Unit(base) for spelling in (base, *spellings)}
    for symbol, names in _METRIC.items():
        for short, (long, power) in {"": ("", 0), **_PREFIXES}.items():
            unit = Unit(symbol, 1, power)
            found[short + symbol] = unit
            for name in names:
                found |= {long + name: unit, long + name + "s": unit}
    found["L"] = Unit("l")
    found["mL"] = Unit("l", 1, -3)
    # Read as people write them, not as prefixes: "min" is a minute, "ft" a foot, "cd" no centiday.
    found |= {spelling: Unit(base) for base, spellings in _OTHERS.items() for spelling in spellings}
    return found


_SPELLED: Final = _spelled()
