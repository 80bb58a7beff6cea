"""The parts every page is built of. Each gives HTML as a string and escapes what it is handed, save for `…_html`."""

from __future__ import annotations

import html
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.context import Context

from app.icons import icon

_ids = itertools.count(1)

# state -> (look, icon, word). Colour never stands alone: an icon and a word go with it.
STATES: dict[str, tuple[str, str, str]] = {
    "queued": ("idle", "clock", "Queued"),
    "starting": ("live", "spinner", "Starting"),
    "running": ("live", "spinner", "Running"),
    "pausing": ("warn", "spinner", "Pausing"),
    "paused": ("warn", "pause", "Paused"),
    "stopping": ("warn", "spinner", "Stopping"),
    "stopped": ("idle", "stop", "Stopped"),
    "finished": ("good", "check", "Finished"),
    "failed": ("bad", "cross", "Failed"),
    "lost": ("bad", "question", "Lost"),
}

_NOTE_ICONS = {"info": "info", "good": "check", "warn": "warning", "bad": "error", "idle": "info"}


def escape(text: object) -> str:
    """Text made safe for HTML, quotes included. Everything a user or a model wrote passes through here."""
    return html.escape(str(text), quote=True)


# --- Gradio parts (Gradio has no types: its components are Any to a strict checker) ------------------------------


def live(value: str = "", **options: Any) -> Any:
    """A place for HTML that is refreshed in place: focus, selection, scroll and open details survive.

    A click on an element with `data-pick="…"` (put its address into `href` too) fires `.select`, whose
    `gr.EventData` carries `value` (and `checked`, where the element is a checkbox).
    """
    return gr.HTML(
        value,
        html_template='<div class="tt tt-live"></div>',
        js_on_load="window.ttrl.live(element, props, watch, trigger)",
        apply_default_css=False,
        **options,
    )


def on_load(handler: Callable[..., Any], inputs: Any = None, outputs: Any = None) -> None:
    """Runs `handler` when the page being built is opened. Its `gr.Request` parameter has the page's query_params."""
    page = Context.root_block
    assert page is not None  # a page is built inside its route
    page.load(handler, inputs, outputs, show_progress="hidden", api_visibility="private")


def tick(timer: Any, handler: Callable[..., Any], inputs: Any = None, outputs: Any = None) -> None:
    """Runs `handler` at every tick of the page's one timer; a tick that finds the last one unfinished is dropped."""
    timer.tick(
        handler,
        inputs,
        outputs,
        show_progress="hidden",
        api_visibility="private",
        concurrency_limit=8,
        trigger_mode="once",
    )


