"""The process of one job: `python -m worker.child --data-dir DIR --job ID --attempt N --parent PID`.

It computes, writes rows and, as its last word, how it ended. It never changes the state of its job beyond `running`:
that is for the worker, which outlives it.

A run on several GPUs has a process for each, started by torchrun inside the process that the worker has started; the
first of them writes the rows.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ttrl_engine.asking import Asking
from ttrl_engine.config import RunConfig
from ttrl_engine.equivalence import configure_shared
from ttrl_engine.errors import DataError, PeerLostError, RunError, StudioError
from ttrl_engine.events import Ending, Event, Noted
from ttrl_engine.launch import is_first, is_rank, launch
from ttrl_engine.problems import Problem, ProblemSet, load_problem_set
from ttrl_engine.sampler import StopRequested
from ttrl_engine.threads import wait_politely
from worker import health, processes
from worker.engine import BaseScoreTable, Engine, TorchEngine
from worker.export import write_merged
from worker.failures import classify, failure, first_line, redact
from worker.folders import READINGS
from worker.gpu_watch import GpuWatch
from worker.recorder import Recorder
from worker.rows import ComparisonRow, PreflightRow, RunRow
from worker.settings import Settings
from worker.states import Intent, Outcome
from worker.store import Store
from worker.store.comparisons import rule_of
from worker.store.holding import Claim, FencedError
from worker.store.problem_sets import SET_PREFIX

DONE, FAILED, FENCED, ORPHANED, PEER_LOST = 0, 1, 3, 4, 5
"""Exit codes. The worker goes by the last word in the store; these are for whoever starts a child by hand."""

PROGRESS_INTERVAL_S = 0.5

_log = logging.getLogger("worker.child")


def main(engine: Engine | None = None, argv: Sequence[str] | None = None) -> int:
    """Compute one job to its end; returns the exit code."""
    arguments = _parse(argv)
    stop = threading.Event()
    # Before the parent is looked at: between the two the parent may die, and its last signal must find us ready.
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not processes.end_with_parent(arguments.parent, signal.SIGKILL if is_rank() else signal.SIGTERM):
        return ORPHANED
    processes.offer_for_memory()
    wait_politely()
    os.umask(0o077)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    threading.Thread(target=_watch_parent, args=(arguments.parent, stop), name="parent watch", daemon=True).start()
    claim = Claim(arguments.job, arguments.attempt)
    store = Store(arguments.data_dir)
    configure_shared(arguments.data_dir / READINGS)
    num_ranks = _num_ranks(store, claim)
    if num_ranks > 1 and not is_rank():
        return _launch(arguments, num_ranks)
    try:
        _compute(store, claim, engine or TorchEngine(), stop)
    except FencedError as refused:
        _log.warning("%s It ends here.", refused)
        return FENCED
    except StopRequested:
        store.say_outcome(claim, Outcome.STOPPED)
    except PeerLostError as error:
        # The one that was lost has told why, or was killed and told nothing; then its signal is the reason.
        _log.warning("%s", error)
        return PEER_LOST
    except Exception as error:  # noqa: BLE001 (every failure is told with its kind, its hint and its trace)
        return _tell(store, claim, error)
    return DONE


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker.child", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--job", type=int, required=True)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True, help="process whose end ends this one")
    return parser.parse_args(argv)


def _num_ranks(store: Store, claim: Claim) -> int:
    """Processes that the job asks for."""
    job = store.job(claim.job_id)
    run = store.run(job.subject_id) if job.kind == "run" and job.intent is not Intent.ROLL_BACK else None
    return 1 if run is None else run.config.hardware.gpus


def _launch(arguments: argparse.Namespace, num_ranks: int) -> int:
    """Have the job computed by so many processes, of which this one is the parent. Ends by the signal that one of them
    was killed by, if any was, so that the worker sees what it would have seen of a single process."""
    # torchrun has handlers of its own; a signal that comes before them ends this process, and nothing is lost.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    words = ["--data-dir", arguments.data_dir, "--job", arguments.job, "--attempt", arguments.attempt]
    code = launch("worker.child", [str(word) for word in (*words, "--parent", os.getpid())], num_ranks)
    if code < 0:
        _log.error("A process of this run was ended by signal %s.", -code)
        logging.shutdown()
        os.kill(os.getpid(), -code)
    return code


def _watch_parent(parent: int, stop: threading.Event) -> None:
    """Where the system does not tell a child that its parent died, the child sees it by itself."""
    while os.getppid() == parent:
        time.sleep(1.0)
    stop.set()


def _compute(store: Store, claim: Claim, engine: Engine, stop: threading.Event) -> None:
    job = store.job(claim.job_id)
    settings = Settings()
    free = health.disk(store.data_dir).free_bytes
    if free < settings.min_free_bytes:
        raise OSError(28, f"No space left on device: {free / 2**20:.0f} MiB are free")
    if job.kind == "run":
        run = store.run(job.subject_id)
        assert run is not None
        _log.info("run %s (%s), attempt %s", run.id, run.name, claim.attempt)
        if job.intent is Intent.ROLL_BACK:
            _roll_back(store, claim, run, engine)
        else:
            _compute_run(store, claim, run, engine, stop)
    elif job.kind == "compare":
        comparison = store.comparison(job.subject_id)
        assert comparison is not None
        _compute_comparison(store, claim, comparison, engine, stop)
    elif job.kind == "preflight":
        preflight = store.preflight(job.subject_id)
        assert preflight is not None
        _compute_preflight(store, claim, preflight, engine, stop)
    else:
        export = store.export(job.subject_id)
        assert export is not None
        run = store.run(export.run_id)
        assert run is not None
        write_merged(store, claim, run, _weights(store, run, None), stop.is_set)
        store.say_outcome(claim, Outcome.COMPLETED)


def _compute_run(store: Store, claim: Claim, run: RunRow, engine: Engine, stop: threading.Event) -> None:
    folder = store.run_folder(run.id)
    config = run.config
    problem_set = store.load_problem_set(run.set_id)
    benchmarks = _benchmarks(store, config.data.benchmarks)
    if not is_first():
        engine.run(config, folder, problem_set, benchmarks, _say_nothing, stop.is_set, BaseScoreTable(store))
        return
    folder.joinpath("config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    with Recorder(store, claim, run.id) as recorder:
        with GpuWatch() as gpu_watch:
            emit = gpu_watch.beside(recorder.emit)
            finished = engine.run(config, folder, problem_set, benchmarks, emit, stop.is_set, BaseScoreTable(store))
        alarm = recorder.last_alarm
        if finished.ending is Ending.ALARM and alarm is not None and alarm.action == "roll_back":
            recorder.emit(Noted(finished.step, "warning", f"The run ended at step {finished.step}: {alarm.message}"))
        if finished.ending is Ending.COMPLETED:
            _check_policy(finished.policy_path)
    match finished.ending:
        case Ending.COMPLETED:
            store.say_outcome(claim, Outcome.COMPLETED)
        case Ending.STOPPED:
            store.say_outcome(claim, Outcome.STOPPED)
        case Ending.ALARM:
            rolled_back = alarm is not None and alarm.action == "roll_back"
            reason = "A safeguard fired." if alarm is None else alarm.message
            store.say_outcome(claim, Outcome.ROLLED_BACK if rolled_back else Outcome.ALARM, reason)
    _log.info("%s at step %s", finished.ending, finished.step)


def _roll_back(store: Store, claim: Claim, run: RunRow, engine: Engine) -> None:
    with Recorder(store, claim, run.id) as recorder:
        finished = engine.roll_back(store.run_folder(run.id), recorder.emit, run.job.intent_step)
    which = ", the last healthy checkpoint" if run.job.intent_step is None else ""
    store.say_outcome(claim, Outcome.ROLLED_BACK, f"Ended at step {finished.step}{which}, as a person asked.")
    _log.info("rolled back to step %s", finished.step)


def _say_nothing(event: Event) -> None:
    """The first process speaks for all."""


def _compute_comparison(
    store: Store, claim: Claim, comparison: ComparisonRow, engine: Engine, stop: threading.Event
) -> None:
    run = store.run(comparison.run_id)
    assert run is not None
    store.begin_comparison(claim)
    if comparison.set_id is not None:
        _compare_set(store, claim, run, comparison, engine, stop)
        return
    sides: dict[str, Any] = {}

    def record(done: int, total: int) -> None:
        store.record_comparison(claim, run.id, done, total)

    def on_side(name: str, side: dict[str, Any]) -> None:
        sides[name] = side
        store.record_comparison(claim, run.id, partial_json=json.dumps(sides))

    asking = _asking(store, run, run.config, comparison)
    result = engine.answer_both(asking, _problem(store, run, comparison), _paced(record), stop.is_set, on_side)
    store.record_comparison(claim, run.id, result_json=json.dumps(result))
    store.say_outcome(claim, Outcome.COMPLETED)


def _compare_set(
    store: Store, claim: Claim, run: RunRow, comparison: ComparisonRow, engine: Engine, stop: threading.Event
) -> None:
    """Problems are written as they are answered, batch by batch; a later attempt asks for the others only."""
    assert comparison.set_id is not None
    config = run.config.model_copy(update={"answers": rule_of(run, comparison)})
    wanted = set(comparison.problem_ids)
    problems = [each for each in store.load_problem_set(comparison.set_id).problems if each.id in wanted]
    known = {(side.side, side.problem_id) for side in store.compared_sides(comparison.id)}
    waiting: list[tuple[str, str, dict[str, Any]]] = []

    def write(done: int | None = None, total: int | None = None) -> None:
        if waiting:
            store.record_sides(claim, comparison.id, run.id, waiting)
            waiting.clear()
        store.record_comparison(claim, run.id, done, total)

    def emit(name: str, problem_id: str, side: dict[str, Any]) -> None:
        waiting.append((name, problem_id, side))

    try:
        asking = _asking(store, run, config, comparison)
        engine.answer_all(asking, problems, emit, known, _paced(write), stop.is_set)
    finally:
        write()
    store.say_outcome(claim, Outcome.COMPLETED)


def _compute_preflight(
    store: Store, claim: Claim, preflight: PreflightRow, engine: Engine, stop: threading.Event
) -> None:
    def record(done: int, total: int) -> None:
        store.record_preflight(claim, done, total)

    store.record_preflight(claim, 0, 0)
    problem_set = store.load_problem_set(preflight.set_id)
    findings = engine.inspect(preflight.config, problem_set, _paced(record), stop.is_set)
    num_votes = sum(poll.num_votes for poll in findings.polls)
    store.record_preflight(claim, num_votes, num_votes, findings)
    store.say_outcome(claim, Outcome.COMPLETED)


def _paced(record: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """The same, called a few times a second at most, and at the end."""
    told_at_s = 0.0

    def on_progress(done: int, total: int) -> None:
        nonlocal told_at_s
        if time.monotonic() - told_at_s >= PROGRESS_INTERVAL_S or done == total:
            told_at_s = time.monotonic()
            record(done, total)

    return on_progress


def _asking(store: Store, run: RunRow, config: RunConfig, comparison: ComparisonRow) -> Asking:
    return Asking(
        weights=_weights(store, run, comparison.step),
        config=config,
        num_samples=comparison.num_samples,
        temperature=comparison.temperature,
        max_new_tokens=comparison.max_new_tokens,
        seed=comparison.seed,
    )


def _benchmarks(store: Store, refs: Sequence[str]) -> dict[str, ProblemSet]:
    """Shown name -> set. An uploaded set is shown by its name, and by its reference where two have the same."""
    found: dict[str, ProblemSet] = {}
    for ref in refs:
        if ref.startswith(SET_PREFIX):
            problem_set = store.load_problem_set(ref.removeprefix(SET_PREFIX))
            found[ref if problem_set.name in found else problem_set.name] = problem_set
        else:
            found[ref] = load_problem_set(ref)
    return found


def _weights(store: Store, run: RunRow, step: int | None) -> Path:
    """The folder of a checkpoint, or of the policy; of the newest checkpoint while there is no policy yet."""
    if step is not None:
        saved = next((row for row in store.checkpoints(run.id) if row.step == step), None)
        if saved is None or not Path(saved.path).is_dir():
            raise DataError(
                f"The checkpoint of step {step} is no longer on disk. Compare with the final policy instead."
            )
        return Path(saved.path)
    policy = store.run_folder(run.id) / "policy"
    if policy.is_dir():
        return policy
    on_disk = [Path(row.path) for row in store.checkpoints(run.id) if Path(row.path).is_dir()]
    if not on_disk:
        raise RunError("This run has saved no weights yet, so there is nothing to compare with its base model.")
    return on_disk[-1]


def _problem(store: Store, run: RunRow, comparison: ComparisonRow) -> Problem:
    """The problem of one of the run's sets, with its choices, if it was picked and not changed; else what was typed."""
    if comparison.problem_id is not None:
        known = store.problem(run.set_id, comparison.problem_id)
        if known is not None and known.prompt == comparison.prompt:
            return Problem(known.problem_id, known.prompt, known.choices)
        for benchmark in _benchmarks(store, run.config.data.benchmarks).values():
            for problem in benchmark.problems:
                if (problem.id, problem.prompt) == (comparison.problem_id, comparison.prompt):
                    return problem
    return Problem("typed", comparison.prompt)


def _check_policy(path: str | None) -> None:
    """A run is finished when its result is there, not when its loop has ended."""
    if path is None or not any(file.stat().st_size > 0 for file in Path(path).glob("*.safetensors")):
        raise RunError(
            "The run reached its last step, but its trained weights are not on disk. Resume it to save again."
        )


def _tell(store: Store, claim: Claim, error: Exception) -> int:
    """Write down why it failed; the log has it too, for when the database cannot be written."""
    trace = redact("".join(traceback.format_exception(error)))
    found = classify(error)
    _log.error("%s\n%s", found.message, trace)
    if found.kind == "unknown" and not isinstance(error, StudioError):
        found = failure("unknown", f"{type(error).__name__}: {first_line(error)}")
    try:
        store.say_outcome(claim, Outcome.FAILED, found.message, found, trace[-60_000:])
    except FencedError:
        return FENCED
    return FAILED


def leave(exit_code: int) -> NoReturn:
    """End at once. Taking an interpreter with torch apart takes seconds, in which the GPU is not yet free, and a
    helper thread of some library can hold it up for ever. Everything that matters is on disk by now."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    leave(main())
