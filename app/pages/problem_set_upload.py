"""Adding a problem set: a file or pasted text, its columns, what is wrong with it row by row, then Save."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from app.components import card, note
from app.drafts import DraftChoices, DraftShelf, shown_name
from app.format import size
from app.pages.answer_fields import NAMES, AnswerFields, edited, kind_of, read_answers
from app.pages.problem_set_report import preview_html, report_html
from app.services import Services
from ttrl_engine.config import TaskKind
from ttrl_engine.errors import ConfigError, DataError, StudioError
from ttrl_engine.upload import ColumnMapping, guess_mapping

NONE = ""
_ENCODINGS = [
    ("as detected", ""),
    ("Western European (Windows-1252)", "cp1252"),
    ("Western European (Latin-1)", "latin-1"),
    ("Chinese (GB18030)", "gb18030"),
    ("Japanese (Shift JIS)", "shift_jis"),
    ("Korean (CP949)", "cp949"),
    ("Cyrillic (Windows-1251)", "cp1251"),
]
_MAX_PASTED = 5_000_000
_SHOW_DRAFT = (
    "(token) => { if (token) history.replaceState(null, '', '/problem-sets?draft=' + encodeURIComponent(token)); }"
)
_OPEN = "(address) => { if (address) window.location.assign(address); }"
# The server cuts a transfer beyond its limit with a bare error, after minutes perhaps: the page refuses it at once.
_REFUSE_LARGE = """
const say = (file) => {
  element.replaceChildren();
  if (!file) return;
  const box = document.createElement('div'), inner = document.createElement('div');
  const title = document.createElement('strong'), why = document.createElement('p');
  box.className = 'tt-note tt-note-bad';
  box.setAttribute('role', 'alert');
  title.textContent = file.name + ' is too large.';
  why.textContent = 'It has ' + Math.round(file.size / 1048576) + ' MiB; up to ' + props.most + ' are taken. '
    + 'Remove columns that are not needed, or split it.';
  inner.append(title, why);
  box.append(inner);
  element.append(box);
};
const check = (event, files) => {
  const large = [...(files || [])].find((file) => file.size > props.limit);
  say(large);
  if (!large) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (event.target instanceof HTMLInputElement) event.target.value = '';
};
const within = (event) => event.target instanceof Element && event.target.closest('#set-file');
document.addEventListener('change', (event) => within(event) && check(event, event.target.files), true);
document.addEventListener('drop', (event) => within(event) && check(event, event.dataTransfer?.files), true);
"""
_LEAVE = "() => history.replaceState(null, '', '/problem-sets')"


class UploadPanel:
    """The upload part of the page: its components, and what fills them."""

    def __init__(self, services: Services, shelf: DraftShelf) -> None:
        self.store, self.shelf = services.store, shelf
        self.max_bytes = services.settings.max_upload_bytes
        self.token = gr.Textbox(visible="hidden", elem_id="draft-token", container=False)
        self.redirect = gr.Textbox(visible="hidden", elem_id="draft-saved", container=False)
        with gr.Column(visible=True, elem_classes=["form-card"]) as self.entry:
            lead = f"CSV, TSV, JSON, JSONL, Parquet, XLSX or TXT, up to {size(self.max_bytes)}; or paste."
            gr.HTML(f'<h2 class="tt-h2">Add a problem set</h2><p class="tt-muted">{lead}</p>', apply_default_css=False)
            with gr.Tabs():
                with gr.Tab("Upload a file"):
                    self.file = gr.File(
                        label="File",
                        elem_id="set-file",
                        height=150,
                    )
                with gr.Tab("Paste"):
                    self.text = gr.Textbox(
                        label="Problems",
                        lines=7,
                        max_lines=18,
                        elem_id="set-text",
                        info="One problem per line, or blocks parted by blank lines, or a table with a header "
                        "(CSV, TSV), or JSON.",
                        placeholder="What is 17 + 25?\nA train leaves at 9:40 and arrives at 11:05. How many "
                        "minutes does it take?",
                    )
                    self.read = gr.Button("Read this text", variant="primary", size="sm", elem_id="read-text")
            gr.HTML(
                "",
                html_template="",
                js_on_load=_REFUSE_LARGE,
                apply_default_css=False,
                limit=self.max_bytes,
                elem_id="too-large",
                most=size(self.max_bytes),
            )
            self.entry_message = gr.HTML("", apply_default_css=False, elem_id="upload-message")
        with gr.Column(visible=False) as self.editor:
            self._editor()
        self.mapping: list[Any] = [self.problem, self.answer, self.ident, self.options]
        self.view = [self.preview, self.report, self.save, self.answers_message]
        self.fields = [*self.mapping, self.encoding, self.name, *self.answers.parts]
        self.outputs = [self.token, self.entry, self.editor, *self.fields, *self.view]

    def _editor(self) -> None:
        self.preview = gr.HTML("", apply_default_css=False, elem_id="draft-preview")
        with gr.Column(elem_classes=["form-card"]):
            gr.HTML('<h2 class="tt-h2">Columns</h2>', apply_default_css=False)
            with gr.Row(elem_classes=["cfg-grid"]):
                self.problem = gr.Dropdown(
                    [], label="Problem", info="The text that is put to the model.", elem_id="map-problem"
                )
                self.answer = gr.Dropdown(
                    [], label="Reference answer (optional)", info="Only measures; never trains.", elem_id="map-answer"
                )
                self.ident = gr.Dropdown(
                    [], label="Id (optional)", info="Names the problem in tables.", elem_id="map-id"
                )
                self.options = gr.Dropdown(
                    [], label="Choices (optional)", info="Options of multiple-choice problems.", elem_id="map-choices"
                )
                self.encoding = gr.Dropdown(
                    _ENCODINGS,
                    value="",
                    label="Text encoding",
                    info="Of a file that is not UTF-8.",
                    elem_id="draft-encoding",
                )
                self.name = gr.Textbox(label="Name", max_length=120, elem_id="draft-name", info="Shown in lists.")
        with gr.Column(elem_classes=["form-card"]):
            gr.HTML('<h2 class="tt-h2">Answers</h2>', apply_default_css=False)
            self.answers = AnswerFields("draft", "as detected")
            self.answers_message = gr.HTML("", apply_default_css=False, elem_id="draft-answers-message")
        self.report = gr.HTML("", apply_default_css=False, elem_id="draft-report")
        with gr.Row(elem_classes=["tt-actions"]):
            self.save = gr.Button("Save the problem set", variant="primary", elem_id="save-set")
            self.discard = gr.Button("Discard", variant="stop", elem_id="discard-draft")
        self.message = gr.HTML("", apply_default_css=False, elem_id="draft-message")

    # --- filling -------------------------------------------------------------------------------------------------

    def opened(self, token: str, *, visible: bool) -> list[Any]:
        """Updates for `outputs`: the draft of this token, or the empty entry form ("" for no draft)."""
        if not token:
            skipped = [gr.skip() for _ in [*self.fields, *self.view]]
            return ["", gr.update(visible=visible), gr.update(visible=False), *skipped]
        choices = self.shelf.choices(token)
        columns: tuple[str, ...] = ()
        mapping = ColumnMapping(None)
        try:
            table = self.shelf.table(token)
            columns, mapping = table.columns, choices.mapping or guess_mapping(table)
        except DataError:
            pass  # `_show` says what is wrong with the file
        listed = [("none", NONE), *((column, column) for column in columns)]
        # Several option columns are one choice, joined; it is not among the columns themselves.
        joined = [(mapping.choices, mapping.choices)] if mapping.choices and mapping.choices not in columns else []
        dropdowns = [
            gr.update(choices=listed[1:], value=mapping.problem),
            gr.update(choices=listed, value=mapping.answer or NONE),
            gr.update(choices=listed, value=mapping.id or NONE),
            gr.update(choices=[*listed, *joined], value=mapping.choices or NONE),
        ]
        return [
            token,
            gr.update(visible=False),
            gr.update(visible=True),
            *dropdowns,
            choices.encoding or "",
            choices.name,
            *self.answers.filled(choices.answers, self._kind(token, choices)),
            *self._show(token, choices),
        ]

    def _kind(self, token: str, choices: DraftChoices) -> TaskKind:
        """The kind in force: chosen, or detected."""
        if choices.answers.kind is not None:
            return choices.answers.kind
        try:
            found = self.shelf.draft(token, choices)[2].problem_set
        except StudioError:
            found = None
        return found.kind if found is not None else "math"

    def _show(self, token: str, choices: DraftChoices) -> list[Any]:
        """Updates for `view`."""
        try:
            table, mapping, draft = self.shelf.draft(token, choices)
        except DataError as failure:
            fault = note(
                "This file cannot be read as it is.", f"{failure} Or choose its encoding below.", "bad", alert=True
            )
            blocked = gr.update(value="Nothing can be saved yet", interactive=False)
            return [f'<div class="tt">{card(fault, choices.filename)}</div>', "", blocked, ""]
        found = draft.problem_set
        label = f"Save {len(found.problems):,} problems" if found else "Nothing can be saved yet"
        button = gr.update(value=label, interactive=found is not None)
        return [
            preview_html(table, mapping, choices.filename),
            report_html(draft, detected=choices.answers.kind is None),
            button,
            "",
        ]

    # --- events --------------------------------------------------------------------------------------------------

    def wire(self, library: Any) -> None:
        """Connect everything. `library` (the list of sets) is hidden while a draft is open."""
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        opened = [self.entry_message, library, *self.outputs]
        for event in (
            self.file.upload(self._uploaded, [self.file], opened, api_visibility="private"),
            self.read.click(self._pasted, [self.text], opened, api_visibility="private"),
        ):
            event.then(None, [self.token], None, js=_SHOW_DRAFT)
        inputs = [self.token, *self.fields]
        gr.on(
            [*(part.input for part in self.mapping), *(edited(part) for part in self.answers.parts)],
            self._changed,
            inputs,
            [*self.view, *self.answers.parts],
            trigger_mode="always_last",
            **quiet,
        )
        # `change` and not `input`: Gradio's text box keeps quiet about pasted text.
        self.name.change(self._renamed, [self.token, self.name], None, trigger_mode="always_last", **quiet)
        # Another encoding can name other columns, so the choices of columns are filled anew.
        self.encoding.input(self._encoding_changed, inputs, self.outputs, **quiet)
        self.save.click(self._saved, inputs, [self.message, self.redirect], trigger_mode="once", **quiet).success(
            None, [self.redirect], None, js=_OPEN
        )
        self.discard.click(
            self._discarded, [self.token], [self.message, library, self.file, *self.outputs], **quiet
        ).then(None, None, None, js=_LEAVE)

    def _uploaded(self, path: str | None) -> list[Any]:
        if not path:
            return [gr.skip() for _ in range(2 + len(self.outputs))]
        file = Path(path)
        return self._taken(file, file.name)

    def _pasted(self, text: str | None) -> list[Any]:
        if not text or not text.strip():
            return self._refused("Paste some problems first, one per line.")
        if len(text) > _MAX_PASTED:
            return self._refused(f"That is {len(text):,} characters; paste up to {_MAX_PASTED:,}, or upload a file.")
        return self._taken(text.encode("utf-8", "replace"), "pasted text")

    def _taken(self, data: Path | bytes, filename: str) -> list[Any]:
        num_bytes = len(data) if isinstance(data, bytes) else data.stat().st_size
        if num_bytes > self.max_bytes:
            why = (
                f"It has {size(num_bytes)}; up to {size(self.max_bytes)} are taken. Remove columns that are "
                "not needed, or split it."
            )
            return self._refused(why, shown_name(filename))
        if num_bytes == 0:
            return self._refused(
                "The file is empty. Save it again from the program that made it, or choose another.",
                shown_name(filename),
            )
        token = self.shelf.add(data, filename)
        choices = self.shelf.choices(token)
        try:
            self.shelf.table(token)
        except DataError as failure:
            # A file in another encoding can still be read by choosing it; every other fault needs another file.
            if "encod" not in str(failure).lower() and "utf-8" not in str(failure).lower():
                self.shelf.drop(token)
                return self._refused(str(failure), choices.filename)
        return ["", gr.update(visible=False), *self.opened(token, visible=False)]

    def _refused(self, why: str, filename: str = "") -> list[Any]:
        title = f"{filename} was not taken." if filename else "Not taken."
        message = f'<div class="tt">{note(title, why, "bad", alert=True)}</div>'
        return [message, gr.skip(), *[gr.skip() for _ in self.outputs]]

    def _choices(self, token: str, *fields: Any) -> DraftChoices:
        """What the fields say. Raises ConfigError where what they say of the answers cannot be used."""
        problem, answer, ident, options, encoding, name = fields[: -len(NAMES)]
        answers, fault = read_answers(fields[-len(NAMES) :])
        if fault:
            raise ConfigError(fault)
        known = {value for _, value in _ENCODINGS if value}
        return replace(
            self.shelf.choices(token),
            mapping=ColumnMapping(problem or None, answer or None, ident or None, options or None),
            answers=answers,
            name=str(name or "").strip()[:120],
            encoding=encoding if encoding in known else None,
        )

    def _changed(self, token: str, *fields: Any) -> list[Any]:
        if not self.shelf.has(token):
            gone = [_gone(), "", gr.update(interactive=False), ""]
            return [*gone, *(gr.skip() for _ in self.answers.parts)]
        try:
            choices = self._choices(token, *fields)
        except ConfigError as failure:
            said = f'<div class="tt">{note("Not used yet.", str(failure), "bad", alert=True)}</div>'
            kinds = self.answers.visibility(chosen) if (chosen := kind_of(fields[-len(NAMES)])) else None
            return [gr.skip(), gr.skip(), gr.skip(), said, *(kinds or [gr.skip() for _ in self.answers.parts])]
        self.shelf.choose(token, choices)
        return [*self._show(token, choices), *self.answers.visibility(self._kind(token, choices))]

    def _renamed(self, token: str, name: str | None) -> None:
        if self.shelf.has(token):
            self.shelf.choose(token, replace(self.shelf.choices(token), name=str(name or "").strip()[:120]))

    def _encoding_changed(self, token: str, *fields: Any) -> list[Any]:
        if not self.shelf.has(token):
            return [gr.skip() for _ in self.outputs]
        try:
            choices = self._choices(token, *fields)
        except ConfigError:
            return [gr.skip() for _ in self.outputs]  # said at the answers already
        self.shelf.choose(token, replace(choices, mapping=None))
        return self.opened(token, visible=False)

    def _saved(self, token: str, *fields: Any) -> tuple[str, str]:
        if not self.shelf.has(token):
            return _gone(), ""
        try:
            choices = self._choices(token, *fields)
            _, _, draft = self.shelf.draft(token, choices)
            if draft.problem_set is None:
                return (
                    '<div class="tt">'
                    f"{note('Not saved.', 'There is no usable problem; see the list above.', 'bad', alert=True)}</div>",
                    "",
                )
            notes = {
                "left_out": draft.stats.num_left_out,
                "duplicates": draft.stats.num_duplicates,
                "file": choices.filename,
            }
            set_id = self.store.add_problem_set(draft.problem_set, source=f"upload:{choices.filename}", notes=notes)
        except StudioError as failure:
            return f'<div class="tt">{note("Not saved.", str(failure), "bad", alert=True)}</div>', ""
        self.shelf.drop(token)
        return "", f"/problem-sets?id={set_id}&saved=1"

    def _discarded(self, token: str) -> list[Any]:
        self.shelf.drop(token)
        return ["", gr.update(visible=True), None, *self.opened("", visible=True)]


def _gone() -> str:
    gone = note("This upload is gone.", "Drafts are kept for a week. Upload the file again.", "warn", alert=True)
    return f'<div class="tt">{gone}</div>'
