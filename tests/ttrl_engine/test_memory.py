import subprocess
import sys
from pathlib import Path

import pytest

from ttrl_engine.config import RunConfig
from ttrl_engine.errors import ModelError
from ttrl_engine.memory import (
    GIB,
    Device,
    ModelShape,
    Part,
    activation_bytes,
    estimate,
    head_bytes,
    longest_row,
    read_shape,
    remedies,
)

QWEN = {
    "model_type": "qwen2",
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 4096,
}
SHAPE = ModelShape.from_config(QWEN)


def test_the_estimate_needs_no_torch() -> None:
    code = "import ttrl_engine.memory, sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_known_sizes_of_qwen() -> None:
    assert SHAPE.parameters == pytest.approx(1.5437e9, rel=0.001)
    assert SHAPE.lora_parameters(32) == pytest.approx(36.9e6, rel=0.01)
    assert SHAPE.cache_numbers * 2 == 28 * 1024


def test_what_is_said_twice_is_the_same(tiny_model: Path) -> None:
    from ttrl_engine import head, memory, static_decoding, torch_sampler

    assert dict(memory.HEAD_CHUNK) == dict(head.HEAD_CHUNK)
    assert memory.MAX_ROWS == torch_sampler.MAX_ROWS
    assert (memory.CPU_CACHE, memory.CACHE_SHARE) == (torch_sampler.CPU_CACHE, torch_sampler.CACHE_SHARE)
    assert memory.BLOCK == static_decoding.BLOCK


def test_a_gpu_makes_more_logits_at_a_time() -> None:
    many = 1 << 20
    assert head_bytes(SHAPE, many, "cpu") == 12 << 25
    assert head_bytes(SHAPE, many, "cuda") == 12 << 27
    assert head_bytes(SHAPE, 1, "cuda") == head_bytes(SHAPE, 1, "cpu") == 12 * SHAPE.vocabulary


def test_weights_that_are_all_trained_on_a_gpu_are_sampled_from_a_copy_in_half_precision() -> None:
    def parts(device: Device, sampler: str, method: str) -> dict[str, int]:
        changes = {"model.method": method, "hardware.sampler": sampler}
        found = estimate(SHAPE, RunConfig().with_changes(**changes), device)
        assert all(part.when == "always" for part in found.parts if part.name == "sampling weights")
        return {part.name: part.bytes for part in found.parts}

    full, adapter = (parts("cuda", "torch", method) for method in ("full", "lora"))
    assert full["sampling weights"] == 2 * SHAPE.parameters
    assert full["key-value cache"] == adapter["key-value cache"]
    others = (adapter, parts("cpu", "torch", "full"), parts("cuda", "vllm", "full"))
    assert not any("sampling weights" in other for other in others)


@pytest.mark.parametrize("rank", [1, 32])
def test_shape_and_model_agree(tiny_model: Path, rank: int) -> None:
    from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
    from ttrl_engine.policy import Policy

    shape = read_shape(tiny_model)
    config = ModelConfig(source=str(tiny_model), lora_rank=rank)
    policy = Policy.load(config, HardwareConfig(device="cpu"), TrainConfig())
    adapter = sum(p.numel() for p in policy.parameters)
    assert shape.lora_parameters(rank) == adapter
    assert shape.parameters == sum(p.numel() for p in policy.model.parameters()) - adapter
    assert shape.lora_folds(rank) == (policy.folded is not None)


def test_activations_are_what_the_forward_pass_keeps(tiny_model: Path) -> None:
    import torch

    from ttrl_engine.config import HardwareConfig, ModelConfig, TrainConfig
    from ttrl_engine.packing import TrainRow
    from ttrl_engine.policy import Policy

    policy = Policy.load(
        ModelConfig(source=str(tiny_model), method="full"), HardwareConfig(device="cpu"), TrainConfig()
    )
    weights = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    rows = [TrainRow((2, 3, 4), tuple(range(5, 45)), (-1.0,) * 40, 1.0)] * 20
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = policy.logprobs(rows, 1.0)
    assert result.requires_grad
    shape, positions = read_shape(tiny_model), 3 + 20 * 39
    head = 4 * positions * shape.vocabulary
    assert sum(kept.values()) == pytest.approx(activation_bytes(shape, positions, False, False, 0) + head, rel=0.15)


