"""The merged model of a run, made in the process of a job: merging holds a whole model in memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from worker import health
from worker.folders import merged_folder
from worker.rows import RunRow
from worker.store import Store
from worker.store.holding import Claim

BYTES_PER_WEIGHT = 4
"""The most a weight takes on disk; a model kept in bfloat16 takes half of it."""


def write_merged(store: Store, claim: Claim, run: RunRow, weights: Path, should_stop: Callable[[], bool]) -> None:
    """Merge the adapter in `weights` into its base model, into the run's export folder: complete or not at all.

    Raises StudioError with the reason, OSError where the disk has no room, StopRequested when stopped.
    """
    from ttrl_engine import merge

    free = health.disk(store.data_dir).free_bytes
    if run.num_parameters is not None and free < BYTES_PER_WEIGHT * run.num_parameters:
        raise OSError(
            28, f"No space left on device: the merged model may need {4 * run.num_parameters / 2**20:.0f} MiB"
        )
    final = merged_folder(store.data_dir, run.id)
    partial = final.with_name(f"merging-{claim.job_id}")
    # An earlier attempt may have been killed half-way.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700, parents=True)
    try:
        merge.merge_adapter(
            run.config,
            weights,
            partial,
            lambda phase, done: store.record_export(claim, phase, done, len(merge.STAGES)),
            should_stop,
        )
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    store.record_export(claim, "done", len(merge.STAGES), len(merge.STAGES))
