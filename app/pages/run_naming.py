"""What a person may write about a run: its name in the lists, and a note. Filled once, never while someone types."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app import components as ui
from app.services import Services
from ttrl_engine.errors import StudioError

MAX_NOTE = 20_000


def naming(services: Services) -> None:
    """Two fields and a button, inside the page of a run."""
    run_id = gr.State(None)
    with gr.Column(elem_classes="tt-naming"):
        name = gr.Textbox(label="Name", info="Shown in lists; the frozen config keeps the first.", max_length=120)
        note = gr.Textbox(label="Note", lines=4, max_length=MAX_NOTE, placeholder="What this run was for, what you saw")
        with gr.Row(elem_classes="tt-actions"):
            save = gr.Button("Save", size="md")
        message = ui.live()

    def opened(request: gr.Request) -> tuple[Any, ...]:
        found = ui.query_int(request, "id")
        run = services.store.run(found) if found else None
        return (None, "", "", "") if run is None else (run.id, run.name, run.note, "")

    def saved(ident: int | None, new_name: str, new_note: str) -> str:
        run = services.store.run(ident) if isinstance(ident, int) else None
        if run is None:
            return ui.note("Nothing was saved", "There is no such run.", "warn")
        try:
            if new_name.strip() != run.name:
                services.store.rename_run(run.id, new_name)
            if new_note != run.note:
                services.store.note_run(run.id, new_note)
        except StudioError as refusal:
            return ui.note("Nothing was saved", str(refusal), "warn")
        return ui.note("Saved", "", "good")

    ui.on_load(opened, None, [run_id, name, note, message])
    save.click(saved, [run_id, name, note], [message], show_progress="hidden", api_visibility="private")
