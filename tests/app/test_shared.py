from __future__ import annotations

import threading
import time

import pytest

from app.shared import Shared


def test_a_value_is_made_again_only_when_its_mark_changes():
    shared, made = Shared[int](size=4), []

    def make() -> int:
        made.append(1)
        return len(made)

    assert [shared.get("run", mark, make) for mark in ("a", "a", "b", "b", "a")] == [1, 1, 2, 2, 3]


def test_of_many_who_ask_at_once_one_makes_it_and_another_key_does_not_wait():
    shared, made, results = Shared[str](size=4), [], []
    making, done = threading.Event(), threading.Event()

    def slow() -> str:
        made.append(1)
        making.set()
        assert done.wait(10)
        return "slow"

    threads = [threading.Thread(target=lambda: results.append(shared.get(1, "a", slow))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert making.wait(10)
    time.sleep(0.05)
    assert shared.get(2, "a", lambda: "other") == "other"
    done.set()
    for thread in threads:
        thread.join(10)
    assert (made, results) == ([1], ["slow"] * 8)


def test_a_failure_is_not_kept():
    shared = Shared[int](size=4)
    with pytest.raises(ZeroDivisionError):
        shared.get("run", "a", lambda: 1 // 0)
    assert shared.get("run", "a", lambda: 7) == 7


def test_what_was_not_asked_for_longest_is_forgotten():
    shared, made = Shared[int](size=2), []

    def make() -> int:
        made.append(1)
        return len(made)

    assert [shared.get(key, "a", make) for key in ("one", "two", "one", "three", "one", "two")] == [1, 2, 1, 3, 1, 4]
