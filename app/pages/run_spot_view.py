"""The spot check as HTML and charts: where it stands, the question, what it found, and the calibration."""

from __future__ import annotations

from app import components as ui
from app.actions import action_button
from app.charts import Chart, Series
from app.format import interval, percent
from app.pages.run_problems import problem_url
from app.spot_checks import LEAST, Checked, SpotCheck, Standing, Tally
from ttrl_engine.calibration import Bin, Calibration
from worker.rows import RunRow, SpotVerdictRow
from worker.store.spot_checks import SPOT_CHECK_SIZE

_SAID = {"answer": "Answer", "right": "Label confirmed", "wrong": "Label rejected", "skip": "Not known"}
_MARKS = {
    Standing.RIGHT: ui.pill("right", "good", "check"),
    Standing.WRONG: ui.pill("wrong", "bad", "cross"),
    Standing.OPEN: ui.pill("changed since", "warn", "question"),
    Standing.SKIPPED: ui.pill("not counted", "idle", "dash"),
    Standing.PENDING: '<span class="tt-muted">to be checked</span>',
}


def spot_url(run_id: int) -> str:
    """The address of a run's spot check."""
    return f"/run?id={run_id}&tab=spot"


def tile(run: RunRow, check: SpotCheck | None) -> str:
    """The tile beside the other numbers: what the check found, or the way there. Empty where references say it all."""
    help_text = "Share of labels that are right by a person's word, of problems drawn at random. It only measures."
    link = f'<a href="{spot_url(run.id)}">{{}}</a>'
    if check is None or check.now.accuracy is None:
        if run.set_num_references:
            return ""
        words = f"check {SPOT_CHECK_SIZE} to unlock" if check is None else "go on with the spot check"
        notes, linked = ["no reference answers"], link.format(words)
        return ui.tile("Pseudo-label accuracy", "unknown", notes, unknown=True, help_text=help_text, link_html=linked)
    notes = [f"95 % {_unbroken(check.now)}", counts_words(check), f"labels at step {check.now.step}"]
    title = "Label accuracy, spot check"
    return ui.tile(title, percent(check.now.accuracy), notes, help_text=help_text, link_html=link.format("the check"))


# --- where it stands -----------------------------------------------------------------------------------------------


def head(run: RunRow, check: SpotCheck | None, num_pool: int, next_up: Checked | None) -> str:
    """What a spot check is, how far it is, and the button that draws."""
    if check is None:
        return _before(run, num_pool)
    done = sum(not each.to_ask for each in check.problems)
    total = len(check.problems)
    words = f"{done} of {total} done" if next_up is not None else f"All {total} done"
    facts = ui.chips(
        [
            ("drawn at step", f"{check.row.step:,}"),
            ("of", f"{check.row.num_eligible:,} problems"),
            ("seed", check.row.seed),
            *([("draw", f"no. {check.row.number}")] if check.row.number > 1 else []),
        ]
    )
    again = ""
    if num_pool:
        again = action_button(
            "redraw",
            run.id,
            "Draw anew",
            look="quiet",
            ask="Draw other problems?",
            confirm="The answers given so far leave this page. Drawing until the result pleases makes it worthless: "
            "draw anew only when other problems are wanted for a reason.",
            yes="Draw anew",
        )
    undo = action_button("undo", check.row.id, "Undo", title="Take back the last verdict", disabled=not _any(check))
    bar = ui.progress(done / max(1, total), ui.escape(words), label="Progress of the spot check")
    return ui.card(bar + facts, "Spot check", undo + again, key="spot-head")


def _any(check: SpotCheck) -> bool:
    return any(each.said for each in check.problems)


def _before(run: RunRow, num_pool: int) -> str:
    if not num_pool:
        if run.set_num_references and run.step:
            why = "Every problem that has voted has a reference answer, so the accuracy of its label is known."
        else:
            why = "No problem has voted yet. A sample can be drawn after the first step."
        return ui.card(ui.empty("Nothing to check", why, icon_name="question"), key="spot-head")
    num = min(SPOT_CHECK_SIZE, num_pool)
    which = "problems without a reference answer" if run.set_num_references else "problems"
    text = (
        f"{num} of the {num_pool:,} {which} that have voted are drawn at random. You answer them, or look at the "
        "model's label and confirm or reject it. The share of right labels then appears with its interval. "
        "It only measures: nothing of it reaches the reward, this run or a later one."
    )
    button = action_button("draw", run.id, f"Draw {num} problems", look="primary")
    return ui.card(ui.empty("How many of the labels are right?", text, button, icon_name="question"), key="spot-head")


