from pathlib import Path

import pytest

from tests.ttrl_engine.tiny import write_tiny_model
from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
from ttrl_engine.policy import Policy


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def policy(tiny_model: Path) -> Policy:
    import torch

    torch.manual_seed(0)
    return Policy.load(ModelConfig(source=str(tiny_model), method="full"), HardwareConfig(device="cpu"), TrainConfig())
