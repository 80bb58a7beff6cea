"""The blind comparison as HTML: where it stands, the pair in question, and the result once the session has ended."""

from __future__ import annotations

from urllib.parse import quote

from app import components as ui
from app.actions import action_button
from app.blind import Item, Session, Share, Tally, tally
from app.format import interval, moment, percent
from app.mathtext import math_html
from app.pages.runs_pair_view import p_words
from worker.rows import BlindSaid, BlindSessionRow, ComparisonRow, RunRow

_TEXT_CHARACTERS = 20_000
CHOICES: tuple[tuple[BlindSaid, str], ...] = (
    ("left", "Left is better"),
    ("right", "Right is better"),
    ("tie", "Equally good"),
    ("both_bad", "Both are bad"),
)


def head_html(run: RunRow | None) -> str:
    """The heading; without a run, the way to one."""
    if run is None:
        pick = ui.link_button("Pick a run", "/compare", icon_name="compare", look="primary")
        text = "Open Compare, pick a run, and choose “Judge blindly” there."
        return ui.page_head("Blind comparison") + ui.card(ui.empty("Which run?", text, pick, "compare"))
    lead = "Which answer is better? You do not see which model wrote it until you end the session."
    links = ui.link_button("New session", f"/blind?run={run.id}", icon_name="plus")
    links += ui.link_button("Compare", f"/compare?run={run.id}", icon_name="compare")
    return ui.page_head(f"Blind comparison: {run.name}", lead, links)


def stage_html(session: Session | None) -> str:
    """Where a session stands, with what can be done about it."""
    if session is None:
        return ""
    job, comparison = session.comparison.job, session.comparison
    if not session.ready:
        total = comparison.total or 0
        share = (comparison.done or 0) / total if total else None
        words = f"<b>{comparison.done or 0:,} of {total:,} answers</b>" if total else f"<b>{job.state.capitalize()}</b>"
        stop = action_button("stop", job.id, "Stop", title="Judge what has been answered by then")
        body = ui.progress(share, words, label="Progress of the answers")
        return ui.card(body, "Both models answer", stop, key="stage")
    if not session.items:
        return _nothing(session)
    done, total = len([item for item in session.items if session.voted(item)]), len(session.items)
    words = f"All {total} judged" if done == total else f"{done} of {total} judged"
    undo = action_button("undo", session.row.id, "Undo", title="Take back the last vote (U)", disabled=not done)
    end = action_button(
        "end",
        session.row.id,
        "End and show the names",
        look="primary" if done == total else "",
        disabled=not done,
        ask="End this session?",
        confirm="The names and the result are shown, and no vote can be added or taken back after that.",
        yes="Show the names",
    )
    if session.ended:
        undo = end = ""
    same = _same_words(session)
    return ui.card(
        ui.progress(done / total, f"<b>{words}</b>", label="Progress of the session") + same,
        "Result" if session.ended else "Your verdict",
        undo + end,
        key="stage",
    )


def _nothing(session: Session) -> str:
    job = session.comparison.job
    if session.num_same:
        text = (
            f"All {session.num_same} pairs hold the same text twice. Raise the temperature, or draw from another set."
        )
    else:
        text = (
            f"{job.error_message or job.reason or 'Nothing was answered.'} {job.error_hint or 'Start another session.'}"
        )
    return ui.note("There is nothing to judge.", text, "warn")


def _same_words(session: Session) -> str:
    if not session.num_same:
        return ""
    pairs = "pair holds" if session.num_same == 1 else "pairs hold"
    return f'<p class="tt-muted tt-small">{session.num_same} more {pairs} the same text twice and are not asked.</p>'


def question_html(item: Item) -> str:
    """The problem and both answers, without names; for the part that draws formulas."""
    options = "".join(f"<li>{math_html(choice)}</li>" for choice in item.problem.choices)
    listed = f'<ul class="problem-choices">{options}</ul>' if options else ""
    columns = "".join(
        f'<div class="problem blind-answer"><div class="blind-side">{title}</div><div class="problem-text">'
        f"{math_html(str(item.answers[side]['text'])[:_TEXT_CHARACTERS].strip() or '(empty)')}</div></div>"
        for title, side in (("Left", item.left), ("Right", item.right))
    )
    return (
        f'<div class="problems"><div class="problem"><div class="problem-text">{math_html(item.problem.prompt)}</div>'
        f'{listed}</div><div class="compare-grid">{columns}</div></div>'
    )


