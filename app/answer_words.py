"""How the reading and comparing of answers is put in words, the same on every page."""

from __future__ import annotations

from ttrl_engine.config import AnswerConfig, TaskKind

KIND_WORDS: dict[TaskKind, str] = {
    "math": "Maths",
    "number": "Number",
    "choice": "Multiple choice",
    "text": "Short text",
    "decision": "Decision",
    "pattern": "Pattern",
}
# (shown, value) of a radio, after the entry that leaves the choice to something else.
KIND_CHOICES: list[tuple[str, str]] = [
    ("maths: 1/2, \\sqrt{3}, x+1", "math"),
    ("number: 42, 3.14, 1,200", "number"),
    ("multiple choice: A, B, C", "choice"),
    ("short text: Lisbon", "text"),
    ("decision: yes, no, or your list", "decision"),
    ("your pattern", "pattern"),
]


def rule_words(answers: AnswerConfig) -> str:
    """The whole of it in one line, such as "number in cm, within 1 %, boxed answers only"."""
    parts = [KIND_WORDS[answers.kind or "math"].lower()]
    match answers.kind:
        case "number":
            parts[0] += f" in {answers.unit}" if answers.unit else ", any unit"
            if answers.tolerance is not None:
                parts.append(f"within {100 * answers.tolerance:g} %")
        case "decision":
            parts[0] += f": {', '.join(answers.labels) or 'yes, no'}"
        case "pattern":
            parts[0] += f" {answers.pattern}"
    if answers.kind != "pattern":
        parts.append("boxed answers only" if answers.read == "boxed" else "boxed or stated")
    if answers.merges or answers.detached:
        parts.append(f"{len(answers.merges)} merged and {len(answers.detached)} split by a person")
    return ", ".join(parts)
