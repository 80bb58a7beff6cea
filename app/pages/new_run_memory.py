"""The memory of a run as the new-run page shows it: two bars, a table of the parts, buttons that would lower it."""

from __future__ import annotations

from app.components import escape, note, pill, row, table
from app.config_form import field, shown_value, value_of
from app.format import size
from app.memory_plan import MemoryPlan
from ttrl_engine.config import RunConfig
from ttrl_engine.memory import Estimate, Part, Remedy, When
from ttrl_engine.models import ModelCheck

# Part of an estimate -> what it is in words, and the number of its colour.
PARTS: dict[str, tuple[str, int]] = {
    "weights": ("Weights of the model", 1),
    "half weights": ("Weights in half precision", 1),
    "sampling weights": ("Copy of the weights that samples", 1),
    "vllm weights": ("Weights in vLLM", 1),
    "adapter": ("Adapter", 1),
    "folded adapter": ("Weights with the adapter added", 1),
    "reference": ("Base model, for the KL term", 1),
    "optimizer": ("Optimizer", 2),
    "gradients": ("Gradients", 2),
    "folded gradients": ("Gradients of the weights with the adapter", 2),
    "key-value cache": ("Key-value cache of the answers", 3),
    "sampling": ("Next-token scores", 4),
    "activations": ("Activations of a micro-batch", 4),
    "head": ("Token scores of a micro-batch", 4),
    "process": ("Libraries and driver", 8),
    "vllm fixed": ("vLLM itself", 8),
    "fragmentation": ("Held by the allocator, unused", 8),
}
_WHEN: dict[When, str] = {"always": "all the time", "sampling": "sampling", "updating": "updating"}
_FITS = {
    "fits": ("Fits", "good", "check"),
    "tight": ("Tight", "warn", "warning"),
    "too large": ("Does not fit", "bad", "error"),
}
_PICK = "remedy:"


def memory_words(plan: MemoryPlan | None) -> str:
    """The verdict on one line."""
    if plan is None:
        return "not known before the model is looked up"
    machine, total = plan.machine, size(plan.estimate.total)
    if plan.fit is None or machine.total is None:
        return f"about {total}; no GPU is seen here"
    return f"about {total} of {size(machine.total)}: {_FITS[plan.fit][0].lower()}"


def memory_html(plan: MemoryPlan | None, model: ModelCheck | None, source: str) -> str:
    """The whole part. What is not known is said, with what to do about it."""
    if plan is None:
        return note("The memory is not known yet.", _why_unknown(model, source), "idle")
    found, machine = plan.estimate, plan.machine
    peak = f"about <b>{size(found.total)}</b> at its peak"
    if plan.fit is None or machine.total is None:
        head = f"<p>The run needs {peak} on a GPU, and this machine shows none. Choose another device, or a GPU.</p>"
    else:
        word, look, icon_name = _FITS[plan.fit]
        head = (
            f'<p class="tt-row">{pill(word, look, icon_name)}<span>{peak}, of {size(machine.total)} '
            f"({escape(machine.name)}).</span></p>{_engine(found)}{_free(plan)}"
        )
    bars = _bar(found, "sampling", machine.total) + _bar(found, "updating", machine.total)
    return (
        f'<div class="tt-stack memory"><h3>Memory</h3>{head}<div class="memory-bars">{bars}</div>'
        f'<details data-key="memory-parts"><summary>What takes it</summary>{_parts(found)}'
        '<p class="tt-muted tt-small">An estimate from the sizes of the model and the settings. Sampling and '
        f"updating take turns, so the larger of the two counts.</p></details>{_remedies(plan)}</div>"
    )


def picked_remedy(plan: MemoryPlan | None, value: str) -> Remedy | None:
    """The remedy behind a button, if it is among those offered now."""
    if plan is None or not value.startswith(_PICK):
        return None
    return next((remedy for remedy in plan.remedies if remedy.title == value.removeprefix(_PICK)), None)


