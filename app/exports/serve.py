"""Commands that serve a run's model with vLLM's OpenAI-compatible server, and one that asks it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from app.exports.names import adapter_name, hub_name, merged_name
from ttrl_engine.models import BUNDLED_PREFIX
from worker.rows import RunRow

PORT = 8000
# What --max-lora-rank takes: https://docs.vllm.ai/en/stable/api/vllm/config/lora.html
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_EXAMPLE = "What is 12 + 30?"


def adapter_command(run: RunRow) -> str | None:
    """Serve the base model with the adapter beside it; None where that cannot be: a bundled base, or all weights."""
    source = run.config.model.source
    if run.config.model.method != "lora" or source.startswith(BUNDLED_PREFIX):
        return None
    rank = next((rank for rank in _RANKS if rank >= run.config.model.lora_rank), _RANKS[-1])
    revision = run.config.model.revision
    at = f" --revision {shlex.quote(revision)}" if revision and hub_name(source) else ""
    name = adapter_name(run)
    return (
        f"unzip {name}.zip\n"
        f"vllm serve {shlex.quote(source)}{at} --enable-lora --max-lora-rank {rank} \\\n"
        f"  --lora-modules run-{run.id}=./{name} --host 127.0.0.1 --port {PORT}"
    )


def whole_command(run: RunRow) -> str:
    """Serve the merged model, or the trained weights where all of them were trained."""
    name = merged_name(run) if run.config.model.method == "lora" else adapter_name(run)
    return f"unzip {name}.zip\nvllm serve ./{name} --served-model-name run-{run.id} --host 127.0.0.1 --port {PORT}"


def ask_command(run: RunRow, policy: Path) -> str:
    """Ask it as the run did: by its chat template where it has one, with the sampling of the votes."""
    config = run.config
    text = _EXAMPLE + (config.data.prompt_suffix or "")
    asked: dict[str, Any] = {"model": f"run-{run.id}"}
    if config.data.prompt == "chat" or (config.data.prompt == "auto" and has_chat_template(policy)):
        system = [{"role": "system", "content": config.data.system_prompt}] if config.data.system_prompt else []
        asked["messages"] = [*system, {"role": "user", "content": text}]
        place = "chat/completions"
    else:
        asked["prompt"] = text
        place = "completions"
    asked |= {"temperature": config.vote.temperature, "max_tokens": config.vote.max_new_tokens}
    body = json.dumps(asked, ensure_ascii=False)
    return (
        f"curl http://127.0.0.1:{PORT}/v1/{place} \\\n"
        f"  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"
    )


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer that was saved with the weights has a chat template."""
    try:
        if (folder / "chat_template.jinja").read_text(encoding="utf-8").strip():
            return True
    except OSError:
        pass
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and bool(settings.get("chat_template"))
