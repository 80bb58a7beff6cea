"""News of runs reach webhooks: a real HTTP server at the other end, nothing sent twice, no address told to anybody."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.worker.waiting import wait_until
from ttrl_engine.errors import ConfigError
from worker.notify import WAITS_S, Notifier, trial_message
from worker.settlement import Verdict
from worker.states import JobState
from worker.store import Store
from worker.webhook import Answer, Webhook, add_webhook, keep_silence, remove_webhook, send, silence_s, webhooks

SECRET = "T0ken-of-the-channel"


@dataclass
class Receiver:
    """What the other end got, and what it is to answer next (200 once the list is empty)."""

    url: str
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            code, headers = found.answers.pop(0) if found.answers else (200, {})
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}/services/{SECRET}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def notifier(store: Store) -> Notifier:
    return Notifier(store, round_s=0.05)


def end(store: Store, run_id: int, state: JobState = JobState.FINISHED) -> None:
    claim = store.claim_next("w")
    assert claim is not None
    assert store.job(claim.job_id).subject_id == run_id
    store.record(claim, run_id, [], running=True)
    store.let_go(claim, lambda _job, _step: Verdict(state, "As the test says."))


def alarm(store: Store, run_id: int, text: str = "All answers are one.") -> None:
    with store.writing(run_id) as connection:
        connection.execute(
            "INSERT INTO alarms (run_id, step, alarm, message, action, at) VALUES (?, 3, 'one_answer', ?, 'note', ?)",
            (run_id, text, time.time()),
        )


@pytest.mark.parametrize(
    ("state", "event"), [(JobState.FINISHED, "finished"), (JobState.FAILED, "failed"), (JobState.LOST, "failed")]
)
def test_the_end_of_a_run_is_told_once(store, submit, notifier, receiver, state, event):
    add_webhook(store, "json", receiver.url, ["finished", "failed"])
    run_id = submit("my run")
    end(store, run_id, state)
    for _ in range(3):
        notifier.round(time.time())
    assert [body["event"] for body in receiver.bodies] == [event]
    assert receiver.bodies[0]["run"]["id"] == run_id
    assert "my run" in receiver.bodies[0]["text"]
    assert [each.state for each in store.newest_deliveries()] == ["sent"]


def test_a_run_that_a_person_stopped_is_no_news(store, submit, notifier, receiver):
    add_webhook(store, "json", receiver.url, ["finished", "failed", "alarm", "stall"])
    end(store, submit(), JobState.PAUSED)
    notifier.round(time.time())
    assert receiver.bodies == []


def test_an_alarm_is_told_with_its_sentence(store, submit, notifier, receiver):
    add_webhook(store, "json", receiver.url, ["alarm"])
    alarm(store, submit())
    notifier.round(time.time())
    assert [body["event"] for body in receiver.bodies] == ["alarm"]
    assert "All answers are one." in receiver.bodies[0]["text"]


def test_a_run_that_tells_nothing_is_told_once_as_stalled(store, submit, notifier, receiver):
    add_webhook(store, "json", receiver.url, ["stall"])
    keep_silence(store, 60)
    run_id = submit()
    claim = store.claim_next("w")
    store.record(claim, run_id, [], running=True)
    notifier.round(time.time() + 50)
    assert receiver.bodies == []
    for later in (70, 90):
        notifier.round(time.time() + later)
    assert [body["event"] for body in receiver.bodies] == ["stall"]


def test_a_webhook_is_not_told_what_was_before_it(store, submit, notifier, receiver):
    end(store, submit())
    add_webhook(store, "json", receiver.url, ["finished"])
    notifier.round(time.time())
    assert receiver.bodies == []


def test_a_webhook_is_told_only_what_it_asked_for(store, submit, notifier, receiver):
    add_webhook(store, "json", receiver.url, ["failed"])
    end(store, submit())
    notifier.round(time.time())
    assert receiver.bodies == []


def test_a_gain_in_a_message_has_split_n_interval_and_verdict(store, submit, notifier, receiver):
    add_webhook(store, "json", receiver.url, ["finished"])
    run_id = submit()
    with store.writing(run_id) as connection:
        connection.execute(
            "INSERT INTO evaluations (run_id, step, split, problem_set, num_problems, num_samples, avg, gain, gain_low,"
            " gain_high, from_cache) VALUES (?, 3, 'held_out', 's', 32, 8, 0.4, 0.02, -0.05, 0.09, 0)",
            (run_id,),
        )
        connection.execute("UPDATE runs SET step = 3 WHERE id = ?", (run_id,))
    end(store, run_id)
    notifier.round(time.time())
    text = receiver.bodies[0]["text"]
    assert "+2.0 points, 95 % [-5.0, +9.0], n = 32 × 8 (not established)" in text


def test_what_could_not_be_sent_is_sent_later_and_then_given_up(store, submit, notifier, receiver):
    add_webhook(store, "json", receiver.url, ["finished"])
    end(store, submit())
    receiver.answers = [(503, {})] * (len(WAITS_S) + 1)
    at = time.time()
    for wait_s in (*WAITS_S, 0.0):
        notifier.round(at)
        notifier.round(at + 1.0)  # too early: nothing goes out
        at += wait_s + 2.0
    notifier.round(at + 86_400)
    assert len(receiver.bodies) == len(WAITS_S) + 1
    [delivery] = store.newest_deliveries()
    assert (delivery.state, delivery.error) == ("failed", "The server answered 503 Service Unavailable.")


def test_a_later_attempt_can_succeed(store, submit, notifier, receiver):
    add_webhook(store, "json", receiver.url, ["finished"])
    end(store, submit())
    receiver.answers = [(500, {})]
    at = time.time()
    notifier.round(at)
    notifier.round(at + WAITS_S[0] + 1)
    assert [(each.state, each.error, each.attempts) for each in store.newest_deliveries()] == [("sent", None, 2)]


def test_a_withdrawn_address_is_given_up_at_once(store, submit, notifier, receiver):
    add_webhook(store, "json", receiver.url, ["finished"])
    end(store, submit())
    receiver.answers = [(404, {})]
    notifier.round(time.time())
    [delivery] = store.newest_deliveries()
    assert delivery.state == "failed"
    assert "withdrawn" in (delivery.error or "")


def test_a_busy_receiver_is_given_the_time_it_asks_for(store, submit, notifier, receiver):
    add_webhook(store, "json", receiver.url, ["finished"])
    end(store, submit())
    receiver.answers = [(429, {"retry-after": "600"})]
    at = time.time()
    notifier.round(at)
    assert store.newest_deliveries()[0].next_at == pytest.approx(at + 600)


def test_a_redirect_is_not_followed(store, receiver):
    hook = add_webhook(store, "json", receiver.url, ["finished"])
    receiver.answers = [(302, {"location": receiver.url})]
    answer = send(hook, trial_message(0.0))
    assert not answer.ok
    assert not answer.passing
    assert len(receiver.bodies) == 1


def test_a_server_that_does_not_answer_is_left_after_the_timeout(store):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        hook = add_webhook(store, "json", f"http://127.0.0.1:{deaf.getsockname()[1]}/{SECRET}", ["finished"])
        began = time.monotonic()
        answer = send(hook, trial_message(0.0), timeout_s=0.3)
    assert time.monotonic() - began < 3
    assert answer == Answer(False, "The server did not answer within 0.3 s.", passing=True)


def test_the_address_is_in_no_log_no_error_and_no_picture_of_it(store, submit, notifier, caplog):
    caplog.set_level(logging.DEBUG)
    hook = add_webhook(store, "slack", f"http://127.0.0.1:1/{SECRET}", ["finished"])
    end(store, submit())
    notifier.round(time.time())
    [delivery] = store.newest_deliveries()
    shown = f"{caplog.text} {delivery.error} {delivery.message_json} {hook!r} {hook.shown}"
    assert "Connection refused" in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.example/x", "ftp://a.example/x", "file:///etc/passwd", "https://", "http://a b.example/",
        "https://user:word@a.example/", "http://a.example:99999/", "http://[::1/", "https://a.example/\nhost: b",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_one_is_refused(store, url):
    with pytest.raises(ConfigError):
        add_webhook(store, "json", url, ["finished"])
    assert webhooks(store) == []


def test_the_forms_keep_a_name_from_calling_anybody(receiver):
    text = "Run 1 “<!channel> @everyone & co” is finished."
    for kind in ("slack", "discord"):
        assert send(Webhook("x", kind, receiver.url, ("finished",), 0.0), {"text": text}).ok
    slack, discord = receiver.bodies
    assert slack["text"] == "Run 1 “&lt;!channel&gt; @everyone &amp; co” is finished."
    assert discord["allowed_mentions"] == {"parse": []}


def test_a_removed_webhook_is_sent_nothing_more(store, submit, notifier, receiver):
    hook = add_webhook(store, "json", receiver.url, ["finished"])
    end(store, submit())
    notifier.gather(webhooks(store), time.time())
    remove_webhook(store, hook.id)
    notifier.round(time.time())
    assert receiver.bodies == []
    assert store.newest_deliveries() == []


def test_without_a_webhook_nothing_is_gathered(store, submit, notifier):
    end(store, submit())
    notifier.round(time.time())
    assert store.newest_deliveries() == []


def test_the_thread_sends_and_ends_at_once(store, submit, notifier, receiver):
    add_webhook(store, "json", receiver.url, ["finished"])
    notifier.start()
    end(store, submit())
    wait_until(lambda: len(receiver.bodies) == 1, "the message")
    began = time.monotonic()
    notifier.stop()
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("seconds", [0, 59, 90_000, float("nan")])
def test_a_silence_that_makes_no_sense_is_refused(store, seconds):
    with pytest.raises(ConfigError):
        keep_silence(store, seconds)
    assert silence_s(store) == 900
