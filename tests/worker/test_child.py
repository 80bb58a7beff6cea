from __future__ import annotations

from ttrl_engine.config import RunConfig
from ttrl_engine.problems import Problem, ProblemSet
from worker.child import _problem
from worker.store import Store

COLOURS = Problem("colour", "Which?", ("red", "blue"))


def asked(store: Store, set_id: str, prompt: str, problem_id: str | None) -> Problem:
    """What a comparison with these values puts to the models; the run has a benchmark with a choice problem."""
    other = store.add_problem_set(ProblemSet("colours", "choice", (COLOURS,), {"colour": "A"}), "test")
    config = RunConfig().with_changes(**{"data.benchmarks": (f"set:{other}",)})
    run_id = store.submit_run(config, "run", set_id, None)
    comparison = store.comparison(store.submit_comparison(run_id, prompt, "c", problem_id=problem_id))
    run = store.run(run_id)
    assert comparison is not None
    assert run is not None
    return _problem(store, run, comparison)


def test_a_problem_of_a_benchmark_keeps_its_choices(store: Store, set_id: str):
    assert asked(store, set_id, "Which?", "colour") == COLOURS


def test_a_changed_problem_is_what_was_typed(store: Store, set_id: str):
    assert asked(store, set_id, "Which one?", "colour") == Problem("typed", "Which one?")
