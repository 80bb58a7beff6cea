"""Tells webhooks what happens to runs, from a thread of the worker: no run waits for it, and it waits for no run."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any

from worker.rows import DeliveryRow, EvaluationRow, RunRow
from worker.store import Store
from worker.store.deliveries import News
from worker.webhook import EVENTS, Answer, Webhook, send, silence_s, webhooks

ROUND_S = 2.0
WAITS_S = (10.0, 60.0, 300.0, 1800.0, 7200.0)
"""Seconds before each further attempt; after the last one the message is given up."""

# Rows are written in batches, a little after the time they bear.
_OVERLAP_S = 120.0
_MAX_WAIT_S = 7200.0
_TITLES = {"finished": "is finished", "failed": "has failed", "alarm": "raised an alarm", "stall": "has gone silent"}
_SPLITS = {"adapt": "problems trained on", "held_out": "held-out problems"}

_log = logging.getLogger(__name__)


class Notifier:
    """One thread of the worker. Without a webhook it reads one row per round and sends nothing."""

    def __init__(self, store: Store, round_s: float = ROUND_S) -> None:
        self._store, self._round_s = store, round_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="notifier", daemon=True)

    def start(self) -> None:
        """Begin; messages that an earlier worker left waiting go on."""
        self._thread.start()

    def stop(self) -> None:
        """End; a request under way is not waited for longer than a moment."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def round(self, at: float) -> None:
        """Look at what is new, then send what is due."""
        hooks = webhooks(self._store)
        if not hooks:
            return
        self.gather(hooks, at)
        by_id = {hook.id: hook for hook in hooks}
        for delivery in self._store.due_deliveries(at):
            if self._stopping.is_set():
                return
            if delivery.webhook_id in by_id:
                self._deliver(by_id[delivery.webhook_id], delivery, at)

    def gather(self, hooks: list[Webhook], at: float) -> None:
        """Put a message for every webhook that asked for it on its way."""
        seen = self._store.watched_until()
        since = (at if seen is None else seen) - _OVERLAP_S
        found = self._store.news(since, at - silence_s(self._store))
        told = self._store.told([news.key for news in found])
        messages = []
        for news in found:
            # A stall is news when it is noticed, not when the run last spoke.
            happened_at = at if news.event == "stall" else news.at
            wanting = [
                hook
                for hook in hooks
                if news.event in hook.events and happened_at >= hook.created_at and (hook.id, news.key) not in told
            ]
            run = self._store.run(news.run_id) if wanting else None
            if run is not None:
                text = message(run, news, self._store.standing_evaluations(run.id), at)
                messages += [(hook.id, news, text) for hook in wanting]
        if messages or seen is None or at - seen > _OVERLAP_S / 2:
            self._store.queue_deliveries(messages, at)

    def _deliver(self, hook: Webhook, delivery: DeliveryRow, at: float) -> None:
        answer = send(hook, stored_message(delivery))
        if answer.ok:
            self._store.settle_delivery(delivery.id, "sent", None)
            return
        _log.warning("message %s to %r was not taken: %s", delivery.id, hook, answer.error)
        wait_s = next_wait_s(delivery.attempts, answer)
        if wait_s is None:
            self._store.settle_delivery(delivery.id, "failed", answer.error)
        else:
            self._store.settle_delivery(delivery.id, "waiting", answer.error, at + wait_s)

    def _loop(self) -> None:
        while not self._stopping.wait(self._round_s):
            try:
                self.round(time.time())
            except Exception:  # noqa: BLE001 (logged)
                # A full disk or a busy database must not end the rounds: the next one finds the same work.
                _log.exception("a round of the notifier failed")


def next_wait_s(attempts: int, answer: Answer) -> float | None:
    """Seconds until the next attempt after `attempts` earlier ones and this one; None to give up."""
    if not answer.passing or attempts >= len(WAITS_S):
        return None
    return min(max(WAITS_S[attempts], answer.retry_after_s), _MAX_WAIT_S)


def message(run: RunRow, news: News, evaluations: list[EvaluationRow], at: float) -> dict[str, Any]:
    """What a webhook is told: no prompt, no answer and no path, only the run's name, state and measured gains."""
    gains = [_gain(row) for row in _newest(evaluations)] if news.event == "finished" else []
    lines = [f"Run {run.id} “{run.name}” {_TITLES[news.event]}."]
    if news.event == "stall" and run.last_event_at is not None:
        lines.append(f"It has told nothing for {max(1, round((at - run.last_event_at) / 60))} min, at step {run.step}.")
    elif news.event == "failed":
        lines += [run.job.error_message or news.text, run.job.error_hint or ""]
    elif news.event == "alarm":
        lines.append(news.text)
    lines += [each["words"] for each in gains]
    if news.event == "finished" and not gains:
        lines.append("Its gain is unknown: nothing with reference answers was evaluated.")
    return {
        "event": news.event,
        "text": " ".join(line for line in lines if line)[:1800],
        "run": {
            "id": run.id,
            "name": run.name,
            "state": run.state.value,
            "step": run.step,
            "total_steps": run.total_steps,
        },
        "gains": gains,
        "at": news.at,
    }


def trial_message(at: float) -> dict[str, Any]:
    """What “Send a test” sends."""
    text = "This is a test from TTRL Studio. From now on runs report here: " + ", ".join(EVENTS) + "."
    return {"event": "test", "text": text, "run": None, "gains": [], "at": at}


def stored_message(delivery: DeliveryRow) -> dict[str, Any]:
    """The message as it was put on its way."""
    value: dict[str, Any] = json.loads(delivery.message_json)
    return value


def _newest(evaluations: list[EvaluationRow]) -> list[EvaluationRow]:
    """The last evaluation of each split that has a gain, in the order of `_SPLITS`."""
    by_split = {row.split: row for row in evaluations if row.step > 0 and row.gain is not None}
    return [by_split[split] for split in _SPLITS if split in by_split]


def _gain(row: EvaluationRow) -> dict[str, Any]:
    assert row.gain is not None
    known = row.gain_low is not None and row.gain_high is not None and (row.gain_low > 0 or row.gain_high < 0)
    words = f"Gain on {_SPLITS[row.split]}: {100 * row.gain:+.1f} points"
    if row.gain_low is not None and row.gain_high is not None:
        words += f", 95 % [{100 * row.gain_low:+.1f}, {100 * row.gain_high:+.1f}]"
    words += f", n = {row.num_problems} × {row.num_samples}"
    return {
        "split": row.split,
        "num_problems": row.num_problems,
        "num_samples": row.num_samples,
        "gain": row.gain,
        "gain_low": row.gain_low,
        "gain_high": row.gain_high,
        "established": known,
        "words": f"{words}{'' if known else ' (not established)'}.",
    }
