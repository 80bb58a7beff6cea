"""When two mathematical answers are one answer.

Every answer gets a key, and equal keys mean the same answer, so sameness is an equivalence relation by construction.
`ttrl_engine.tasks.math` splits an answer's structure and settles rational numbers, roots and polynomials itself; the
leaves beyond that are read by `SymbolPool` in child processes with limits. Importing this package starts nothing and
loads neither sympy nor torch.
"""

from __future__ import annotations

from ttrl_engine.equivalence.pool import SymbolPool, configure_shared, shared_symbols
from ttrl_engine.equivalence.reading import Reading, Symbols

__all__ = ["Reading", "SymbolPool", "Symbols", "configure_shared", "shared_symbols"]
