"""The flip ledger of a run: every change of a pseudo-label, and with references which were rescues and which harm."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from app import components as ui
from app.format import percent
from app.pages.run_problems import problem_url
from worker.rows import LabelFlipCounts, LabelFlipRow, RunRow
from worker.store import Store

PAGE_SIZE = 50

# kind -> (look, icon, word, what it means)
KINDS: dict[str, tuple[str, str, str, str]] = {
    "rescue": ("good", "check", "rescue", "the label was wrong and is right now"),
    "harm": ("bad", "cross", "harm", "the label was right and is wrong now"),
    "both_wrong": ("idle", "dot", "wrong to wrong", "another label, as wrong as the one before"),
    "both_right": ("idle", "dot", "right to right", "another spelling of the right answer"),
    "unknown": ("idle", "question", "unknown", "no reference answer to judge by"),
}

_counts: dict[tuple[str, int], tuple[str, LabelFlipCounts]] = {}


@dataclass(frozen=True)
class FlipView:
    """What of the ledger is shown; `kind` is a key of KINDS or empty for all, `page` counts from 0."""

    kind: str = ""
    query: str = ""
    page: int = 0


def flip_counts(store: Store, run_id: int) -> LabelFlipCounts:
    """The changes by kind, counted again only when an election was added: the header asks at every sign of life."""
    mark, key = store.elections_mark(run_id), (str(store.path), run_id)
    known = _counts.get(key)
    if known is None or known[0] != mark:
        if len(_counts) >= 200:
            _counts.clear()
        known = _counts[key] = (mark, store.label_flip_counts(run_id))
    return known[1]


def flips_sentence(counts: LabelFlipCounts) -> str:
    """The ledger in one sentence; empty where nothing changed."""
    if not counts.total:
        return ""
    times = f"{counts.total:,} time{'s' if counts.total != 1 else ''}"
    if counts.net is None:
        return f"A pseudo-label changed {times}; without reference answers nobody knows whether for the better."
    net = f"{counts.net:+,}".replace("-", "−")
    return f"A pseudo-label changed {times}: {counts.rescue:,} rescued, {counts.harm:,} harmed, net {net}."


def flip_view(view: FlipView, what: str, value: str) -> FlipView:
    """The view after a click or an entry in the ledger; anything unknown changes nothing."""
    if what == "kind" and (value in KINDS or value in ("", "all")):
        return dataclasses.replace(view, kind="" if value == "all" else value, page=0)
    if what == "find":
        return dataclasses.replace(view, query=value.strip(), page=0)
    if what == "page" and value.isascii() and value.isdigit() and len(value) < 8:
        return dataclasses.replace(view, page=int(value))
    return view


def ledger(store: Store, run: RunRow, view: FlipView) -> str:
    """The whole section: what the changes come to, filters, and one page of them, newest first."""
    everything = flip_counts(store, run.id)
    if not everything.total:
        text = "It lists every change of a pseudo-label, from the second time that a problem is voted on."
        return ui.card(ui.empty("No label has changed yet", text, icon_name="chart"), "Changes of pseudo-labels")
    counts = store.label_flip_counts(run.id, view.query) if view.query else everything
    total = getattr(counts, view.kind) if view.kind else counts.total
    last_page = max(0, (total - 1) // PAGE_SIZE)
    page = min(view.page, last_page)
    rows = store.label_flips(run.id, page * PAGE_SIZE, PAGE_SIZE, view.kind, view.query)
    download = ui.link_button(
        "CSV", f"/download/runs/{run.id}/label-changes.csv", icon_name="download", look="quiet", download=True
    )
    heads = ("Problem", "From", "To", "Consensus", "What it did")
    body = (
        ui.table(heads, (_row(run, row) for row in rows), "Changes of pseudo-labels, newest first")
        if rows
        else '<p class="tt-muted flips-none">No change matches. Choose “All”, or clear the search.</p>'
    )
    lead = f'<p class="flips-lead">{ui.escape(flips_sentence(everything))}</p>'
    return ui.card(
        lead + _filters(counts, view) + body + _pager(page, last_page, total),
        "Changes of pseudo-labels",
        download,
        flush=True,
    )


def _filters(counts: LabelFlipCounts, view: FlipView) -> str:
    options = [("all", "All", counts.total, view.kind == "")]
    options += [
        (kind, word.capitalize(), getattr(counts, kind), view.kind == kind)
        for kind, (_, _, word, _) in KINDS.items()
        if getattr(counts, kind) or view.kind == kind
    ]
    buttons = "".join(
        f'<button type="button" class="tt-btn tt-btn-small" data-pick="kind:{kind}" data-key="kind-{kind}" '
        f'aria-pressed="{str(chosen).lower()}">{ui.escape(word)} {count:,}</button>'
        for kind, word, count, chosen in options
    )
    find = (
        '<label class="flips-find"><span class="tt-sr">Find in the problems</span><input type="search" '
        f'data-pick-name="find" maxlength="100" placeholder="Find in the problems" value="{ui.escape(view.query)}">'
        "</label>"
    )
    return f'<div class="flips-bar" role="group" aria-label="Filter the changes">{buttons}{find}</div>'


def _row(run: RunRow, row: LabelFlipRow) -> str:
    look, icon_name, word, meaning = KINDS[row.kind]
    url = problem_url(run.id, row.problem_id, row.step)
    link = (
        f'<a href="{ui.escape(url)}" data-pick="change:{row.step}:{ui.escape(row.problem_id)}" data-scroll="run-tabs" '
        f'class="tt-clip">{ui.escape((row.prompt or row.problem_id)[:300])}</a>'
    )
    labels = [
        f'<span class="tt-clip">{ui.escape(text[:120])}</span><div class="tt-muted tt-small">step {step:,}</div>'
        for text, step in ((row.label_before, row.step_before), (row.label, row.step))
    ]
    verdict = f'<span title="{ui.escape(meaning)}">{ui.pill(word, look, icon_name)}</span>'
    consensus = f"{percent(row.consensus_before, 0)} to {percent(row.consensus, 0)}"
    key = f"{row.problem_id}@{row.step}"
    return ui.row([link, *labels, consensus, verdict], key=key, wrap=(0,))


def _pager(page: int, last_page: int, total: int) -> str:
    if last_page == 0:
        return ""
    buttons = [
        f'<button type="button" class="tt-btn tt-btn-small" data-pick="page:{to}"{" disabled" if end else ""}>'
        f"{word}</button>"
        for word, to, end in (("Back", page - 1, page == 0), ("Next", page + 1, page == last_page))
    ]
    where = f'<span class="tt-muted">Page {page + 1:,} of {last_page + 1:,}, {total:,} changes</span>'
    return f'<div class="tt-row tt-pager">{buttons[0]}{where}{buttons[1]}</div>'
