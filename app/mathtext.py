"""Problem text as safe HTML in which only well-delimited LaTeX is left for KaTeX to draw.

Uploaded text mixes prices, shell variables and maths. Every formula found is re-delimited as `\\(…\\)` or `\\[…\\]`,
the only delimiters a page hands to `gr.Markdown`, so a lone dollar sign can never swallow a paragraph. Everything
else is escaped and holds no blank line, which keeps it inside one raw HTML block: Markdown never reads it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

LATEX_DELIMITERS: list[dict[str, str | bool]] = [
    {"left": "\\(", "right": "\\)", "display": False},
    {"left": "\\[", "right": "\\]", "display": True},
]

_ENVIRONMENTS = "align|aligned|alignat|array|cases|equation|gather|gathered|matrix|pmatrix|bmatrix|vmatrix|tabular"
# A price ("$5 and $6") is no formula: TeX-aware tools agree that an opening dollar touches what follows, a closing
# one touches what precedes, and no digit comes after it.
_PIECES = re.compile(
    r"(?P<drawing>\[asy\](?P<asy>.*?)\[/asy\])"
    r"|(?P<dollar>\\\$)"
    r"|\$\$(?P<display>.{1,4000}?)\$\$"
    r"|\\\[(?P<bracket>.{1,4000}?)\\\]"
    r"|\\\((?P<paren>.{1,4000}?)\\\)"
    rf"|(?P<env>\\begin\{{(?P<name>(?:{_ENVIRONMENTS})\*?)\}}.{{1,4000}}?\\end\{{(?P=name)\}})"
    r"|\$(?!\s)(?P<inline>(?:\\.|[^$\\]){1,2000}?)(?<!\s)\$(?!\d)",
    re.DOTALL,
)

_TEX_LINE = " \\\\ "


def _plain(text: str) -> str:
    """Escaped text. Line ends become `<br>`, since a blank line ends the HTML block; a literal `\\\\(` is split."""
    escaped = html.escape(text.replace("\r\n", "\n").replace("\r", "\n"))
    escaped = escaped.replace("\\(", "\\<span>(</span>").replace("\\[", "\\<span>[</span>")
    return escaped.replace("\n", "<br>")


def _formula(source: str, *, display: bool) -> str:
    body = re.sub(r"\n\s*\n+", "\n", source.strip())
    escaped = html.escape(body, quote=False).replace("\n", " ")
    return f"\\[{escaped}\\]" if display else f"\\({escaped}\\)"


def _pieces(text: str) -> Iterator[str]:
    position = 0
    for found in _PIECES.finditer(text):
        yield _plain(text[position : found.start()])
        position = found.end()
        if found["drawing"] is not None:
            source = _plain(found["asy"].strip())
            yield f'<details class="drawing"><summary>A drawing, in the Asymptote language</summary>{source}</details>'
        elif found["dollar"] is not None:
            yield "$"
        elif (inline := found["inline"] or found["paren"]) is not None:
            yield _formula(inline, display=False)
        elif found["env"] is not None and found["name"] == "tabular":
            yield _formula(_tabular_as_array(found["env"]), display=True)
        else:
            yield _formula(found["display"] or found["bracket"] or found["env"], display=True)
    yield _plain(text[position:])


def _tabular_as_array(source: str) -> str:
    """KaTeX has no `tabular`; an `array` whose cells are text draws the same grid."""
    found = re.fullmatch(r"\\begin\{tabular\}(?:\[\w\])?\{([^{}]*)\}(.*)\\end\{tabular\}", source, re.DOTALL)
    if found is None:
        return source
    rows = []
    for line in found[2].split("\\\\"):
        rules, cells = re.fullmatch(r"\s*((?:\\hline\s*)*)(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]  # always matches
        cells = re.sub(r"\\multicolumn\{\d+\}\{[^{}]*\}", "", cells).strip()
        drawn = " & ".join(f"\\text{{{cell.strip()}}}" for cell in cells.split("&")) if cells else ""
        rows.append(rules + drawn)
    return f"\\begin{{array}}{{{found[1]}}}{_TEX_LINE.join(rows)}\\end{{array}}"


def math_html(text: str, *, limit: int = 20_000) -> str:
    """One problem or answer as HTML without blank lines; text beyond `limit` characters is cut with an ellipsis."""
    shown = text if len(text) <= limit else text[:limit] + " …"
    return "".join(_pieces(shown))


def answer_html(answer: str) -> str:
    """A bare answer such as `\\frac{14}{3}`: drawn as a formula when it looks like one, else escaped text."""
    if re.search(r"\\[a-zA-Z]|[\^_{}]", answer) and not re.search(r"\$|\\\(|\\\[", answer):
        return _formula(answer, display=False)
    return math_html(answer)
