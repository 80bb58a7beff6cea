"""The form of the page Compare that puts a whole set to both models."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.choices import Choices, set_label
from app.services import Services
from ttrl_engine.errors import StudioError
from worker.rows import RunRow
from worker.store.comparisons import MAX_PROBLEMS


@dataclass(frozen=True)
class SetForm:
    """Its fields, in the order in which `ask_set` takes their values."""

    chosen: Any
    num_problems: Any
    num_samples: Any
    temperature: Any
    weights: Any
    go: Any
    message: Any

    @classmethod
    def draw(cls) -> SetForm:
        """The fields, empty; `set_choices` and the weights fill them."""
        with gr.Column(elem_classes=["form-card"]):
            gr.HTML('<h2 class="tt-h2">Ask both about a whole set</h2>', apply_default_css=False)
            with gr.Row(elem_classes=["ask-row"]):
                chosen = gr.Dropdown([], label="Problem set", elem_id="set-chosen", scale=2, min_width=280)
                num_problems = gr.Number(
                    50,
                    label="Problems",
                    info="Drawn at random.",
                    minimum=1,
                    maximum=MAX_PROBLEMS,
                    precision=0,
                    elem_id="set-problems",
                    min_width=140,
                )
            with gr.Row(elem_classes=["ask-row"]):
                num_samples = gr.Slider(
                    1,
                    64,
                    value=8,
                    step=1,
                    label="Answers each",
                    elem_id="set-samples",
                    min_width=220,
                )
                temperature = gr.Slider(
                    0.1, 1.5, value=0.6, step=0.05, label="Temperature (set)", elem_id="set-temperature", min_width=220
                )
                weights = gr.Dropdown([], label="Weights (set)", elem_id="set-weights", min_width=160)
            go = gr.Button("Compare on the set", elem_id="ask-set")
            message = gr.HTML("", apply_default_css=False, elem_id="set-message")
        return cls(chosen, num_problems, num_samples, temperature, weights, go, message)

    @property
    def fields(self) -> list[Any]:
        """What a person fills in."""
        return [self.chosen, self.num_problems, self.num_samples, self.temperature, self.weights]


def set_choices(choices: Choices, run: RunRow) -> list[tuple[str, str]]:
    """(label, id) of every stored set whose answers the run's rule can read, the run's own first."""
    kind = run.config.answers.kind or "math"
    readable = [each for each in choices.problem_sets() if each.kind == kind or each.id == run.set_id]
    found = sorted(readable, key=lambda each: each.id != run.set_id)
    own = choices.services.store.problem_set(run.set_id)
    if own is not None and all(each.id != own.id for each in found):
        found.insert(0, own)
    return [(set_label(each), each.id) for each in found]


def ask_set(
    services: Services,
    run: RunRow | None,
    client_id: str,
    set_id: str | None,
    num_problems: float | None,
    num_samples: float,
    temperature: float,
    step: float | None,
    blind_seed: int | None = None,
) -> int:
    """Queue a comparison over problems drawn at random from a set, with `blind_seed` to be judged blindly; returns its
    id. Raises StudioError."""
    if run is None:
        raise StudioError("Pick a run first.")
    found = services.store.problem_set(set_id or "")
    if found is None:
        raise StudioError("Choose a problem set; the one that was chosen is not stored here any more.")
    if not num_problems or not 1 <= num_problems <= MAX_PROBLEMS:
        raise StudioError(f"Ask about 1 to {MAX_PROBLEMS:,} problems.")
    names = [row.problem_id for row in services.store.problems_page(found.id, 0, found.num_problems)]
    seed = secrets.randbits(31)
    drawn = set(random.Random(seed).sample(names, min(int(num_problems), len(names))))
    return services.desk.submit_set_comparison(
        run.id,
        found.id,
        [name for name in names if name in drawn],
        client_id,
        step=int(step) if step else None,
        num_samples=int(num_samples),
        temperature=float(temperature),
        max_new_tokens=run.config.vote.max_new_tokens,
        seed=seed,
        blind_seed=blind_seed,
    )


def weights_choices(services: Services, run: RunRow) -> list[tuple[str, int]]:
    """(label, step) of what can be loaded, 0 for the final weights; newest first."""
    found = [("final", 0)] if run.policy_path else []
    saved = [row for row in services.store.checkpoints(run.id) if Path(row.path).is_dir()]
    return found + [(f"step {row.step:,}", row.step) for row in sorted(saved, key=lambda row: -row.step)]
