"""Buttons inside refreshed HTML that do something: a click becomes one event, asked back first where it matters.

Built on the live part of the shell (`data-pick` fires `.select`); the question is a dialog of its own, outside the
HTML that a refresh may replace.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.components import escape
from app.icons import icon

_SCRIPT = """
const ask = (button) => new Promise((answer) => {
  const make = (tag, text, look) => {
    const part = document.createElement(tag);
    part.textContent = text;
    part.className = look || '';
    if (tag === 'button') part.type = 'button';
    return part;
  };
  const dialog = make('dialog', '', 'tt-dialog tt');
  const row = make('div', '', 'tt-row tt-dialog-row');
  const no = make('button', button.dataset.no || 'Go back', 'tt-btn');
  const yes = make('button', button.dataset.yes || 'Yes', 'tt-btn tt-btn-danger');
  row.append(no, yes);
  dialog.append(make('h2', button.dataset.ask), make('p', button.dataset.confirm), row);
  const close = (said) => { dialog.close(); dialog.remove(); if (button.isConnected) button.focus(); answer(said); };
  no.addEventListener('click', () => close(false));
  yes.addEventListener('click', () => close(true));
  dialog.addEventListener('cancel', (event) => { event.preventDefault(); close(false); });
  (document.querySelector('.gradio-container') || document.body).append(dialog);
  dialog.showModal();
  no.focus();
});
element.addEventListener('click', async (event) => {
  const button = event.target instanceof Element ? event.target.closest('[data-confirm]') : null;
  if (!button) return;
  event.stopImmediatePropagation();
  event.preventDefault();
  if (!button.disabled && await ask(button)) trigger('select', { value: button.dataset.pick, checked: null });
}, true);
window.ttrl.live(element, props, watch, trigger);
"""


# Arrows that only lists with an order need; same grid and stroke as app.icons.
_ARROWS = {
    "up": "M10 16V4.5M5 9.5 10 4.5l5 5",
    "down": "M10 4v11.5M5 10.5l5 5 5-5",
    "first": "M4.5 4h11M10 16.5V8M5.5 12.5 10 8l4.5 4.5",
}


def _picture(name: str) -> str:
    if name not in _ARROWS:
        return icon(name) if name else ""
    return (
        '<svg class="tt-icon" aria-hidden="true" focusable="false" width="16" height="16" viewBox="0 0 20 '
        '20" fill="none" '
        'stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"><path '
        f'd="{_ARROWS[name]}"/></svg>'
    )


def live_actions(value: str = "", **options: Any) -> Any:
    """A live part whose `action_button`s fire `.select`; `said` reads the event."""
    return gr.HTML(
        value, html_template='<div class="tt tt-live"></div>', js_on_load=_SCRIPT, apply_default_css=False, **options
    )


def said(event: gr.EventData) -> tuple[str, str]:
    """(action, id) of a click. Both come from the browser: the handler decides what they may name."""
    data = event._data if isinstance(event._data, dict) else {}
    action, _, ident = str(data.get("value", ""))[:200].partition(":")
    return action, ident


def action_button(
    act: str,
    ident: object,
    text: str,
    *,
    title: str = "",
    icon_name: str = "",
    ask: str = "",
    confirm: str = "",
    yes: str = "",
    no: str = "",
    disabled: bool = False,
    look: str = "",
    icon_only: bool = False,
) -> str:
    """One button; `title` explains it, also why it is disabled. With `confirm` (a sentence) and `ask` (the question
    above it) a dialog asks back, `yes` and `no` on its buttons. `look` is "", "danger", "quiet" or "primary"."""
    marks = [f'data-pick="{escape(act)}:{escape(ident)}" data-key="{escape(act)}-{escape(ident)}"']
    if confirm:
        marks.append(f'data-confirm="{escape(confirm)}" data-ask="{escape(ask)}" data-yes="{escape(yes)}"')
    if no:
        marks.append(f'data-no="{escape(no)}"')
    if title:
        marks.append(f'title="{escape(title)}"')
    if icon_only:
        marks.append(f'aria-label="{escape(text)}"')
    if disabled:
        marks.append("disabled")
    css = "tt-btn tt-btn-small" + (f" tt-btn-{look}" if look else "") + (" tt-btn-icon" if icon_only else "")
    return (
        f'<button type="button" class="{css}" {" ".join(marks)}>'
        f"{_picture(icon_name)}{'' if icon_only else escape(text)}</button>"
    )
