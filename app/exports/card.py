"""The model card: what was done, what was measured with n and interval, and what that does not prove."""

from __future__ import annotations

import json
import re

from app.exports.names import hub_name, merged_name, public_config, public_source
from app.report import Evidence, facts
from app.report.words import caveats, done_words, headline, state_words


def model_card(evidence: Evidence, *, merged: bool = False) -> str:
    """README.md of the weights, in the hub's form. `merged` speaks of the merged model instead of the adapter."""
    run = evidence.run
    source = public_source(run.config.model.source)
    what = "All weights of" if merged or run.config.model.method != "lora" else "A LoRA adapter for"
    caveat_lines = "\n".join(f"- **{_plain(title)}.** {_plain(text)}" for title, text in caveats(evidence))
    paragraphs = "\n\n".join(_plain(line) for line in [*done_words(evidence), state_words(evidence)])
    table = "\n".join("| " + " | ".join(_plain(cell) for cell in row) + " |" for row in facts.gain_rows(evidence))
    heads = "| " + " | ".join(facts.GAIN_COLUMNS) + " |\n" + "|---" * len(facts.GAIN_COLUMNS) + "|"
    results = "\n".join(f"- {_plain(line)}" for line in headline(evidence))
    config = public_config(run.config).to_yaml()
    return (
        f"{_front(evidence, merged)}# {_plain(source)}, adapted\n\n{what} {_plain(source)}, trained with TTRL Studio "
        f"by the votes of its own answers.\n\n{paragraphs}\n\n## What was measured\n\n{results}\n\n"
        f"{f'{heads}{chr(10)}{table}{chr(10)}{chr(10)}' if table else ''}"
        "n problems × k answers to each; 95 % intervals over the problems. maj@k is the majority vote of k answers.\n\n"
        f"## What this does not prove\n\n{caveat_lines}\n\n## Use\n\n```python\n{_code(evidence, merged)}\n```\n\n"
        f"## How it was made\n\nProblems: {_plain(run.set_name)} (content hash `{run.data_hash}`), seed {run.seed}, "
        f"digest of the config `{run.config_digest}`.\n\n{_fenced(config)}\n"
    )


def _front(evidence: Evidence, merged: bool) -> str:
    """The hub's metadata. Nothing is claimed about the licence: that is the base model's matter."""
    run = evidence.run
    is_adapter = run.config.model.method == "lora" and not merged
    lines = ["---", f"library_name: {'peft' if is_adapter else 'transformers'}", "pipeline_tag: text-generation"]
    base = hub_name(run.config.model.source)
    if base is not None:
        lines.append(f"base_model: {json.dumps(base)}")
    return "\n".join([*lines, "tags: [ttrl, test-time-reinforcement-learning]", "---", "", ""])


def _code(evidence: Evidence, merged: bool) -> str:
    run = evidence.run
    if merged or run.config.model.method != "lora":
        name = merged_name(run) if merged else "."
        return f'model = AutoModelForCausalLM.from_pretrained("{name}")'
    source = json.dumps(public_source(run.config.model.source), ensure_ascii=False)
    return (
        f"base = AutoModelForCausalLM.from_pretrained({source})\n"
        'model = PeftModel.from_pretrained(base, ".")  # the folder of this file'
    )


def _plain(text: str) -> str:
    """A text that Markdown shows as it is: names are users' text."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$&])", r"\\\1", " ".join(text.split()))


def _fenced(text: str) -> str:
    """A block of code that no run of backticks inside can end."""
    longest = max((len(found) for found in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}yaml\n{text.rstrip()}\n{fence}"
