"""The parts of the new-run form: data, model, plan, review. Every setting of a run has exactly one component."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.answer_words import KIND_CHOICES
from app.components import escape, live
from app.config_form import BASIC, advanced_sections, draw, field
from ttrl_engine.config import PRESETS


class NewRunForm:
    """All components. `fields` maps a dotted setting to its component, in the order of the page."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.presets: dict[str, gr.Button] = {}
        self.client_id = gr.State("")
        self.start = gr.State({})
        self.redirect = gr.Textbox(visible="hidden", elem_id="new-run-redirect", container=False)
        self.marks = gr.HTML("<style></style>", elem_classes=["form-marks"], apply_default_css=False)
        with gr.Row(elem_classes=["new-run"]):
            with gr.Column(scale=7, min_width=300):
                self._data()
                self._model()
                self._plan()
                self._before()
                self._review()
            with gr.Column(scale=4, min_width=280, elem_classes=["new-run-side"]):
                self.summary = live(elem_id="run-summary")
                self.message = gr.HTML("", apply_default_css=False, elem_id="start-message")
                self.go = gr.Button("Start the run", variant="primary", size="lg", elem_id="start-run")

    def _draw(self, name: str, **kwargs: Any) -> Any:
        component = draw(field(name), **kwargs)
        self.fields[name] = component
        return component

    def _data(self) -> None:
        with gr.Column(elem_classes=["form-card"]):
            gr.HTML(
                _section(1, "Data", "Which problems it learns from. No answers are needed."), apply_default_css=False
            )
            self.fields["data.problems"] = gr.Dropdown(
                choices=[],
                label="Problem set",
                elem_id=field("data.problems").elem_id,
                elem_classes=["cfg"],
                allow_custom_value=True,
                info="Your own sets are listed here once they are uploaded under Problem sets.",
            )
            with gr.Row():
                held = field("data.held_out_share")
                self.fields["data.held_out_share"] = gr.Slider(
                    0.0, 0.9, step=0.05, label=held.title, info=held.info, elem_id=held.elem_id, elem_classes=["cfg"]
                )
                bench = field("data.benchmarks")
                self.fields["data.benchmarks"] = gr.Dropdown(
                    choices=[],
                    multiselect=True,
                    allow_custom_value=True,
                    label=bench.title,
                    info=bench.info,
                    elem_id=bench.elem_id,
                    elem_classes=["cfg"],
                )
            task = field("answers.kind")
            self.fields["answers.kind"] = gr.Radio(
                [("as the set says", ""), *KIND_CHOICES],
                value="",
                label=task.title,
                elem_id=task.elem_id,
                elem_classes=["cfg"],
                info="How answers are read out of the model's text and compared. More under Advanced.",
            )
            self.rule = live(elem_id="set-rule")

    def _model(self) -> None:
        with gr.Column(elem_classes=["form-card"]):
            gr.HTML(
                _section(
                    2,
                    "Model",
                    "Which model learns. Choose one, or type a hub name such as Qwen/Qwen3-0.6B or a folder.",
                ),
                apply_default_css=False,
            )
            self.fields["model.source"] = gr.Dropdown(
                choices=[],
                label="Source",
                elem_id=field("model.source").elem_id,
                elem_classes=["cfg"],
                allow_custom_value=True,
                info="Folders can be chosen below the roots that the operator allows.",
            )
            self.model_facts = live(elem_id="model-facts")

    def _plan(self) -> None:
        with gr.Column(elem_classes=["form-card"]):
            gr.HTML(
                _section(3, "Plan", "Begin with a preset, change what you like. A dot marks what differs from it."),
                apply_default_css=False,
            )
            with gr.Row(elem_classes=["preset-row"]):
                for key, preset in PRESETS.items():
                    self.presets[key] = gr.Button(
                        preset.name, size="sm", elem_id=f"preset-{key}", elem_classes=["preset"]
                    )
            self.preset_text = gr.HTML("", apply_default_css=False, elem_id="preset-text")
            with gr.Row(elem_classes=["cfg-grid"]):
                for name in BASIC:
                    self._draw(name, min_width=200)
            with gr.Accordion("Advanced: every setting", open=False, elem_id="advanced"):
                for title, settings in advanced_sections().items():
                    gr.HTML(f'<h3 class="cfg-heading">{escape(title)}</h3>', apply_default_css=False)
                    with gr.Row(elem_classes=["cfg-grid"]):
                        for setting in settings:
                            self._draw(setting.name, min_width=230)

    def _before(self) -> None:
        with gr.Column(elem_classes=["form-card"]):
            gr.HTML(
                _section(4, "Before it starts", "Whether it can learn, and whether this machine can hold it."),
                apply_default_css=False,
            )
            self.preflight = live(elem_id="run-preflight")
            self.watched = gr.State("")
            self.timer = gr.Timer(1.5, active=False)
            self.memory = live(elem_id="run-memory")

    def _review(self) -> None:
        with gr.Column(elem_classes=["form-card"]):
            gr.HTML(
                _section(5, "Review", "Name it, look at the file that is stored with the run, or bring one along."),
                apply_default_css=False,
            )
            self._draw("name", placeholder="from the model and the data")
            with gr.Accordion("The run as a file (YAML) and as a command", open=False, elem_id="yaml-panel"):
                self.files = live(elem_id="run-files")
                self.yaml = gr.Code(
                    language="yaml", label="run.yaml", interactive=False, lines=8, max_lines=24, elem_id="run-yaml"
                )
            with gr.Accordion("Import a file", open=False, elem_id="import-panel"):
                self.pasted = gr.Textbox(
                    label="YAML or JSON",
                    lines=5,
                    max_lines=16,
                    placeholder="vote:\n  num_votes: 32",
                    elem_id="import-text",
                )
                with gr.Row(elem_classes=["tt-actions"]):
                    self.use_pasted = gr.Button("Use this", size="sm", elem_id="import-use")
                    self.upload = gr.UploadButton("Open a file", size="sm", file_count="single", elem_id="import-file")
                self.import_message = gr.HTML("", apply_default_css=False, elem_id="import-message")


def _section(number: int, title: str, lead: str) -> str:
    return (
        f'<div class="form-head"><span class="form-number" aria-hidden="true">{number}</span><div><h2 '
        f'class="tt-h2">{escape(title)}</h2>'
        f'<p class="tt-muted">{escape(lead)}</p></div></div>'
    )
