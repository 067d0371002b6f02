"""What calls leave for the next ones: caches of one kind, cleared and counted together.

ARCHITECTURE.md draws in which order a call asks them. Whatever runs holds what it needs itself, so a cache
may be cleared, and may evict, at any time: the next call makes anew what is missing.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, Protocol, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")

#: The caches in the order in which a call asks them, and what an entry is.
CACHES = {
    "latest calls": "the latest guarded call with a weight",
    "resized calls": "a contraction on another size of the latest call's input",
    "checked calls": "the arguments and shapes of a call, checked",
    "guarded calls": "the guarded calls that layers of equal shapes and arguments share",
    "backward calls": "the guarded backward of a guarded call",
    "fused calls": "a contraction with the steps that follow it",
    "contractions": "a kernel and its argument block for shapes and strides of operands",
    "weight gradients": "the same for the gradient of a weight",
    "maps": "the same for a pooling, a norm or a chain of pointwise operators",
    "size classes": "a plan and its blocks for all sizes that share them",
    "plans": "a plan, and the plan of the coarse size that it was fitted from",
    "kernels": "the compiled code of a layer at all sizes",
    "packed weights": "a weight in the order in which a kernel reads it",
}

#: Entries of a layer, one for each size. An entry is small, but lies between the tensors of calls in memory,
#: which then cannot be given back: after 2,000 ascending lengths entries held 1.5 GB.
MOST_SIZES = 128
#: Entries of all layers.
MOST_CALLS = 4096


class Cache(Protocol):
    """What is cleared and counted."""

    @property
    def name(self) -> str:
        """One of the names in ``CACHES``."""

    def __len__(self) -> int: ...

    def clear(self) -> None:
        """Drop all entries."""


class CallCache(Generic[_Key, _Value]):
    """Entries of layers: of each those of the latest sizes, of all together at most so many.

    Where there are too many of all layers, those of the layer that came first are dropped.
    """

    def __init__(self, name: str, most: int = MOST_CALLS) -> None:
        self.name = name
        self._most = most
        self._values: dict[_Key, _Value] = {}
        self._keys: dict[Hashable, deque[_Key]] = {}
        #: The entry of a key, or None.
        self.get: Callable[[_Key], _Value | None] = self._values.get
        include(self)

    def keep(self, layer: Hashable, key: _Key, value: _Value) -> _Value:
        """Keep an entry of a layer and return it."""
        with _lock:
            before = len(self._values)
            self._values[key] = value
            if len(self._values) > before:
                if before >= self._most:
                    for evicted in self._keys.pop(next(iter(self._keys))):
                        self._values.pop(evicted, None)
                keys = self._keys.get(layer)
                if keys is None:
                    keys = self._keys[layer] = deque()
                elif len(keys) >= MOST_SIZES:
                    self._values.pop(keys.popleft(), None)
                keys.append(key)
        return value

    def __len__(self) -> int:
        return len(self._values)

    def entries(self) -> dict[_Key, _Value]:
        """All entries, as they are now."""
        with _lock:
            return dict(self._values)

    def clear(self) -> None:
        """Drop all entries."""
        with _lock:
            self._values.clear()
            self._keys.clear()


class Memo:
    """What functions under ``functools.lru_cache`` keep, as one cache."""

    def __init__(self, name: str, functions: Sequence[Any]) -> None:
        self.name = name
        self._functions = functions
        include(self)

    def __len__(self) -> int:
        return sum(function.cache_info().currsize for function in self._functions)

    def clear(self) -> None:
        """Drop all entries."""
        for function in self._functions:
            function.cache_clear()


def include(cache: Cache) -> None:
    """Let a cache be cleared and counted with the others for as long as it lives."""
    with _lock:
        _caches.add(cache)


def clear() -> None:
    """Empty every cache; calls that run meanwhile in other threads end as they would have."""
    for cache in _living():
        cache.clear()


def sizes() -> dict[str, int]:
    """How many entries there are under each of the names in ``CACHES``."""
    found = dict.fromkeys(CACHES, 0)
    for cache in _living():
        found[cache.name] += len(cache)
    return found


def _living() -> list[Any]:
    with _lock:
        return list(_caches)


#: Reentrant: what is collected while an entry is kept may run a convolution itself.
_lock = threading.RLock()
_caches: weakref.WeakSet[Any] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):  # a child begins with whole caches and a free lock
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
