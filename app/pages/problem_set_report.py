"""What an upload looks like and what is wrong with it, as HTML. Every cell is a stranger's text and is escaped."""

from __future__ import annotations

from collections import Counter

from app.answer_words import rule_words
from app.components import card, escape, note, pill, row, table, tile, tiles
from app.pages.answer_fields import examples_html
from ttrl_engine.upload import ColumnMapping, Draft, Table
from ttrl_engine.upload.mapping import choice_columns

_PREVIEW_ROWS = 8
_CELL_CHARACTERS = 400
_ISSUES_SHOWN = 200
_LOOKS = {
    "error": ("bad", "error", "Left out"),
    "warning": ("warn", "warning", "Warning"),
    "info": ("idle", "info", "Note"),
}


def preview_html(found: Table, mapping: ColumnMapping, filename: str) -> str:
    """The first rows as they were read, with what each column is used for above them."""
    options = set(choice_columns(mapping, found.columns))
    heads = []
    for column in found.columns:
        role = ""
        if column == mapping.problem:
            role = pill("problem", "live")
        elif column == mapping.answer:
            role = pill("reference, never used for training", "good", "lock")
        elif column == mapping.id:
            role = pill("id")
        elif column in options:
            role = pill("choice")
        heads.append(
            f'<th scope="col"><div class="tt-stack preview-head"><span>{escape(column)}</span>{role}</div></th>'
        )
    body = []
    for number, cells in zip(found.row_numbers[:_PREVIEW_ROWS], found.rows[:_PREVIEW_ROWS], strict=True):
        shown = "".join(
            f'<td class="tt-wrap"><div class="tt-clip preview-cell">{escape(_cut(cells[c]))}</div></td>'
            for c in found.columns
        )
        body.append(f'<tr><td class="tt-num tt-muted">{number}</td>{shown}</tr>')
    more = len(found.rows) - _PREVIEW_ROWS
    foot = f'<p class="tt-muted tt-small preview-foot">and {more:,} more rows</p>' if more > 0 else ""
    grid = (
        '<div class="tt-table-wrap preview" tabindex="0" role="region" aria-label="First rows of the file"><table>'
        f'<thead><tr><th scope="col">Row</th>{"".join(heads)}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )
    about = (
        f'<span class="tt-muted tt-small">{len(found.rows):,} rows · {escape(found.format.upper())} · '
        f"{escape(found.encoding)}</span>"
    )
    return f'<div class="tt">{card(grid + foot, filename, about, flush=True)}</div>'


def _cut(text: str) -> str:
    return text if len(text) <= _CELL_CHARACTERS else text[:_CELL_CHARACTERS] + " …"


def report_html(draft: Draft, *, detected: bool) -> str:
    """Counts, the kind of answer with examples, lengths, and every issue."""
    stats = draft.stats
    numbers = tiles(
        [
            tile("Problems", f"{stats.num_problems:,}", [f"of {stats.num_rows:,} rows"]),
            tile(
                "Reference answers",
                f"{stats.num_references:,}" if stats.num_references else "none",
                ["never used for training"],
                unknown=not stats.num_references,
            ),
            tile("Duplicates", f"{stats.num_duplicates:,}", ["kept once"]),
            tile("Left out", f"{stats.num_left_out:,}", ["see below for why"] if stats.num_left_out else []),
        ]
    )
    parts = [numbers]
    if draft.problem_set is not None:
        sides = card(_kind(draft, detected=detected), "Answers") + card(_lengths(draft), "Lengths")
        parts.append(f'<div class="tt-grid">{sides}</div>')
    parts.append(_issues(draft))
    return f'<div class="tt">{"".join(parts)}</div>'


def _kind(draft: Draft, *, detected: bool) -> str:
    found = draft.problem_set
    assert found is not None
    how = "Detected" if detected else "Chosen by you"
    words = rule_words(found.answers)
    lines = [f'<p><b>{escape(words[:1].upper() + words[1:])}.</b> <span class="tt-muted">{how}.</span></p>']
    lines.append(examples_html(found.problems, found.references, found.answers))
    if not found.references:
        lines.append(
            '<p class="tt-muted">No reference answers: the run learns from votes all the same. To see whether '
            "it helped, add a benchmark when you start it.</p>"
        )
    return "".join(lines)


def _lengths(draft: Draft) -> str:
    stats = draft.stats
    tallest = max((count for _, _, count in stats.histogram), default=1)
    bars = "".join(
        f'<i style="height:{max(3 if count else 0, 100 * count / tallest):.0f}%" title="{low:,} to '
        f'{high - 1:,} characters: {count:,}"></i>'
        for low, high, count in stats.histogram
    )
    last = stats.histogram[-1][1] if stats.histogram else 0
    words = f"{stats.length_min:,} to {stats.length_max:,} characters, half of them under {stats.length_median:,.0f}."
    return (
        f'<div class="histogram" role="img" aria-label="{escape(words)}">{bars}</div>'
        f'<div class="histogram-axis tt-muted tt-small"><span>0</span><span>{last:,}</span></div><p '
        f'class="tt-muted tt-small">{escape(words)}</p>'
    )


def _issues(draft: Draft) -> str:
    if not draft.issues:
        return note("Every row can be used.", "", "good")
    counts: Counter[str] = Counter(issue.severity for issue in draft.issues)
    rows = []
    for issue in draft.issues[:_ISSUES_SHOWN]:
        look, icon_name, word = _LOOKS[issue.severity]
        place = f"{issue.row:,}" if issue.row is not None else '<span class="tt-muted">file</span>'
        if issue.row is None and issue.severity == "error":
            word = "Error"
        rows.append(row([place, pill(word, look, icon_name), escape(issue.message)], right=(0,), wrap=(2,)))
    more = len(draft.issues) - _ISSUES_SHOWN
    foot = f'<p class="tt-muted tt-small preview-foot">and {more:,} more</p>' if more > 0 else ""
    said = ", ".join(
        f"{counts[s]:,} {word}"
        for s, word in (("error", "errors"), ("warning", "warnings"), ("info", "notes"))
        if counts[s]
    )
    grid = table(("Row", "", "What and why"), rows, "What is wrong, row by row", right=(0,))
    return card(f'<div class="issues">{grid}</div>{foot}', f"Row by row: {said}", flush=True)
