"""The inspector as HTML: the classes of one vote, what could not be read, what a changed rule does, one rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from app import components as ui
from app.actions import action_button
from app.format import percent
from app.pages.inspector import Inspect, Shown, show, shown_spellings, token
from app.pages.run_problems import problem_url, verdict
from app.revotes import Effect
from app.rulings import difference
from ttrl_engine.config import AnswerConfig, TaskKind
from ttrl_engine.revote import Revote, extract_again
from ttrl_engine.tasks import task_for
from ttrl_engine.vote import AnswerClass, Election
from worker.rows import ElectionRow

SHOWN_CLASSES = 60
SHOWN_SPELLINGS = 40
SHOWN_PLACES = 8
# As many as a rollout of 60,000 tokens has; a page must stay a page.
MAX_TEXT = 400_000
# Numbers of the series colours; the last two are for the right answer and for all that have no colour of their own.
_COLORS = (1, 2, 4, 7, 6)
_RIGHT, _OTHER = 3, 8

_KINDS = {
    "math": "Mathematical expression",
    "number": "One number",
    "choice": "Multiple choice",
    "text": "Short text",
    "decision": "Decision out of a list",
    "pattern": "Pattern",
}


def inspector_html(seen: Shown, inspect: Inspect) -> str:
    """Everything below the chart of one problem."""
    parts = [_message(seen, inspect), _vote_card(seen, inspect)]
    if seen.held is not None:
        parts += [_reader(seen, inspect), _rule_card(seen, inspect)]
    return "".join(parts)


def _message(seen: Shown, inspect: Inspect) -> str:
    notes = [inspect.message]
    if seen.failure:
        notes.append(ui.note("The vote cannot be held like this", seen.failure, "warn"))
    if seen.has_saved_rule and inspect.draft is None:
        words = "; ".join(difference(seen.held_under, seen.saved))
        button = action_button("saved", "", "Hold the votes under it", icon_name="play")
        notes.append(
            ui.note(
                "The problem set has a rule of its own since this run began",
                f"{words}. Below is the vote as it was held, without it.",
                body_html=f'<div class="tt-row">{button}</div>',
            )
        )
    return "".join(notes)


# --- the vote -----------------------------------------------------------------------------------------------------


def _vote_card(seen: Shown, inspect: Inspect) -> str:
    title = f"The vote at step {seen.step:,}" + (" under your rule" if inspect.draft is not None else "")
    steps = _stepper(seen)
    if seen.now is None:
        return ui.card(_without_rollouts(seen.stored, seen), title, steps, key="vote")
    election = seen.now.election
    body = [
        f'<p class="tt-muted">{ui.escape(_lead(seen.now))}</p>',
        _disagreement(seen),
        _before_after(seen) if inspect.draft is not None else "",
        _stack(election, _colors(seen)),
        _classes_table(seen, inspect, election),
        _toolbar(seen, inspect),
    ]
    return ui.card(f'<div class="tt-stack inspect">{"".join(body)}</div>', title, steps, key="vote")


def _stepper(seen: Shown) -> str:
    """Back, a slider and on, through the elections of this problem."""
    steps = [each.step for each in seen.history]
    if len(steps) < 2 or seen.step not in steps:
        return ""
    place, last = steps.index(seen.step), len(steps) - 1

    def button(to: int, text: str) -> str:
        off = " disabled" if not 0 <= to <= last else ""
        step = steps[min(max(to, 0), last)]
        url = ui.escape(problem_url(seen.run.id, seen.problem_id, step))
        return (
            f'<button type="button" class="tt-btn tt-btn-small" data-pick="step:{step}" data-href="{url}" '
            f'data-key="{text}"{off}>{text}</button>'
        )

    slider = (
        f'<label class="inspect-slider"><span class="tt-sr">Vote of this problem</span><input type="range" min="0" '
        f'max="{last}" step="1" value="{place}" data-pick-name="turn" data-values="{",".join(map(str, steps))}" '
        f'data-href="{ui.escape(problem_url(seen.run.id, seen.problem_id))}&amp;step=" '
        f'aria-valuetext="step {seen.step}"><output class="tt-num tt-muted">step {seen.step}</output></label>'
    )
    return f"{button(place - 1, 'Earlier')}{slider}{button(place + 1, 'Later')}"


def _lead(vote: Revote) -> str:
    election = vote.election
    outcome = f"Label {show(election.label)}" if election.label is not None else f"No label: {election.abstained}"
    parts = [
        outcome,
        f"{percent(election.consensus, 0)} of {election.num_rollouts} votes",
        f"margin {percent(election.margin, 0)}",
    ]
    if vote.quality is not None:
        parts.append(f"reward accuracy {percent(vote.quality.reward_accuracy, 0)}")
    return " · ".join(parts)


def _disagreement(seen: Shown) -> str:
    """A word where the rollouts on disk do not give the vote that was recorded."""
    if seen.stored is None or seen.held is None:
        return ""
    same_label = (seen.stored.label is None) == (seen.held.election.label is None)
    if same_label and abs(seen.stored.consensus - seen.held.election.consensus) < 1e-9:
        return ""
    was = seen.stored.label if seen.stored.label is not None else f"none, {seen.stored.abstained}"
    text = (
        f"When it was held, the label was {was[:80]} with {percent(seen.stored.consensus, 0)} of "
        f"{seen.stored.num_rollouts} votes. The file may be incomplete, or answers are read better now."
    )
    return ui.note("The stored rollouts give another vote than was recorded", text, "idle")


def _before_after(seen: Shown) -> str:
    if seen.held is None or seen.now is None:
        return ""
    rows = [
        ui.row([name, *(f'<span class="tt-clip">{cell}</span>' for cell in cells)], key=name, wrap=(1, 2))
        for name, cells in _compared(seen.held, seen.now)
    ]
    table = ui.table(("", "As it was held", "Under your rule"), rows, "The vote before and after the change")
    effects = [
        _effect_words(seen.on_problem, "votes of this problem"),
        _effect_words(seen.on_step, f"problems at step {seen.step:,}"),
    ]
    lines = "".join(f"<p>{each}</p>" for each in effects if each)
    return f'<div class="inspect-change">{table}</div><div class="tt-stack" aria-live="polite">{lines}</div>'


def _compared(held: Revote, now: Revote) -> list[tuple[str, list[str]]]:
    both = (held, now)
    labels = [
        ui.escape(show(each.election.label))
        if each.election.label is not None
        else f'<span class="tt-muted">none, {ui.escape(each.election.abstained or "")}</span>'
        for each in both
    ]
    found = [
        ("Label", labels),
        ("Consensus", [percent(each.election.consensus, 0) for each in both]),
        ("Margin", [percent(each.election.margin, 0) for each in both]),
        ("Unreadable", [str(each.election.num_unparsed) for each in both]),
    ]
    if held.quality is not None and now.quality is not None:
        found.insert(1, ("Label is", [verdict(each.quality.label_correct if each.quality else None) for each in both]))
    return found


def _effect_words(effect: Effect | None, things: str) -> str:
    if effect is None:
        return ""
    verb = "would change its label" if effect.changed == 1 else "would change their label"
    words = [f"<b>{effect.changed:,} of {effect.num:,}</b> {ui.escape(things)} {verb}"]
    if 0 < effect.changed <= SHOWN_PLACES and effect.num > 1:
        words.append(f" ({ui.escape(', '.join(place[:60] for place in effect.places))})")
    before, after = percent(effect.consensus_before, 0), percent(effect.consensus_after, 0)
    words.append(f"; consensus {before} to {after}")
    if effect.right_before is not None:
        words.append(f"; right labels {effect.right_before:,} to {effect.right_after:,}")
    if not effect.all_read:
        words.append(". Only the newest were read")
    return "".join(words) + "."


def _colors(seen: Shown) -> list[int]:
    """A colour per class. The right answer, where it is known, has the green that it has in the chart above."""
    if seen.now is None:
        return []
    quality = seen.now.quality
    right = quality.classes_correct if quality else (False,) * seen.now.election.num_classes
    free = iter(_COLORS if any(right) else (*_COLORS, _RIGHT))
    return [_RIGHT if correct else next(free, _OTHER) for correct in right]


def _stack(election: Election, colors: Sequence[int]) -> str:
    """One bar of the whole vote, its parts in the order of the table."""
    parts = []
    rest = 0
    for each, color in zip(election.classes, colors, strict=True):
        if color == _OTHER:
            rest += each.count
        else:
            parts.append(_part(each.count, election.num_rollouts, color, show(each.answer)))
    if rest:
        parts.append(_part(rest, election.num_rollouts, _OTHER, "other answers"))
    if election.num_unparsed:
        parts.append(_part(election.num_unparsed, election.num_rollouts, 5, "no answer read"))
    if election.num_dropped:
        parts.append(_part(election.num_dropped, election.num_rollouts, 8, "called off: decided without them"))
    # The largest are enough to hear.
    named = ", ".join(f"{show(each.answer)[:40]} {each.count}" for each in election.classes[: len(_COLORS)])
    return f'<div class="inspect-stack" role="img" aria-label="Votes: {ui.escape(named)}">{"".join(parts)}</div>'


def _part(count: int, total: int, color: int, name: str) -> str:
    return (
        f'<i style="flex:{count} 0 0;background:var(--tt-c{color})" '
        f'title="{ui.escape(name[:80])}: {count} of {total}"></i>'
    )


def _classes_table(seen: Shown, inspect: Inspect, election: Election) -> str:
    quality = None if seen.now is None else seen.now.quality
    rows: list[str] = []
    colors = _colors(seen)
    for place, each in enumerate(election.classes[:SHOWN_CLASSES]):
        correct = None if quality is None else quality.classes_correct[place]
        won = place == election.winner
        rows += _class_rows(each, colors[place], won, correct, each.count / election.num_rollouts, inspect)
    if len(election.classes) > SHOWN_CLASSES:
        rest = sum(each.count for each in election.classes[SHOWN_CLASSES:])
        left = len(election.classes) - SHOWN_CLASSES
        rows.append(ui.row(["", f'<span class="tt-muted">{left:,} more answers</span>', str(rest), "", ""], right=(2,)))
    reasons: dict[str, int] = {}
    for _, reason in election.unparsed:
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items(), key=lambda each: -each[1]):
        name = f'<span class="inspect-dot" style="background:var(--tt-c5)"></span><i>Not read: {ui.escape(reason)}</i>'
        rows.append(
            ui.row(
                ["", name, str(count), "", _read_button(f"u{token(reason)}", reason)],
                key=f"u{token(reason)}",
                right=(2,),
            )
        )
    if election.num_dropped:
        name = '<span class="tt-muted"><i>Called off: the vote was decided without them</i></span>'
        rows.append(ui.row(["", name, str(election.num_dropped), "", ""], key="dropped", right=(2,)))
    heads = ("Choose", "Answer", "Votes", "Answer is", "")
    return ui.table(heads, rows, "Answers of this vote with their spellings and votes", right=(2,))


def _class_rows(
    each: AnswerClass, color: int, won: bool, correct: bool | None, share: float, inspect: Inspect
) -> list[str]:
    spellings = shown_spellings(each.spellings)
    name = show(each.answer)
    label = ui.pill("label", "live") if won else ""
    answer = (
        f'<div class="inspect-answer"><span class="inspect-dot" style="background:var(--tt-c{color})"></span>'
        f"<b>{ui.escape(name)}</b>{label}</div>{ui.bar(share, label=f'Share of {name[:60]}', thin=True)}"
    )
    first = next(iter(spellings))
    if len(spellings) == 1:
        box = _box(first, inspect, f"Choose {first[:60]}")
    else:
        ticked = " checked" if set(spellings) <= inspect.chosen else ""
        all_of_it = ui.escape(f"Choose all spellings of {name[:60]}")
        pick = f"class:{token(first)}"
        box = f'<input type="checkbox" class="tt-check" data-pick="{pick}" aria-label="{all_of_it}"{ticked}>'
    key = f"c{token(first)}"
    cells = [box, answer, str(each.count), verdict(correct), _read_button(key, name)]
    rows = [ui.row(cells, key=key, right=(2,), wrap=(1,))]
    if len(spellings) == 1:
        return rows
    for spelling, count in list(spellings.items())[:SHOWN_SPELLINGS]:
        box = _box(spelling, inspect, f"Choose the spelling {spelling[:60]}")
        rows.append(
            ui.row(
                [
                    "",
                    f'<label class="inspect-spelling">{box}<code>{ui.escape(spelling)}</code></label>',
                    str(count),
                    "",
                    "",
                ],
                key=f"s{token(spelling)}",
                right=(2,),
                wrap=(1,),
            )
        )
    if len(spellings) > SHOWN_SPELLINGS:
        left = f'<span class="tt-muted">{len(spellings) - SHOWN_SPELLINGS:,} more spellings</span>'
        rows.append(ui.row(["", left, "", "", ""], key=f"m{token(first)}"))
    return rows


def _box(spelling: str, inspect: Inspect, label: str) -> str:
    ticked = " checked" if spelling in inspect.chosen else ""
    return (
        f'<input type="checkbox" class="tt-check" data-pick="chosen" data-group="chosen" value="{token(spelling)}" '
        f'aria-label="{ui.escape(label)}"{ticked}>'
    )


def _read_button(group: str, name: str) -> str:
    return (
        f'<button type="button" class="tt-btn tt-btn-small" data-pick="reading:{group}:0" '
        f'aria-label="{ui.escape(f"Read the rollouts of {name[:60]}")}">Read</button>'
    )


def _toolbar(seen: Shown, inspect: Inspect) -> str:
    chosen = len(inspect.chosen)
    hint = (
        f"{chosen} {'spelling' if chosen == 1 else 'spellings'} chosen" if chosen else "Choose answers or spellings to"
    )
    buttons = [
        f'<span class="tt-muted">{hint}</span>',
        _with_choice("merge", "Make one answer", chosen < 2),
        _with_choice("split", "Split apart", chosen < 1),
        action_button("undo", "", "Undo", disabled=not inspect.undo, title="Go back by one change"),
    ]
    if inspect.draft is not None:
        buttons.append(action_button("discard", "", "As it was held", title="Leave the rule and show the vote as held"))
    unsaved = inspect.draft is not None and inspect.draft != (inspect.opened or seen.saved)
    buttons.append(
        action_button(
            "save",
            "",
            "Save for the problem set",
            look="primary",
            disabled=not unsaved or bool(seen.failure),
            title="Later runs read answers like this; runs that were started keep their own rule",
        )
    )
    return f'<div class="tt-row inspect-tools" role="group" aria-label="Change this vote">{"".join(buttons)}</div>'


def _with_choice(act: str, text: str, disabled: bool) -> str:
    """A button whose click carries the ticked boxes: it must not wait for the server to hear of the last one."""
    off = " disabled" if disabled else ""
    return (
        f'<button type="button" class="tt-btn tt-btn-small" data-pick="{act}" data-with="chosen" data-key="{act}"{off}>'
        f"{ui.escape(text)}</button>"
    )


def _without_rollouts(stored: ElectionRow | None, seen: Shown) -> str:
    """What the database alone still knows."""
    if stored is None:
        return ui.empty("No vote at this step", "Choose a bar of the chart above.", icon_name="chart")
    outcome = f"Label {stored.label}" if stored.label is not None else f"No label elected: {stored.abstained}"
    share, margin = percent(stored.consensus, 0), percent(stored.margin, 0)
    lead = f"{outcome} · {share} of {stored.num_rollouts} votes · margin {margin}"
    rows = [
        ui.row(
            [f"<b>{ui.escape(part.answer[:300])}</b>", str(part.count), verdict(part.correct)], right=(1,), wrap=(0,)
        )
        for part in stored.classes
    ]
    if stored.num_unparsed:
        rows.append(ui.row(["<i>Not read</i>", str(stored.num_unparsed), ""], right=(1,)))
    table = ui.table(("Answer", "Votes", "Answer is"), rows, "Answers of this vote", right=(1,))
    gone = "" if seen.failure else "The rollouts of this step are no longer on disk, so the vote cannot be held again."
    return f'<p class="tt-muted">{ui.escape(lead)}</p><p class="tt-muted">{gone}</p>{table}'


# --- one rollout --------------------------------------------------------------------------------------------------


def _reader(seen: Shown, inspect: Inspect) -> str:
    """One rollout in full, with the way to the others of its group."""
    if inspect.reading is None or seen.now is None:
        return ""
    group, wanted = inspect.reading
    title, members = _group(seen.now.election, group)
    if not members:
        return ""
    place = min(wanted, len(members) - 1)
    row = seen.rows[members[place]]
    text = str(row.get("text", ""))
    cut = (
        "" if len(text) <= MAX_TEXT else f'<p class="tt-muted">Cut after {MAX_TEXT:,} of {len(text):,} characters.</p>'
    )
    back = action_button("reading", f"{group}:{max(0, place - 1)}", "Previous", disabled=place == 0)
    on = action_button("reading", f"{group}:{place + 1}", "Next", disabled=place == len(members) - 1)
    close = action_button("reading", "", "Close")
    where = f'<span class="tt-muted tt-num">{place + 1} of {len(members)}</span>'
    body = (
        f'<p class="tt-muted tt-small">{ui.escape(_facts(row, _read_as(seen, row, inspect)))}</p>'
        f'<pre tabindex="0" class="inspect-text">{ui.escape(text[:MAX_TEXT])}</pre>{cut}'
    )
    return ui.card(body, title, f"{back}{where}{on}{close}", key="reader")


def _group(election: Election, group: str) -> tuple[str, tuple[int, ...]]:
    for each in election.classes:
        if group == f"c{token(show(each.spellings[0][0]))}":
            return f"Rollouts that answered {show(each.answer)[:80]}", each.members
    members = [(index, reason) for index, reason in election.unparsed if group == f"u{token(reason)}"]
    return (f"Not read: {members[0][1]}" if members else "", tuple(index for index, _ in members))


def _read_as(seen: Shown, row: Mapping[str, Any], inspect: Inspect) -> str:
    if seen.now is None:
        return ""
    task = task_for(seen.held_under if inspect.draft is None else inspect.draft)
    [found] = extract_again([row], task, seen.now.problem)
    return f"read as {show(found.raw)}" if found.raw is not None else ""


def _facts(row: Mapping[str, Any], read_as: str) -> str:
    endings = {"length": "cut off", "dropped": "called off"}
    facts = [
        f"rollout {row.get('index', '?')}",
        read_as,
        f"reward {row.get('reward', '?')} when it was held",
        f"{row.get('length', '?')} tokens",
        "trained" if row.get("trained") else "only voted",
        endings.get(str(row.get("finish")), ""),
    ]
    return " · ".join(fact for fact in facts if fact)


# --- the rule -----------------------------------------------------------------------------------------------------


def _rule_card(seen: Shown, inspect: Inspect) -> str:
    """The kind of answer and its settings, as fields that act at once."""
    rule = seen.held_under if inspect.draft is None else inspect.draft
    kind = rule.kind or "math"
    fields = [
        _select("kind", "Kind of answer", [(each, _KINDS[each]) for each in get_args(TaskKind)], kind),
    ]
    if kind != "pattern":
        options = [("", "Boxed, else stated"), ("boxed", "Boxed only")]
        fields.append(_select("read", "Where answers are read", options, "boxed" if rule.read == "boxed" else ""))
    if kind == "decision":
        fields.append(_typed("labels", "Decisions, separated by commas", ", ".join(rule.labels), "yes, no"))
    if kind == "pattern":
        fields.append(_typed("pattern", "Pattern (regular expression)", rule.pattern or "", r"answer\s*=\s*(\d+)"))
    if kind == "number":
        fields.append(_typed("unit", "Unit", rule.unit or "", "any"))
        tolerance = "" if rule.tolerance is None else f"{rule.tolerance:g}"
        fields.append(_typed("tolerance", "Tolerance (relative)", tolerance, "exact"))
    rulings = [
        ("merged in this problem", sum(each.problem_id == seen.problem_id for each in rule.merges)),
        ("split in this problem", sum(each.problem_id == seen.problem_id for each in rule.detached)),
        ("problems with a word of yours", len(_spoken_of(rule))),
    ]
    note = (
        "A change is tried on the stored rollouts at once, and on nothing else. Saved, it holds for runs that are "
        "started later; this run keeps the rule it was started with."
    )
    body = (
        f'<div class="inspect-fields">{"".join(fields)}</div>{ui.chips(rulings)}<p class="tt-muted tt-small">{note}</p>'
    )
    return ui.card(body, "How answers are read and compared", key="rule")


def _spoken_of(rule: AnswerConfig) -> set[str]:
    return {each.problem_id for each in rule.merges} | {each.problem_id for each in rule.detached}


def _select(name: str, label: str, options: Sequence[tuple[str, str]], chosen: str) -> str:
    choices = "".join(
        f'<option value="{ui.escape(value)}"{" selected" if value == chosen else ""}>{ui.escape(words)}</option>'
        for value, words in options
    )
    return (
        f'<label class="inspect-field" data-key="f-{name}"><span>{ui.escape(label)}</span>'
        f'<select data-pick-name="{name}">{choices}</select></label>'
    )


def _typed(name: str, label: str, value: str, hint: str) -> str:
    return (
        f'<label class="inspect-field" data-key="f-{name}"><span>{ui.escape(label)}</span>'
        f'<input type="text" data-pick-name="{name}" value="{ui.escape(value)}" placeholder="{ui.escape(hint)}" '
        f'autocomplete="off" spellcheck="false" maxlength="2000"></label>'
    )
