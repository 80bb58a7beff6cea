"""How the sampler starts, rests, fails and ends around an engine that only writes down what it is asked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ttrl_engine import trainer, vllm_sampler
from ttrl_engine.config import parse_config
from ttrl_engine.errors import RunError
from ttrl_engine.events import Event, RunStarted
from ttrl_engine.gpu_split import Split
from ttrl_engine.memory import GIB, VLLM_PASS
from ttrl_engine.problems import load_problem_set
from ttrl_engine.ranks import Ranks
from ttrl_engine.sampler import Sampler, SampleRequest, SamplingParams, StopRequested
from ttrl_engine.vllm_sampler import GPU_SHARE, VllmSampler

SLEEPS, STAYS = Split(35 * GIB, True, True), Split(40 * GIB, False, True)
REQUEST, PARAMS = SampleRequest((1,), 1, 0), SamplingParams(1.0, 1.0, 4, ())


class Engine:
    """Records what it is asked for, in the order in which it is; what is named in `refuses` fails."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.log: list[str] = []
        self.refuses: set[str] = set()
        core = SimpleNamespace(shutdown=lambda: self._do("shutdown"))
        self.llm_engine = SimpleNamespace(engine_core=core)

    def sleep(self, level: int) -> None:
        self._do(f"sleep {level}")

    def wake_up(self) -> None:
        self._do("wake up")

    def collective_rpc(self, *_: object, **__: object) -> None:
        self._do("load")

    def reset_prefix_cache(self) -> bool:
        self.log.append("forget")
        return "forget" not in self.refuses

    def _do(self, what: str) -> None:
        self.log.append(what)
        if what in self.refuses:
            raise AssertionError(f"no {what}")


