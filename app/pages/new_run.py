"""New run: data, model, plan, review; then Start.

`?set=ID` preselects a set, `?clone=RUN` begins from a run; `&measure=ID` adds a set that is only scored.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import yaml

from app.actions import said
from app.choices import Choices, set_ref
from app.components import escape, live, note, on_load, page_head, query_int, tick
from app.config_form import field, form_values, marks_css, to_component
from app.pages.new_run_form import NewRunForm
from app.pages.new_run_memory import memory_html, picked_remedy
from app.pages.new_run_preflight import (
    ADVICE,
    CHECK,
    advised_changes,
    is_watched,
    preflight_html,
    progress_token,
)
from app.pages.new_run_review import Review, Start, files_html, model_html, review, rule_html, summary_html
from app.services import Services
from ttrl_engine.config import PRESETS, AnswerConfig, RunConfig, parse_config
from ttrl_engine.errors import StudioError
from worker.rows import ProblemSetRow, RunRow

_LEAD = "An open model, your problems, no answers. The run goes on when this tab is closed."
_MAX_IMPORT = 200_000
_OPEN_RUN = "(address) => { if (address) window.location.assign(address); }"


def build(services: Services) -> None:
    """The page, inside its route."""
    head = live(page_head("New run", _LEAD))
    page = NewRunPage(services, NewRunForm(), head)
    page.wire()


class NewRunPage:
    """Connects the form with what judges and starts it."""

    def __init__(self, services: Services, form: NewRunForm, head: Any) -> None:
        self.services, self.form, self.head = services, form, head
        self.choices = Choices(services)
        self.names = list(form.fields)
        self.inputs = [form.start, *form.fields.values()]
        self.judged = [
            form.summary,
            form.marks,
            form.go,
            form.model_facts,
            form.files,
            form.yaml,
            form.preset_text,
            form.rule,
            form.memory,
            form.preflight,
            form.watched,
            form.timer,
        ]
        self.everything = [form.start, *form.fields.values(), *self.judged]

    def wire(self) -> None:
        """All events of the page."""
        form = self.form
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        on_load(self.opened, None, [self.head, form.client_id, *self.everything])
        gr.on(
            [_edited(component) for component in form.fields.values()],
            self.changed,
            self.inputs,
            self.judged,
            trigger_mode="always_last",
            **quiet,
        )
        # Only this one may ask the hub, so that typing in any other field never waits for a network.
        form.fields["model.source"].input(
            self.model_named, self.inputs, self.judged, trigger_mode="always_last", **quiet
        )
        for key, button in form.presets.items():
            button.click(self._preset(key), self.inputs, self.everything, **quiet).then(
                self.model_named, self.inputs, self.judged, **quiet
            )
        form.use_pasted.click(
            self.imported, [form.pasted, *self.inputs], [form.import_message, *self.everything], **quiet
        )
        form.upload.upload(
            self.imported_file, [form.upload, *self.inputs], [form.import_message, *self.everything], **quiet
        )
        form.memory.select(self.remedied, self.inputs, self.everything, **quiet)
        form.preflight.select(self.checked, self.inputs, [form.message, *self.everything], trigger_mode="once", **quiet)
        tick(form.timer, self.watched, [form.watched], [form.watched])
        form.watched.change(self.changed, self.inputs, self.judged, trigger_mode="always_last", **quiet)
        form.go.click(
            self.started,
            [form.client_id, *self.inputs],
            [form.redirect, form.message, *self.judged],
            trigger_mode="once",
            **quiet,
        ).success(None, [form.redirect], None, js=_OPEN_RUN)

    # --- what fills the form -------------------------------------------------------------------------------------

    def opened(self, request: gr.Request) -> list[Any]:
        """The form as its address says: empty, with a set chosen, or as a clone."""
        start = Start("“Quick look”", PRESETS["quick-look"].config())
        head = page_head("New run", _LEAD)
        parent = query_int(request, "clone")
        chosen = str(request.query_params.get("set", ""))
        if parent is not None:
            run = self.services.store.run(parent)
            if run is None:
                head += note(
                    "That run is not here.",
                    f"There is no run {parent} to clone; the form begins from a preset.",
                    "warn",
                )
            else:
                config = _loosened(run, self.services.store.problem_set(run.set_id))
                config = config.with_changes(**self._derived(config, request))
                start = Start(f"run {run.id} “{run.name}”", config, run.id)
                head = page_head(
                    f"Clone of {run.name}",
                    "Change what you like: the copy keeps its link to the run it came from.",
                    document_title="New run",
                )
        elif chosen:
            found = self.services.store.problem_set(chosen)
            if found is None:
                head += note(
                    "That problem set is not here.", "Choose one of the list, or upload it under Problem sets.", "warn"
                )
            else:
                changes: dict[str, Any] = {"data.problems": set_ref(found)}
                if not found.source.startswith("bundled:"):
                    changes["data.benchmarks"] = ()
                start = Start(start.label, start.config.with_changes(**changes))
        client_id = secrets.token_urlsafe(18)
        return [head, client_id, *self._filled(start, start.config, choices=True)]

    def _derived(self, config: RunConfig, request: gr.Request) -> dict[str, Any]:
        """What `&set=ID`, `&measure=ID` and `&learning_rate=X` change in a clone: other problems to learn from, a set
        more to score, another rate. What cannot be used is passed over."""
        learned, measured = (
            self.services.store.problem_set(str(request.query_params.get(name, ""))) for name in ("set", "measure")
        )
        changes: dict[str, Any] = {}
        if learned is not None:
            changes["data.problems"] = set_ref(learned)
        if measured is not None and set_ref(measured) not in config.data.benchmarks:
            changes["data.benchmarks"] = (*config.data.benchmarks, set_ref(measured))
        rate = _rate(str(request.query_params.get("learning_rate", "")))
        if rate is not None:
            changes["train.learning_rate"] = rate
        return changes

    def _filled(self, start: Start, config: RunConfig, *, choices: bool = False) -> list[Any]:
        values: list[Any] = form_values(config, self.names)
        judged = self._judge(start, dict(zip(self.names, values, strict=True)))
        if choices:
            options = {
                "data.problems": self.choices.set_choices(),
                "data.benchmarks": self.choices.benchmark_choices(),
                "model.source": self.choices.model_choices(),
            }
            values = [
                gr.update(choices=options[name], value=value) if name in options else value
                for name, value in zip(self.names, values, strict=True)
            ]
        return [_kept(start), *values, *judged]

    def _preset(self, key: str) -> Any:
        def chosen(*inputs: Any) -> list[Any]:
            values = self._values(inputs[1:])
            preset = PRESETS[key]
            kept: dict[str, Any] = {"data.problems": str(values["data.problems"] or "") or "bundled:sums"}
            # A preset that names no model or benchmarks has no opinion on them.
            if key != "quick-look" and "model.source" not in preset.changes and values["model.source"]:
                kept["model.source"] = values["model.source"]
            if "data.benchmarks" not in preset.changes and values["data.benchmarks"]:
                kept["data.benchmarks"] = values["data.benchmarks"]
            config = preset.config().with_changes(**kept)
            name = str(values["name"] or "")[:120]
            return self._filled(Start(f"“{preset.name}”", config), config.model_copy(update={"name": name}))

        return chosen

    def remedied(self, event: gr.EventData, *inputs: Any) -> list[Any]:
        """A remedy for the memory was clicked: set its fields, if it is still offered for the form as it is now."""
        start, values = _start(inputs[0]), self._values(inputs[1:])
        data = event._data if isinstance(event._data, dict) else {}
        remedy = picked_remedy(review(self.choices, values, start).memory, str(data.get("value", "")))
        if remedy is None:
            return [gr.skip() for _ in self.everything]
        return self._with_changes(start, values, remedy.changes)

    def _with_changes(self, start: Start, values: dict[str, Any], changes: Mapping[str, Any]) -> list[Any]:
        changed = {name: to_component(field(name), value) for name, value in changes.items()}
        fields = [changed.get(name, gr.skip()) for name in self.names]
        return [gr.skip(), *fields, *self._judge(start, values | changed)]

    # --- the check before a run ----------------------------------------------------------------------------------

    def checked(self, event: gr.EventData, *inputs: Any) -> list[Any]:
        """The check was asked for, or its advice taken."""
        start, values = _start(inputs[0]), self._values(inputs[1:])
        asked, _ = said(event)
        if asked == CHECK:
            self._check_model(values)
        judged = review(self.choices, values, start)
        config, chosen, message = judged.reading.config, judged.problem_set, ""
        if asked == ADVICE and config is not None:
            changes = advised_changes(judged.check, config, judged.model, judged.memory)
            return [message, *self._with_changes(start, values, changes)]
        if asked == CHECK and judged.can_start and config is not None and chosen is not None:
            try:
                self.services.desk.submit_preflight(config, chosen.id)
            except StudioError as failure:
                message = f'<div class="tt">{note("Not checked.", str(failure), "bad", alert=True)}</div>'
        fields = [gr.skip() for _ in self.names]
        return [message, gr.skip(), *fields, *self._judge(start, values)]

    def watched(self, token: str) -> Any:
        """What is now to be seen of the check; a change of it has the form judged again."""
        ident = str(token).partition(":")[0]
        row = self.services.store.preflight(int(ident)) if ident.isascii() and ident.isdigit() else None
        now = progress_token(row)
        return gr.skip() if now == token else now

    def imported(self, text: str, *_inputs: Any) -> list[Any]:
        """A pasted config replaces every setting; one that cannot be used replaces none and says why."""
        try:
            if not text or not text.strip():
                raise StudioError("There is nothing to import: paste a config, such as `vote: {num_votes: 32}`.")
            config = _parse(text)
        except StudioError as failure:
            message = note("Not imported.", str(failure), "bad", alert=True)
            return [f'<div class="tt">{message}</div>', *[gr.skip() for _ in self.everything]]
        message = note(
            "Imported.", "Every setting was taken from the file; what it leaves out has its default.", "good"
        )
        return [f'<div class="tt">{message}</div>', *self._filled(Start("the imported file", config), config)]

    def imported_file(self, path: str | None, *inputs: Any) -> list[Any]:
        """The same for an uploaded file."""
        try:
            file = Path(path or "")
            text = file.read_text(encoding="utf-8") if file.stat().st_size <= _MAX_IMPORT else "x" * (_MAX_IMPORT + 1)
        except (OSError, UnicodeDecodeError):
            message = note(
                "Not imported.",
                "The file is not UTF-8 text. Save the config as YAML or JSON and open it again.",
                "bad",
                alert=True,
            )
            return [f'<div class="tt">{message}</div>', *[gr.skip() for _ in self.everything]]
        return self.imported(text, *inputs)

    # --- judging and starting ------------------------------------------------------------------------------------

    def _values(self, values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self.names, values, strict=True))

    def _judge(self, start: Start, values: dict[str, Any]) -> list[Any]:
        return self._shown(review(self.choices, values, start), start, values)

    def _shown(self, judged: Review, start: Start, values: dict[str, Any]) -> list[Any]:
        config = judged.reading.config
        return [
            summary_html(self.choices, judged, start),
            marks_css(judged.errors, judged.changed, _preset_css(start)),
            gr.update(value=judged.button, interactive=judged.can_start),
            model_html(str(values["model.source"] or ""), judged.model),
            files_html(config),
            config.to_yaml() if config else "# Some settings cannot be read yet; see the summary.",
            _preset_html(start),
            rule_html(judged),
            memory_html(judged.memory, judged.model, str(values["model.source"] or "")),
            preflight_html(
                judged.check,
                config,
                judged.plan,
                judged.model,
                judged.memory,
                ready=judged.can_start,
                worker_alive=self.services.store.worker_status().alive,
            ),
            progress_token(judged.check),
            gr.Timer(active=is_watched(judged.check)),
        ]

    def changed(self, *inputs: Any) -> list[Any]:
        """Somebody edited a field: judge again. No field is written to."""
        return self._judge(_start(inputs[0]), self._values(inputs[1:]))

    def model_named(self, *inputs: Any) -> list[Any]:
        """Another model was named: look it up, wherever it is."""
        values = self._values(inputs[1:])
        self._check_model(values)
        return self._judge(_start(inputs[0]), values)

    def _check_model(self, values: dict[str, Any]) -> None:
        source = str(values["model.source"] or "").strip()
        if source:
            self.choices.check(source, str(values["model.revision"] or "").strip() or None)

    def started(self, client_id: str, *inputs: Any) -> list[Any]:
        """Queue the run. The same form sent twice gives the same run: the store knows its client id."""
        start, values = _start(inputs[0]), self._values(inputs[1:])
        self._check_model(values)
        judged = review(self.choices, values, start)
        config = judged.reading.config
        if not judged.can_start or config is None or judged.problem_set is None:
            message = note("Not started.", f"{judged.button}: see the summary above.", "bad", alert=True)
            return ["", f'<div class="tt">{message}</div>', *self._shown(judged, start, values)]
        try:
            run_id = self.services.desk.submit_run(
                config, f"{client_id}-{config.digest()}", judged.problem_set.id, start.parent_run_id
            )
        except StudioError as failure:
            message = note("Not started.", str(failure), "bad", alert=True)
            return ["", f'<div class="tt">{message}</div>', *self._shown(judged, start, values)]
        done = note("Started.", f"Run {run_id} is in the queue; its page opens now.", "good")
        return [f"/run?id={run_id}", f'<div class="tt">{done}</div>', *[gr.skip() for _ in self.judged]]


def _loosened(run: RunRow, found: ProblemSetRow | None) -> RunConfig:
    """The config of a run without its name, and with its answers left to the set where they are as the set says."""
    answers, rule = run.config.answers, AnswerConfig() if found is None else found.answers
    own = {name: value for name, value in answers if value != getattr(rule, name)}
    return run.config.model_copy(update={"name": "", "answers": AnswerConfig.model_validate(own)})


def _edited(component: Any) -> Any:
    """The event of an edit. A text box fires `input` for keys only, not for pasted text; `change` it always fires."""
    return component.change if isinstance(component, gr.Textbox) else component.input


def _preset_html(start: Start) -> str:
    summary = next((p.summary for p in PRESETS.values() if start.label == f"“{p.name}”"), "")
    words = f"<b>{escape(start.label)}</b> {escape(summary)}" if summary else f"Began from {escape(start.label)}."
    return f'<p class="tt-muted">{words}</p>'


def _preset_css(start: Start) -> str:
    key = next((key for key, preset in PRESETS.items() if start.label == f"“{preset.name}”"), None)
    return (
        f"#preset-{key}{{border-color:var(--tt-accent);background:var(--tt-accent-soft);color:var(--tt-accent)}}"
        if key
        else ""
    )


def _rate(text: str) -> float | None:
    """A learning rate out of an address; None where it is none."""
    try:
        rate = float(text[:20])
    except ValueError:
        return None
    return rate if 0.0 < rate <= 1.0 else None


def _parse(text: str) -> RunConfig:
    if len(text) > _MAX_IMPORT:
        raise StudioError(f"That is too long for a config: more than {_MAX_IMPORT:,} characters.")
    try:
        return parse_config(yaml.safe_load(text))
    except (yaml.YAMLError, RecursionError) as failure:
        raise StudioError(f"This is not valid YAML: {str(failure)[:400]}") from None


def _kept(start: Start) -> dict[str, Any]:
    return {"label": start.label, "config": json.loads(start.config.model_dump_json()), "parent": start.parent_run_id}


def _start(kept: dict[str, Any]) -> Start:
    if not kept:
        return Start("“Quick look”", PRESETS["quick-look"].config())
    return Start(kept["label"], parse_config(kept["config"]), kept["parent"])
