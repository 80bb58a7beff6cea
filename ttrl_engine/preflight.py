"""Pre-flight: a look at how a model votes on a few problems, and whether TTRL can be expected to help.

TTRL sharpens what a model can almost do: where its answers already agree there is nothing to learn, and where no
answer comes up more than by chance the labels are mostly wrong. Both are seen without a single reference answer, from
votes alone. Importing this module does not load torch; `inspect` does.

The thresholds are set on the bundled model (16 votes per problem, 288 problems, four draws each). Of the set that it
learns (`sums`) 30 % of the problems are scattered as defined here, of the set that it never gains on (`sums-hard`)
80 %, and of 32 problems 99.8 % of the draws lie below 54 % and above 59 %.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ttrl_engine.config import RunConfig
from ttrl_engine.errors import DataError
from ttrl_engine.events import Phase
from ttrl_engine.models import fingerprint
from ttrl_engine.problems import ProblemSet, split
from ttrl_engine.sampler import stream_of

Verdict = Literal["go", "adjust", "do not bother", "nothing to learn"]
Kind = Literal["settled", "learnable", "scattered"]

# What is sampled: 512 answers, a step of the usual size, seconds with the bundled model.
NUM_PROBLEMS, NUM_VOTES = 32, 16
# Problems of the update that is timed; it is not kept.
NUM_UPDATED = 8
MIN_PROBLEMS = 8
# Nearly all rollouts earn the same reward, so that little gradient is left.
SETTLED = 14 / 16
# One chance agreement (2 of 16 the same) says no more than none: on the bundled sets such leaders are right 22 times of
# 100, those with 3 votes 73 times.
SCATTERED = 2 / 16
NOTHING_LEFT = 0.8
MOSTLY_SCATTERED = 9 / 16
# Answers that cannot be read teach nothing and hide what the model knows.
UNREADABLE, CUT = 0.5, 0.3
# Leading votes of 16 -> how often the leader was right on the three bundled sets (60 to 290 votes each).
_WORTH = (0.0, 0.05, 0.22, 0.73, 0.90, 0.95, 0.985)


@dataclass(frozen=True)
class Poll:
    """The votes on one problem: answers by class, most votes first, out of `num_votes`. `right` is whether the leading
    class is the reference answer, None without one; it is for display and enters no verdict."""

    problem_id: str
    counts: tuple[int, ...]
    num_votes: int
    num_unread: int
    num_cut: int
    right: bool | None = None

    @property
    def share(self) -> float:
        """Votes of the leading answer, of all."""
        return self.counts[0] / self.num_votes if self.counts else 0.0

    @property
    def kind(self) -> Kind:
        """What the problem is worth to a run."""
        if self.share >= SETTLED:
            return "settled"
        tied = len(self.counts) > 1 and self.counts[0] == self.counts[1]
        return "scattered" if tied or self.share <= SCATTERED else "learnable"

    @property
    def worth(self) -> float:
        """Chance that the leading answer is right, as it was on the bundled sets; linear between whole votes of 16."""
        votes = min(16 * self.share, len(_WORTH) - 1.0)
        low = int(votes)
        high = min(low + 1, len(_WORTH) - 1)
        return _WORTH[low] + (votes - low) * (_WORTH[high] - _WORTH[low])


@dataclass(frozen=True)
class Findings:
    """What a pre-flight saw. Seconds are per sampled rollout (its vote included) and per trained rollout, both with
    the torch sampler. `num_available` problems were there to draw from."""

    polls: tuple[Poll, ...]
    num_available: int
    mean_length: float
    sampling_s: float
    updating_s: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Findings:
        """The inverse of `as_dict`."""
        polls = tuple(Poll(**{**poll, "counts": tuple(poll["counts"])}) for poll in data["polls"])
        return cls(**{**data, "polls": polls})

    def share_of(self, kind: Kind) -> float:
        """Share of the problems of one kind."""
        return sum(poll.kind == kind for poll in self.polls) / len(self.polls)

    @property
    def unread(self) -> float:
        """Share of the answers that could not be read, those that were cut left out."""
        return max(0, sum(poll.num_unread for poll in self.polls) - self._num_cut) / self._num_votes

    @property
    def cut(self) -> float:
        """Share of the answers that reached the longest length."""
        return self._num_cut / self._num_votes

    @property
    def label_quality(self) -> float:
        """Expected share of right labels, by `Poll.worth`."""
        return sum(poll.worth for poll in self.polls) / len(self.polls)

    @property
    def measured_quality(self) -> tuple[int, int] | None:
        """(right, of how many) labels, where there are references."""
        known = [poll.right for poll in self.polls if poll.right is not None]
        return (sum(known), len(known)) if known else None

    def step_s(self, config: RunConfig) -> float:
        """Seconds of one step of a run."""
        votes, train = config.vote, config.train
        return train.problems_per_step * (votes.num_votes * self.sampling_s + votes.num_trained * self.updating_s)

    @property
    def _num_votes(self) -> int:
        return sum(poll.num_votes for poll in self.polls)

    @property
    def _num_cut(self) -> int:
        return sum(poll.num_cut for poll in self.polls)


@dataclass(frozen=True)
class Judgement:
    """Advice on a run. `changes` by dotted name are settings that would help, where some would."""

    verdict: Verdict
    reasons: tuple[str, ...]
    changes: Mapping[str, Any]


def check_key(config: RunConfig, set_id: str) -> str:
    """A text that is the same for runs of which a check would see the same. Raises ModelError for an unknown source."""
    model, vote = config.model, config.vote
    data = {
        "model": (fingerprint(model.source, model.revision), model.source, model.dtype),
        "set": set_id,
        "data": config.data.model_dump(mode="json", exclude={"benchmarks", "problems"}),
        "answers": config.answers.model_dump(mode="json"),
        "vote": (vote.temperature, vote.max_new_tokens),
        "rest": (config.seed, config.hardware.device),
    }
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def judge(found: Findings, config: RunConfig, context_tokens: int | None = None) -> Judgement:
    """The verdict on what was seen; `context_tokens` is the model's window. Uses no reference answer."""
    settled, scattered = found.share_of("settled"), found.share_of("scattered")
    if found.cut >= CUT:
        longer = 2 * config.vote.max_new_tokens
        reason = f"{found.cut:.0%} of the answers were cut before their end, so they could not vote."
        if context_tokens is not None and longer >= context_tokens:
            return Judgement("adjust", (reason, "Ask for shorter answers in the prompt, or take another model."), {})
        return Judgement("adjust", (reason, "Allow longer answers."), {"vote.max_new_tokens": longer})
    if found.unread >= UNREADABLE:
        reason = f"No answer could be read in {found.unread:.0%} of the texts, so they could not vote."
        return Judgement("adjust", (reason, "Change the kind of answer, or what the prompt asks for at its end."), {})
    if settled >= NOTHING_LEFT:
        reason = f"On {settled:.0%} of the problems at least 14 of 16 answers agree already; agreement is all there is"
        return Judgement("nothing to learn", (f"{reason} to learn from.", "Take harder problems."), {})
    if scattered >= MOSTLY_SCATTERED:
        reason = (
            f"On {scattered:.0%} of the problems no answer leads by more than chance, so most labels would be wrong"
        )
        advice = "Take easier problems or a stronger model."
        return Judgement("do not bother", (f"{reason}.", advice), {})
    learnable = found.share_of("learnable")
    reason = f"On {learnable:.0%} of the problems one answer leads, and others leave room to learn."
    return Judgement("go", (reason, f"About {found.label_quality:.0%} of the labels can be expected to be right."), {})


