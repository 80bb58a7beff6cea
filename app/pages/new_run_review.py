"""What a form amounts to: can it start, what will it cost, what differs from where it began. No component in here."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.answer_words import rule_words
from app.choices import Choices, download_bytes, entry_of, set_title
from app.components import chip, escape, facts, note, pill
from app.config_form import Reading, changes, field, read_form, shown_value
from app.format import compact, duration_range, size
from app.icons import icon
from app.memory_plan import Machine, MemoryPlan, machine_for, plan_memory
from app.pages.new_run_memory import memory_words
from app.plan import Plan, make_plan
from app.preflight import whole_run_s
from app.speed import speed_of
from ttrl_engine.config import AnswerConfig, RunConfig
from ttrl_engine.errors import ConfigError, ModelError
from ttrl_engine.models import ModelCheck
from worker.health import disk
from worker.rows import PreflightRow, ProblemSetRow

# Only what lies in the store: a path typed into the page could name any file of the machine.
_ALLOWED_SETS = ("set:", "bundled:")
_HARDLY_CHANGES = {"data.problems", "name", "answers.kind"}


@dataclass(frozen=True)
class Start:
    """Where a form began: a preset, an earlier run, an imported file. `label` ends the sentence "Changed from …"."""

    label: str
    config: RunConfig
    parent_run_id: int | None = None


@dataclass(frozen=True)
class Review:
    """A form, judged. `blockers` say what must be done before Start, most important first; `errors` name fields."""

    reading: Reading
    problem_set: ProblemSetRow | None
    model: ModelCheck | None
    plan: Plan | None
    machine: Machine | None
    memory: MemoryPlan | None
    check: PreflightRow | None
    blockers: tuple[str, ...]
    errors: Mapping[str, str]
    changed: tuple[str, ...]

    @property
    def can_start(self) -> bool:
        return not self.blockers

    @property
    def button(self) -> str:
        """The label of the Start button: what it does, or why it does not."""
        return "Start the run" if self.can_start else self.blockers[0]


def review(choices: Choices, values: Mapping[str, Any], start: Start) -> Review:
    """Judge a form. Costs no network: a hub model that was never looked at is left unchecked."""
    reading = read_form(values, start.config)
    errors = dict(reading.errors)
    source = str(values.get("model.source") or "").strip()
    ref = str(values.get("data.problems") or "").strip()
    found = choices.find_set(ref) if ref.startswith(_ALLOWED_SETS) else None
    blockers: list[str] = []
    if found is None:
        blockers.append("Choose a problem set to start")
        if ref:
            errors["data.problems"] = (
                "This set is not stored here. Choose one of the list, or upload the file under Problem sets."
            )
    model = choices.known_check(source, str(values.get("model.revision") or "").strip() or None) if source else None
    if not source:
        blockers.append("Choose a model to start")
    elif model is not None and not model.ok:
        blockers.append("This model cannot be used")
        errors["model.source"] = model.reason
    window = model.context_tokens if model is not None and model.ok else None
    if window and reading.config and reading.config.vote.max_new_tokens >= window:
        errors["vote.max_new_tokens"] = (
            f"The model's window of {window:,} tokens must hold problem and answer. Choose less than {window:,}."
        )
    if reading.config is not None and found is not None:
        errors |= _answer_errors(reading.config.answers, found)
    errors |= _benchmark_errors(choices, values.get("data.benchmarks") or ())
    plan = _plan(choices, reading.config, found, model) if reading.config and found else None
    if plan is not None and plan.num_adapt < 2:
        errors["data.held_out_share"] = (
            f"Leaves {max(0, plan.num_adapt)} problems to learn from; at least 2 are needed."
        )
    open_errors = [name for name in errors if name not in ("data.problems", "model.source")]
    if open_errors:
        names = {_title(name) for name in open_errors}
        blockers.append(
            f"Fix “{next(iter(names))}” to start" if len(names) == 1 else f"Fix {len(names)} settings to start"
        )
    changed = (
        tuple(name for name in changes(reading.config, start.config) if name not in _HARDLY_CHANGES)
        if reading.config
        else ()
    )
    machine = machine_for(reading.config, choices.services.settings) if reading.config else None
    shape = model.shape if model is not None else None
    memory = plan_memory(shape, reading.config, machine) if shape and reading.config and machine else None
    check = _check(choices, reading.config, found) if reading.config and found and model and model.ok else None
    return Review(reading, found, model, plan, machine, memory, check, tuple(blockers), errors, changed)


def _check(choices: Choices, config: RunConfig, found: ProblemSetRow) -> PreflightRow | None:
    try:
        return choices.services.store.preflight_of(config, found.id)
    except ModelError:  # its folder went away since it was looked at
        return None


def _answer_errors(answers: AnswerConfig, found: ProblemSetRow) -> dict[str, str]:
    try:
        answers.over(found.answers)
    except ConfigError:
        return {"answers.pattern": "The kind of answer needs a pattern here, such as #### (.+)"}
    return {}


def rule_html(judged: Review) -> str:
    """How the run reads answers, the set's rule and the form's taken together."""
    config, found = judged.reading.config, judged.problem_set
    if config is None or found is None or "answers.pattern" in judged.errors:
        return ""
    answers = config.answers.over(found.answers)
    whose = "As the set says" if answers == found.answers else "Changed for this run"
    return f'<p class="tt-muted tt-small">{whose}: {escape(rule_words(answers))}.</p>'


def _benchmark_errors(choices: Choices, refs: Any) -> dict[str, str]:
    for ref in refs:
        found = choices.find_set(str(ref)) if str(ref).startswith(_ALLOWED_SETS) else None
        if found is None:
            return {"data.benchmarks": f"{str(ref)[:80]} is not stored here. Choose from the list."}
        if not found.num_references:
            return {"data.benchmarks": f"{set_title(found)} has no reference answers, so it cannot measure."}
    return {}


def _plan(choices: Choices, config: RunConfig, found: ProblemSetRow, model: ModelCheck | None) -> Plan:
    download = 0
    entry = entry_of(config.model.source)
    if entry is not None and (model is None or not model.cached) and not choices.is_cached(entry.source):
        download = download_bytes(entry) or 0
    labelled = bool(found.num_references) + (config.data.held_out_share > 0)
    return make_plan(
        config,
        found.num_problems,
        num_labelled_splits=labelled + len(config.data.benchmarks),
        shape=model.shape if model else None,
        download_bytes=download,
        rollouts_per_s=speed_of(choices.services.store, config.model.source, config.vote.max_new_tokens),
    )


def _title(name: str) -> str:
    try:
        return field(name).title
    except KeyError:
        return name or "Config"


def summary_html(choices: Choices, judged: Review, start: Start) -> str:
    """The card at the side."""
    parts = ['<section class="tt-card summary"><div class="tt-card-head"><h2>This run</h2></div>']
    parts.append(_facts(judged, choices))
    parts.append(_changed(judged, start))
    parts.append(f'<div role="status" aria-live="polite"><ul class="hints">{_hints(choices, judged)}</ul></div>')
    return "".join(parts) + "</section>"


def _hints(choices: Choices, judged: Review) -> str:
    """Errors, each with all the fields it is about, then warnings."""
    by_reason: dict[str, list[str]] = {}
    for name, why in judged.errors.items():
        by_reason.setdefault(why, []).append(_title(name))
    lines = [
        f'<li class="hint-error">{icon("error", title="Error")}<span><b>{escape(", ".join(names))}</b><br>'
        f"{escape(why)}</span></li>"
        for why, names in by_reason.items()
    ]
    lines += [
        f'<li class="hint-warning">{icon("warning", title="Warning")}<span>{escape(text)}</span></li>'
        for text in _warnings(choices, judged)
    ]
    return "".join(lines)


def _facts(judged: Review, choices: Choices) -> str:
    plan, found, config = judged.plan, judged.problem_set, judged.reading.config
    if plan is None or found is None or config is None:
        return '<p class="tt-muted">Counts, time and disk appear here as soon as the form can be read.</p>'
    held = f", {plan.num_held_out:,} held out" if plan.num_held_out else ""
    pairs = [
        ("Problems", f"{plan.num_adapt:,} to learn from{held}"),
        ("Steps", f"{plan.steps:,}"),
        ("Answers per step", f"{plan.rollouts_per_step:,}"),
        (
            "Answers in all",
            f"{plan.total_rollouts:,}" + (f", and {plan.eval_rollouts:,} to measure" if plan.eval_rollouts else ""),
        ),
        ("Tokens", f"at most {compact(plan.max_tokens)}"),
        ("Time", _time_words(judged, config, plan)),
        ("Memory", memory_words(judged.memory)),
        ("Disk", _disk_words(plan, choices)),
    ]
    return facts(pairs)


def _time_words(judged: Review, config: RunConfig, plan: Plan) -> str:
    if plan.seconds_low is None or plan.seconds_high is None:
        seen = judged.check.findings if judged.check else None
        if seen is None:
            return "measured after the first step"
        return f"about {duration_range(*whole_run_s(seen, config, plan))}, by the check"
    return f"about {duration_range(plan.seconds_low, plan.seconds_high)}, from earlier runs here"


def _disk_words(plan: Plan, choices: Choices) -> str:
    free = disk(choices.services.settings.data_dir).free_bytes
    if plan.disk_bytes is None:
        return f"not known for this model; {size(free)} free"
    download = f", {size(plan.download_bytes)} of it a download" if plan.download_bytes else ""
    return f"at most {size(plan.disk_bytes)}{download}; {size(free)} free"


def _changed(judged: Review, start: Start) -> str:
    config = judged.reading.config
    if config is None:
        return ""
    differing = changes(config, start.config)
    marks = "".join(
        f'<span title="{escape(shown_value(differing[name][0]))} in {escape(start.label)}">'
        f"{chip(_title(name), shown_value(differing[name][1]))}</span>"
        for name in judged.changed
    )
    title = f"Changed from {escape(start.label)}"
    if not marks:
        return f'<p class="tt-muted tt-small">Nothing is {title[:1].lower()}{title[1:]}.</p>'
    return f'<div class="tt-stack"><h3>{title}</h3><div class="tt-chips">{marks}</div></div>'


def _warnings(choices: Choices, judged: Review) -> list[str]:
    """What does not stop a run but should be known before it starts."""
    config, plan, found = judged.reading.config, judged.plan, judged.problem_set
    if config is None or plan is None or found is None:
        return []
    said = []
    if not found.num_references:
        said.append(
            "No reference answers: the run learns all the same, but only benchmarks can show whether it got better."
        )
    if config.data.held_out_share == 0 and not config.data.benchmarks:
        said.append(
            "Nothing is held out and there is no benchmark: a gain may not carry over, and you would not see it."
        )
    if plan.disk_bytes is not None and plan.disk_bytes > disk(choices.services.settings.data_dir).free_bytes:
        said.append("The disk may fill up. Free some space, or keep fewer checkpoints.")
    if judged.memory is not None and judged.memory.fit == "too large":
        said.append("The memory will not suffice. “Before it starts” has the settings that would make it fit.")
    entry = entry_of(config.model.source)
    if entry is not None and entry.gpu_gib and judged.machine is not None and judged.machine.device == "cpu":
        said.append(f"{entry.title} wants a GPU, and this run computes on the CPU: it will be very slow.")
    if config.vote.num_trained == config.vote.num_votes and config.vote.num_votes > 64:
        said.append("All votes are trained on. The paper trains on half of 64; fewer are usually enough.")
    status, waiting = choices.services.store.worker_status(), choices.services.store.queue()
    if not status.alive:
        said.append("No worker is running: the run will wait until one is started.")
    elif waiting:
        said.append(
            f"{len(waiting)} {'job waits' if len(waiting) == 1 else 'jobs wait'} before it. You can change the "
            "order under Queue."
        )
    return said


def model_html(source: str, judged: ModelCheck | None) -> str:
    """What is known of the chosen model, below its field."""
    source = source.strip()
    if not source:
        return note("No model is chosen.", "Take the bundled one to begin with: it learns on any laptop.", "idle")
    entry = entry_of(source)
    about = f"<p>{escape(entry.note)}</p>" if entry else ""
    if judged is None:
        text = (
            "It is looked up on the hub when you leave the field or press Start; it is downloaded when the run starts."
        )
        return note(entry.title if entry else source[:200], text, "idle", body_html=about)
    if not judged.ok:
        return note("This model cannot be used.", judged.reason, "bad")
    marks = [
        pill("on this machine", "good", "check")
        if judged.cached
        else pill("is downloaded when the run starts", "warn", "download"),
        chip("architecture", judged.architecture or "unknown"),
        chip("parameters", compact(judged.num_parameters) if judged.num_parameters else "known after the download"),
    ]
    if judged.bytes_on_disk:
        marks.append(chip("size", size(judged.bytes_on_disk)))
    if judged.context_tokens:
        marks.append(chip("context", f"{judged.context_tokens:,} tokens"))
    return f'<div class="model-facts">{about}<div class="tt-chips">{"".join(marks)}</div></div>'


def files_html(config: RunConfig | None) -> str:
    """The same run from a terminal, and its file to take along."""
    if config is None:
        return '<p class="tt-muted">The file appears as soon as every setting can be read.</p>'
    data = base64.b64encode(config.to_yaml().encode()).decode()
    link = f'<a class="tt-btn" download="run.yaml" href="data:application/yaml;base64,{data}">Download run.yaml</a>'
    return (
        f'<div class="tt-row"><code>ttrl-studio run run.yaml</code>{link}</div><p class="tt-muted tt-small">'
        "Does the same without a browser.</p>"
    )