# --- the question --------------------------------------------------------------------------------------------------


def question_buttons(asked: Checked | None, *, revealed: bool) -> str:
    """What can be said without typing. A verdict on the label names the step whose label was seen."""
    if asked is None:
        return ""
    step, skip = asked.newest.step, action_button("skip", asked.newest.step, "I don't know", title="It is not counted")
    if not revealed:
        return f'<div class="tt-row">{action_button("reveal", step, "Show the label")}{skip}</div>'
    if asked.newest.label is None:
        text = f"The vote of step {step:,} elected no label. That counts as not right."
        buttons = action_button("wrong", step, "Go on", look="primary") + skip
        return f'<p role="status">{text}</p><div class="tt-row">{buttons}</div>'
    shown = f'<span class="answer-chip">{ui.escape(asked.newest.label[:400])}</span>'
    buttons = action_button("right", step, "It is right", icon_name="check")
    buttons += action_button("wrong", step, "It is wrong", icon_name="cross") + skip
    return (
        f'<p role="status">Label at step {step:,}: {shown} '
        f'<span class="tt-muted">{percent(asked.newest.consensus, 0)} of the votes</span></p>'
        f'<div class="tt-row">{buttons}</div>'
    )


def verdict_note(checked: Checked) -> str:
    """What the last verdict came to."""
    last = checked.said[-1]
    name = f"Problem {checked.problem.problem_id[:80]}"
    if last.said == "skip":
        return ui.note(f"{name}: not counted", "", "idle")
    label = "No label was elected" if checked.newest.label is None else f"The label is {checked.newest.label[:120]}"
    words = f"You said {(last.text or '')[:120]}. {label}." if last.said == "answer" else f"{label}."
    right = checked.standing is Standing.RIGHT
    return ui.note(f"{name}: the label is {checked.standing}", words, "good" if right else "warn")


# --- what it found -------------------------------------------------------------------------------------------------


def result(run: RunRow, check: SpotCheck | None) -> str:
    """Label accuracy by the check, with its interval, n and caveats."""
    if check is None:
        return ""
    now = check.now
    if now.accuracy is None:
        text = f"Label accuracy appears from {LEAST} checked labels on; {now.num_judged} so far."
        return ui.card(f'<p class="tt-muted">{text}</p>', "Label accuracy, spot check", key="spot-result")
    value = ui.tile("Spot check", percent(now.accuracy), [f"95 % {_unbroken(now)}", counts_words(check)])
    lines = "".join(f"<li>{ui.escape(line)}</li>" for line in spot_caveats(run, check))
    body = f'{ui.tiles([value])}<ul class="spot-notes tt-muted">{lines}</ul>'
    return ui.card(body, f"Label accuracy at step {now.step:,}, spot check", key="spot-result")


def spot_caveats(run: RunRow, check: SpotCheck) -> list[str]:
    """What the share of right labels speaks for, and what it leaves out."""
    now, found = check.now, []
    which = "problems without a reference answer" if run.set_num_references else "problems"
    found.append(
        f"It speaks for the {check.row.num_eligible:,} {which} that had voted by step {check.row.step:,}, each with "
        "the label it elected last."
    )
    if check.num_skipped:
        least = now.num_right / (now.num_judged + check.num_skipped)
        found.append(
            f"{check.num_skipped} skipped and not counted: if they are the hard ones, the share is too high. Were "
            f"they all wrong, it would be {percent(least)}."
        )
    if now.num_open:
        found.append(
            f"{now.num_open} labels have changed since they were rejected. The interval counts them both ways; check "
            "them again to make it narrower."
        )
    abstained = sum(each.newest.label is None and each.standing is Standing.WRONG for each in check.problems)
    if abstained:
        found.append(f"{abstained} elected no label, which counts as not right.")
    if check.row.number > 1:
        found.append(f"This is draw no. {check.row.number} of this run; results of earlier draws are not shown.")
    return found


def counts_words(check: SpotCheck) -> str:
    """ "n = 18 of 20 drawn, 2 skipped"."""
    skipped = f", {check.num_skipped} skipped" if check.num_skipped else ""
    return f"n = {check.now.num_judged} of {len(check.problems)} drawn{skipped}"


def _unbroken(tally: Tally) -> str:
    return interval(*tally.interval).replace(" ", "\u00a0")


