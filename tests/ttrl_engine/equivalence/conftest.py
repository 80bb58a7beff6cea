from __future__ import annotations

import pytest

from ttrl_engine.equivalence import SymbolPool


@pytest.fixture(scope="module")
def pool():
    pool = SymbolPool(workers=1)
    yield pool
    pool.close()