def test_each_setting_moves_the_part_it_should() -> None:
    config = RunConfig()
    base = {part.name: part.bytes for part in estimate(SHAPE, config, "cuda").parts}
    for changes, part, grows in (
        ({"train.gradient_checkpointing": True}, "activations", False),
        ({"train.tokens_per_batch": 32_768}, "activations", True),
        ({"vote.max_new_tokens": 512}, "key-value cache", False),
        ({"vote.num_votes": 32}, "key-value cache", False),
        ({"model.method": "full"}, "optimizer", True),
        ({"model.dtype": "float32"}, "weights", True),
    ):
        changed = {each.name: each.bytes for each in estimate(SHAPE, config.with_changes(**changes), "cuda").parts}
        assert (changed[part] > base[part]) == grows, changes
        assert changed[part] != base[part], changes


def test_the_torch_samplers_cache_stays_on_a_gpu_and_leaves_the_update_its_room() -> None:
    config = RunConfig().with_changes(**{"hardware.sampler": "torch"})

    def cache(device: Device, gpu: int | None = None) -> Part:
        return next(part for part in estimate(SHAPE, config, device, gpu).parts if part.name == "key-value cache")

    # On a GPU it is what recorded graphs point into, in blocks of 256 tokens.
    row = -(-longest_row(SHAPE, config) // 256) * 256 * SHAPE.cache_numbers * 2
    assert cache("cuda") == Part("key-value cache", 512 * row, "always")
    assert cache("cpu").when == "sampling"
    assert cache("cuda", 1000 * GIB).bytes == 512 * row
    middle = cache("cuda", 96 * GIB).bytes
    assert config.vote.num_votes * row < middle < 512 * row
    assert 0.84 * 96 * GIB < estimate(SHAPE, config, "cuda", 96 * GIB).total < 0.86 * 96 * GIB
    # Down to the votes of one problem.
    assert cache("cuda", 24 * GIB).bytes == config.vote.num_votes * row


def test_phases_follow_each_other_and_do_not_add_up() -> None:
    found = estimate(SHAPE, RunConfig().with_changes(**{"hardware.sampler": "torch"}), "cuda")
    always, sampling, updating = (found.during(when) for when in ("always", "sampling", "updating"))
    assert found.total == always + max(sampling, updating)
    assert min(always, sampling, updating) > 0


def test_remedies_lower_the_estimate_and_say_whether_they_suffice() -> None:
    found = estimate(SHAPE, RunConfig(), "cuda")
    for available in (found.total - 1, 20 * GIB, GIB):
        offered = remedies(found, available)
        assert offered
        for remedy in offered:
            total = estimate(SHAPE, RunConfig().with_changes(**remedy.changes), "cuda").total
            assert total == remedy.total < found.total
            assert remedy.fits == (total <= available)
        assert [remedy.fits for remedy in offered] == sorted((remedy.fits for remedy in offered), reverse=True)
    assert any(remedy.fits for remedy in remedies(found, found.total - 1))
    assert not any(remedy.fits for remedy in remedies(found, GIB))


def test_other_families_are_read_by_their_own_names() -> None:
    gpt2 = ModelShape.from_config(
        {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": None, "vocab_size": 50_257}
    )
    assert (gpt2.intermediate, gpt2.gated, gpt2.kv_heads) == (3072, False, 12)
    assert gpt2.parameters == pytest.approx(124e6, rel=0.01)


def test_a_config_without_sizes_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="hidden_size"):
        ModelShape.from_config({"model_type": "llama"})
    with pytest.raises(ModelError, match=r"config\.json"):
        read_shape(tmp_path)
