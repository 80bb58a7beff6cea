"""Why a job could not go on, in words for the person who has to do something about it."""

from __future__ import annotations

import errno
import re
import signal
import sqlite3
from dataclasses import dataclass

from ttrl_engine.errors import ConfigError, DataError, ModelError, RunError, StudioError

HINTS: dict[str, str] = {
    "out_of_memory": "Lower the votes per problem, the longest answer or the tokens per micro-batch, or take a smaller "
    "model or LoRA instead of full weights. Then resume: the run goes on from its last checkpoint.",
    "disk_full": "Free some space on the disk of the data folder, for example by removing old runs, then resume.",
    "model_not_found": "Check the name or the folder of the model. A hub model needs the network once, and a gated one "
    "needs a token of an account that was given access.",
    "no_gpu": "Set the device to `auto` or `cpu`, or check that the driver sees a GPU: `ttrl-studio doctor`.",
    "bad_row": "Open the problem set, correct or remove the row that is named, and start a new run.",
    "diverged": "Clone the run with a smaller learning rate, or resume it from its last checkpoint.",
    "killed": "The machine may be short of memory: lower the tokens per micro-batch or the votes per problem, close "
    "other programs, then resume. The system log names what was killed and why.",
    "time_out": "Raise the time limit or plan fewer steps, then resume: the run goes on from its last checkpoint.",
    "config": "Clone the run and change the settings that are named.",
    "unknown": "The details below say where it happened. Resume to try again from the last checkpoint.",
}

MESSAGES: dict[str, str] = {
    "out_of_memory": "The memory did not suffice.",
    "disk_full": "The disk is full, so nothing more could be saved.",
    "model_not_found": "The model could not be found or loaded.",
    "no_gpu": "No usable GPU was found.",
    "bad_row": "A problem of the set cannot be used.",
    "diverged": "The training diverged: a loss or a weight is no longer a finite number.",
    "killed": "The process was killed from outside.",
    "time_out": "The time limit was reached.",
    "config": "The settings cannot work together.",
    "unknown": "Something unexpected happened.",
}


@dataclass(frozen=True)
class Failure:
    """What went wrong: its kind (a key of HINTS), one sentence of what happened, one of what to do."""

    kind: str
    message: str
    hint: str


# First match wins; what is looked at is "TypeName: text" of an exception, or the end of a log.
_SIGNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("disk_full", re.compile(r"no space left on device|disk quota exceeded|database or disk is full", re.I)),
    (
        "out_of_memory",
        re.compile(
            r"OutOfMemoryError|\bMemoryError|out of memory|can't allocate memory|cannot allocate memory|bad_alloc"
            r"|CUBLAS_STATUS_ALLOC_FAILED|not enough memory",
            re.I,
        ),
    ),
    (
        "no_gpu",
        re.compile(
            r"no cuda gpus are available|no nvidia driver|torch not compiled with cuda"
            r"|cuda driver version is insufficient|cuda is not available"
            r"|no cuda-capable device|device not ready|all cuda-capable devices are busy",
            re.I,
        ),
    ),
    (
        "model_not_found",
        re.compile(
            r"RepositoryNotFound|RevisionNotFound|GatedRepo|LocalEntryNotFound|EntryNotFound"
            r"|is not a valid model identifier|does not appear to have a file named|couldn't connect to .*huggingface"
            r"|SafetensorError",
            re.I,
        ),
    ),
    (
        "diverged",
        re.compile(r"FloatingPointError|diverged|probability tensor contains either|non-finite|not finite", re.I),
    ),
    ("time_out", re.compile(r"\bTimeoutError|TaskTimeout", re.I)),
)

_BY_TYPE: tuple[tuple[type[StudioError], str], ...] = (
    (ConfigError, "config"),
    (DataError, "bad_row"),
    (ModelError, "model_not_found"),
)

_SECRET = re.compile(r"\b(hf_|sk-|ghp_)[A-Za-z0-9_-]{12,}")


def classify(error: BaseException) -> Failure:
    """The failure behind an exception. Our own errors keep their message, which is written for people."""
    if isinstance(error, StudioError):
        return _classify_own(error)
    causes = _chain(error)
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return failure("disk_full")
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno == errno.ENOMEM):
            return failure("out_of_memory")
    for cause in causes:
        kind = _kind_of(f"{_type_names(cause)}: {cause}")
        if kind is not None:
            return failure(kind, "" if kind in ("disk_full", "out_of_memory") else first_line(cause))
    return failure("unknown", f"{type(error).__name__}: {first_line(error)}")


def classify_exit(exit_code: int | None, log_tail: str) -> Failure:
    """The failure of a process that ended without a word, by its exit code (-9: killed by signal 9) and its log."""
    kind = _kind_of(log_tail[-8000:])
    if kind is not None and kind != "time_out":
        return failure(kind)
    if exit_code is not None and exit_code < 0:
        return failure("killed", f"The process was ended by {signal_name(-exit_code)}, and not by TTRL Studio.")
    if exit_code is None:
        return failure("killed", "The process is gone and left no word.")
    return failure("unknown", f"The process ended with exit code {exit_code} and left no word.")


def failure(kind: str, message: str = "") -> Failure:
    """A failure of this kind, with a message of its own or the usual one."""
    return Failure(kind, redact(message)[:2000] or MESSAGES[kind], HINTS[kind])


def is_disk_full(error: sqlite3.Error) -> bool:
    """Whether SQLite could not write for want of space."""
    return "disk is full" in str(error).lower()


def redact(text: str) -> str:
    """The text without access tokens, so that a trace can be shown and copied."""
    return _SECRET.sub(r"\1…", text)


def signal_name(number: int) -> str:
    """SIGKILL for 9; the number where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).strip().splitlines() or [""])[0][:500]


def _classify_own(error: StudioError) -> Failure:
    for own, kind in _BY_TYPE:
        if isinstance(error, own):
            return failure(kind, str(error))
    # An error that goes back to the machine (a full disk, no memory) is that failure, told in our words.
    for cause in _chain(error)[1:]:
        behind = classify(cause)
        if behind.kind != "unknown":
            return failure(behind.kind, str(error))
    told = _kind_of(str(error)) if isinstance(error, RunError) else None
    return failure(told or "unknown", str(error))


def _kind_of(text: str) -> str | None:
    return next((kind for kind, sign in _SIGNS if sign.search(text)), None)


def _type_names(error: BaseException) -> str:
    return " ".join(kind.__name__ for kind in type(error).__mro__[:-2])


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return found
