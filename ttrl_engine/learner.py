"""One TTRL step: sample, vote, reward, update (arXiv 2504.16084, section 2).

This is the reward path. Nothing in this module, and nothing that it is handed, holds a reference answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ttrl_engine.config import RunConfig
from ttrl_engine.early_vote import Poll, Tally
from ttrl_engine.events import Phase
from ttrl_engine.objective import learning_rate
from ttrl_engine.policy import Policy, TrainRow, UpdateStats
from ttrl_engine.problems import Problem
from ttrl_engine.prompts import PromptFormat
from ttrl_engine.ranks import ALONE, Ranks
from ttrl_engine.reward import advantages, earned
from ttrl_engine.sampler import Rollout, Sampler, SampleRequest, SamplingParams, ShouldStop, stream_of
from ttrl_engine.selection import select
from ttrl_engine.vote import Election, elect

OnPhase = Callable[[Phase, int, int], None]
# The shift of the policy in one step is measured on so many tokens: enough for an alarm, a few percent of the time.
SHIFT_TOKENS = 1_024


@dataclass(frozen=True)
class Ballot:
    """One problem in one step: its rollouts, what they say, how they voted, and what they earned.

    `rewards` has one value per rollout; `trained` names the rollouts that enter the update, in rising order, and
    `advantages` has one value for each of these.
    """

    problem: Problem
    prompt_ids: tuple[int, ...]
    rollouts: tuple[Rollout, ...]
    texts: tuple[str, ...]
    election: Election
    rewards: tuple[float, ...]
    trained: tuple[int, ...]
    advantages: tuple[float, ...]

    @property
    def finished(self) -> tuple[int, ...]:
        """Indexes of the rollouts that were not called off, in rising order."""
        return tuple(index for index, rollout in enumerate(self.rollouts) if rollout.finish != "dropped")

    @property
    def num_truncated(self) -> int:
        """Rollouts that were cut at the length limit."""
        return sum(rollout.finish == "length" for rollout in self.rollouts)

    def train_rows(self) -> list[TrainRow]:
        """The K trained rollouts with their advantages."""
        return [
            TrainRow(self.prompt_ids, self.rollouts[index].tokens, self.rollouts[index].logprobs, advantage)
            for index, advantage in zip(self.trained, self.advantages, strict=True)
        ]


@dataclass(frozen=True)
class StepOutcome:
    """Everything one step did. `shift` is the KL per token between the policies before and after, in nats."""

    step: int
    ballots: tuple[Ballot, ...]
    update: UpdateStats
    learning_rate: float
    shift: float


@dataclass
class Clock:
    """Wall seconds per phase since the last `take`."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Add the time of the block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase.value] = self.seconds.get(phase.value, 0.0) + time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """The seconds so far, and start again."""
        taken, self.seconds = self.seconds, {}
        return taken


class Learner:
    """Improves a policy on problems by agreement alone."""

    def __init__(
        self,
        config: RunConfig,
        policy: Policy,
        sampler: Sampler,
        prompts: PromptFormat,
        stop_ids: tuple[int, ...],
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.config = config
        self.policy = policy
        self.sampler = sampler
        policy.others_give_back = sampler.give_back
        self.prompts = prompts
        self.params = SamplingParams(config.vote.temperature, 1.0, config.vote.max_new_tokens, stop_ids)

    def vote(
        self,
        step: int,
        problems: Sequence[Problem],
        clock: Clock,
        on_phase: OnPhase,
        should_stop: ShouldStop,
        stored: Sequence[Sequence[Rollout]] | None = None,
    ) -> list[Ballot]:
        """Sample N rollouts per problem and hold the elections, each rank those of its problems; the ballots of all.
        Where the rollouts are `stored` (for each problem) they are not sampled. Raises StopRequested."""
        mine = self.ranks.share(problems)

        def on_share(phase: Phase, done: int, total: int) -> None:
            # The first rank speaks for all: as far as its own share.
            on_phase(phase, done * len(problems) // max(1, len(mine)), total * len(problems) // max(1, len(mine)))

        def work() -> list[Ballot]:
            if stored is not None:
                return self._count_stored(step, mine, self.ranks.share(stored), clock, on_share)
            return self._sample(step, mine, clock, on_share, should_stop) if mine else []

        return self.ranks.merged(self.ranks.unless_stopped(work))

    def _count_stored(
        self,
        step: int,
        problems: Sequence[Problem],
        stored: Sequence[Sequence[Rollout]],
        clock: Clock,
        on_phase: OnPhase,
    ) -> list[Ballot]:
        ballots: list[Ballot] = []
        with clock.phase(Phase.VOTING):
            for problem, rollouts in zip(problems, stored, strict=True):
                ballots.append(self._count(step, problem, self.prompts.ids(problem), rollouts))
                on_phase(Phase.VOTING, len(ballots), len(problems))
        return ballots

    def _sample(
        self, step: int, problems: Sequence[Problem], clock: Clock, on_phase: OnPhase, should_stop: ShouldStop
    ) -> list[Ballot]:
        vote = self.config.vote
        prompt_ids = [self.prompts.ids(problem) for problem in problems]
        required = vote.num_trained if vote.early_stop else None
        requests = [
            SampleRequest(ids, vote.num_votes, stream_of(self.config.seed, "votes", step, problem.id), required)
            for ids, problem in zip(prompt_ids, problems, strict=True)
        ]

        def count(number: int, rollouts: list[Rollout]) -> Ballot:
            return self._count(step, problems[number], prompt_ids[number], rollouts)

        def keys(number: int, rollouts: list[Rollout]) -> list[str | None]:
            return self._keys(problems[number], rollouts)

        tallies = [Tally(vote.num_votes, vote.min_consensus, vote.min_margin) for _ in problems]
        on_phase(Phase.SAMPLING, 0, len(problems) * vote.num_votes)
        with Poll(requests, count, keys if vote.early_stop else None, tallies) as poll:
            with clock.phase(Phase.SAMPLING):
                self.sampler.sample(
                    requests, self.params, lambda done, total: on_phase(Phase.SAMPLING, done, total), should_stop, poll
                )
            ballots = []
            on_phase(Phase.VOTING, 0, len(problems))
            # Most votes were counted while others sampled; this is the time that is left of it.
            with clock.phase(Phase.VOTING):
                for number in range(len(problems)):
                    ballots.append(poll.ballot(number))
                    on_phase(Phase.VOTING, len(ballots), len(problems))
        return ballots

    def _keys(self, problem: Problem, rollouts: Sequence[Rollout]) -> list[str | None]:
        """The class that each rollout votes for; None for one without an answer that can be read."""
        _, extractions = self.prompts.read(problem, rollouts)
        raws = {each.raw for each in extractions if each.raw is not None}
        readings = self.prompts.task.keys(sorted(raws), problem)
        return [None if each.raw is None else readings[each.raw].key for each in extractions]

    def _count(self, step: int, problem: Problem, prompt_ids: tuple[int, ...], rollouts: Sequence[Rollout]) -> Ballot:
        vote, task = self.config.vote, self.prompts.task
        texts, extractions = self.prompts.read(problem, rollouts)
        election = elect(
            extractions,
            task,
            problem,
            tie=vote.tie,
            min_consensus=vote.min_consensus,
            min_margin=vote.min_margin,
        )
        paid = earned(election, vote, self.config.seed, step)
        # Vote-then-sample: all N elect the label, K of them enter the update.
        trained = select(election, vote.num_trained, vote.selection)
        gains = advantages([paid[index] for index in trained], self.config.train.advantage)
        return Ballot(problem, prompt_ids, tuple(rollouts), tuple(texts), election, tuple(paid), trained, tuple(gains))

    def learn(
        self,
        step: int,
        total_steps: int,
        ballots: Sequence[Ballot],
        clock: Clock,
        on_phase: OnPhase,
        should_stop: ShouldStop,
    ) -> StepOutcome:
        """Update the policy on the votes and hand its weights to the sampler. Raises StopRequested with the policy
        unchanged."""
        train = self.config.train
        on_phase(Phase.UPDATING, 0, 1)
        with clock.phase(Phase.UPDATING):
            rate = learning_rate(train.learning_rate, step - 1, total_steps, train.warmup_share, train.schedule)
            # Unanimous and abstained problems stay in: their tokens belong to the mean, their gradient is zero.
            groups = [group for group in _deal(ballots, train.updates_per_step) if group]
            stats = self.policy.update(groups, train, self.config.vote.temperature, rate, should_stop, self.ranks)
            shift = self._shift(ballots)
            self.sampler.sync()
        on_phase(Phase.UPDATING, 1, 1)
        return StepOutcome(step, tuple(ballots), stats, rate, shift)

    def _shift(self, ballots: Sequence[Ballot]) -> float:
        rows: list[TrainRow] = []
        tokens = 0
        # The first trained rollout of each problem, then the second …: a sample across all problems.
        for place in range(self.config.vote.num_trained):
            for ballot in ballots:
                rollout = ballot.rollouts[ballot.trained[place]]
                tokens += len(ballot.prompt_ids) + len(rollout.tokens)
                if rows and tokens > SHIFT_TOKENS:
                    return self.policy.shift(rows, self.config.vote.temperature)
                rows.append(TrainRow(ballot.prompt_ids, rollout.tokens, rollout.logprobs, 0.0))
        return self.policy.shift(rows, self.config.vote.temperature)


def step_problems(problems: Sequence[Problem], step: int, per_step: int, seed: int) -> list[Problem]:
    """The problems of step 1, 2, …: each pass visits every problem once, in an order of its own; the last batch of a
    pass may be short and is not dropped."""
    per_epoch = -(-len(problems) // per_step)
    epoch, batch = divmod(step - 1, per_epoch)
    order = sorted(problems, key=lambda problem: stream_of(seed, "order", epoch, problem.id))
    return order[batch * per_step : (batch + 1) * per_step]


def _deal(ballots: Sequence[Ballot], num_groups: int) -> list[list[TrainRow]]:
    """Rows of the ballots in `num_groups` groups: problem i goes to group i modulo num_groups."""
    groups: list[list[TrainRow]] = [[] for _ in range(min(num_groups, len(ballots)))]
    for index, ballot in enumerate(ballots):
        groups[index % len(groups)] += ballot.train_rows()
    return groups