def checked_table(run: RunRow, check: SpotCheck | None) -> str:
    """Every problem that something was said about."""
    said = [each for each in check.problems if each.said] if check is not None else []
    if not said:
        return ""
    rows = []
    for each in said:
        name = each.problem.prompt or each.problem.problem_id
        link = f'<a href="{ui.escape(problem_url(run.id, each.problem.problem_id))}" class="tt-clip">'
        label = "none elected" if each.newest.label is None else each.newest.label[:200]
        cells = [
            f"{link}{ui.escape(name[:300])}</a>",
            ui.escape(_words(each.said[-1])),
            f'<span class="tt-clip">{ui.escape(label)}</span>',
            _MARKS[each.standing],
        ]
        rows.append(ui.row(cells, key=each.problem.problem_id, wrap=(0, 1)))
    heads = ("Problem", "You said", "Label now", "Label is")
    return ui.card(ui.table(heads, rows, "The problems checked so far"), "Checked so far", flush=True, key="spot-table")


def _words(verdict: SpotVerdictRow) -> str:
    shown = f": {verdict.text[:200]}" if verdict.text is not None and verdict.said != "skip" else ""
    return f"{_SAID[verdict.said]}{shown}"


# --- charts --------------------------------------------------------------------------------------------------------


def accuracy_chart(run: RunRow, check: SpotCheck | None) -> Chart | None:
    """The checked problems' label accuracy over all steps: the labels of earlier steps are known too."""
    if check is None or check.now.accuracy is None:
        return None
    points = [(each.step, each.accuracy, *each.interval) for each in check.tallies if each.accuracy is not None]
    first = next(each for each in check.tallies if each.accuracy is not None)
    now = check.now
    text = (
        f"Spot check: {percent(first.accuracy)} {interval(*first.interval)} of {first.num_judged} labels right at step "
        f"{first.step}, {percent(now.accuracy)} {interval(*now.interval)} of {now.num_judged} at step {now.step}."
    )
    series = Series("Label accuracy, spot check", points, 3, band="the 95 % interval (Wilson)")
    title = "Label accuracy of the checked problems"
    name = f"run-{run.id}-spot-check"
    return Chart("spot-accuracy", title, [series], "share", smooth=False, text=text, file=name)


def calibration_chart(run: RunRow, found: Calibration, by: str, name: str) -> Chart:
    """Consensus against correctness; on the dashed line a label is right as often as its votes agree."""
    points = [(round(100 * each.consensus), each.accuracy, each.low_95, each.high_95) for each in found.bins]
    series = [
        Series("Labels that are right", points, 3, band="the 95 % interval (Wilson)", whiskers=True),
        Series("As often right as agreed on", [(0, 0.0), (100, 1.0)], 8, dash=True),
    ]
    return Chart(
        f"calibration-{name}",
        f"Consensus against correctness, {by}",
        series,
        "share",
        x_label="Consensus in %",
        smooth=False,
        text=calibration_sentence(found, by),
        file=f"run-{run.id}-calibration-{name}",
    )


def calibration_sentence(found: Calibration, by: str) -> str:
    """The whole calibration in words."""
    bins = "; ".join(
        f"consensus {_range(each)}: {percent(each.accuracy, 0)} {interval(each.low_95, each.high_95, 0)} of "
        f"{each.num_labels} right"
        for each in found.bins
    )
    luck = "no more" if found.error <= found.chance_error else "more"
    return (
        f"{found.num_labels} labels, {by}. On average {percent(found.consensus)} of the votes agreed and "
        f"{percent(found.accuracy)} of the labels are right. By {bins}. Expected calibration error "
        f"{percent(found.error)}, {luck} than the {percent(found.chance_error)} that luck alone gives with so many "
        "labels if the consensus were exact."
    )


def calibration_table(found: Calibration, by: str) -> str:
    """The bins with n and interval."""
    rows = [
        ui.row(
            [
                _range(each),
                str(each.num_labels),
                percent(each.consensus),
                f"{percent(each.accuracy)} {interval(each.low_95, each.high_95)}".replace(" ", "\u00a0"),
            ],
            key=_range(each),
            right=(1, 2, 3),
        )
        for each in found.bins
    ]
    heads = ("Consensus", "Labels", "Mean consensus", "Right, 95 %")
    small = (
        f'<p class="tt-muted tt-small preview-foot">Expected calibration error {percent(found.error)}; with '
        f"{found.num_labels} labels an exact consensus would show {percent(found.chance_error)} by luck. "
        "A vote without a label is left out.</p>"
    )
    caption = f"Calibration of the vote, {by}"
    return ui.card(ui.table(heads, rows, caption, right=(1, 2, 3)) + small, caption, flush=True, key=by)


def _range(each: Bin) -> str:
    return f"{100 * each.low:.0f} to {100 * each.high:.0f} %"
