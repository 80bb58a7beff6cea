"""Compare without a run: pick one."""

from __future__ import annotations

from app.components import card, empty, escape, link_button, note, page_head, row, state_pill, table
from app.evaluations import gain_words, newest_of
from worker.store import Store


def choose_run_html(store: Store, asked: int | None) -> str:
    """Every run with weights to compare. `asked` is a run that the address named in vain."""
    head = page_head(
        "Compare", "Pick a run: its base model and what it became answer the same questions, side by side."
    )
    if asked is not None:
        head += note("That run is not here.", f"There is no run {asked}. Pick one below.", "warn")
    runs = [run for run in store.runs(limit=100) if run.policy_path or store.checkpoints(run.id)]
    if not runs:
        start = link_button("New run", "/new", icon_name="plus", look="primary")
        return head + card(
            empty(
                "No run to compare yet",
                "A run can be compared from its first checkpoint on. Start one.",
                start,
                "compare",
            )
        )
    rows = [
        row(
            [
                state_pill(run.state),
                f'<a class="tt-strong" href="/compare?run={run.id}">{escape(run.name)}</a>',
                escape(run.model),
                escape(gain_words(newest_of(store.standing_evaluations(run.id), "held_out"))),
                link_button("Compare", f"/compare?run={run.id}", icon_name="compare"),
            ],
            key=run.id,
            wrap=(1,),
            right=(4,),
        )
        for run in runs
    ]
    return head + card(
        table(("State", "Run", "Base model", "Held-out gain", ""), rows, "Runs that can be compared", right=(4,)),
        "Runs",
        flush=True,
    )
