"""What an inference engine gets of a GPU beside the trainer, and when it must sleep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ttrl_engine import trainer
from ttrl_engine.config import RunConfig
from ttrl_engine.errors import RunError
from ttrl_engine.gpu_split import COMFORTABLE, SPARE, Split, split_gpu
from ttrl_engine.memory import GIB, MAX_ROWS, PROCESS, Estimate, ModelShape, engine_rows, estimate
from ttrl_engine.ranks import ALONE, Ranks
from ttrl_engine.this_gpu import expected_use
from ttrl_engine.torch_sampler import TorchSampler
from ttrl_engine.vllm_sampler import VllmSampler

QWEN: dict[str, Any] = {"model_type": "qwen2", "vocab_size": 151_936, "max_position_embeddings": 4096}
SIZES: dict[str, dict[str, Any]] = {
    "0.5B": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
    "7B": {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28},
}
KEYS = {"0.5B": 2, "1.5B": 2, "7B": 4}


def config_of(name: str) -> dict[str, Any]:
    return {**QWEN, **SIZES[name], "num_key_value_heads": KEYS[name], "tie_word_embeddings": name != "7B"}


def shape_of(name: str) -> ModelShape:
    return ModelShape.from_config(config_of(name))


@pytest.mark.parametrize(
    ("name", "gib", "method", "sleeps"),
    [
        ("0.5B", 24, "lora", True),
        ("0.5B", 80, "lora", False),
        ("1.5B", 48, "lora", True),
        ("1.5B", 141, "lora", False),
        ("1.5B", 141, "full", False),
        ("1.5B", 80, "full", True),
        ("7B", 80, "lora", True),
        ("7B", 180, "full", True),
    ],
)
def test_the_engine_sleeps_where_both_do_not_fit_at_once_and_only_there(
    name: str, gib: int, method: str, sleeps: bool
) -> None:
    config, gpu = RunConfig().with_changes(**{"model.method": method}), gib * GIB
    found = estimate(shape_of(name), config, "cuda", gpu)
    assert found.split is not None
    assert (found.split.sleeps, found.split.fits) == (sleeps, True)
    of_engine = ("vllm weights", "vllm fixed", "key-value cache", "sampling")
    resident, updating = (
        sum(part.bytes for part in found.parts if part.name not in of_engine and part.when == when)
        for when in ("always", "updating")
    )
    peak = resident + updating
    at_once = resident if sleeps else peak
    everything = estimate(shape_of(name), config, "cuda")
    engine = {part.name: part.bytes for part in everything.parts}
    whole = sum(engine[part] for part in of_engine)
    # No more than it could ever use and some to spare; the torch sampler's cache takes nothing from it.
    assert found.split.engine == min(int(COMFORTABLE * gpu) - at_once, whole + SPARE)
    if not sleeps:
        assert found.total <= COMFORTABLE * gpu
        assert found.total == peak + found.split.engine
    else:
        assert COMFORTABLE * gpu - peak < whole, "there was room for both"


@pytest.mark.parametrize(("name", "gib"), [("7B", 16), ("1.5B", 8), ("0.5B", 4)])
def test_what_cannot_start_is_told_with_what_it_needs(name: str, gib: int) -> None:
    split = estimate(shape_of(name), RunConfig(), "cuda", gib * GIB).split
    assert split is not None
    assert not split.fits
    weights = 2 * shape_of(name).parameters
    assert weights + 3 * GIB < split.engine < weights + 6 * GIB


def test_all_of_a_model_cannot_be_trained_beside_a_sleeping_engine_where_it_hardly_fits_alone() -> None:
    config = RunConfig().with_changes(**{"model.method": "full"})
    found = estimate(shape_of("7B"), config, "cuda", 141 * GIB)
    assert found.split is not None
    assert not found.split.fits


def test_an_engine_that_sleeps_must_leave_the_smallest_update_room_beside_what_it_keeps() -> None:
    resident, peak, fixed, keeps, cache, row = 5 * GIB, 60 * GIB, 12 * GIB, 3 * GIB, 30 * GIB, GIB
    for least, fits in ((31 * GIB, True), (31 * GIB + 1, False)):
        assert split_gpu(40 * GIB, resident, peak, least, fixed, keeps, cache, row).fits == fits


def test_an_engine_that_could_use_little_still_gets_some_to_spare() -> None:
    """Its own estimate of graphs and workspaces may be above ours, and takes from the cache."""
    trainer_and_engine = (5 * GIB, 20 * GIB, 9 * GIB, 8 * GIB, 3 * GIB, GIB, GIB >> 8)
    assert split_gpu(80 * GIB, *trainer_and_engine) == Split(11 * GIB, False, True)


def test_wide_evaluations_and_long_prompts_are_counted_in_what_an_engine_needs() -> None:
    def sampling(**changes: Any) -> int:
        found = estimate(shape_of("7B"), RunConfig().with_changes(**changes), "cuda")
        return next(part.bytes for part in found.parts if part.name == "sampling")

    narrow = {"train.problems_per_step": 2, "vote.num_votes": 8, "vote.num_trained": 8}
    few = narrow | {"evaluate.max_problems": 2, "evaluate.num_samples": 4}
    rows = {name: engine_rows(RunConfig().with_changes(**changes)) for name, changes in (("all", narrow), ("few", few))}
    assert rows == {"all": MAX_ROWS, "few": 16}
    assert sampling(**narrow) - sampling(**few) == (MAX_ROWS - 16) * 151_936 * 16
    # A pass of 8,192 positions through 7 B in half precision: the feed-forward block alone.
    assert sampling(**few) > 8_192 * 2 * 3 * 18_944


def test_shorter_answers_or_smaller_batches_let_both_stay_awake() -> None:
    shape, gpu = shape_of("1.5B"), 80 * GIB
    awake = {"train.tokens_per_batch": 4_096, "vote.max_new_tokens": 1_024}
    for changes, sleeps in (({}, True), (awake, False)):
        split = estimate(shape, RunConfig().with_changes(**changes), "cuda", gpu).split
        assert split is not None
        assert split.sleeps == sleeps


@pytest.mark.parametrize("gpu", range(10, 130, 7))
def test_a_larger_gpu_never_makes_it_worse(gpu: int) -> None:
    trainer_and_engine = [size * GIB for size in (10, 40, 15, 8, 3, 30, 1)]
    small, large = (split_gpu(size * GIB, *trainer_and_engine) for size in (gpu, gpu + 7))
    assert (large.fits, not large.sleeps) >= (small.fits, not small.sleeps)
    if small.fits and small.sleeps == large.sleeps:
        assert large.engine >= small.engine


def test_without_a_gpu_there_is_nothing_to_divide() -> None:
    assert estimate(shape_of("1.5B"), RunConfig(), "cpu", 64 * GIB).split is None
    assert estimate(shape_of("1.5B"), RunConfig(), "cuda").split is None
    assert expected_use(_policy("cpu"), RunConfig()) is None


def test_what_other_programs_hold_is_not_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    total, mine, theirs = 141 * GIB, 4 * GIB, 30 * GIB
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: mine)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (total - mine - theirs - PROCESS["cuda"], total))
    expected = estimate(shape_of("1.5B"), RunConfig(), "cuda", total - theirs)
    assert expected_use(_policy("cuda"), RunConfig()) == expected
    assert expected_use(_policy("cuda", {"model_type": "unheard-of"}), RunConfig()) is None


@pytest.mark.parametrize("wanted", ["auto", "vllm"])
def test_where_vllm_has_no_room_a_run_takes_torch_or_says_why_not(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run, notes = _run(wanted, ALONE, Split(9 * GIB, True, False), monkeypatch)
    if wanted == "vllm":
        with pytest.raises(RunError, match=r"vLLM needs 9\.0 GiB.*Set the sampler to `torch`"):
            run._make_sampler()
        return
    sampler = run._make_sampler()
    assert isinstance(sampler, TorchSampler)
    assert notes[0].startswith("The torch sampler is used")
    assert "vLLM needs 9.0 GiB" in notes[0]
    # Its cache, which stays on the GPU, leaves the update its room.
    config = RunConfig().with_changes(**{"hardware.sampler": "torch"})
    planned = estimate(shape_of("1.5B"), config, "cuda", 96 * GIB)
    assert sampler._cache_bytes == planned.cache
    assert planned.total <= COMFORTABLE * 96 * GIB


@pytest.mark.parametrize("wanted", ["auto", "vllm"])
def test_where_vllm_does_not_start_a_run_takes_torch_or_says_why_not(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RunError("vLLM could not start: no available memory for the cache blocks.")

    run, notes = _run(wanted, ALONE, Split(35 * GIB, True, True), monkeypatch)
    monkeypatch.setattr(VllmSampler, "__init__", refuse)
    if wanted == "vllm":
        with pytest.raises(RunError, match="no available memory for the cache blocks"):
            run._make_sampler()
        return
    assert isinstance(run._make_sampler(), TorchSampler)
    assert notes[1].startswith("The torch sampler is used")
    assert "no available memory" in notes[1]


class Two(Ranks):
    """A rank beside another one, which says the same but for `other`."""

    def __init__(self, other: Callable[[Any], Any]) -> None:
        super().__init__(0, 2)
        self._other = other

    def gather(self, value: Any) -> list[Any]:
        return [value, self._other(value)]


def test_ranks_take_one_sampler_where_only_one_of_them_has_too_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    short = Two(lambda value: Split(9 * GIB, True, False) if isinstance(value, Split) else value)
    run, _ = _run("auto", short, Split(35 * GIB, False, True), monkeypatch)
    assert isinstance(run._make_sampler(), TorchSampler)


def test_ranks_take_one_sampler_where_vllm_starts_on_one_of_them_only(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    failed = Two(lambda value: "vLLM could not start there." if isinstance(value, str) else value)
    run, notes = _run("auto", failed, Split(35 * GIB, False, True), monkeypatch)
    monkeypatch.setattr(VllmSampler, "__init__", lambda *_, **__: None)
    monkeypatch.setattr(VllmSampler, "close", lambda _: closed.append(True))
    assert isinstance(run._make_sampler(), TorchSampler)
    assert closed == [True], "the engine of this rank would keep its share of the GPU"
    assert "vLLM could not start there." in notes[1]


def _run(wanted: str, ranks: Ranks, split: Split, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[str]]:
    """A run that has loaded its policy, on a GPU that vLLM would share by `split`, and what it notes."""
    notes: list[str] = []
    run = trainer._Run.__new__(trainer._Run)
    run.config, run.policy = RunConfig().with_changes(**{"hardware.sampler": wanted}), _policy("cuda")
    run.ranks = ranks
    run.emit = lambda event: notes.append(event.message)  # type: ignore[attr-defined]
    monkeypatch.setattr(trainer, "vllm_installed", lambda: True)
    monkeypatch.setattr(trainer, "cache_budget", lambda _device: 100 * GIB)

    def expected(_policy: object, config: RunConfig) -> Estimate:
        found = estimate(shape_of("1.5B"), config, "cuda", 96 * GIB)
        return replace(found, split=split) if config.hardware.sampler != "torch" else found

    monkeypatch.setattr(trainer, "expected_use", expected)
    return run, notes


def _policy(device: str, config: dict[str, Any] | None = None) -> Any:
    known = SimpleNamespace(to_dict=lambda: config_of("1.5B") if config is None else config)
    base = SimpleNamespace(config=known, dtype=torch.bfloat16)
    return SimpleNamespace(
        device=torch.device(device), base=base, model=base, lora_rank=0, sampling_copy=lambda *_, **__: None
    )
