import os
import subprocess
import sys

import pytest

from ttrl_engine.errors import RunError
from ttrl_engine.launch import own_gpu

TAKE = """
import os, sys
from ttrl_engine.config import HardwareConfig
from ttrl_engine.launch import take_gpu
for _ in range(2):
    take_gpu(HardwareConfig(device=sys.argv[1]))
print(os.environ.get("CUDA_VISIBLE_DEVICES"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("device", "told", "size", "expected"),
    [
        ("auto", None, 2, "1"),
        ("cuda", "GPU-a,GPU-b", 2, "GPU-b"),
        ("cpu", "GPU-a,GPU-b", 2, "GPU-a,GPU-b"),
        ("auto", "3,5", 1, "3,5"),
    ],
)
def test_a_rank_takes_its_gpu_once_and_before_torch_is_loaded(
    device: str, told: str | None, size: int, expected: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment |= {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": str(size), "LOCAL_RANK": str(size - 1)}
    environment |= {} if told is None else {"CUDA_VISIBLE_DEVICES": told}
    ended = subprocess.run(
        [sys.executable, "-c", TAKE, device], env=environment, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == [expected, "False"]


@pytest.mark.parametrize(
    ("rank", "told", "expected"),
    [
        (0, None, "0"),
        (3, None, "3"),
        (0, "2, 5", "2"),
        (1, "2, 5", "5"),
        (1, "GPU-a,MIG-b", "MIG-b"),
        (2, "2,5", ""),
        (0, "", ""),
        (0, "-1", ""),
    ],
)
def test_the_gpu_of_a_rank_is_the_one_at_its_place(rank: int, told: str | None, expected: str) -> None:
    assert own_gpu(rank, told) == expected


def test_ranks_have_a_gpu_each_or_none() -> None:
    from ttrl_engine.process_group import have_gpus

    assert have_gpus([1, 1, 1])
    assert not have_gpus([0, 0])
    with pytest.raises(RunError, match="3 processes with a GPU each, but only 2 can be seen"):
        have_gpus([1, 1, 0])
    with pytest.raises(RunError, match="sees 2 GPUs"):
        have_gpus([2, 2])
