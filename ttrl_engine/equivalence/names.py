r"""The names that mathematics gives a meaning to: the one list of them."""

from __future__ import annotations

import re
from typing import Final

TRIGONOMETRIC: Final = frozenset(["sin", "cos", "tan", "cot", "sec", "csc"])
FUNCTIONS: Final = TRIGONOMETRIC | frozenset(
    [
        "arcsin", "arccos", "arctan", "arccot", "arcsec", "arccsc", "sinh", "cosh", "tanh", "coth", "log", "ln", "lg",
        "exp",
    ]
)  # fmt: skip
"""Functions of one argument, written as `\\name`."""

GREEK: Final = frozenset(
    [
        "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "iota", "kappa",
        "lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "varphi", "chi", "psi", "omega",
        "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega", "ell", "hbar",
    ]
)  # fmt: skip
"""Commands that are letters."""

SYMBOLIC: Final = frozenset(
    ["sum", "prod", "int", "lim", "gcd", "max", "min", "bmod", "mod", "pmod", "infty", "to", "rightarrow"]
)
"""Commands beyond our grammar that math-verify reads into sympy."""

_COMMANDS: Final = (FUNCTIONS | GREEK | SYMBOLIC | frozenset(["frac", "sqrt", "cdot", "times", "binom", "le"])) - {"Pi"}
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_MISREAD = re.compile(r"[A-Z]|\d\s*\(|\)\s*\d|/\s*\d+\s*[a-z(\\]|[a-z]{4,}|'|,,")


def is_symbolic(text: str) -> bool:
    """Whether a text is within what math-verify reads as it was meant."""
    commands = _COMMAND.findall(text)
    rest = _COMMAND.sub(" ", text)
    known = any(name in SYMBOLIC for name in commands) and all(name in _COMMANDS for name in commands)
    return known and _MISREAD.search(rest) is None
