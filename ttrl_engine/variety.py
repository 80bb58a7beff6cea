"""How alike a policy answers problems that it is never trained on. No reference answer takes part."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ttrl_engine.vote import Election

# Among fewer problems some label is common by chance.
LABEL_PROBLEMS: Final = 10


@dataclass(frozen=True)
class ProblemVote:
    """How the samples of one problem voted. `label_key` is the class of the label, None where nothing could be read;
    `variety` that of `answer_entropy`."""

    label_key: str | None
    consensus: float
    num_classes: int
    variety: float | None

    @classmethod
    def of(cls, election: Election) -> ProblemVote:
        """What an election says without a reference."""
        return cls(election.label_key, election.consensus, election.num_classes, answer_entropy(election))


def held_out_metrics(votes: Sequence[ProblemVote]) -> dict[str, float]:
    """The metrics `held_out_*` of `ttrl_engine.metrics.METRICS` that are known; empty without votes."""
    if not votes:
        return {}
    metrics = {
        "held_out_consensus": sum(vote.consensus for vote in votes) / len(votes),
        "held_out_num_classes": sum(vote.num_classes for vote in votes) / len(votes),
    }
    varied = [vote.variety for vote in votes if vote.variety is not None]
    if varied:
        metrics["held_out_answer_entropy"] = sum(varied) / len(varied)
    labels = [vote.label_key for vote in votes if vote.label_key is not None]
    if len(labels) >= LABEL_PROBLEMS:
        metrics["held_out_label_variety"] = _evenness(Counter(labels).values())
    return metrics


def answer_entropy(election: Election) -> float | None:
    """Entropy of the answers that were read over its greatest value, the logarithm of their number: 0 where all are
    alike, 1 where no two are. None for fewer than two answers."""
    counts = [each.count for each in election.classes]
    return _evenness(counts) if sum(counts) >= 2 else None


def _evenness(counts: Iterable[int]) -> float:
    """Entropy of a split of at least two things over the logarithm of how many there are."""
    known = list(counts)
    whole = sum(known)
    return max(0.0, -math.fsum(count / whole * math.log(count / whole) for count in known)) / math.log(whole)
