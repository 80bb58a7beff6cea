"""How one GPU's memory is divided between the trainer and an inference engine that samples for it.

Arithmetic only, in bytes; importing this module does not load torch.
"""

from __future__ import annotations

from dataclasses import dataclass

# Of a GPU's memory. What is needed is estimated, and measured peaks lie within 15 % of the estimate.
COMFORTABLE = 0.85
# Of the key-value cache for all rows at their longest. Most answers are far shorter; with less, rows wait for others.
ENOUGH_CACHE = 0.25
# What an engine gets above its estimate where there is room: with too little it does not start.
SPARE = 2 << 30


@dataclass(frozen=True)
class Split:
    """What the engine may take of the GPU, in bytes, and whether it gives that back for each update (sleep mode, paid
    for by moving its weights to the host and back). Without `fits` it cannot even start beside the trainer's weights,
    or what it keeps in its sleep not beside the smallest update; `engine` is then what it would need."""

    engine: int
    sleeps: bool
    fits: bool


def split_gpu(gpu: int, resident: int, peak: int, least: int, fixed: int, stays: int, cache: int, row: int) -> Split:
    """Divide the `gpu`. The trainer holds `resident` bytes all the time and `peak` in an update, `least` in one that
    has come down to what it cannot do without. The engine needs `fixed` beside its cache, `stays` of it even as it
    sleeps; of the `cache` it could use all, and needs `row`, which is what its longest row takes.

    It gets what it could use and some to spare, and beside the trainer's peak where that leaves enough.
    """
    room = int(COMFORTABLE * gpu)
    most = fixed + cache + SPARE
    beside = room - peak
    if beside >= fixed + max(row, int(ENOUGH_CACHE * cache)):
        return Split(min(beside, most), False, True)
    alone = room - resident
    fits = alone >= fixed + row and room >= least + stays
    return Split(min(alone, most) if fits else fixed + row, True, fits)