def buttons_html(place: int) -> str:
    """The four verdicts; `place` is that of the pair, so that a verdict is on the pair that was seen."""
    buttons = "".join(
        f'<button type="button" class="tt-btn" data-pick="{said}:{place}" data-key="{said}" data-hotkey="{number}" '
        f'aria-keyshortcuts="{number}"><kbd>{number}</kbd>{words}</button>'
        for number, (said, words) in enumerate(CHOICES, 1)
    )
    return f'<div class="tt-row blind-buttons" role="group" aria-label="Your verdict">{buttons}</div>'


# --- the result ----------------------------------------------------------------------------------------------------


def result_html(run: RunRow, session: Session | None) -> str:
    """The tally with names and the pairs; empty before the session has ended."""
    if session is None or not session.ended:
        return ""
    counts = tally(session.items, session.votes)
    parts = [
        ui.tile("Adapted preferred", str(counts.adapted.num), [_of(counts.adapted)]),
        ui.tile("Base preferred", str(counts.adapted.total - counts.adapted.num), [_of_rest(counts.adapted)]),
        ui.tile("Equally good", str(counts.num_ties), [f"of {counts.num_votes} votes"]),
        ui.tile("Both bad", str(counts.num_both_bad), [f"of {counts.num_votes} votes"]),
    ]
    lines = "".join(f"<p>{ui.escape(line)}</p>" for line in sentences(counts))
    what = f"{run.model} against step {session.comparison.step:,}" if session.comparison.step else run.model
    sample = f'<p class="tt-muted tt-small">{ui.escape(what)}, temperature {session.comparison.temperature:g}.</p>'
    body = f'<div class="tt-stack">{ui.tiles(parts)}{lines}{sample}</div>'
    return ui.card(body, "What you preferred", key="blind-result") + _pairs(session)


def _of(share: Share) -> str:
    if not share.total:
        return "no vote preferred one"
    return f"{percent(share.num / share.total)} {interval(*share.interval)} of {share.total}"


def _of_rest(share: Share) -> str:
    return _of(Share(share.total - share.num, share.total))


def sentences(counts: Tally) -> list[str]:
    """The result and the position bias in words."""
    adapted, left = counts.adapted, counts.left
    if not adapted.total:
        return ["No vote preferred one answer, so nothing can be said about which model is better."]
    share = f"{percent(adapted.num / adapted.total)} {interval(*adapted.interval)}"
    test = f"n = {adapted.total} votes that preferred one, exact sign test {p_words(adapted.p)}"
    if not adapted.established:
        first = f"Not established which is better: the adapted answer was preferred in {share} ({test})."
    else:
        better = "adapted" if 2 * adapted.num > adapted.total else "base"
        first = f"The {better} answer is preferred: the adapted one won {share} ({test})."
    side = f"{percent(left.num / left.total)} {interval(*left.interval)} of these votes went to the left"
    bias = "which hints at a habit of the side" if left.established else "no habit of the side can be seen"
    return [first, f"{side}, {p_words(left.p)}: {bias}. The sides were drawn at random."]


def _pairs(session: Session) -> str:
    words = dict(CHOICES)
    rows = []
    for item in session.items:
        vote = session.votes.get(item.problem.problem_id)
        if vote is None:
            continue
        winner = item.winner(vote)
        verdict = ui.pill(f"{winner} better", "good" if winner == "adapted" else "warn") if winner else words[vote.said]
        url = f"/compare?run={session.comparison.run_id}&id={session.comparison.id}&problem="
        name = ui.escape(url) + quote(item.problem.problem_id, safe="")
        text = f'<a class="tt-clip" href="{name}">{ui.escape(" ".join(item.problem.prompt.split())[:300])}</a>'
        rows.append(ui.row([text, item.left, item.right, verdict], key=item.problem.problem_id, wrap=(0,)))
    heads = ("Problem", "Left was", "Right was", "You said")
    return ui.card(ui.table(heads, rows, "The pairs that were judged"), "The pairs", flush=True, key="blind-pairs")


def earlier_html(sessions: list[tuple[BlindSessionRow, ComparisonRow, str]], current: int | None, now: float) -> str:
    """All sessions on a run, newest first: (session, its comparison, the set's name)."""
    if not sessions:
        return ""
    rows = [
        ui.row(
            [
                f'<a class="tt-strong" href="/blind?session={row.id}">Session {row.id}</a>',
                f"{ui.escape(name)}, {len(comparison.problem_ids)} problems",
                "ended"
                if row.ended_at
                else ui.state_pill(comparison.state)
                if not comparison.job.is_terminal
                else "open",
                ui.escape(moment(row.created_at, now)),
            ],
            key=row.id,
            wrap=(1,),
            selected=row.id == current,
        )
        for row, comparison, name in sessions
    ]
    return ui.card(ui.table(("Session", "Drawn from", "State", "Started"), rows, "Sessions"), "Sessions", flush=True)
