"""The kinds of answers: one module each behind the `Task` protocol of `base`."""

from __future__ import annotations

from ttrl_engine.config import TaskKind
from ttrl_engine.tasks.base import Extraction, Task
from ttrl_engine.tasks.choice import ChoiceTask
from ttrl_engine.tasks.math import MathTask
from ttrl_engine.tasks.number import NumberTask

__all__ = ["Extraction", "Task", "get_task"]

_TASKS: dict[TaskKind, Task] = {"math": MathTask(), "number": NumberTask(), "choice": ChoiceTask()}


def get_task(kind: TaskKind) -> Task:
    """The task of a kind; tasks hold no state, so one object serves all. Raises KeyError for an unknown kind."""
    return _TASKS[kind]
