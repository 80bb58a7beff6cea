"""Expressions that exact arithmetic settles: text to normal form."""

from __future__ import annotations

from ttrl_engine.equivalence import grammar
from ttrl_engine.tasks import normal_form


def parse(text: str) -> normal_form.Sum:
    """The normal form. Raises NotAnExpressionError for anything else; never another error, never slow."""
    return normal_form.of_tree(grammar.parse(text))