class Started:
    """A sampler on a GPU of 100 GiB that is not there; `engine` is what it started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refuses: set[str] | None = None) -> None:
        self._monkeypatch = monkeypatch
        self.refuses = refuses or set()
        self.engine: Engine
        monkeypatch.setattr(vllm_sampler, "vllm_installed", lambda: True)
        monkeypatch.setattr(vllm_sampler, "start_engine", self._start)
        monkeypatch.setattr(vllm_sampler, "clear_away", lambda _failure=None: None)
        monkeypatch.setattr(vllm_sampler, "free_main_memory", lambda: 64 * GIB)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: self.engine.log.append("empty cache"))
        gpu = SimpleNamespace(total_memory=100 * GIB)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: gpu)

    def __call__(self, split: Split | None, **options: Any) -> VllmSampler:
        return VllmSampler(policy(), "bundled:abacus-1m", None, 64, 0, split=split, **options)

    def sample(self, sampler: VllmSampler, failure: Exception | None = None) -> None:
        def sampled(*_: object) -> list[Any]:
            self.engine.log.append("sample")
            if failure is not None:
                raise failure
            return []

        self._monkeypatch.setattr(VllmSampler, "_sample", sampled)
        self.engine.log.clear()
        sampler.sample([REQUEST], PARAMS, lambda *_: None, lambda: False)

    def _start(self, rank: int, **options: Any) -> Engine:
        self.engine = Engine({"rank": rank, **options})
        self.engine.refuses = self.refuses
        return self.engine


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Started:
    return Started(monkeypatch)


def policy() -> Any:
    base = SimpleNamespace(
        dtype=torch.bfloat16, state_dict=dict, parameters=lambda: [torch.empty(1 << 30, device="meta")]
    )
    return SimpleNamespace(device=torch.device("cuda"), base=base, model=base, lora_rank=0)


def test_a_sleeping_engine_wakes_to_sample_once_the_trainer_has_let_go(start: Started) -> None:
    sampler = start(SLEEPS)
    assert start.engine.options["enable_sleep_mode"]
    assert start.engine.options["gpu_memory_utilization"] == pytest.approx(0.35)
    assert start.engine.log == ["load", "forget", "sleep 1"]
    start.sample(sampler)
    sampler.sync()
    sampler.close()
    sampling, syncing = ["empty cache", "wake up", "sample", "sleep 1"], ["empty cache", "wake up", "load", "forget"]
    assert start.engine.log == [*sampling, *syncing, "sleep 1", "shutdown"]


def test_an_engine_with_room_of_its_own_never_sleeps(start: Started) -> None:
    sampler = start(STAYS)
    start.sample(sampler)
    sampler.close()
    assert not start.engine.options["enable_sleep_mode"]
    assert start.engine.options["gpu_memory_utilization"] == pytest.approx(0.4)
    assert start.engine.log == ["sample", "shutdown"]
    start(None)
    assert start.engine.options["gpu_memory_utilization"] == GPU_SHARE


def test_the_engine_is_as_wide_as_the_memory_that_was_counted_for_it(start: Started) -> None:
    """Else what it tries as it starts takes the place of its cache."""
    start(STAYS, max_rows=48)
    assert start.engine.options["max_num_seqs"] == 48
    assert start.engine.options["max_num_batched_tokens"] == VLLM_PASS


def test_no_two_ranks_draw_by_the_same_numbers_or_compile_into_the_same_files(start: Started) -> None:
    found = []
    for rank in range(4):
        start(STAYS, ranks=Ranks(rank, 4))
        found.append((start.engine.options["rank"], start.engine.options["seed"]))
    assert [rank for rank, _ in found] == [0, 1, 2, 3]
    assert len({seed for _, seed in found}) == 4


def test_an_engine_that_cannot_sleep_is_told_and_shut_down(start: Started) -> None:
    start.refuses.add("sleep 1")
    with pytest.raises(RunError, match=r"no sleep 1.*set the sampler to `torch`"):
        start(SLEEPS)
    assert start.engine.log[-2:] == ["sleep 1", "shutdown"]


def test_an_engine_that_cannot_wake_is_told_and_shut_down(start: Started) -> None:
    sampler = start(SLEEPS)
    start.refuses.add("wake up")
    with pytest.raises(RunError, match=r"no wake up.*set the sampler to `torch`"):
        start.sample(sampler)
    assert start.engine.log == ["empty cache", "wake up", "shutdown"]


def test_an_engine_that_fails_as_it_samples_is_not_put_to_sleep_over_it(start: Started) -> None:
    sampler = start(SLEEPS)
    start.refuses.add("sleep 1")
    with pytest.raises(ValueError, match="the real reason"):
        start.sample(sampler, ValueError("the real reason"))
    assert start.engine.log == ["empty cache", "wake up", "sample", "shutdown"]


@pytest.mark.parametrize("refused", [set(), {"sleep 1"}])
def test_a_stop_is_met_even_where_the_engine_cannot_sleep_then(start: Started, refused: set[str]) -> None:
    sampler = start(SLEEPS)
    start.refuses |= refused
    with pytest.raises(StopRequested):
        start.sample(sampler, StopRequested())
    assert start.engine.log[:4] == ["empty cache", "wake up", "sample", "sleep 1"]


def test_closing_never_keeps_a_run_from_saving_its_result(start: Started, caplog: pytest.LogCaptureFixture) -> None:
    sampler = start(SLEEPS)
    start.refuses.add("shutdown")
    sampler.close()
    sampler.close()
    assert "no shutdown" in caplog.text


@pytest.mark.parametrize("refused", ["load", "forget"])
def test_an_engine_that_does_not_take_the_weights_is_closed_before_it_samples(start: Started, refused: str) -> None:
    start.refuses.add(refused)
    with pytest.raises(RunError, match=r"cannot take over the trained weights.*model\.method = lora"):
        start(SLEEPS)
    assert start.engine.log[-1] == "shutdown"


def test_an_engine_whose_sleep_main_memory_does_not_hold_is_not_started(
    start: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_sampler, "free_main_memory", lambda: 3 * GIB)
    start(SLEEPS)
    with pytest.raises(RunError, match=r"4\.0 GiB in all.*of which 3\.0 GiB are free"):
        start(SLEEPS, ranks=Ranks(1, 2))
    start(STAYS, ranks=Ranks(1, 2))


def test_whatever_keeps_an_engine_from_starting_is_told(start: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("an architecture that nobody knows")

    monkeypatch.setattr(vllm_sampler, "start_engine", fail)
    with pytest.raises(RunError, match=r"vLLM could not start: 'an architecture.*Set the sampler to `torch`"):
        start(STAYS)


def test_a_run_computes_with_its_threads_again_where_the_engine_left_torch_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, before = trainer._Run._make_sampler, torch.get_num_threads()

    def starting(run: trainer._Run) -> Sampler:
        torch.set_num_threads(1)
        return make(run)

    found: list[tuple[int, int]] = []

    def emit(event: Event) -> None:
        if isinstance(event, RunStarted):
            found.append((event.threads, torch.get_num_threads()))

    monkeypatch.setattr(trainer._Run, "_make_sampler", starting)
    hardware = {"device": "cpu", "threads": 2}
    config = parse_config({"hardware": hardware, "vote": {"max_new_tokens": 96}})
    try:
        trainer.run(config, tmp_path, load_problem_set("bundled:sums"), {}, emit, lambda: True)
    finally:
        torch.set_num_threads(before)
    assert found == [(2, 2)]