@dataclass
class Clicks:
    """How often this visitor acted, changed in place: a refresh that a click overtook is dropped, for it would draw
    what was there before the click. Keep it in a State that is an input alone."""

    num: int = 0

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Around what a click does. It counts at both ends, for a refresh may also begin in between."""
        self.num += 1
        try:
            yield
        finally:
            self.num += 1


def unless_clicked(clicks: Clicks, draw: Callable[[], list[Any]]) -> list[Any]:
    """What a refresh draws; all of it is skipped where a click came meanwhile."""
    before = clicks.num
    values = draw()
    return values if clicks.num == before else [gr.skip()] * len(values)


def query_int(request: gr.Request, name: str) -> int | None:
    """A whole number from the page's address, or None where it is missing or is no number."""
    text = str(request.query_params.get(name, "") or "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


# --- page ---------------------------------------------------------------------------------------------------------


def page_head(title: str, lead: str = "", actions_html: str = "", document_title: str | None = None) -> str:
    """The heading of a page: its title, one sentence, and links or buttons at the right."""
    sentence = f'<p class="tt-lead">{escape(lead)}</p>' if lead else ""
    actions = f'<div class="tt-row">{actions_html}</div>' if actions_html else ""
    return (
        f'<div class="tt-page-head" data-title="{escape(document_title or title)}"><div class="tt-stack">'
        f"<h1>{escape(title)}</h1>{sentence}</div>{actions}</div>"
    )


def link_button(text: str, url: str, *, icon_name: str | None = None, look: str = "", download: bool = False) -> str:
    """A link that looks like a button; `look` is "", "primary" or "quiet"."""
    picture = icon(icon_name) if icon_name else ""
    extra = " download" if download else ""
    return (
        f'<a class="tt-btn{f" tt-btn-{look}" if look else ""}" href="{escape(url)}"{extra}>{picture}{escape(text)}</a>'
    )


def card(body_html: str, title: str = "", actions_html: str = "", *, flush: bool = False, key: str = "") -> str:
    """A box with a title. `flush` lets a table touch the border."""
    head = ""
    if title or actions_html:
        head = f'<div class="tt-card-head"><h2>{escape(title)}</h2><div class="tt-row">{actions_html}</div></div>'
    mark = f' data-key="{escape(key)}"' if key else ""
    return f'<section class="tt-card{" tt-card-flush" if flush else ""}"{mark}>{head}{body_html}</section>'


def empty(title: str, text: str, actions_html: str = "", icon_name: str = "info") -> str:
    """What a place shows when there is nothing yet: why, and what to do next."""
    actions = f'<div class="tt-row">{actions_html}</div>' if actions_html else ""
    return f'<div class="tt-empty">{icon(icon_name)}<h2>{escape(title)}</h2><p>{escape(text)}</p>{actions}</div>'


def skeleton(height_px: int = 96) -> str:
    """A grey box that holds the place of something about to arrive."""
    return f'<div class="tt-skeleton" style="min-height:{height_px}px" aria-hidden="true"></div>'


# --- words with a look --------------------------------------------------------------------------------------------


def pill(word: str, look: str = "idle", icon_name: str | None = None) -> str:
    """A small label; `look` is idle, live, good, warn or bad."""
    return f'<span class="tt-pill tt-pill-{look}">{icon(icon_name, size=14) if icon_name else ""}{escape(word)}</span>'


def state_pill(state: str, *, past: bool = False) -> str:
    """The state of a job as icon and word; one that is `past` does not move."""
    look, icon_name, word = STATES.get(str(state), ("idle", "question", str(state)))
    return pill(word, "idle", "dot") if past and icon_name == "spinner" else pill(word, look, icon_name)


def chip(name: str, value: object = "") -> str:
    """A name with its value, such as one setting."""
    shown = f" <b>{escape(value)}</b>" if value != "" else ""
    return f'<span class="tt-chip">{escape(name)}{shown}</span>'


def chips(pairs: Iterable[tuple[str, object]]) -> str:
    """Several chips in a row."""
    return f'<div class="tt-chips">{"".join(chip(name, value) for name, value in pairs)}</div>'


def age(seconds: float, text: str = "{} ago", limit_s: float | None = None, late: str = "") -> str:
    """A duration that counts up in the browser; past `limit_s` it turns into the warning `late` ("silent for {}")."""
    warning = f' data-age-limit="{limit_s:g}" data-age-late="{escape(late)}"' if limit_s is not None else ""
    return f'<span class="tt-num" data-age="{max(0.0, seconds):.0f}" data-age-text="{escape(text)}"{warning}></span>'


# --- messages -----------------------------------------------------------------------------------------------------


def note(title: str, text: str = "", look: str = "info", *, body_html: str = "", alert: bool = False) -> str:
    """A message strip; `look` is info, good, warn, bad or idle. `alert` has it read aloud at once."""
    role = ' role="alert"' if alert else ""
    paragraph = f'<p class="tt-muted">{escape(text)}</p>' if text else ""
    return (
        f'<div class="tt-note tt-note-{look}"{role}>{icon(_NOTE_ICONS[look])}<div><strong>{escape(title)}</strong>'
        f"{paragraph}{body_html}</div></div>"
    )


def error_card(
    title: str, why: str | None, next_step: str | None, trace: str | None = None, actions_html: str = ""
) -> str:
    """What happened, why, what to do next; the full trace stays behind a fold."""
    lines = [
        f"<p>{escape(why)}</p>" if why else "",
        f"<p><b>What to do:</b> {escape(next_step)}</p>" if next_step else "",
    ]
    if trace:
        lines.append(f'<details data-key="trace"><summary>Technical details</summary>{copyable(trace)}</details>')
    if actions_html:
        lines.append(f'<div class="tt-row">{actions_html}</div>')
    body = f'<div class="tt-stack">{"".join(lines)}</div>'
    return note(title, "", "bad", body_html=body, alert=True)


def issue_list(issues: Iterable[tuple[str, str]]) -> str:
    """Messages of a check: (severity, text) pairs, severity error, warning or info."""
    looks = {"error": ("bad", "error"), "warning": ("warn", "warning"), "info": ("idle", "info")}
    items = []
    for severity, text in issues:
        look, icon_name = looks.get(severity, looks["info"])
        items.append(
            f'<div class="tt-row">{pill(severity.capitalize(), look, icon_name)}<span>{escape(text)}</span></div>'
        )
    return f'<div class="tt-stack">{"".join(items)}</div>' if items else ""


def copyable(text: str, *, log: bool = False, name: str = "") -> str:
    """Preformatted text with a copy button. Give a stable `name` where the part is refreshed."""
    place = f"tt-copy-{name or next(_ids)}"
    return (
        f'<div class="tt-copyable"><pre id="{escape(place)}" '
        f'tabindex="0"{" class=tt-log" if log else ""}>{escape(text)}</pre>'
        f'<button type="button" class="tt-iconbtn" data-copy="{escape(place)}" aria-label="Copy" '
        f'title="Copy">{icon("copy")}</button></div>'
    )


# --- numbers ------------------------------------------------------------------------------------------------------


def tile(
    label: str,
    value: str,
    notes: Sequence[str] = (),
    *,
    unknown: bool = False,
    trend: str = "",
    help_text: str = "",
    link_html: str = "",
) -> str:
    """One number that matters. `trend` is "", "up" or "down"; `unknown` greys a value that is words, not a number.
    `link_html` leads to where it comes from, or comes to be known."""
    look = " tt-tile-unknown" if unknown else f" tt-{trend}" if trend else ""
    hint = f' title="{escape(help_text)}"' if help_text else ""
    lines = "".join(f'<div class="tt-tile-note">{escape(line)}</div>' for line in notes if line)
    lines += f'<div class="tt-tile-note">{link_html}</div>' if link_html else ""
    return (
        f'<div class="tt-tile"{hint}><div class="tt-tile-label">{escape(label)}</div>'
        f'<div class="tt-tile-value{look}">{escape(value)}</div>{lines}</div>'
    )


def tiles(parts: Iterable[str]) -> str:
    """Several tiles in a row that wraps."""
    return f'<div class="tt-tiles">{"".join(parts)}</div>'


def bar(share: float | None, look: str = "", *, label: str = "Progress", thin: bool = False) -> str:
    """A progress bar; None (unknown) shows an empty one without a value."""
    width = 0.0 if share is None else 100 * min(max(share, 0.0), 1.0)
    now = "" if share is None else f' aria-valuenow="{width:.0f}"'
    extra = f"{' tt-bar-thin' if thin else ''}{f' tt-bar-{look}' if look else ''}"
    return (
        f'<div class="tt-bar{extra}" role="progressbar" aria-label="{escape(label)}" '
        f'aria-valuemin="0" aria-valuemax="100"{now}>'
        f'<i style="width:{width:.1f}%"></i></div>'
    )


def progress(share: float | None, left_html: str, right_html: str = "", look: str = "", label: str = "Progress") -> str:
    """A progress bar with words below it: what is being done at the left, how long it takes at the right."""
    return (
        f'<div class="tt-progress">{bar(share, look, label=label)}'
        f'<div class="tt-progress-text"><span>{left_html}</span><span>{right_html}</span></div></div>'
    )


# --- tables -------------------------------------------------------------------------------------------------------


def table(columns: Sequence[str], rows_html: Iterable[str], caption: str, *, right: Sequence[int] = ()) -> str:
    """A table. `rows_html` come from `row`; `right` names columns set flush right, the caption is read aloud."""
    heads = "".join(
        (
            f'<th scope="col"{" class=tt-r" if i in right else ""}>'
            f"{escape(name) if name else '<span class=tt-sr>Actions</span>'}</th>"
        )
        for i, name in enumerate(columns)
    )
    return (
        f'<div class="tt-table-wrap" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f'<caption class="tt-sr">{escape(caption)}</caption><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows_html)}</tbody></table></div>"
    )


def row(
    cells_html: Sequence[str],
    *,
    key: object = "",
    right: Sequence[int] = (),
    wrap: Sequence[int] = (),
    selected: bool = False,
) -> str:
    """One table row of ready HTML cells (escape the text yourself with `escape`). `key` keeps it itself on refresh."""
    parts = []
    for i, cell in enumerate(cells_html):
        look = "tt-r" if i in right else "tt-wrap" if i in wrap else ""
        parts.append(f"<td{f' class={look}' if look else ''}>{cell}</td>")
    mark = f' data-key="{escape(key)}"' if key != "" else ""
    return f"<tr{mark}{' class=tt-selected' if selected else ''}>{''.join(parts)}</tr>"


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values, one under the other; values are text."""
    return (
        f'<dl class="tt-kv">{"".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)}</dl>'
    )
