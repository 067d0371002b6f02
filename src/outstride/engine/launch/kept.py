"""What calls keep for the next one: dictionaries that are emptied rather than grow without end."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

#: Sizes of a layer for which calls are kept. What is kept of a size is small, but lies between the tensors of
#: calls in memory, which then cannot be given back: after 2,000 ascending lengths it held 1.5 GB.
MOST_SIZES = 128


def keep(kept: dict[_Key, _Value], key: _Key, value: _Value, most: int) -> _Value:
    """Keep a value under a key and return it; where there are `most` already, alone."""
    if len(kept) >= most:
        kept.clear()
    kept[key] = value
    return value


class OfLayers(dict[_Key, _Value]):
    """Values by keys that say layer and size: of each layer those of the latest sizes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._sizes: dict[Hashable, deque[_Key]] = {}

    def keep(self, layer: Hashable, key: _Key, value: _Value) -> _Value:
        """Keep a value of a layer and return it; where there are too many of all layers, alone."""
        if len(self) >= self._most:
            self.clear()
        if key not in self:
            sizes = self._sizes.setdefault(layer, deque())
            sizes.append(key)
            if len(sizes) > MOST_SIZES:
                self.pop(sizes.popleft(), None)
        self[key] = value
        return value

    def clear(self) -> None:
        """Forget all."""
        super().clear()
        self._sizes.clear()
