"""Which models there are, and whether one can be used, found out without loading it (and without torch).

A source is `bundled:NAME`, a folder, or a hub name `owner/name`.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttrl_engine.bundled import model_path
from ttrl_engine.errors import ModelError
from ttrl_engine.memory import ModelShape

BUNDLED_PREFIX = "bundled:"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}")
# Everything a causal LM needs, and nothing that could run: no pickles, no Python.
HUB_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
_MAX_HEADER = 100_000_000


@dataclass(frozen=True)
class ModelEntry:
    """A model worth offering: what it is and what it needs. `gpu_gib` is 0 where a CPU will do."""

    source: str
    title: str
    size: str
    gpu_gib: int
    note: str


SHORTLIST: tuple[ModelEntry, ...] = (
    ModelEntry(
        "bundled:abacus-1m",
        "Abacus-1M (bundled)",
        "about 1 M parameters",
        0,
        "Sloppy arithmetic; learns on a laptop in minutes.",
    ),
    ModelEntry(
        "Qwen/Qwen2.5-Math-1.5B",
        "Qwen2.5-Math 1.5B",
        "1.5 B, 3.1 GB",
        16,
        "The paper's smallest: MATH-500 from 33 to 80 %.",
    ),
    ModelEntry(
        "Qwen/Qwen2.5-Math-7B",
        "Qwen2.5-Math 7B",
        "7.6 B, 15 GB",
        40,
        "The paper's main model; context of 4,096 tokens.",
    ),
    ModelEntry("Qwen/Qwen3-0.6B", "Qwen3 0.6B", "0.6 B, 1.5 GB", 10, "The smallest general model worth trying."),
    ModelEntry(
        "Qwen/Qwen3-1.7B", "Qwen3 1.7B", "1.7 B, 4.1 GB", 18, "General; thinks at length, so allow long answers."
    ),
    ModelEntry("Qwen/Qwen3-4B", "Qwen3 4B", "4.0 B, 8.1 GB", 28, "General; thinks at length, so allow long answers."),
    ModelEntry("Qwen/Qwen3-8B", "Qwen3 8B", "8.2 B, 16 GB", 44, "In the paper without thinking: AIME from 27 to 47 %."),
    ModelEntry(
        "meta-llama/Llama-3.2-1B-Instruct",
        "Llama 3.2 1B Instruct",
        "1.2 B, 2.5 GB",
        12,
        "Gated: accept its licence on the hub first.",
    ),
    ModelEntry(
        "meta-llama/Llama-3.2-3B-Instruct",
        "Llama 3.2 3B Instruct",
        "3.2 B, 6.4 GB",
        24,
        "Gated; in the paper MATH-500 from 44 to 62 %.",
    ),
)

# Models that ask for a boxed answer by themselves; an added instruction takes them away from what they know.
_NO_SUFFIX = ("bundled:", "qwen/qwen2.5-math")


def suffix_for(source: str, kind_suffix: str) -> str:
    """The instruction to put after a problem where the config leaves it open."""
    return "" if source.lower().startswith(_NO_SUFFIX) else kind_suffix


@dataclass(frozen=True)
class ModelCheck:
    """The verdict on a source before anything is queued. `reason` says what to do where `ok` is False; numbers are
    None where they are not known without a download, `shape` where the config lacks a size."""

    source: str
    ok: bool
    reason: str
    architecture: str | None = None
    num_parameters: int | None = None
    bytes_on_disk: int | None = None
    context_tokens: int | None = None
    cached: bool = False
    shape: ModelShape | None = None


def resolve_source(source: str) -> str:
    """The folder of a bundled model or a local one; a hub name is handed on as it is."""
    if source.startswith(BUNDLED_PREFIX):
        return str(model_path(source.removeprefix(BUNDLED_PREFIX)))
    if is_hub_name(source):
        return source
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise ModelError(
            f"There is no folder {source}. Give `bundled:abacus-1m`, a folder, or a hub name like owner/name."
        )
    return str(folder.resolve())


def is_hub_name(source: str) -> bool:
    """Whether a source reads as `owner/name` and is not a folder here."""
    return bool(HUB_NAME.fullmatch(source)) and not Path(source).expanduser().is_dir()


def check_model(
    source: str, allowed_roots: Sequence[Path], hub_allowed: bool, revision: str | None = None
) -> ModelCheck:
    """Whether this source can be loaded, and if not, why; nothing is downloaded but a hub model's config.

    A folder must lie below one of `allowed_roots`, links resolved.
    """
    try:
        if source.startswith(BUNDLED_PREFIX):
            return _check_folder(source, model_path(source.removeprefix(BUNDLED_PREFIX)), cached=True)
        if is_hub_name(source):
            return _check_hub(source, hub_allowed, revision)
        return _check_folder(source, _allowed(source, allowed_roots), cached=True)
    except ModelError as failure:
        return ModelCheck(source, False, str(failure))


def find_models(root: Path, max_depth: int = 3, limit: int = 200) -> list[Path]:
    """Folders with a model config at most `max_depth` below `root`, in order; unreadable ones are skipped."""
    found: list[Path] = []

    def walk(folder: Path, depth: int) -> None:
        try:
            children = sorted(folder.iterdir())
        except OSError:
            return
        if any(child.name == "config.json" for child in children):
            found.append(folder)
            return
        for child in children:
            if len(found) >= limit:
                return
            if depth < max_depth and child.is_dir() and not child.name.startswith(".") and not child.is_symlink():
                walk(child, depth + 1)

    walk(root, 0)
    return found


def fingerprint(source: str, revision: str | None) -> str:
    """A text that changes when the model's files do: the key under which base scores are cached."""
    place = Path(resolve_source(source))
    if not place.is_dir():
        return f"{source}@{revision or 'default'}"
    files = sorted(place.glob("*.safetensors")) + sorted(place.glob("*.json"))
    return "|".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


