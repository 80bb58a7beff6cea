"""What is told of a failure, and what to do about it."""

from __future__ import annotations

import errno
import sqlite3

import pytest

from ttrl_engine.errors import ConfigError, DataError, ModelError, RunError
from worker.failures import HINTS, MESSAGES, classify, classify_exit, failure, redact


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out_of_memory"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full"),
        (sqlite3.OperationalError("database or disk is full"), "disk_full"),
        (OSError("x/y is not a local folder and is not a valid model identifier listed on the hub"), "model_not_found"),
        (ModelError("There is no model here."), "model_not_found"),
        (RuntimeError("No CUDA GPUs are available"), "no_gpu"),
        (AssertionError("Torch not compiled with CUDA enabled"), "no_gpu"),
        (DataError("Row 3 has no text."), "bad_row"),
        (RunError("The loss is not finite: the run diverged."), "diverged"),
        (FloatingPointError("overflow"), "diverged"),
        (ConfigError("Both cannot be."), "config"),
        (TimeoutError("too long"), "time_out"),
        (ValueError("what is this"), "unknown"),
    ],
)
def test_a_failure_has_its_kind(error, kind):
    found = classify(error)
    assert found.kind == kind
    assert found.message
    assert found.hint == HINTS[kind]


def test_our_own_words_are_shown_as_written():
    assert classify(DataError("Row 3 has no text.")).message == "Row 3 has no text."


def test_the_cause_behind_our_own_error_decides_its_kind():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as full:
            raise RunError("The checkpoint could not be written.") from full
    except RunError as error:
        found = classify(error)
    assert (found.kind, found.message) == ("disk_full", "The checkpoint could not be written.")


@pytest.mark.parametrize(
    ("exit_code", "log", "kind"),
    [
        (-9, "step 3\n", "killed"),
        (-9, "RuntimeError: CUDA out of memory", "out_of_memory"),
        (1, "OSError: [Errno 28] No space left on device", "disk_full"),
        (5, "", "unknown"),
        (None, "", "killed"),
    ],
)
def test_a_process_that_left_no_word_is_judged_by_its_exit_and_its_log(exit_code, log, kind):
    assert classify_exit(exit_code, log).kind == kind


def test_every_kind_has_a_message_and_a_hint():
    assert set(HINTS) == set(MESSAGES)
    assert failure("no_gpu").message == MESSAGES["no_gpu"]


def test_a_token_is_never_shown():
    assert "hf_abcdefghijklmnopqrst" not in redact("401 for hf_abcdefghijklmnopqrst: denied")
