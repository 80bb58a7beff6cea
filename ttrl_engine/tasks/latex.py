r"""Layout out, meaning in: brings the ways an answer is typeset down to one plain form before it is compared.

All replacements are single linear passes with bounded quantifiers. What is dropped follows the MATH convention:
dollar, percent and degree signs and units after a number carry no meaning, so 50\% is 50 and 5.4 cents is 5.4.
"""

from __future__ import annotations

import re
import unicodedata

from ttrl_engine.equivalence.names import FUNCTIONS, TRIGONOMETRIC

_SIGNS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "÷": "/",
    "π": "\\pi ", "∞": "\\infty ", "√": "\\sqrt ", "°": "^\\circ ", "º": "^\\circ ", "∪": "\\cup ",
    "∈": "\\in ", "∅": "\\emptyset ",
    "±": "\\pm ", "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "θ": "\\theta ", "²": "^{2}", "³": "^{3}",
    "½": "\\frac{1}{2}", "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}", "⅓": "\\frac{1}{3}", "⅔": "\\frac{2}{3}",
    "…": "\\ldots ", "€": "", "£": "",
    "’": "'", "‘": "'", "“": '"', "”": '"', "，": ",", "：": ":", "（": "(", "）": ")",
}  # fmt: skip
_SIGN_TABLE = str.maketrans(_SIGNS)

_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)|~", re.DOTALL)
_REPLACED = {
    "\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\cfrac": "\\frac", "\\leq": "\\le", "\\leqslant": "\\le",
    "\\geq": "\\ge", "\\geqslant": "\\ge", "\\neq": "\\ne", "\\lt": "<", "\\gt": ">", "\\lbrace": "\\{",
    "\\rbrace": "\\}", "\\lbrack": "[", "\\rbrack": "]", "\\varnothing": "\\emptyset", "\\to": "\\rightarrow",
    "\\mathbf": "", "\\mathrm": "\\text", "\\textbf": "\\text", "\\textit": "\\text", "\\textrm": "\\text",
    "\\mbox": "\\text", "\\hbox": "\\text", "\\operatorname": "", "\\mathit": "", "\\textnormal": "\\text",
    "\\boldsymbol": "", "\\div": "/", "\\cdotp": "\\cdot", "\\ast": "*",
    "\\land": ",", "\\infin": "\\infty", "\\deg": "^\\circ", "\\degree": "^\\circ", "\\degrees": "^\\circ",
    "\\dbinom": "\\binom", "\\tbinom": "\\binom", "\\lvert": "|", "\\rvert": "|", "\\vert": "|",
}  # fmt: skip
_DROPPED = frozenset(
    "\\" + name
    for name in [
        "left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "displaystyle", "textstyle",
        "limits", "mathop", "!", "$", "%", "(", ")", "[", "]", "phantom",
    ]
)  # fmt: skip
_SPACES = frozenset(["\\,", "\\;", "\\:", "\\ ", "\\quad", "\\qquad", "\\thinspace", "\\>", "\\\n", "~"])
_GROUPED_COMMA = re.compile(r"(?<=\d)(?:\{,\}|,\\!\s{0,3}|\\,)(?=\d)")
_TEXT = re.compile(r"\\text\s{0,3}\{([^{}]*)\}(\s{0,3}\^\s{0,3}(?:\{\d{1,2}\}|\d))?")
_DEGREE = re.compile(r"\^\s{0,3}(?:\\circ(?![A-Za-z])|\{\s{0,3}\\circ\s{0,3}\})")
_WORDS = re.compile(r"[^\W\d_][^\W\d_'.\-]*(?:[ '.\-]{1,2}[^\W\d_'.\-]+)*")
_UNIT_WORDS = frozenset(
    [
        "cm",
        "mm",
        "km",
        "kg",
        "mg",
        "ml",
        "ft",
        "in",
        "mi",
        "lb",
        "lbs",
        "oz",
        "hr",
        "hrs",
        "min",
        "sec",
        "mph",
        "deg",
        "rad",
        "pm",
        "am",
        "sq",
        "cu",
        "usd",
        "eur",
    ]
)
# Letters that read as mathematics, not as a unit, after a number.
_NAMES = FUNCTIONS | {"pi", "sqrt", "infinity", "infty", "inf", "oo", "or", "and"}
# A function needs something after it: "30 sec" is a time.
_PLAIN_NAME = re.compile(
    rf"(?<![A-Za-z\\])(?:(sqrt|pi|infinity|infty|oo)(?![A-Za-z])|({'|'.join(sorted(FUNCTIONS))})(?![A-Za-z])(?=\s*[\w\\({{|]))"
)
_OPERATOR_NAME = re.compile(
    rf"\\(?:operatorname\*?|mathrm)\s{{0,2}}\{{\s{{0,2}}({'|'.join(sorted(FUNCTIONS))})\s{{0,2}}\}}(?=\s*[\w\\({{|^])"
)
_TRIGONOMETRIC = re.compile(rf"\\(?:{'|'.join(sorted(TRIGONOMETRIC))})(?![A-Za-z])")
_CHOOSE = re.compile(r"\{?\s{0,3}(?<!\w)(\w{1,20})\s{0,3}\\choose\s{0,3}(\w{1,20})\s{0,3}\}?")
_BASES = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "eleven": "11", "twelve": "12", "sixteen": "16",
}  # fmt: skip
_BASE = rf"(\d{{1,2}}|{'|'.join(_BASES)})"
_SUBSCRIPT_BASE = re.compile(rf"(?<=\d)\s?_\s?\{{\s?\(?(?:base\s?)?{_BASE}\)?\s?\}}", re.IGNORECASE)
_BASE_BEHIND = re.compile(
    rf"(?<=\d)\s{{0,3}}(?:\\text\s?\{{\s?)?\(?(?:in\s)?base[\s-]{{1,2}}{_BASE}\)?\s?\}}?$", re.IGNORECASE
)
_TRAILING_WORDS = re.compile(
    r"(?<=[\d})\]])\s{0,3}([A-Za-z]{2,20}(?:[ .]{1,2}[A-Za-z]{2,20}){0,5})\.?(?:\^\s{0,2}\{?[23]\}?)?$"
)
_LAST_WORD_START = re.compile(r"[A-Za-z]{2,20}")