def cached_folder(source: str, revision: str | None) -> Path | None:
    """Where a hub model already lies complete in the local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(source, revision=revision, local_files_only=True, allow_patterns=list(HUB_FILES))
        )
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    return folder if not _missing_weights(folder) and (folder / "config.json").is_file() else None


def _allowed(source: str, roots: Sequence[Path]) -> Path:
    folder = Path(source).expanduser()
    resolved = folder.resolve()
    if not any(resolved.is_relative_to(root.expanduser().resolve()) for root in roots):
        names = ", ".join(str(root) for root in roots) or "none"
        raise ModelError(
            f"Models are only read from the folders that the operator allows ({names}). Move the model there, or start "
            "the Studio with TTRL_STUDIO_MODEL_ROOTS set to a folder above it."
        )
    if not resolved.is_dir():
        raise ModelError(f"There is no folder {source}. Check the spelling.")
    return resolved


def _check_folder(source: str, folder: Path, cached: bool) -> ModelCheck:
    config = _read_config(folder)
    architecture = _causal_architecture(config, source)
    missing = _missing_weights(folder)
    if missing:
        raise ModelError(f"{source} has no usable weights: {missing}")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ModelError(
            f"{source} has no tokenizer. Copy tokenizer.json and tokenizer_config.json beside its weights."
        )
    weights = sorted(folder.glob("*.safetensors"))
    return ModelCheck(
        source=source,
        ok=True,
        reason="",
        architecture=architecture,
        num_parameters=sum(_num_parameters(file) for file in weights),
        bytes_on_disk=sum(file.stat().st_size for file in weights),
        context_tokens=config.get("max_position_embeddings"),
        cached=cached,
        shape=_shape(config),
    )


def _check_hub(source: str, hub_allowed: bool, revision: str | None) -> ModelCheck:
    folder = cached_folder(source, revision)
    if folder is not None:
        return _check_folder(source, folder, cached=True)
    if not hub_allowed:
        raise ModelError(
            f"{source} is not in the local cache, and downloads are switched off (offline). Choose the bundled model, "
            "a folder, or start the Studio with downloads allowed."
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        config_file = hf_hub_download(source, "config.json", revision=revision, etag_timeout=5)
    except GatedRepoError:
        raise ModelError(
            f"{source} is gated: accept its licence on the hub and set HF_TOKEN, then try again."
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(f"The hub has no model {source}, or it is private. Check the spelling.") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as failure:
        raise ModelError(
            f"{source} is not in the local cache and the hub cannot be reached ({type(failure).__name__}). "
            "Go online once, or choose the bundled model or a folder."
        ) from None
    config = _read_config(Path(config_file).parent)
    return ModelCheck(
        source,
        True,
        "",
        architecture=_causal_architecture(config, source),
        context_tokens=config.get("max_position_embeddings"),
        cached=False,
        shape=_shape(config),
    )


def _shape(config: dict[str, Any]) -> ModelShape | None:
    try:
        return ModelShape.from_config(config)
    except (ModelError, TypeError):
        return None


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if (folder / "adapter_config.json").is_file() and not path.is_file():
        raise ModelError(f"{folder.name} is an adapter, not a model. Choose the model that it was trained on.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is no model: it has no config.json.") from None
    except (OSError, ValueError) as failure:
        raise ModelError(f"The config.json of {folder.name} cannot be read: {failure}") from None
    if not isinstance(config, dict):
        raise ModelError(f"The config.json of {folder.name} is not a model config.")
    return config


def _causal_architecture(config: dict[str, Any], source: str) -> str:
    names = config.get("architectures") or []
    causal = [name for name in names if isinstance(name, str) and name.endswith("ForCausalLM")]
    if config.get("auto_map"):
        raise ModelError(
            f"{source} brings its own Python code, which is not run here. Choose a model that transformers knows."
        )
    if not causal:
        shown = ", ".join(str(name) for name in names) or "unknown"
        raise ModelError(
            f"{source} is not a causal language model (architecture: {shown}), so it cannot write answers."
        )
    return causal[0]


def _missing_weights(folder: Path) -> str:
    """Empty where the safetensors are complete, else what is wrong."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            return "model.safetensors.index.json cannot be read."
        absent = sorted(name for name in files if not (folder / str(name)).is_file())
        return f"{absent[0]} is missing; download the model again." if absent else ""
    if (folder / "model.safetensors").is_file():
        return ""
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth")):
        return "only pickled files are there, which can run code. Convert them to safetensors first."
    return "model.safetensors is missing."


def _num_parameters(file: Path) -> int:
    """Numbers in a safetensors file, from its header alone."""
    try:
        with file.open("rb") as handle:
            (size,) = struct.unpack("<Q", handle.read(8))
            if size > _MAX_HEADER:
                raise ModelError(f"{file.name} is damaged; download the model again.")
            header = json.loads(handle.read(size))
    except (OSError, struct.error, ValueError):
        raise ModelError(f"{file.name} is damaged; download the model again.") from None
    return sum(math.prod(shape) for shape in _shapes(header))


def _shapes(header: dict[str, Any]) -> Iterator[list[int]]:
    for name, tensor in header.items():
        if name != "__metadata__":
            yield tensor["shape"]
