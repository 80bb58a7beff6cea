"""Two runs against each other in HTML: the tests in plain sentences, and who wins which problem."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from app import components as ui
from app.format import interval, points
from app.interval_picture import interval_picture
from app.pages.runs_pair import LEAST_P, Match, paired_tests
from app.pages.runs_view import Choice
from ttrl_engine.gains import Pair
from worker.rows import RunRow

SHOWN_PROBLEMS = 60
LETTERS = "AB"

_CAVEAT = (
    "Right by vote means that the most frequent of the k answers is right. p is the chance of a difference at least "
    "this large if it were equally likely either way; from 0.05 on, or with an interval that covers 0, nothing is "
    "established. p is not corrected for testing several splits or pairs: with twenty tests, one is below 0.05 by luck."
)


def p_words(p: float) -> str:
    """ "p = 0.14", "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _chooser(chosen: Sequence[RunRow], pair: tuple[RunRow, RunRow], choice: Choice) -> str:
    parts = []
    for letter, name, run in zip(LETTERS, ("first", "second"), pair, strict=True):
        base = choice.url(**{name: None})
        options = "".join(
            f'<option value="{each.id}"{" selected" if each.id == run.id else ""}>{each.id}: '
            f"{ui.escape(each.name[:60])}</option>"
            for each in chosen
        )
        parts.append(
            f'<label class="tt-select">{letter} <select data-pick-name="{name}" aria-label="Run {letter}" '
            f'data-href="{ui.escape(base)}&amp;{name}=">{options}</select></label>'
        )
    return f'<div class="tt-row">{"".join(parts)}</div>'


def pair_card(chosen: Sequence[RunRow], pair: tuple[RunRow, RunRow], found: Sequence[Match], choice: Choice) -> str:
    """A against B in every split, the tests in words."""
    if not found:
        body = '<p class="tt-muted">Neither run has scores after its first step on problems with references.</p>'
    else:
        body = "".join(_section(match, pair) for match in found) + f'<p class="tt-muted tt-small">{_CAVEAT}</p>'
    return ui.card(f'<div class="tt-stack">{_chooser(chosen, pair, choice)}{body}</div>', "A against B", key="pair")


def _section(match: Match, pair: tuple[RunRow, RunRow]) -> str:
    if match.refusal:
        text = f"{match.refusal} A test needs the same problems, scored in the same way."
        return ui.note(f"{match.title}: not comparable", text, "idle")
    lines = "".join(f"<p>{ui.escape(line)}</p>" for line in sentences(match)) + _picture(match)
    return (
        f'<section class="tt-stack" data-key="pair-{ui.escape(match.key)}"><h3>{ui.escape(match.title)}</h3>{lines}'
        f"{_problems(match, pair)}</section>"
    )


def sentences(match: Match) -> list[str]:
    """What the paired tests say, in words, with n, interval and p."""
    test = paired_tests(match)
    first, second = match.first, match.second
    assert first is not None
    assert second is not None
    votes_differ = test.p_maj < LEAST_P
    better = "A" if match.only_first > match.only_second else "B"
    verdict = f"{better} is better by vote" if votes_differ else "not established"
    sample = f"n = {len(match.pairs):,} problems × {first.num_samples}, A at step {first.step}, B at step {second.step}"
    avg_differs = test.p_avg < LEAST_P and (test.low > 0 or test.high < 0)
    leader = "A" if test.lead > 0 else "B"
    said = f"{leader} is better on average" if avg_differs else "not established"
    lines = [
        f"By vote (maj@{first.num_samples}), A answers {_problems_word(match.only_first)} right that B does not, B "
        f"{match.only_second:,} that A does not; exact McNemar {p_words(test.p_maj)}: {verdict}. {sample}.",
        f"pass@1 of A minus B is {points(test.lead)} {interval(test.low, test.high, signed=True)}; exact sign-flip "
        f"{p_words(test.p_avg)}: {said}.",
    ]
    if test.noise is not None:
        lines.append(
            f"A/A noise: one model scored twice on these problems differs by up to {points(test.noise).lstrip('+')} "
            "in 95 % of cases, by the luck of its samples alone."
        )
    return lines


def _picture(match: Match) -> str:
    """The difference with its interval, over the band that luck alone fills."""
    test = paired_tests(match)
    noise = test.noise or 0.0
    reach = 1.15 * max(abs(test.low), abs(test.high), noise) or 0.01
    key = "dot and line: A minus B with its 95 % interval; thin line: 0"
    if test.noise is not None:
        key += f"; grey band: A/A noise, {points(noise).replace('+', '±')}"
    picture = interval_picture(test.lead, test.low, test.high, reach, noise=test.noise)
    return f'<div class="tt-row">{picture}<span class="tt-muted tt-small">{ui.escape(key)}</span></div>'


def _problems_word(num: int) -> str:
    return f"{num:,} problem{'' if num == 1 else 's'}"


def _problems(match: Match, pair: tuple[RunRow, RunRow]) -> str:
    """Wins and losses, largest difference first; problems on which both do the same are left out."""
    differing = sorted((each for each in match.pairs if each.gain), key=lambda each: (-abs(each.gain), each.problem_id))
    if not differing:
        return '<p class="tt-muted">Both got the same number of right answers on every problem.</p>'
    rows = [_problem_row(match, each, pair) for each in differing[:SHOWN_PROBLEMS]]
    more = (
        f'<p class="tt-muted tt-small">The {SHOWN_PROBLEMS} largest of {len(differing):,} differences.</p>'
        if len(differing) > SHOWN_PROBLEMS
        else ""
    )
    heads = ("Problem", "A right", "B right", "By vote", "")
    table = ui.table(heads, rows, f"Problems on which A and B differ, {match.title}", right=(1, 2))
    words = f"{len(differing):,} of {len(match.pairs):,} problems with different scores"
    return f'<details data-key="wins-{ui.escape(match.key)}"><summary>{words}</summary>{table}{more}</details>'


def _problem_row(match: Match, each: Pair, pair: tuple[RunRow, RunRow]) -> str:
    votes = {
        (True, True): ("both right", "idle"),
        (False, False): ("both wrong", "idle"),
        (True, False): ("only A", "good"),
        (False, True): ("only B", "live"),
    }
    word, look = votes[each.before.maj_correct, each.after.maj_correct]
    ident = quote(each.problem_id, safe="")
    # Only problems that were trained on have a page of their votes.
    page = "/run?id={}&problem={}" if match.key == "adapt" else "/compare?run={}&problem={}"
    links = " · ".join(
        f'<a href="{ui.escape(page.format(run.id, ident))}" aria-label="{letter}: problem '
        f'{ui.escape(each.problem_id[:60])}">{letter}</a>'
        for letter, run in zip(LETTERS, pair, strict=True)
    )
    cells = [
        f"<code>{ui.escape(each.problem_id[:80])}</code>",
        f'<span class="tt-num">{each.before.num_correct} of {each.before.num_samples}</span>',
        f'<span class="tt-num">{each.after.num_correct} of {each.after.num_samples}</span>',
        ui.pill(word, look),
        links,
    ]
    return ui.row(cells, key=each.problem_id, right=(1, 2), wrap=(0,))