def clean(raw: str) -> str:
    r"""The answer without layout: no \left, \dfrac, $, spacing commands, invisible characters, degree signs, units."""
    text = "".join(_plain(character) for character in raw.translate(_SIGN_TABLE))
    text = _GROUPED_COMMA.sub("", text)
    text = _COMMAND.sub(_command, _OPERATOR_NAME.sub(r"\\\1 ", text)).replace("$", "").replace("%", "")
    text = _PLAIN_NAME.sub(_named, _CHOOSE.sub(r"\\binom{\1}{\2}", text))
    # The sine of 30 degrees is not that of 30; elsewhere MATH drops the sign.
    text = _DEGREE.sub("\\\\degree " if _TRIGONOMETRIC.search(text) else "", text)
    text = _in_base(_SUBSCRIPT_BASE, drop_text(_in_base(_BASE_BEHIND, text.strip())))
    return strip_ends(" ".join(text.split()))


def strip_ends(text: str) -> str:
    """Without white space and sentence punctuation around it, and without one pair of braces around all of it."""
    text = text.strip(" \t\n").rstrip(".,;:").strip(" \t\n*`\"'")
    while text.startswith("{") and text.endswith("}") and _closes_at(text, 0) == len(text) - 1:
        text = text[1:-1].strip()
    return text


def drop_text(text: str) -> str:
    r"""`\text{…}` read: words alone stay words, "and"/"or" become a comma, a unit after mathematics goes."""
    bare = _TEXT.sub(" ", text).strip(" .,;:")
    if not bare:
        return _TEXT.sub(lambda match: match.group(1), text)
    return _TEXT.sub(_text_within, text)


def drop_unit(text: str) -> str:
    """Without the words after a number: `5 apples`, `12 cm^2`, `30 square feet`. Names of functions stay."""
    match = _TRAILING_WORDS.search(text)
    if match is None or not any(character.isdigit() for character in text[: match.start()]):
        return text
    words = [word.lower() for word in _LAST_WORD_START.findall(match.group(1))]
    if any(word in _NAMES and word not in _UNIT_WORDS for word in words):
        return text
    # "6xyz" and "6abc" are products: what stands close to the number must be known, or long.
    shortest = 3 if match.group()[0].isspace() else 4
    if all(word in _UNIT_WORDS or word == "of" or _is_word(word, shortest) for word in words):
        return text[: match.start()].rstrip()
    return text


def _is_word(text: str, shortest: int) -> bool:
    return len(text) >= shortest and any(letter in "aeiou" for letter in text)


def words_of(text: str) -> str | None:
    """The answer as lower-case words if that is all it is (`Evelyn`, `no solution`), else None."""
    if _WORDS.fullmatch(text) is None or "\\" in text:
        return None
    longest = max(len(word) for word in re.split(r"[ '.\-]+", text))
    return " ".join(text.casefold().split()) if longest >= 3 or text.casefold() == "no" else None


def _closes_at(text: str, opening: int) -> int:
    depth = 0
    for position in range(opening, len(text)):
        if text[position] == "{" and (position == 0 or text[position - 1] != "\\"):
            depth += 1
        elif text[position] == "}" and text[position - 1] != "\\":
            depth -= 1
            if depth == 0:
                return position
    return -1


def _plain(character: str) -> str:
    if "！" <= character <= "～":  # full-width forms
        return chr(ord(character) - 0xFEE0)
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.digit(character))
    if category in ("Zs", "Cc", "Zl", "Zp"):
        return " "
    return "" if category in ("Cf", "Cs", "Co", "Cn") else character


def _command(match: re.Match[str]) -> str:
    command = match.group()
    if command in _DROPPED:
        return ""
    if command in _SPACES:
        return " "
    return _REPLACED.get(command, command)


def _in_base(pattern: re.Pattern[str], text: str) -> str:
    """A numeral with its base as a subscript, however the base is named."""
    return pattern.sub(lambda match: f"_{{{_BASES.get(match.group(1).lower(), match.group(1))}}}", text)


def _named(match: re.Match[str]) -> str:
    name = match.group(1) or match.group(2)
    return "\\infty" if name in ("infinity", "infty", "oo") else f"\\{name}"


def _text_within(match: re.Match[str]) -> str:
    content = match.group(1).strip().strip(".,").lower()
    if content in ("and", "or"):
        return f" {content} "
    if not content or match.end() == len(match.string.rstrip(" .,;:!")):
        return " "
    return f" {match.group(1)} "
