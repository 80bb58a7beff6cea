"""The verdict before a run: what it is on votes that are known, and on the bundled model itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from ttrl_engine.config import PRESETS, RunConfig
from ttrl_engine.errors import DataError
from ttrl_engine.policy import Policy
from ttrl_engine.preflight import Findings, Poll, inspect, judge
from ttrl_engine.problems import ProblemSet, load_problem_set, split
from ttrl_engine.prompts import PromptFormat
from ttrl_engine.sampler import StopRequested
from ttrl_engine.tasks import task_for

QUICK = PRESETS["quick-look"].config()


def poll(*counts: int, unread: int = 0, cut: int = 0, right: bool | None = None) -> Poll:
    return Poll("p", counts, 16, unread, cut, right)


def found(*polls: Poll) -> Findings:
    return Findings(polls, 96, 20.0, 0.01, 0.02)


LEARNABLE, SETTLED, SCATTERED = poll(8, 4, 2), poll(16), poll(2, 1, 1)


def test_a_verdict_needs_no_torch() -> None:
    code = "import ttrl_engine.preflight, sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("counts", "kind"),
    [
        ((16,), "settled"),
        ((14, 2), "settled"),
        ((13, 3), "learnable"),
        ((3, 2, 2), "learnable"),
        ((3, 3), "scattered"),
        ((2, 1, 1), "scattered"),
        ((), "scattered"),
    ],
)
def test_a_problem_is_what_its_votes_say(counts: tuple[int, ...], kind: str) -> None:
    assert poll(*counts).kind == kind


@pytest.mark.parametrize(
    ("polls", "verdict"),
    [
        ([LEARNABLE] * 10 + [SCATTERED] * 8, "go"),
        ([LEARNABLE] * 6 + [SETTLED] * 14, "go"),
        ([LEARNABLE] * 7 + [SCATTERED] * 9, "do not bother"),
        ([LEARNABLE] * 4 + [SETTLED] * 16, "nothing to learn"),
        ([poll(4, 3, unread=9)] * 16, "adjust"),
        ([poll(4, 3, unread=6, cut=6)] * 16, "adjust"),
    ],
)
def test_the_verdict_follows_the_kinds_of_problems(polls: list[Poll], verdict: str) -> None:
    judged = judge(found(*polls), QUICK)
    assert judged.verdict == verdict
    assert judged.reasons


def test_cut_answers_ask_for_longer_ones_where_the_window_allows_it() -> None:
    cut = found(*[poll(4, 3, unread=6, cut=6)] * 16)
    assert judge(cut, QUICK).changes == {"vote.max_new_tokens": 2 * QUICK.vote.max_new_tokens}
    assert judge(cut, QUICK, context_tokens=2 * QUICK.vote.max_new_tokens).changes == {}


def test_references_never_move_the_verdict_or_the_expected_quality() -> None:
    polls = [LEARNABLE] * 10 + [SCATTERED] * 8
    unknown = found(*polls)
    assert unknown.measured_quality is None
    for right in (True, False):
        known = found(*(replace(each, right=right) for each in polls))
        assert known.measured_quality == (18 * right, 18)
        assert judge(known, QUICK) == judge(unknown, QUICK)
        assert known.label_quality == unknown.label_quality


def test_more_agreement_is_never_worth_less() -> None:
    worth = [poll(votes).worth for votes in range(17)]
    assert worth == sorted(worth)
    assert 0.0 <= worth[0] < worth[-1] < 1.0


def test_findings_survive_the_store() -> None:
    whole = found(LEARNABLE, replace(SETTLED, right=True), poll())
    assert Findings.from_dict(whole.as_dict()) == whole


def test_the_time_of_a_step_grows_with_votes_and_trained() -> None:
    whole = found(LEARNABLE)
    for changes in ({"vote.num_votes": 128}, {"vote.num_trained": 64}, {"train.problems_per_step": 16}):
        assert whole.step_s(QUICK.with_changes(**changes)) > whole.step_s(QUICK)


@pytest.mark.parametrize(("name", "verdict"), [("sums", "go"), ("sums-hard", "do not bother")])
def test_the_verdict_is_right_on_the_bundled_sets(name: str, verdict: str) -> None:
    seen: list[tuple[int, int]] = []
    findings = inspect(QUICK, load_problem_set(f"bundled:{name}"), lambda *progress: seen.append(progress))
    assert judge(findings, QUICK).verdict == verdict
    assert seen[-1] == (512, 512)
    assert findings.measured_quality is not None
    right, known = findings.measured_quality
    assert known == 32
    assert abs(findings.label_quality - right / known) < 0.35
    assert findings.sampling_s > 0
    assert findings.updating_s > 0


def teach(policy: Policy, config: RunConfig, problems: ProblemSet) -> None:
    """Have the model learn the answers by heart, by plain supervised steps."""
    prompts = PromptFormat(policy.tokenizer, task_for(problems.answers), config.data, config.model.source)
    rows, starts = [], []
    for problem in split(problems, 0.0, config.data.max_problems, config.seed).adapt:
        answer = f"So the answer is \\boxed{{{problems.references[problem.id]}}}.<|end|>"
        asked = prompts.ids(problem)
        rows.append([*asked, *policy.tokenizer.encode(answer, add_special_tokens=False)])
        starts.append(len(asked))
    longest = max(map(len, rows))
    tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    targets = tokens.clone()
    for row, (start, ids) in enumerate(zip(starts, rows, strict=True)):
        targets[row, :start] = targets[row, len(ids) :] = -100
    optimizer = torch.optim.AdamW(policy.parameters, lr=2e-3)
    for _ in range(120):
        logits = policy.base(input_ids=tokens).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=-100)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 0.003:
            break


def test_a_model_that_answers_the_set_already_has_nothing_to_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    config = QUICK.with_changes(**{"model.method": "full", "data.held_out_share": 0.0, "data.max_problems": 16})
    problems, load = load_problem_set("bundled:sums"), Policy.load

    def schooled(*arguments: Any) -> Policy:
        policy = load(*arguments)
        teach(policy, config, problems)
        return policy

    monkeypatch.setattr(Policy, "load", schooled)
    findings = inspect(config, problems)
    assert judge(findings, config).verdict == "nothing to learn"
    assert findings.label_quality > 0.9


def test_a_check_can_be_stopped_and_needs_problems() -> None:
    problems = load_problem_set("bundled:sums")
    with pytest.raises(StopRequested):
        inspect(QUICK, problems, should_stop=lambda: True)
    few = ProblemSet("few", problems.kind, problems.problems[:4], {})
    with pytest.raises(DataError, match="at least 8 problems"):
        inspect(QUICK, few)
