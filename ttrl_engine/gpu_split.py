"""How one GPU's memory is divided between the trainer and an inference engine that samples for it.

Arithmetic only, in bytes; importing this module does not load torch.
"""

from __future__ import annotations

from dataclasses import dataclass

# Of a GPU's memory. What is needed is estimated, and measured peaks lie within 15 % of the estimate.
COMFORTABLE = 0.85
# Of the key-value cache for all rows at their longest. Most answers are far shorter; with less, rows wait for others.
ENOUGH_CACHE = 0.25


@dataclass(frozen=True)
class Split:
    """What the engine may take of the GPU, in bytes, and whether it gives that back for each update (sleep mode, paid
    for by moving its weights to the host and back). Without `fits` it cannot even start beside the trainer's weights;
    `engine` is then what it would need."""

    engine: int
    sleeps: bool
    fits: bool


def split_gpu(gpu: int, resident: int, peak: int, fixed: int, cache: int, row: int) -> Split:
    """Divide the `gpu`. The trainer holds `resident` bytes all the time and `peak` in an update. The engine needs
    `fixed` beside its cache, of which `cache` is all that it could use and `row` what its longest row takes.

    It gets no more than it could use, and beside the trainer's peak where that leaves enough.
    """
    room = int(COMFORTABLE * gpu)
    beside = room - peak
    if beside >= fixed + max(row, int(ENOUGH_CACHE * cache)):
        return Split(min(beside, fixed + cache), False, True)
    alone = room - resident
    fits = alone >= fixed + row
    return Split(min(alone, fixed + cache) if fits else fixed + row, True, fits)
