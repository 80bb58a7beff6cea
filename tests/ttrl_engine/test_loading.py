from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ttrl_engine import compare
from ttrl_engine.config import ModelConfig, RunConfig
from ttrl_engine.loading import choose_dtype, choose_precision, has_bfloat16, sampling_dtype

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that imitates bfloat16."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)


@pytest.fixture
def new_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)  # noqa: ARG005


@pytest.fixture
def precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("old_gpu")
def test_a_gpu_that_imitates_bfloat16_computes_in_float32() -> None:
    assert not has_bfloat16(GPU)
    assert choose_dtype(ModelConfig(), GPU) is torch.float32
    assert sampling_dtype(ModelConfig(method="full"), GPU) is torch.float32
    assert choose_dtype(ModelConfig(dtype="bfloat16"), GPU) is torch.bfloat16


@pytest.mark.usefixtures("new_gpu")
def test_all_weights_are_trained_in_float32_and_sampled_as_they_compute() -> None:
    for dtype, frozen in (("auto", torch.bfloat16), ("float32", torch.float32)):
        for choose in (choose_dtype, sampling_dtype):
            assert choose(ModelConfig.model_validate({"dtype": dtype}), GPU) is frozen
        full = ModelConfig.model_validate({"dtype": dtype, "method": "full"})
        assert choose_dtype(full, GPU) is torch.float32
        assert sampling_dtype(full, GPU) is torch.bfloat16
        assert sampling_dtype(full, CPU) is torch.float32


@pytest.mark.parametrize(
    ("method", "dtype", "expected"),
    [("lora", "auto", torch.float32), ("lora", "bfloat16", torch.bfloat16), ("full", "bfloat16", torch.float32)],
)
def test_a_comparison_asks_in_the_format_of_the_run(
    tiny_model: Path, method: str, dtype: str, expected: torch.dtype
) -> None:
    changes = {"model.source": str(tiny_model), "model.method": method, "model.dtype": dtype}
    assert compare._load(RunConfig().with_changes(**changes), None, CPU)[0].dtype is expected


@pytest.mark.usefixtures("precision")
def test_only_an_adapter_beside_weights_in_half_precision_gets_tensor_float() -> None:
    for dtype, device, expected in (
        (torch.bfloat16, GPU, "high"),
        (torch.float32, GPU, "highest"),
        (torch.bfloat16, CPU, "highest"),
    ):
        choose_precision(dtype, device)
        assert torch.get_float32_matmul_precision() == expected
