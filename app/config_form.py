"""The form of a run, drawn from `RunConfig`: titles, explanations, bounds and choices all come from its fields.

Components carry no bounds of their own: Gradio would answer a number out of range with a passing toast, while the
config says at the field what is wrong and why.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr
from gradio.components import Component
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ttrl_engine.config import RunConfig

Control = Literal["int", "float", "bool", "choice", "text", "names"]

# The five a first run is decided by; everything else has a default that holds for most runs.
BASIC: tuple[str, ...] = (
    "vote.num_votes",
    "vote.num_trained",
    "train.epochs",
    "train.learning_rate",
    "vote.max_new_tokens",
)
# Drawn by the page in its data and model sections, with choices that only the store and the machine know.
PLACED: tuple[str, ...] = (
    "name",
    "answers.kind",
    "data.problems",
    "data.benchmarks",
    "data.held_out_share",
    "model.source",
)

# A person's word on single answers: given where the answers are seen, and carried along by the form.
UNDRAWN: tuple[str, ...] = ("answers.merges", "answers.detached")

SECTION_TITLES: dict[str, str] = {
    "": "Run",
    "model": "Model",
    "data": "Data and prompt",
    "answers": "Answers",
    "vote": "Sampling and vote",
    "train": "Update",
    "evaluate": "Evaluation",
    "safeguards": "Safeguards",
    "checkpoint": "Checkpoints",
    "hardware": "Hardware",
}


@dataclass(frozen=True)
class FormField:
    """One setting as the form sees it. `name` is dotted; `bounds` is its range in words, "" where it has none."""

    name: str
    title: str
    info: str
    control: Control
    choices: tuple[str, ...]
    optional: bool
    default: Any
    bounds: str

    @property
    def elem_id(self) -> str:
        return "cfg-" + self.name.replace(".", "-")

    @property
    def section(self) -> str:
        return self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Reading:
    """A form read back: the config, or a message per offending field (per section, where no field is named)."""

    config: RunConfig | None
    errors: Mapping[str, str]


def _core_type(annotation: Any) -> tuple[Any, bool]:
    """The annotation without `None` and `Annotated`, and whether None was allowed."""
    optional = False
    while True:
        origin = get_origin(annotation)
        if origin in (Union, types.UnionType):
            arguments = get_args(annotation)
            optional = optional or type(None) in arguments
            annotation = next(a for a in arguments if a is not type(None))
        elif origin is not None and hasattr(annotation, "__metadata__"):
            annotation = get_args(annotation)[0]
        else:
            return annotation, optional


def _bounds_in_words(info: FieldInfo) -> str:
    limits: dict[str, Any] = {}
    constraints = list(info.metadata)
    for argument in get_args(info.annotation):
        constraints += list(getattr(argument, "__metadata__", ()))
    for constraint in constraints:
        # Share is Annotated with a FieldInfo, whose limits sit one level deeper.
        for holder in (constraint, *getattr(constraint, "metadata", ())):
            for key in ("ge", "gt", "le", "lt"):
                if getattr(holder, key, None) is not None:
                    limits[key] = getattr(holder, key)
    low = f"{limits['ge']:g}" if "ge" in limits else (f"above {limits['gt']:g}" if "gt" in limits else "")
    high = f"{limits['le']:,g}" if "le" in limits else (f"below {limits['lt']:g}" if "lt" in limits else "")
    if limits.get("le", 0) >= 1e5:
        high = f"{int(limits['le']):,}"
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else (f"at most {high}" if high else "")


def _control_of(kind: Any) -> tuple[Control, tuple[str, ...]]:
    if get_origin(kind) is Literal:
        return "choice", tuple(str(option) for option in get_args(kind))
    if get_origin(kind) is tuple:
        return "names", ()
    named: dict[Any, Control] = {bool: "bool", int: "int", float: "float", str: "text"}
    return named[kind], ()


def _fields_of(model: type[BaseModel], prefix: str) -> list[FormField]:
    found: list[FormField] = []
    for name, info in model.model_fields.items():
        kind, optional = _core_type(info.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += _fields_of(kind, f"{prefix}{name}.")
            continue
        if prefix + name in UNDRAWN:
            continue
        control, choices = _control_of(kind)
        found.append(
            FormField(
                name=prefix + name,
                title=info.title or name,
                info=info.description or "",
                control=control,
                choices=choices,
                optional=optional,
                default=info.default,
                bounds=_bounds_in_words(info) if control in ("int", "float") else "",
            )
        )
    return found


@cache
def form_fields() -> tuple[FormField, ...]:
    """Every setting of a run that the form draws, in the order of the config."""
    return tuple(_fields_of(RunConfig, ""))


@cache
def field(name: str) -> FormField:
    """The setting of that dotted name. Raises KeyError for a name that does not exist."""
    for candidate in form_fields():
        if candidate.name == name:
            return candidate
    raise KeyError(name)


def advanced_sections() -> dict[str, list[FormField]]:
    """Section title -> its settings that are neither basic nor placed by the page."""
    sections: dict[str, list[FormField]] = {}
    for candidate in form_fields():
        if candidate.name not in BASIC and candidate.name not in PLACED:
            sections.setdefault(SECTION_TITLES[candidate.section], []).append(candidate)
    return sections


def _info_of(setting: FormField) -> str:
    info = setting.info
    if setting.name == "data.prompt_suffix":
        info = "Empty takes what suits the model and the kind of answer; a single space adds nothing."
    return f"{info} ({setting.bounds})" if setting.bounds else info


def draw(setting: FormField, value: Any = None, **kwargs: Any) -> Component:
    """The component of a setting, holding `value` (its default if None is given for a setting that must have one)."""
    held = to_component(setting, setting.default if value is None and not setting.optional else value)
    common: dict[str, Any] = {
        "label": setting.title,
        "info": _info_of(setting),
        "elem_id": setting.elem_id,
        "elem_classes": ["cfg"],
    }
    if setting.optional and setting.control in ("int", "float", "text"):
        common["placeholder"] = _blank_hint(setting)
    common |= kwargs
    if setting.control == "bool":
        return gr.Checkbox(value=held, **common)
    if setting.control == "choice":
        options: list[tuple[str, str]] = [(option, option) for option in setting.choices]
        if setting.optional:
            options.insert(0, ("automatic", ""))
        return gr.Radio(choices=options, value=held, **common)
    if setting.control in ("int", "float"):
        return gr.Number(value=held, **common)
    if setting.control == "names":
        return gr.Dropdown(choices=list(held), value=list(held), multiselect=True, allow_custom_value=True, **common)
    long = setting.name in ("data.system_prompt", "data.prompt_suffix")
    return gr.Textbox(value=held, lines=2 if long else 1, **common)


def _blank_hint(setting: FormField) -> str:
    return "off" if setting.section == "safeguards" else "automatic" if setting.name != "train.max_steps" else "none"


def to_component(setting: FormField, value: Any) -> Any:
    """A config's value as its component holds it."""
    if setting.name == "data.prompt_suffix" and value == "":
        return " "
    if setting.control == "choice" or setting.control == "text":
        return "" if value is None else value
    if setting.control == "names":
        return list(value)
    return value


