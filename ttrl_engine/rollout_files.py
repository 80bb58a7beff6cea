"""The rollouts of a step on disk, written before the update that uses them.

`rollouts/step-000001.jsonl.gz` is for people: texts, votes and rewards; it stays. `rollouts/step-000001.safetensors`
is for a run that is resumed: tokens and log-probabilities, so that a crash in the update does not cost the sampling.
It is read for the same weights only, and removed once a checkpoint has passed its step.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ttrl_engine.learner import Ballot
from ttrl_engine.sampler import Finish, Rollout

_FINISHES: Final[tuple[Finish, ...]] = get_args(Finish)
_NAME = re.compile(r"step-(\d{6,})\.safetensors")


class DamagedRolloutsError(Exception):
    """A file of rollouts that cannot be used; they have to be sampled again."""


def rollout_key(*parts: object) -> str:
    """What the rollouts of a step depend on, as one word: config, data, step, problems and weights."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def write_texts(folder: Path, step: int, ballots: Sequence[Ballot]) -> None:
    """Every rollout of the step as a line of JSON."""
    root = folder / "rollouts"
    root.mkdir(parents=True, exist_ok=True)
    beside = root / f".step-{step:06d}"
    with gzip.open(beside, "wt", encoding="utf-8", compresslevel=3) as file:
        for ballot in ballots:
            class_of = {i: n for n, each in enumerate(ballot.election.classes) for i in each.members}
            trained = frozenset(ballot.trained)
            for index, (rollout, text) in enumerate(zip(ballot.rollouts, ballot.texts, strict=True)):
                row = {
                    "problem_id": ballot.problem.id,
                    "index": index,
                    "text": text,
                    "class_index": class_of.get(index),
                    "reward": None if rollout.finish == "dropped" else ballot.rewards[index],
                    "trained": index in trained,
                    "length": len(rollout.tokens),
                    "finish": rollout.finish,
                    "logprob": sum(rollout.logprobs),
                }
                file.write(json.dumps(row) + "\n")
    beside.replace(root / f"step-{step:06d}.jsonl.gz")


def write_tokens(folder: Path, step: int, key: str, rollouts: Sequence[Sequence[Rollout]]) -> None:
    """The rollouts of the step, problem after problem, exactly: 8 bytes per token."""
    flat = [rollout for group in rollouts for rollout in group]
    tensors = {
        "per_problem": torch.tensor([len(group) for group in rollouts], dtype=torch.int32),
        "lengths": torch.tensor([len(rollout.tokens) for rollout in flat], dtype=torch.int32),
        "finishes": torch.tensor([_FINISHES.index(rollout.finish) for rollout in flat], dtype=torch.uint8),
        "tokens": torch.tensor([token for rollout in flat for token in rollout.tokens], dtype=torch.int32),
        # Samplers draw in float32, so nothing is lost.
        "logprobs": torch.tensor([value for rollout in flat for value in rollout.logprobs], dtype=torch.float32),
    }
    path = _path(folder, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}")
    save_file(tensors, beside, metadata={"key": key, "checksum": _checksum(tensors)})
    beside.replace(path)


def read_tokens(folder: Path, step: int, key: str) -> list[list[Rollout]] | None:
    """The rollouts that `write_tokens` wrote under this key; None where there are none, or those of other weights.

    Raises DamagedRolloutsError.
    """
    path = _path(folder, step)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError) as failure:
        raise DamagedRolloutsError(str(failure)) from failure
    if metadata.get("checksum") != _checksum(tensors):
        raise DamagedRolloutsError("its checksum differs")
    tokens, logprobs = tensors["tokens"].tolist(), tensors["logprobs"].tolist()
    found = []
    start = 0
    for length, finish in zip(tensors["lengths"].tolist(), tensors["finishes"].tolist(), strict=True):
        stop = start + length
        found.append(Rollout(tuple(tokens[start:stop]), tuple(logprobs[start:stop]), _FINISHES[finish]))
        start = stop
    left = iter(found)
    return [[next(left) for _ in range(count)] for count in tensors["per_problem"].tolist()]


def forget_tokens(folder: Path, step: int) -> None:
    """Remove the token files of the steps up to this one, whose weights a checkpoint holds."""
    for path in (folder / "rollouts").glob("step-*.safetensors"):
        match = _NAME.fullmatch(path.name)
        if match and int(match.group(1)) <= step:
            path.unlink(missing_ok=True)


def _path(folder: Path, step: int) -> Path:
    return folder / "rollouts" / f"step-{step:06d}.safetensors"


def _checksum(tensors: dict[str, Tensor]) -> str:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].numpy().tobytes(), zlib.crc32(name.encode(), total))
    return str(total)
