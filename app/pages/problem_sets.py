"""Problem sets: add one, see all, read one through. `?id=SET` opens a set, `?draft=TOKEN` an upload in the making."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr

from app.actions import action_button, live_actions, said
from app.answer_words import KIND_WORDS, rule_words
from app.choices import Choices, set_title
from app.components import card, empty, escape, link_button, live, note, on_load, page_head, pill, row, table
from app.drafts import DraftShelf
from app.format import moment
from app.pages.problem_set_detail import Detail
from app.pages.problem_set_upload import UploadPanel
from app.services import Services
from worker.rows import ProblemSetRow

_LEAD = "Problems to learn from. No answers are needed; where you have reference answers, they only measure."


def build(services: Services) -> None:
    """The page, inside its route."""
    head = live(page_head("Problem sets", _LEAD))
    upload = UploadPanel(
        services, DraftShelf(services.settings.data_dir / "uploads", services.settings.max_upload_bytes)
    )
    with gr.Column(visible=True) as library:
        listing = live_actions(elem_id="set-list")
        show_archived = gr.Checkbox(False, label="Show archived sets", elem_id="show-archived", container=False)
    detail = Detail(services)

    choices = Choices(services)

    def opened(request: gr.Request) -> list[Any]:
        choices.store_bundled()
        params = request.query_params
        set_id, token = str(params.get("id", "")), str(params.get("draft", ""))
        found = services.store.problem_set(set_id) if set_id else None
        drafting = not set_id and upload.shelf.has(token)
        return [
            _head(set_id, found, saved="saved" in params),
            gr.update(visible=not set_id and not drafting),
            list_html(services.store.problem_sets()) if not set_id else "",
            *upload.opened(token if drafting else "", visible=not set_id),
            *detail.opened(found, params),
        ]

    def acted(event: gr.EventData, archived: bool) -> str:
        action, ident = said(event)
        if action in ("archive", "restore") and services.store.problem_set(ident) is not None:
            services.store.archive_problem_set(ident, action == "archive")
        return list_html(services.store.problem_sets(archived))

    on_load(opened, None, [head, library, listing, *upload.outputs, *detail.outputs])
    listing.select(acted, [show_archived], [listing], show_progress="hidden", api_visibility="private")
    show_archived.input(
        lambda archived: list_html(services.store.problem_sets(archived)),
        [show_archived],
        [listing],
        show_progress="hidden",
        api_visibility="private",
    )
    upload.wire(library)
    detail.wire()


def _head(set_id: str, found: ProblemSetRow | None, *, saved: bool) -> str:
    if not set_id:
        return page_head("Problem sets", _LEAD)
    back = link_button("All problem sets", "/problem-sets", look="quiet")
    if found is None:
        missing = empty(
            "There is no such problem set",
            "The address names a set that is not stored here. It may have been typed wrongly, or belong to "
            "another data folder.",
            link_button("All problem sets", "/problem-sets", look="primary"),
            "question",
        )
        return page_head("Problem set", actions_html=back) + card(missing)
    start = link_button("Start a run with this set", f"/new?set={found.id}", icon_name="play", look="primary")
    done = note("Saved.", "The set is ready: look it through below, or start a run with it.", "good") if saved else ""
    return page_head(set_title(found), _one_line(found), back + start) + done


def _one_line(found: ProblemSetRow) -> str:
    references = (
        "no reference answers"
        if not found.num_references
        else "a reference answer for every one"
        if found.num_references == found.num_problems
        else f"reference answers for {found.num_references:,}"
    )
    return f"{found.num_problems:,} problems, {references}. Answers: {rule_words(found.answers)}."


def references_html(found: ProblemSetRow) -> str:
    """How many of the problems can be measured, in words; none is said as such."""
    if not found.num_references:
        return '<span class="tt-muted">none</span>'
    share = (
        "all" if found.num_references == found.num_problems else f"{found.num_references:,} of {found.num_problems:,}"
    )
    return f'{escape(share)} <span class="tt-muted tt-small">never used for training</span>'


def list_html(sets: list[ProblemSetRow]) -> str:
    """The table of all sets."""
    if not sets:
        return card(
            empty(
                "No problem sets yet",
                "Upload a file or paste problems above; one problem per row or line is enough.",
                icon_name="stack",
            )
        )
    now = time.time()
    rows = []
    for found in sets:
        bundled = pill("bundled", "live") if found.source.startswith("bundled:") else ""
        archived = pill("archived") if found.archived else ""
        url = f"/problem-sets?id={escape(found.id)}"
        buttons = link_button("Start a run", f"/new?set={found.id}", icon_name="play")
        buttons += (
            action_button("restore", found.id, "Restore", look="quiet")
            if found.archived
            else action_button(
                "archive",
                found.id,
                f"Archive {set_title(found)}",
                title="Archive: hides the set, runs keep it",
                icon_name="archive",
                icon_only=True,
            )
        )
        rows.append(
            row(
                [
                    f'<div class="tt-row"><a class="tt-strong" href="{url}">{escape(set_title(found))}</a>'
                    f"{bundled}{archived}</div>",
                    f"{found.num_problems:,}",
                    references_html(found),
                    escape(KIND_WORDS[found.answers.kind or found.kind]),
                    str(found.num_runs) if found.num_runs else '<span class="tt-muted">none</span>',
                    _when(found.created_at, now),
                    f'<div class="tt-row tt-row-end">{buttons}</div>',
                ],
                key=found.id,
                right=(1, 6),
                wrap=(0,),
            )
        )
    columns = ("Name", "Problems", "Reference answers", "Kind of answer", "Runs", "Added", "")
    return card(table(columns, rows, "All problem sets", right=(1, 6)), f"All problem sets ({len(sets)})", flush=True)


def _when(at: float, now: float) -> str:
    return f'<span class="tt-num">{escape(moment(at, now))}</span>'
