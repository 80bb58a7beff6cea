"""`ttrl-studio run`: one run in the terminal, without a browser, a database or a queue."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import yaml

from ttrl_engine.config import PRESETS, RunConfig, load_config
from ttrl_engine.errors import ConfigError, RunError
from ttrl_engine.events import Emit, Ending, Event, RunFinished
from ttrl_engine.launch import is_rank, launch, signal_when_parent_ends, take_gpu
from ttrl_engine.patterns import require_fast
from ttrl_engine.problems import ProblemSet, load_problem_set
from ttrl_engine.threads import wait_politely

STORED_PREFIX = "set:"
# Shells report a program ended by Ctrl-C as 130; a run that an alarm ended is neither a success nor a failure.
EXIT_CODES: Mapping[Ending, int] = {Ending.COMPLETED: 0, Ending.STOPPED: 130, Ending.ALARM: 3}


def resolve_config(path: Path | None, preset: str | None, changes: list[str]) -> RunConfig:
    """The config from a file or a preset, with `key=value` changes laid over it. Raises ConfigError."""
    if path is not None and preset is not None:
        raise ConfigError("Give a config file or a preset, not both.")
    config = preset_config(preset or "quick-look") if path is None else load_config(path)
    return config.with_changes(**dict(parse_change(change) for change in changes)) if changes else config


def preset_config(name: str) -> RunConfig:
    """The config of a preset. Raises ConfigError that lists the known ones."""
    if name not in PRESETS:
        raise ConfigError(f"There is no preset {name!r}. Presets: {', '.join(PRESETS)}.")
    return PRESETS[name].config()


def parse_change(change: str) -> tuple[str, Any]:
    """`vote.num_votes=32` as a dotted name and a value read as YAML. Raises ConfigError if it has no `=`."""
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"A change is written key=value, such as vote.num_votes=32; {change!r} is not.")
    try:
        return key.strip(), yaml.safe_load(text)
    except yaml.YAMLError:
        return key.strip(), text


def load_problems(ref: str, data_dir: Path) -> ProblemSet:
    """A bundled set, a file, or `set:ID` from the data folder of the pages. Raises DataError."""
    if ref.startswith(STORED_PREFIX):
        from worker.store import open_store  # only this form needs a database

        return open_store(data_dir).load_problem_set(ref.removeprefix(STORED_PREFIX))
    return load_problem_set(ref)


def run_in_terminal(config: RunConfig, folder: Path, data_dir: Path, emit: Emit) -> RunFinished:
    """Run, or go on with what is in `folder`. The first Ctrl-C (or TERM) saves a checkpoint and ends the run in good
    order; a second one ends it at once. Raises StudioError."""
    problem_set = load_problems(config.data.problems, data_dir)
    benchmarks = {ref: load_problems(ref, data_dir) for ref in config.data.benchmarks}
    # Several processes are one run: what started them holds the folder.
    claim = contextlib.nullcontext() if is_rank() else claimed(folder)
    with claim, stop_on_signals() as stop:
        config = write_config(config, problem_set, folder)
        # The bars of the libraries would draw over ours; they read this when they are imported.
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        wait_politely()
        take_gpu(config.hardware)
        from ttrl_engine import trainer  # loads torch: seconds that a mistyped config should not cost

        return trainer.run(
            config=config,
            folder=folder,
            problem_set=problem_set,
            benchmarks=benchmarks,
            emit=emit,
            should_stop=lambda: bool(stop),
        )


def run_in_processes(config: RunConfig, folder: Path, data_dir: Path) -> int:
    """Run this very command once more in each of the processes that the config asks for; the exit code. Raises
    StudioError."""
    problem_set = load_problems(config.data.problems, data_dir)
    with claimed(folder):
        # Before the processes start, so that they all read the same.
        write_config(config, problem_set, folder)
        wait_politely()
        code = launch("app.cli", sys.argv[1:], config.hardware.gpus)
    if code < 0:
        sys.stderr.write(f"A process of this run was ended by signal {-code}. The same command goes on from there.\n")
    return code if code >= 0 else 128 - code


def run_silently(config: RunConfig, folder: Path, data_dir: Path) -> None:
    """The part of a process that is not the first; that one speaks for all."""
    signal_when_parent_ends(signal.SIGKILL)
    run_in_terminal(config, folder, data_dir, lambda event: None)  # noqa: ARG005  # the signature of an emitter


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the folder against a second run in it. Raises RunError if one is there or the folder cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "run.lock").open("w")
    except OSError as failure:
        raise RunError(f"Cannot use the folder {folder}: {failure.strerror}. Choose another with --out.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"A run is at work in {folder}. Wait for it, or choose another folder with --out.") from None
        yield


@contextlib.contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """A list that is empty until TERM or INT arrives; the second signal raises KeyboardInterrupt."""
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 -- the signature signal asks for
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt
        sys.stderr.write("\nStopping: saving a checkpoint first. Press Ctrl-C again to stop at once.\n")

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write_config(config: RunConfig, problem_set: ProblemSet, folder: Path) -> RunConfig:
    """Keep the config beside what it makes, and return it with what it left open about answers.

    That is taken from the problem set when a run starts, and from the kept config when it goes on. Raises ConfigError
    if the folder holds a run with another config.
    """
    path = folder / "config.yaml"
    kept = load_config(path) if path.exists() else None
    rule = problem_set.answers if kept is None else kept.answers
    config = config.model_copy(update={"answers": config.answers.over(rule)})
    if kept is not None:
        if kept.digest() != config.digest():
            raise ConfigError(
                f"{folder} holds a run with another config. Choose another folder with --out, "
                f"or go on with that run: ttrl-studio run {path} --out {folder}"
            )
    else:
        if config.answers.pattern is not None:
            require_fast(config.answers.pattern)
        path.write_text(config.to_yaml(), encoding="utf-8")
    return config


def as_json_line(event: Event) -> str:
    """The event as one line of strict JSON: a number that is not finite becomes null."""
    return json.dumps(_finite(event.as_dict()), ensure_ascii=False, allow_nan=False)


def json_emitter(stream: TextIO) -> Emit:
    """Writes each event as a line, at once, so that a pipe sees it while the run goes on."""

    def emit(event: Event) -> None:
        stream.write(as_json_line(event) + "\n")
        stream.flush()

    return emit


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
