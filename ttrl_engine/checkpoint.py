"""Checkpoints: everything a run needs to go on as if it had never been stopped.

A checkpoint is a folder `checkpoints/step-000010`. It is written beside and renamed when complete and synced, so a
folder with that name is always whole. `state.json` holds what is small, `optimizer.pt` the optimizer and the random
states, the rest is the policy in the format that transformers and peft read.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ttrl_engine.errors import RunError
from ttrl_engine.policy import Policy

FORMAT = 1
_NAME = re.compile(r"step-(\d{6,})")


@dataclass
class RunState:
    """Where a run stands after `step`, weights aside. `tokens_per_batch` and `checkpointing` (of activations) are what
    the update has found memory to allow, which a resume need not find out again. `labels` are the latest pseudo-labels
    by problem, `base` the marks of the base model by exam, `evaluated_step` the last step whose evaluation is complete.
    """

    step: int
    tokens_per_batch: int
    evaluated_step: int
    config_digest: str
    data_hash: str
    labels: dict[str, str | None] = field(default_factory=dict)
    base: dict[str, dict[str, Any]] = field(default_factory=dict)
    safeguards: dict[str, Any] = field(default_factory=dict)
    healthy: bool = True
    checkpointing: bool = False


def save_checkpoint(folder: Path, policy: Policy, state: RunState, keep: int) -> Path:
    """Write `checkpoints/step-N` below the run's folder and remove all but the newest `keep` and the last healthy one.

    Raises RunError where the disk does not take it; the older checkpoints are then untouched.
    """
    root = folder / "checkpoints"
    target = root / f"step-{state.step:06d}"
    beside = root / f".writing-{state.step:06d}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        policy.save(beside)
        states = {"optimizer": policy.optimizer.state_dict(), "random": _random_states(policy.device)}
        torch.save(states, beside / "optimizer.pt")
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(state)})
        (beside / "state.json").write_text(text, encoding="utf-8")
        for file in beside.iterdir():
            _sync(file)
        if target.exists():
            shutil.rmtree(target)
        beside.replace(target)
        _sync(root)
    except OSError as failure:
        shutil.rmtree(beside, ignore_errors=True)
        raise RunError(
            f"The checkpoint of step {state.step} could not be written: {failure.strerror}. Free some disk space and "
            "resume; the checkpoints before it are whole."
        ) from failure
    _prune(folder, state, keep)
    return target


def _prune(folder: Path, state: RunState, keep: int) -> None:
    try:
        spared = None if state.healthy else healthy_checkpoint(folder)
    except RunError:
        # An older one is damaged. Which to spare is not known, and the run must not end over it.
        return
    for found in list_checkpoints(folder)[:-keep]:
        if found != spared:
            shutil.rmtree(found[1], ignore_errors=True)


def healthy_checkpoint(folder: Path, step: int | None = None) -> tuple[int, Path] | None:
    """(step, folder) of the newest checkpoint from before the first alarm, or of the one of `step`; None where there
    is no such healthy one."""
    found = [each for each in reversed(list_checkpoints(folder)) if step is None or each[0] == step]
    return next((each for each in found if load_state(each[1]).healthy), None)


def keep_healthy(folder: Path, wanted: int | None = None) -> tuple[int, Path] | None:
    """Make the newest healthy checkpoint, or the one of step `wanted`, the result of a run that is not under way: its
    weights become `policy/`. (step, `policy/`), or None where there is none and nothing was changed.

    Raises RunError where the disk does not take it.
    """
    found = healthy_checkpoint(folder, wanted)
    if found is None:
        return None
    step, checkpoint = found

    def copy(beside: Path) -> None:
        shutil.copytree(checkpoint, beside, ignore=shutil.ignore_patterns("state.json", "optimizer.pt"))

    return step, publish(folder, copy, f"The weights of step {step}", "roll back again; the checkpoint itself is whole")


def publish(folder: Path, write: Callable[[Path], None], what: str, then: str) -> Path:
    """Make what `write` leaves in the folder that it is given the run's `policy/`: complete, or not at all. Returns it.

    Raises RunError where the disk does not take it; it says `what` was lost and what to do `then`.
    """
    target, beside = folder / "policy", folder / ".policy"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        write(beside)
        weights = list(beside.glob("*.safetensors"))
        if not weights or any(file.stat().st_size == 0 for file in weights):
            raise OSError(errno.EIO, "a file of them is empty or missing")
        shutil.rmtree(target, ignore_errors=True)
        beside.replace(target)
    except OSError as failure:
        shutil.rmtree(beside, ignore_errors=True)
        raise RunError(
            f"{what} could not be written: {_reason(failure)}. Free some disk space and {then}."
        ) from failure
    return target


def _reason(failure: OSError) -> str:
    """What the system said. Of a tree shutil has one text per file: "[Errno 28] No space left on device: 'path'"."""
    if isinstance(failure, shutil.Error):
        return str(failure.args[0][0][2]).partition(":")[0].rpartition("] ")[2]
    return str(failure.strerror)


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every complete checkpoint of a run, oldest first."""
    root = folder / "checkpoints"
    if not root.is_dir():
        return []
    found = []
    for child in root.iterdir():
        match = _NAME.fullmatch(child.name)
        if match and (child / "state.json").is_file():
            found.append((int(match.group(1)), child))
    return sorted(found)


def load_state(checkpoint: Path) -> RunState:
    """The small part of a checkpoint. Raises RunError where it is damaged or of another format."""
    try:
        data = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise RunError(
            f"The checkpoint {checkpoint.name} cannot be read ({failure}). Delete its folder to fall back."
        ) from None
    if data.pop("format", None) != FORMAT:
        raise RunError(f"The checkpoint {checkpoint.name} was written by another version of TTRL Studio.")
    return RunState(**data)


def restore(checkpoint: Path, policy: Policy) -> None:
    """Weights, optimizer and random states, exactly as they were."""
    policy.load_weights(checkpoint)
    # By way of the CPU's memory: a GPU may have no room for them beside those that they replace.
    saved = torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
    policy.load_optimizer(saved["optimizer"])
    states = saved["random"]
    torch.set_rng_state(states["torch"])
    if policy.device.type == "cuda" and states["cuda"]:
        # An older checkpoint has one for each GPU that could be seen; the first was that of the run.
        torch.cuda.set_rng_state(states["cuda"][0], policy.device)
    version, internal, gauss = json.loads(states["python"])
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = json.loads(states["numpy"])
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))


def _random_states(device: torch.device) -> dict[str, Any]:
    """Of every generator that the run may use. Sampling uses none of them (its streams are keyed by step and problem),
    but a library might. Texts and tensors only, so that the file loads without unpickling objects."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
        "python": json.dumps(random.getstate()),
        "numpy": json.dumps([kind, [int(key) for key in keys], int(position), int(has_gauss), float(cached)]),
    }


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
