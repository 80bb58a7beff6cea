"""The kinds of answers: one module each behind the `Task` protocol of `base`."""

from __future__ import annotations

from functools import cache

from ttrl_engine.config import AnswerConfig, TaskKind
from ttrl_engine.errors import ConfigError
from ttrl_engine.tasks.base import Extraction, Task
from ttrl_engine.tasks.choice import ChoiceTask
from ttrl_engine.tasks.decision import DecisionTask
from ttrl_engine.tasks.math import MathTask
from ttrl_engine.tasks.number import NumberTask
from ttrl_engine.tasks.pattern import PatternTask
from ttrl_engine.tasks.ruled import RuledTask
from ttrl_engine.tasks.text import TextTask

__all__ = ["Extraction", "Task", "get_task", "task_for"]


@cache
def get_task(kind: TaskKind) -> Task:
    """The task of a kind without options. Raises ConfigError for `pattern`, which needs one."""
    return _plain(AnswerConfig(kind=kind))


def task_for(answers: AnswerConfig) -> Task:
    """The task that reads and compares answers as the config says; `math` where no kind is set.

    Raises ConfigError where the kind is `pattern` and there is none.
    """
    task = _plain(answers)
    return RuledTask(task, answers.merges, answers.detached) if answers.merges or answers.detached else task


def _plain(answers: AnswerConfig) -> Task:
    boxed_only = answers.read == "boxed"
    match answers.kind or "math":
        case "math":
            return MathTask(boxed_only=boxed_only)
        case "number":
            return NumberTask(answers.unit, answers.tolerance, boxed_only=boxed_only)
        case "choice":
            return ChoiceTask(boxed_only=boxed_only)
        case "text":
            return TextTask(boxed_only=boxed_only)
        case "decision":
            return DecisionTask(answers.labels, boxed_only=boxed_only)
        case "pattern":
            if answers.pattern is None:
                raise ConfigError("The kind of answer `pattern` needs a pattern. Set answers.pattern.")
            return PatternTask(answers.pattern)
