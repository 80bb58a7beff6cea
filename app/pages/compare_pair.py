"""One answer of each model beside the other: the words that differ, or the formulas drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from app.components import card, escape
from app.mathtext import math_html
from app.worddiff import marked

_TEXT_CHARACTERS = 20_000
_PICK = re.compile(r"pair:(\d{1,3}):(words|formulas)", re.ASCII)


@dataclass(frozen=True)
class Pair:
    """Which answers are read, from 0, and how. Answers of one number were drawn with the same random numbers."""

    place: int = 0
    look: Literal["words", "formulas"] = "words"


def picked_pair(value: str) -> Pair | None:
    """The pair that a click asks for."""
    found = _PICK.fullmatch(value)
    return None if found is None else Pair(int(found[1]), "words" if found[2] == "words" else "formulas")


def pair_parts(result: Mapping[str, Any] | None, pair: Pair) -> tuple[str, str]:
    """(HTML of the live part, text for the part that draws formulas); both empty without a result."""
    if result is None:
        return "", ""
    num = min(len(result["base"]["answers"]), len(result["adapted"]["answers"]))
    if not num:
        return "", ""
    pair = replace(pair, place=min(pair.place, num - 1))
    base, adapted = (result[side]["answers"][pair.place] for side in ("base", "adapted"))
    texts = [str(each["text"])[:_TEXT_CHARACTERS] for each in (base, adapted)]
    bar = _bar(pair, num)
    if pair.look == "formulas":
        columns = "".join(
            f'<div class="problem"><div class="tt-muted tt-small">{title}</div>'
            f'<div class="problem-text">{math_html(text)}</div></div>'
            for title, text in zip(("Base", "Adapted"), texts, strict=True)
        )
        return card(bar, "Word by word"), f'<div class="compare-grid">{columns}</div>'
    html = marked(texts[0], texts[1], (base["answer"], adapted["answer"]))
    columns = "".join(
        f'<div class="pair-side"><h3>{title}</h3><p class="tt-muted tt-small tt-num">{each["length"]:,} tokens</p>'
        f'<div class="pair-text" tabindex="0" role="region" aria-label="Answer of {title.lower()}">{text}</div></div>'
        for title, each, text in zip(("Base", "Adapted"), (base, adapted), html, strict=True)
    )
    legend = (
        '<p class="tt-muted tt-small"><del>Marked</del> words are only in the base answer, <ins>marked</ins> ones only '
        'in the adapted, <b class="final">framed</b> is the final answer.</p>'
        if texts[0] != texts[1]
        else '<p class="tt-muted tt-small">Both answers are the same, word for word.</p>'
    )
    return card(f'{bar}<div class="compare-grid">{columns}</div>{legend}', "Word by word"), ""


def _bar(pair: Pair, num: int) -> str:
    def button(there: Pair, words: str, *, disabled: bool = False, pressed: bool | None = None) -> str:
        mark = "" if pressed is None else f' aria-pressed="{str(pressed).lower()}"'
        return (
            f'<button type="button" class="tt-btn tt-btn-small" data-pick="pair:{there.place}:{there.look}" '
            f'data-key="{escape(words)}"{mark}{" disabled" if disabled else ""}>{escape(words)}</button>'
        )

    looks = [
        button(replace(pair, look="words"), "Differences", pressed=pair.look == "words"),
        button(replace(pair, look="formulas"), "Formulas", pressed=pair.look == "formulas"),
    ]
    last = button(replace(pair, place=max(0, pair.place - 1)), "Previous answer", disabled=pair.place == 0)
    after = button(replace(pair, place=pair.place + 1), "Next answer", disabled=pair.place + 1 >= num)
    where = f'<span class="tt-muted tt-num">Answer {pair.place + 1} of {num}</span>'
    return f'<div class="tt-row flips-bar pair-bar">{"".join(looks)}{last}{where}{after}</div>'
