"""What the pages and the command line may ask of jobs: a row is written, then the doorbell rung."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ttrl_engine.config import RunConfig
from ttrl_engine.errors import DataError
from ttrl_engine.problems import BUNDLED_PREFIX, load_problem_set
from worker.queue import Doorbell
from worker.states import JobState
from worker.store import Store
from worker.store.problem_sets import SET_PREFIX


class JobDesk:
    """The only way in. The row is the truth: if the ring after it is lost, the reconciler rings again."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._doorbell = Doorbell(store.data_dir)

    def submit_run(
        self, config: RunConfig, client_id: str, problem_set_id: str | None = None, parent_run_id: int | None = None
    ) -> int:
        """Queue a run and return its id; the same `client_id` gives the same run.

        Without a `problem_set_id` the set is the one the config names. Raises DataError or ConfigError.
        """
        for ref in config.data.benchmarks:
            self.problem_set(ref)
        set_id = problem_set_id or self.problem_set(config.data.problems)
        run_id = self.store.submit_run(config, client_id, set_id, parent_run_id)
        self._doorbell.ring()
        return run_id

    def submit_comparison(self, run_id: int, prompt: str, client_id: str, **options: Any) -> int:
        """Queue a comparison and return its id; `options` as of `Store.submit_comparison`. Raises ConfigError."""
        comparison_id = self.store.submit_comparison(run_id, prompt, client_id, **options)
        self._doorbell.ring()
        return comparison_id

    def submit_set_comparison(
        self, run_id: int, set_id: str, problem_ids: Sequence[str], client_id: str, **options: Any
    ) -> int:
        """Queue a comparison over a set; `options` as of `Store.submit_set_comparison`. Raises ConfigError."""
        comparison_id = self.store.submit_set_comparison(run_id, set_id, problem_ids, client_id, **options)
        self._doorbell.ring()
        return comparison_id

    def submit_export(self, run_id: int, client_id: str) -> int:
        """Queue the merging of a run's adapter into its model and return the export's id. Raises StudioError."""
        export_id = self.store.submit_export(run_id, client_id)
        self._doorbell.ring()
        return export_id

    def submit_preflight(self, config: RunConfig, problem_set_id: str) -> int:
        """Queue a check of how the model votes on the set and return its id; one that is there or under way is not
        made twice. Raises DataError or ModelError."""
        preflight_id = self.store.submit_preflight(config, problem_set_id)
        self._doorbell.ring()
        return preflight_id

    def problem_set(self, ref: str) -> str:
        """The id of the stored set behind `set:ID` or `bundled:NAME`, which is stored if it is not yet.

        A config comes from a browser, so a path in it is refused: it would let anybody read files of this machine.
        Raises DataError if there is no such set.
        """
        if ref.startswith(SET_PREFIX):
            set_id = ref.removeprefix(SET_PREFIX)
            if self.store.problem_set(set_id) is None:
                raise DataError(f"There is no problem set {set_id!r}. It may have been removed; upload it again.")
            return set_id
        if not ref.startswith(BUNDLED_PREFIX):
            raise DataError(f"{ref!r} is no problem set of this Studio. Upload the file under Problem sets first.")
        return self.store.add_problem_set(load_problem_set(ref), source=ref)

    def pause(self, job_id: int) -> JobState:
        """Save and wait. Raises StudioError where that cannot be."""
        return self.store.request_pause(job_id)

    def cancel(self, job_id: int) -> JobState:
        """End, keeping what was saved. Raises StudioError where that cannot be."""
        return self.store.request_cancel(job_id)

    def resume(self, job_id: int) -> JobState:
        """Go on from the last checkpoint when its turn comes. Raises StudioError where that cannot be."""
        state = self.store.request_resume(job_id)
        self._doorbell.ring()
        return state

    def roll_back(self, job_id: int, step: int | None = None) -> JobState:
        """End a run that does not run with the weights of its last healthy checkpoint, or of the one of `step`, when
        its turn comes. Raises StudioError where that cannot be."""
        state = self.store.request_roll_back(job_id, step)
        self._doorbell.ring()
        return state

    def hold(self, held: bool) -> None:
        """Hold the queue, or let it go on."""
        self.store.hold_queue(held)
        if not held:
            self._doorbell.ring(len(self.store.queue()))
