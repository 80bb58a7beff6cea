"""What all visitors see alike, made once: of 40 tabs that notice the same change, one computes and the others wait."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """The newest value of each key. Any thread may use it; at most `size` keys are kept, those asked for last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, _Kept[T]] = OrderedDict()

    def get(self, key: Hashable, mark: str, make: Callable[[], T]) -> T:
        """The value of `key`, made again only where its `mark` is another one than the last time."""
        with self._lock:
            kept = self._known.setdefault(key, _Kept())
            self._known.move_to_end(key)
            while len(self._known) > self._size:
                self._known.popitem(last=False)
        with kept.lock:
            if kept.mark != mark:
                # In this order: a `make` that raises leaves the old value with its old mark.
                kept.values, kept.mark = [make()], mark
            return kept.values[0]


class _Kept(Generic[T]):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.mark: str | None = None
        self.values: list[T] = []
