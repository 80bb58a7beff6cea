"""The triage map of a run: every problem by its consensus now and the change since its first vote; and what is chosen.

What is chosen becomes the problem set of a new run: held out, left out, or alone. References go with the problems.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import gradio as gr

from app.format import percent
from app.pages.run_problems import problem_url
from app.services import Services
from ttrl_engine.errors import DataError
from worker.rows import ProblemOverviewRow, RunRow

MOST_SHOWN: Final = 2000
"""So many marks can be told apart and drawn at every refresh; beyond them the problems least agreed on are shown."""

ACTIONS: Final = ("hold", "drop", "only")
_TEXT, _LABEL, _MOST_SAID = 90, 40, 40_000


def triage_map(value: str = "", **options: Any) -> Any:
    """A place for the map; its value is what `dump` gives. `.select` fires for what is opened or chosen, see `said`."""
    return gr.HTML(
        value,
        html_template='<div class="tt-triage"></div>',
        js_on_load="window.ttrl.triage(element, props, watch, trigger)",
        apply_default_css=False,
        **options,
    )


def dump(run: RunRow, overview: Sequence[ProblemOverviewRow]) -> str:
    """The map as the JSON string that static/triage.js draws; problems that are not in the set are left out."""
    known = [row for row in overview if row.idx is not None]
    shown = known if len(known) <= MOST_SHOWN else sorted(known, key=lambda row: row.consensus_last)[:MOST_SHOWN]
    points = [
        [
            row.idx,
            row.problem_id,
            _clip(row.prompt or row.problem_id, _TEXT),
            round(row.consensus_last, 5),
            round(row.consensus_last - row.consensus_first, 5),
            row.flips,
            2 if row.label_correct is None else int(row.label_correct),
            "none elected" if row.last_label is None else _clip(row.last_label, _LABEL),
        ]
        for row in shown
    ]
    data = {
        "title": "Triage map: consensus now against its change since the first vote",
        "text": sentence(known, len(shown)),
        "points": points,
        "can_hold": run.set_num_references > 0,
        "file": f"run-{run.id}-triage",
        "url": problem_url(run.id, ""),
    }
    # Drawn as text in any case; without a "<" no tool on the way can take a name for markup.
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def sentence(rows: Sequence[ProblemOverviewRow], num_shown: int) -> str:
    """The map in words."""
    if not rows:
        return "No problem has voted yet."
    count = len(rows)
    sure = sum(row.consensus_last >= 0.8 for row in rows)
    torn = sum(row.consensus_last < 0.4 for row in rows)
    fell = sum(row.consensus_last < row.consensus_first for row in rows)
    words = (
        f"{count:,} problem{'s have' if count > 1 else ' has'} voted: {sure:,} agree{'' if sure != 1 else 's'} on at "
        f"least {percent(0.8, 0)}, {torn:,} on less than {percent(0.4, 0)}; agreement fell on {fell:,} since the first "
        "vote."
    )
    judged = [row for row in rows if row.label_correct is not None]
    if judged:
        wrong = sum(not row.label_correct for row in judged)
        words += f" {wrong:,} of {len(judged):,} labels with a reference answer are wrong."
    if num_shown < count:
        words += f" Shown are the {num_shown:,} with the least agreement."
    return words


def said(event: gr.EventData) -> tuple[str, str]:
    """(what, value) of the map: "problem" and an id, or one of ACTIONS and the places that are chosen."""
    data = event._data if isinstance(event._data, dict) else {}
    what, _, value = str(data.get("value", ""))[:_MOST_SAID].partition(":")
    return what, value


def places(text: str, count: int) -> frozenset[int]:
    """Places in a set of `count` problems from ranges such as "0-4,7"; DataError for anything else."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in (first, last)):
            raise DataError("The choice could not be read. Reload the page and choose again.")
        if int(last) >= count or int(first) > int(last):
            raise DataError("The choice names problems that this set does not have. Reload the page and choose again.")
        found.update(range(int(first), int(last) + 1))
    return frozenset(found)


def derived_run(services: Services, run: RunRow, action: str, text: str) -> str:
    """Store the problem sets that the choice asks for; the address of New run, filled in with them.

    Raises DataError with a sentence where the choice cannot be made into a run.
    """
    store = services.store
    whole = store.problem_set(run.set_id)
    if action not in ACTIONS:
        raise DataError("The choice could not be read. Reload the page and choose again.")
    if whole is None:
        raise DataError("The problem set of this run is not stored here any more, so no new one can be made from it.")
    chosen = places(text, whole.num_problems)
    wanted = chosen if action == "only" else frozenset(range(whole.num_problems)) - chosen
    if len(wanted) < 2:
        raise DataError(
            f"A run needs at least 2 problems to learn from, and this choice leaves {len(wanted)}. "
            + ("Choose more problems." if action == "only" else "Choose fewer problems.")
        )
    measure = ""
    if action == "hold":
        # First: a refusal must not leave the other set behind.
        measured = store.derive_problem_set(run.set_id, chosen, words=", held out", referenced=True)
        measure = f"&measure={measured}"
    return f"/new?clone={run.id}&set={store.derive_problem_set(run.set_id, wanted)}{measure}"


def _clip(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