def _why_unknown(model: ModelCheck | None, source: str) -> str:
    if not source.strip() or (model is not None and not model.ok):
        return "Choose a model that can be used; it follows from the model's sizes."
    if model is not None:
        return "The model's config does not give all of its sizes. The run can start all the same."
    return "It follows from the model's sizes, which are looked up on the hub when you choose the model there."


def _free(plan: MemoryPlan) -> str:
    free = plan.machine.free
    if plan.fit == "too large" or free is None or free >= plan.estimate.total:
        return ""
    return f'<p class="tt-muted">Only {size(free)} of it is free right now; other programs would have to end first.</p>'


def _engine(found: Estimate) -> str:
    """What vLLM gets of the GPU."""
    split = found.split
    if split is None:
        return ""
    if not split.fits:
        return f'<p class="tt-muted">vLLM alone would take {size(split.engine)}; beside the weights there is less.</p>'
    sleeping = " and gives it back for every update, as both do not fit at once" if split.sleeps else ""
    return f'<p class="tt-muted">vLLM takes {size(split.engine)} of it{sleeping}.</p>'


def _bar(found: Estimate, phase: When, total: int | None) -> str:
    """One phase of a step, to the scale of the machine or of the peak, whichever is larger."""
    parts = [part for part in found.parts if part.when in ("always", phase)]
    needed = sum(part.bytes for part in parts)
    scale = max(found.total, total or 0)
    pieces = "".join(
        f'<i class="memory-c{_colour(part)}" style="width:{100 * part.bytes / scale:.2f}%"></i>'
        for part in sorted(parts, key=_colour)
    )
    limit = f'<u style="left:{100 * total / scale:.2f}%"></u>' if total and total < scale else ""
    return (
        f"<span>{_WHEN[phase].capitalize()}</span>"
        f'<span class="memory-bar" aria-hidden="true">{pieces}{limit}</span><b class="tt-num">{size(needed)}</b>'
    )


def _parts(found: Estimate) -> str:
    ordered = sorted(found.parts, key=lambda part: -part.bytes)
    rows = [
        row(
            [
                f'<i class="memory-swatch memory-c{_colour(part)}" aria-hidden="true"></i>{escape(_words(part))}',
                escape(_WHEN[part.when]),
                f'<span class="tt-num">{size(part.bytes)}</span>',
            ],
            right=(2,),
        )
        for part in ordered
    ]
    return table(("Part", "When", "Size"), rows, "Memory by part", right=(2,))


def _remedies(plan: MemoryPlan) -> str:
    if not plan.remedies:
        return ""
    buttons = "".join(_remedy(remedy, plan.estimate.config) for remedy in plan.remedies)
    if plan.fit == "fits":
        body = f"<summary>Settings that would need less</summary>{buttons}"
        return f'<details class="remedies" data-key="remedies">{body}</details>'
    return f'<div class="remedies"><h4>Settings that would need less</h4>{buttons}</div>'


def _remedy(remedy: Remedy, config: RunConfig) -> str:
    changed = {name: value for name, value in remedy.changes.items() if value != value_of(config, name)}
    sets = ", ".join(f"{field(name).title}: {shown_value(value)}" for name, value in changed.items())
    verdict = pill("fits", "good", "check") if remedy.fits else pill("not enough alone", "idle")
    effect = "same result, slower" if remedy.keeps_result else "changes the run"
    title = escape(remedy.title)
    return (
        f'<div class="remedy"><button type="button" class="tt-btn tt-btn-small" data-pick="{_PICK}{title}" '
        f'data-key="remedy-{title}">{title}</button><span class="tt-muted tt-small">{escape(sets)} · {effect}</span>'
        f"<span>{size(remedy.total)} {verdict}</span></div>"
    )


def _words(part: Part) -> str:
    return PARTS[part.name][0] if part.name in PARTS else part.name.capitalize()


def _colour(part: Part) -> int:
    return PARTS[part.name][1] if part.name in PARTS else 8
