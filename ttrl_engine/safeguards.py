"""Alarms that need no reference answers: signs that the policy learns to agree with itself instead of to be right.

Each compares the mean of the last 3 steps with the mean of the first 3, and fires once until it has been clear for 3
steps. Metrics that compare with references are refused: a run must behave the same with and without them.

False consensus is judged whenever the held-out problems were polled. All three must hold: consensus on the trained
problems has risen by the limit; the labels of problems seen again have settled; and the held-out problems tell another
story, as their own agreement has risen less, by the limit (labels learned by heart), or their labels have lost half of
their variety (one answer for many problems). Rises are compared, not levels, for votes and polls are not drawn at one
temperature. Variety within a problem says nothing here: it falls
where a run learns well, too. A majority that is wrong in one orderly way everywhere shows in references alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Final

from ttrl_engine.config import SafeguardConfig

START_STEPS: Final = 3
RECENT_STEPS: Final = 3
CLEAR_STEPS: Final = 3
# A jump is told from the median of so many steps, once there are enough of them.
SHIFT_WINDOW: Final = 20
MIN_SHIFTS: Final = 5
# Nats per token. Below it a multiple of the median is harmless: the first steps of a warm-up shift almost nothing.
MIN_SHIFT: Final = 0.02
# Low entropy is healthy once most problems are unanimous; it is a collapse while their answers still differ.
_STILL_DIFFERING: Final = 0.5
# Labels have settled where at most so many of those seen again change.
_SETTLED: Final = 0.05
# A run that learns moves the answers of a few problems to those of others; it does not halve their variety.
_VARIETY_LOST: Final = 0.5
_WATCHED: Final = (
    "top_label_share",
    "unparsed_share",
    "truncated_share",
    "entropy",
    "length_mean",
    "unanimous_share",
    "consensus",
    "flip_share",
)


@dataclass(frozen=True)
class Alarm:
    """A safeguard that fired: `value` was seen where `threshold` is the limit, both in the unit of the metric."""

    alarm: str
    message: str
    value: float
    threshold: float


class Safeguards:
    """Watches a run step by step. Its whole memory is `state()`, so a resumed run raises the same alarms."""

    def __init__(self, config: SafeguardConfig) -> None:
        self._config = config
        self._last_step = 0
        self._start: dict[str, list[float]] = {}
        self._recent: dict[str, list[float]] = {}
        self._lowest_top_label: float | None = None
        self._shifts: list[float] = []
        self._clear_steps: dict[str, int] = {}  # alarms that fired -> steps they have been clear since
        self._polled_step = -1
        self._first_poll: dict[str, float] = {}
        self._is_false_consensus = False

    def observe(self, step: int, metrics: Mapping[str, float]) -> list[Alarm]:
        """Take in a finished step and return the alarms that fire now.

        Metrics that are missing or not finite are passed over, and so is a step that was observed before.
        """
        if step <= self._last_step:
            return []
        self._last_step = step
        for name in _WATCHED:
            value = metrics.get(name)
            if value is not None and math.isfinite(value):
                self._remember(name, value)
        shift = metrics.get("kl_step")
        found = {alarm.alarm: alarm for alarm in self._conditions(shift)}
        if shift is not None and math.isfinite(shift):
            self._shifts = [*self._shifts, shift][-SHIFT_WINDOW:]
        fired = [alarm for name, alarm in found.items() if name not in self._clear_steps]
        for name in list(self._clear_steps):
            self._clear_steps[name] = 0 if name in found else self._clear_steps[name] + 1
            if self._clear_steps[name] >= CLEAR_STEPS:
                del self._clear_steps[name]
        self._clear_steps.update({alarm.alarm: 0 for alarm in fired})
        return fired

    def observe_held_out(self, step: int, metrics: Mapping[str, float]) -> list[Alarm]:
        """Take in the metrics `held_out_*` of a poll, the first of which is that of the base model, and return the
        alarm if it fires now. A step that was polled before is passed over."""
        if step <= self._polled_step:
            return []
        self._polled_step = step
        now = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self._first_poll = {**now, **self._first_poll}
        found = list(self._false_consensus(now))
        fired = [] if self._is_false_consensus else found
        self._is_false_consensus = bool(found)
        return fired

    def state(self) -> dict[str, Any]:
        """Everything remembered, as plain JSON data."""
        return {
            "last_step": self._last_step,
            "start": {name: list(values) for name, values in self._start.items()},
            "recent": {name: list(values) for name, values in self._recent.items()},
            "lowest_top_label": self._lowest_top_label,
            "shifts": list(self._shifts),
            "clear_steps": dict(self._clear_steps),
            "polled_step": self._polled_step,
            "first_poll": dict(self._first_poll),
            "is_false_consensus": self._is_false_consensus,
        }

    @classmethod
    def from_state(cls, config: SafeguardConfig, state: Mapping[str, Any]) -> Safeguards:
        """The safeguards as they were when `state()` was taken; an empty state is a fresh start."""
        restored = cls(config)
        restored._last_step = state.get("last_step", 0)
        restored._start = {name: list(values) for name, values in state.get("start", {}).items()}
        restored._recent = {name: list(values) for name, values in state.get("recent", {}).items()}
        restored._lowest_top_label = state.get("lowest_top_label")
        restored._shifts = list(state.get("shifts", []))
        restored._clear_steps = dict(state.get("clear_steps", {}))
        restored._polled_step = state.get("polled_step", -1)
        restored._first_poll = dict(state.get("first_poll", {}))
        restored._is_false_consensus = state.get("is_false_consensus", False)
        return restored

    def _remember(self, name: str, value: float) -> None:
        start = self._start.setdefault(name, [])
        if len(start) < START_STEPS:
            start.append(value)
        self._recent[name] = [*self._recent.get(name, []), value][-RECENT_STEPS:]
        if name == "top_label_share":
            self._lowest_top_label = value if self._lowest_top_label is None else min(value, self._lowest_top_label)

    def _change(self, name: str) -> tuple[float, float] | None:
        """(start, now) as means over steps; None until the start is complete."""
        start = self._start.get(name, [])
        return (fmean(start), fmean(self._recent[name])) if len(start) == START_STEPS else None

    def _conditions(self, shift: float | None) -> Iterator[Alarm]:
        yield from self._one_answer()
        yield from self._rise("unparsed_rise", "unparsed_share", self._config.unparsed_rise, "cannot be read")
        yield from self._rise("truncated_rise", "truncated_share", self._config.truncated_rise, "are cut at the limit")
        yield from self._entropy()
        yield from self._length()
        yield from self._jump(shift)

    def _one_answer(self) -> Iterator[Alarm]:
        limit, change, lowest = self._config.one_answer_share, self._change("top_label_share"), self._lowest_top_label
        if limit is None or change is None or lowest is None:
            return
        now = change[1]
        # Against the lowest share so far, not the first steps': with few problems visited any share is large.
        if now >= limit and now >= 2 * lowest:
            message = (
                f"{now:.0%} of the problems now elect one and the same answer, up from {lowest:.0%}. The policy may be "
                "learning to answer everything alike. Look at the rollouts, and go back to a step before the rise."
            )
            yield Alarm("one_answer_share", message, now, limit)

    def _rise(self, alarm: str, name: str, limit: float | None, what: str) -> Iterator[Alarm]:
        change = self._change(name)
        if limit is None or change is None:
            return
        start, now = change
        if now - start >= limit and now > start:
            message = (
                f"{now:.0%} of the answers {what}, up from {start:.0%} at the start. Such rollouts vote for nothing. "
                "Look at some of them; a lower learning rate or a longer answer limit may help."
            )
            yield Alarm(alarm, message, now - start, limit)

    def _entropy(self) -> Iterator[Alarm]:
        change, unanimous = self._change("entropy"), self._change("unanimous_share")
        if change is None or change[0] <= 0:
            return
        share = change[1] / change[0]
        floor, rise = self._config.entropy_floor, self._config.entropy_rise
        differing = unanimous is None or unanimous[1] < _STILL_DIFFERING
        if floor is not None and share < floor and differing:
            message = (
                f"Entropy has fallen to {share:.1%} of its start although most problems still get different answers. "
                "The policy hardly explores any more, so no vote can correct it. Lower the learning rate, or add KL."
            )
            yield Alarm("entropy_floor", message, share, floor)
        if rise is not None and share > rise:
            message = (
                f"Entropy is {share:.1f} times its start. The policy may be falling apart into random text; read some "
                "rollouts, and lower the learning rate."
            )
            yield Alarm("entropy_rise", message, share, rise)

    def _length(self) -> Iterator[Alarm]:
        limit, change = self._config.length_drop, self._change("length_mean")
        if limit is None or change is None or change[0] <= 0:
            return
        start, now = change
        drop = 1 - now / start
        if drop >= limit and now < start:
            message = (
                f"Rollouts have shrunk from {start:.0f} to {now:.0f} tokens. The policy may have stopped working the "
                "problems out and be guessing. Read some rollouts, and go back to a step before the fall."
            )
            yield Alarm("length_drop", message, drop, limit)

    def _jump(self, shift: float | None) -> Iterator[Alarm]:
        limit = self._config.kl_jump
        if limit is None or shift is None or math.isnan(shift) or len(self._shifts) < MIN_SHIFTS:
            return
        usual = median(self._shifts)
        if shift > limit * usual and shift > MIN_SHIFT:
            # A usual shift of 0 has no multiple; the floor stands in for it, to keep the figure finite.
            factor = shift / max(usual, MIN_SHIFT / limit)
            message = (
                f"This step moved the policy by {shift:.3g} nats per token; {usual:.3g} is usual for this run. Another "
                "such step can undo it. Lower the learning rate or add a KL penalty."
            )
            yield Alarm("kl_jump", message, factor, limit)

    def _false_consensus(self, poll: Mapping[str, float]) -> Iterator[Alarm]:
        limit, change = self._config.false_consensus, self._change("consensus")
        flips = self._recent.get("flip_share", [])
        if limit is None or change is None or len(flips) < RECENT_STEPS or fmean(flips) > _SETTLED:
            return
        start, now = change
        if now - start < limit or now <= start:
            return
        risen = f"The trained problems agree on {now:.0%} of their answers, up from {start:.0%}, and keep their labels"
        held_out, variety = poll.get("held_out_consensus"), poll.get("held_out_label_variety")
        first, first_variety = (self._first_poll.get(f"held_out_{name}") for name in ("consensus", "label_variety"))
        behind = None if held_out is None or first is None else (now - start) - (held_out - first)
        if behind is not None and held_out is not None and behind >= limit and now > held_out:
            message = (
                f"{risen}, but on held-out problems agreement has only gone from {first:.0%} to {held_out:.0%}. The "
                "policy may be learning its labels by heart, right or wrong. Check some labels by hand, and train on "
                "more problems or for fewer passes."
            )
            yield Alarm("false_consensus", message, behind, limit)
        elif variety is not None and first_variety and 1 - variety / first_variety >= _VARIETY_LOST:
            lost = 1 - variety / first_variety
            message = (
                f"{risen}, but the labels of held-out problems have lost {lost:.0%} of their variety: different "
                "problems now get the same answers. Look at the rollouts, and go back to a step before the fall."
            )
            yield Alarm("false_consensus", message, lost, _VARIETY_LOST)