def _from_component(setting: FormField, value: Any) -> Any:
    """A component's value as plain config data. Text that is no number stays text, for the config to refuse."""
    if setting.name == "data.prompt_suffix" and isinstance(value, str) and value and not value.strip():
        return ""
    if isinstance(value, str) and not value.strip():
        return None if setting.optional else ""
    if setting.control == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    if setting.control == "names":
        return list(value or ())
    return value


def value_of(config: RunConfig, name: str) -> Any:
    """The value of a dotted setting."""
    held: Any = config
    for part in name.split("."):
        held = getattr(held, part)
    return held


def form_values(config: RunConfig, names: Sequence[str]) -> list[Any]:
    """What the components of these settings hold for this config, in order."""
    return [to_component(field(name), value_of(config, name)) for name in names]


def read_form(values: Mapping[str, Any], start: RunConfig | None = None) -> Reading:
    """A config from component values by dotted name; settings that are not given keep their defaults.

    What is not drawn is taken from `start`, as long as the problem set is the one it was said of.
    """
    data: dict[str, Any] = {}
    if start is not None and values.get("data.problems") == start.data.problems:
        answers = start.answers.model_dump(mode="json")
        data["answers"] = {name.rpartition(".")[2]: answers[name.rpartition(".")[2]] for name in UNDRAWN}
    for name, value in values.items():
        *sections, leaf = name.split(".")
        part = data
        for section in sections:
            part = part.setdefault(section, {})
        part[leaf] = _from_component(field(name), value)
    try:
        return Reading(RunConfig.model_validate(data), {})
    except ValidationError as failure:
        return Reading(None, _errors_by_field(failure))


def _errors_by_field(failure: ValidationError) -> dict[str, str]:
    errors: dict[str, str] = {}
    for error in failure.errors(include_url=False):
        where = ".".join(str(part) for part in error["loc"] if isinstance(part, str))
        message = _plain_message(error["type"], error["msg"], error.get("input"))
        # A fault between fields is reported for their section; the message names the fields it is about.
        named = [f"{where}.{word}" for word in re.findall(r"\w+", message) if f"{where}.{word}" in _names()]
        for name in named:
            message = message.replace(name.rpartition(".")[2], f"“{field(name).title}”")
        for target in dict.fromkeys(named) or [where]:
            errors.setdefault(target, message)
    return errors


def _plain_message(kind: str, message: str, given: Any) -> str:
    if given is None:
        return "A value is needed here."
    if kind == "int_from_float":
        return "A whole number is needed here."
    text = message.removeprefix("Value error, ").replace("Input should be", "Must be")
    return text[:1].upper() + text[1:]


@cache
def _names() -> frozenset[str]:
    return frozenset(candidate.name for candidate in form_fields())


def changes(config: RunConfig, start: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from where the form started: name -> (was, is). The run's name decides nothing."""
    differing = {}
    for candidate in form_fields():
        was, now = value_of(start, candidate.name), value_of(config, candidate.name)
        if was != now and candidate.name != "name":
            differing[candidate.name] = (was, now)
    return differing


def shown_value(value: Any) -> str:
    """A setting's value in a chip or a table: `off/automatic` for None, short floats, joined names."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    return json.dumps(value)[1:-1] if "\n" in value else str(value)


def _css_text(message: str) -> str:
    """A CSS string that cannot end early: everything but plain letters and digits is written by code point."""
    return "".join(c if c.isascii() and c.isalnum() else f"\\{ord(c):06x}" for c in message[:300])


def marks_css(errors: Mapping[str, str], changed: Sequence[str], extra: str = "") -> str:
    """A style sheet that shows each error at its field and a dot at each changed one.

    Styling from outside leaves the inputs untouched, so nothing typed can be overwritten. `extra` is our own.
    """
    rules = []
    for name, message in errors.items():
        if name in _names():
            selector = f"#{field(name).elem_id}"
            rules.append(
                f'{selector}{{--cfg-edge:var(--error-border-color,#dc2626)}}{selector}::after{{content:"{_css_text(message)}"}}'
            )
    rules += [f"#{field(name).elem_id}{{--cfg-dot:inline-block}}" for name in changed if name in _names()]
    return f"<style>{''.join(rules)}{extra}</style>"
