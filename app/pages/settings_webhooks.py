"""Webhooks on the Settings page: add, test, remove, and see what could not be delivered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gradio as gr

from app import components as ui
from app.actions import action_button, live_actions, said
from app.format import moment
from app.services import Services
from ttrl_engine.errors import StudioError
from worker.notify import trial_message
from worker.rows import DeliveryRow
from worker.webhook import (
    EVENTS,
    Webhook,
    add_webhook,
    keep_silence,
    remove_webhook,
    send,
    silence_s,
    webhooks,
)

_KINDS = {"slack": "Slack", "discord": "Discord", "json": "JSON"}
_EVENT_WORDS = {"finished": "Finished", "failed": "Failed", "alarm": "Alarm", "stall": "Gone silent"}
_STATES = {
    "sent": ("Sent", "good", "check"),
    "waiting": ("Trying", "warn", "clock"),
    "failed": ("Failed", "bad", "cross"),
}


def notification_settings(services: Services, timer: Any) -> None:
    """The part, inside the Settings page."""
    listed = live_actions(elem_id="webhooks")
    message = ui.live(elem_id="webhooks-message")
    with gr.Accordion("Add a webhook", open=False, elem_classes="tt-more", elem_id="webhook-add"):
        kind = gr.Dropdown([(words, name) for name, words in _KINDS.items()], value="slack", label="For")
        url = gr.Textbox(
            label="Address",
            type="password",
            max_length=2000,
            placeholder="https://…",
            info="Treated as a secret: it is stored here and never shown in full again.",
        )
        events = gr.CheckboxGroup(
            [(words, name) for name, words in _EVENT_WORDS.items()], value=list(EVENTS), label="Tell it when a run is"
        )
        add = gr.Button("Add", size="md")
    with gr.Row(elem_classes="tt-actions"):
        minutes = gr.Number(label="A run has gone silent after (minutes)", minimum=1, maximum=1440, precision=0)
        keep = gr.Button("Save", size="md")
    seen = gr.State("")
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    def drawn() -> str:
        return webhooks_view(webhooks(services.store), services.store.newest_deliveries(), time.time())

    def opened() -> list[Any]:
        text = drawn()
        return [text, text, silence_s(services.store) / 60]

    def ticked(before: str) -> tuple[Any, Any]:
        text = drawn()
        return (gr.skip(), gr.skip()) if text == before else (text, text)

    def added(which: str, address: str, chosen: Sequence[str]) -> list[Any]:
        try:
            hook = add_webhook(services.store, which, address or "", chosen or ())
        except StudioError as refusal:
            return [ui.note("Not added", str(refusal), "warn"), gr.skip(), drawn()]
        return [ui.note(f"Added {hook.shown}", "Send a test to see whether it arrives.", "good"), "", drawn()]

    def acted(event: gr.EventData) -> list[Any]:
        action, ident = said(event)
        hook = next((each for each in webhooks(services.store) if each.id == ident), None)
        if hook is None:
            return [ui.note("Nothing was done", "This page is out of date. Reload it.", "warn"), drawn()]
        if action == "remove":
            remove_webhook(services.store, hook.id)
            return [ui.note(f"Removed {hook.shown}", "", "good"), drawn()]
        return [trial(hook) if action == "test" else "", drawn()]

    def kept(value: float | None) -> str:
        try:
            keep_silence(services.store, 60 * float(value or 0))
        except StudioError as refusal:
            return ui.note("Not saved", str(refusal), "warn")
        return ui.note("Saved", "", "good")

    ui.on_load(opened, None, [seen, listed, minutes])
    ui.tick(timer, ticked, [seen], [seen, listed])
    add.click(added, [kind, url, events], [message, url, listed], **quiet)
    listed.select(acted, None, [message, listed], **quiet)
    keep.click(kept, [minutes], [message], **quiet)


def trial(hook: Webhook) -> str:
    """Send a test now and say how it went."""
    answer = send(hook, trial_message(time.time()))
    if answer.ok:
        return ui.note("The test was taken", f"{hook.shown} has answered that it has it.", "good")
    return ui.note("The test was not taken", answer.error, "bad", alert=True)


def webhooks_view(hooks: Sequence[Webhook], deliveries: Sequence[DeliveryRow], now: float) -> str:
    """The list with its buttons, and the last messages with what went wrong. No address is in it, only hosts."""
    if not hooks:
        text = "Nothing is sent to anybody. Add a webhook to be told when a run ends, fails, raises an alarm or stalls."
        return ui.card(f'<p class="tt-muted">{text}</p>', "Notifications")
    rows = [
        ui.row(
            [
                f"<b>{ui.escape(_KINDS[hook.kind])}</b>",
                ui.escape(hook.shown),
                ui.escape(", ".join(_EVENT_WORDS[name].lower() for name in hook.events)),
                f'<div class="tt-row">{_buttons(hook)}</div>',
            ],
            key=hook.id,
            wrap=(1, 2),
        )
        for hook in hooks
    ]
    parts = [ui.card(ui.table(("For", "Host", "Told when", ""), rows, "Webhooks"), "Notifications", flush=True)]
    shown = {hook.id: hook.shown for hook in hooks}
    lines = [_delivery_row(each, shown.get(each.webhook_id, "removed"), now) for each in deliveries]
    if lines:
        columns = ("When", "To", "About", "State", "What was wrong")
        parts.append(ui.card(ui.table(columns, lines, "Last messages"), "Last messages", flush=True))
    return "".join(parts)


def _delivery_row(each: DeliveryRow, host: str, now: float) -> str:
    tries = f" after {each.attempts} tries" if each.attempts > 1 else ""
    return ui.row(
        [
            ui.escape(moment(each.created_at, now)),
            ui.escape(host),
            f'<a href="/run?id={each.run_id}">run {each.run_id}</a> {_EVENT_WORDS.get(each.event, "").lower()}',
            ui.pill(*_STATES[each.state]) + tries,
            ui.escape(each.error or ""),
        ],
        key=f"d{each.id}",
        wrap=(4,),
    )


def _buttons(hook: Webhook) -> str:
    test = action_button("test", hook.id, "Send a test")
    remove = action_button(
        "remove",
        hook.id,
        "Remove",
        look="danger",
        ask=f"Remove the webhook at {hook.shown}?",
        confirm="It is told nothing more, also not what waits for it. The address is forgotten.",
        yes="Remove it",
    )
    return test + remove