def inspect(
    config: RunConfig,
    problem_set: ProblemSet,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Findings:
    """Sample answers to a few problems that the run would learn from, let them vote, and time one update that is
    dropped again. Raises StopRequested, and StudioError with a reason for the user."""
    import torch

    from ttrl_engine.learner import Clock, Learner
    from ttrl_engine.policy import Policy
    from ttrl_engine.prompts import PromptFormat, stop_ids
    from ttrl_engine.tasks import task_for
    from ttrl_engine.threads import default_threads
    from ttrl_engine.torch_sampler import MAX_ROWS, TorchSampler, cache_budget

    torch.set_num_threads(config.hardware.threads or default_threads())
    asked = config.with_changes(
        **{
            "vote.num_votes": NUM_VOTES,
            "vote.num_trained": min(NUM_VOTES, config.vote.num_trained),
            "vote.early_stop": False,
            "train.updates_per_step": 1,
        }
    )
    policy = Policy.load(asked.model, asked.hardware, asked.train)
    task = task_for(config.answers.over(problem_set.answers))
    prompts = PromptFormat(policy.tokenizer, task, config.data, config.model.source)
    parts = split(problem_set, config.data.held_out_share, config.data.max_problems, config.seed)
    window = getattr(policy.base.config, "max_position_embeddings", None)
    room = config.data.max_prompt_tokens if window is None else window - config.vote.max_new_tokens
    limit = min(config.data.max_prompt_tokens, room)
    fitting = [problem for problem in parts.adapt if len(prompts.ids(problem)) <= limit]
    if len(fitting) < MIN_PROBLEMS:
        raise DataError(
            f"A check needs at least {MIN_PROBLEMS} problems that fit the model's window; this run would have "
            f"{len(fitting)}. Add problems, or start the run without a check."
        )
    drawn = sorted(fitting, key=lambda problem: stream_of(config.seed, "preflight", problem.id))[:NUM_PROBLEMS]
    sampler = TorchSampler(lambda: policy.base, cache_budget(policy.device), MAX_ROWS)
    ends = stop_ids(policy.tokenizer, policy.base.generation_config.eos_token_id)
    learner, clock = Learner(asked, policy, sampler, prompts, ends), Clock()

    def on_phase(phase: Phase, done: int, total: int) -> None:
        if phase is Phase.SAMPLING:
            on_progress(done, total)

    ballots = learner.vote(1, drawn, clock, on_phase, should_stop)
    sampling_s = sum(clock.take().values())
    learner.learn(1, 1, ballots[:NUM_UPDATED], clock, on_phase, should_stop)
    updating_s = sum(clock.take().values())
    polls = []
    for ballot in ballots:
        election, reference = ballot.election, problem_set.references.get(ballot.problem.id)
        leader = election.classes[0].answer if election.classes else None
        known = None if reference is None else leader is not None and task.equivalent(leader, reference, ballot.problem)
        counts = tuple(each.count for each in election.classes)
        cut, unread = ballot.num_truncated, election.num_unparsed
        polls.append(Poll(ballot.problem.id, counts, election.num_rollouts, unread, cut, known))
    rollouts = [rollout for ballot in ballots for rollout in ballot.rollouts]
    num_updated = sum(len(ballot.trained) for ballot in ballots[:NUM_UPDATED])
    return Findings(
        polls=tuple(polls),
        num_available=len(parts.adapt),
        mean_length=sum(len(rollout.tokens) for rollout in rollouts) / len(rollouts),
        sampling_s=sampling_s / len(rollouts),
        updating_s=updating_s / num_updated,
    )
