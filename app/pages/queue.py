"""The queue: what computes, what waits and until when, what has ended lately. Every button is a row in the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gradio as gr

from app.actions import live_actions, said
from app.components import note, on_load, tick
from app.pages.queue_view import SILENT_S, queue_html
from app.services import Services
from ttrl_engine.errors import StudioError


def build(services: Services) -> None:
    """The page, inside its route."""
    token = gr.State("")
    message = gr.HTML("", elem_id="queue-message", apply_default_css=False)
    board = live_actions(elem_id="queue")

    def opened() -> tuple[str, str, str]:
        return change_token(services), "", queue_html(services, time.time())

    def ticked(seen: str) -> tuple[Any, Any]:
        current = change_token(services)
        return (gr.skip(), gr.skip()) if current == seen else (current, queue_html(services, time.time()))

    def acted(event: gr.EventData) -> tuple[str, str, str]:
        action, ident = said(event)
        return _outcome(services, action, ident), queue_html(services, time.time()), change_token(services)

    on_load(opened, None, [token, message, board])
    board.select(acted, None, [message, board, token], show_progress="hidden", api_visibility="private")
    tick(gr.Timer(2), ticked, [token], [token, board])


def change_token(services: Services) -> str:
    """Changes whenever the page would look different, a worker that falls silent included."""
    silent = [job.id for job in services.store.active_jobs() if (job.silent_s(time.time()) or 0) > SILENT_S]
    return f"{services.store.change_token(None)}|{silent}"


def _outcome(services: Services, action: str, ident: str) -> str:
    """Does what a button says; returns a message where it could not."""
    desk, store = services.desk, services.store
    if action in ("hold", "release"):
        desk.hold(action == "hold")
        return ""
    commands: dict[str, Callable[[int], object]] = {
        "pause": desk.pause,
        "cancel": desk.cancel,
        "resume": desk.resume,
        "up": store.move_up,
        "down": store.move_down,
        "first": store.move_first,
    }
    if action not in commands or not (ident.isascii() and ident.isdigit() and len(ident) < 16):
        return ""
    try:
        commands[action](int(ident))
    except StudioError as failure:
        return f'<div class="tt">{note("Not done.", str(failure), "warn", alert=True)}</div>'
    return ""
