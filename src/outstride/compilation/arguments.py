"""Arguments with nodes in them, to be filled with values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.fx import Node


class Arguments:
    """A nest of tuples, lists and dicts in which some entries are nodes."""

    def __init__(self, nest: Any) -> None:
        found = dict[Node, int]()
        self.fill: Callable[[Sequence[Any]], Any] = _filler(nest, found)
        #: The nodes, each once.
        self.inputs = tuple(found)

    def filled(self, values: Sequence[Any]) -> Any:
        """The nest with the values of ``inputs`` in place of these."""
        return self.fill(values)


def _filler(nest: Any, found: dict[Node, int]) -> Callable[[Sequence[Any]], Any]:
    """What fills a part; one without nodes is handed out as it is, always the same object."""
    if isinstance(nest, Node):
        place = found.setdefault(nest, len(found))
        return lambda values: values[place]
    if not _has_nodes(nest):
        return lambda _: nest
    if isinstance(nest, dict):
        entries = {name: _filler(entry, found) for name, entry in nest.items()}
        return lambda values: {name: fill(values) for name, fill in entries.items()}
    if isinstance(nest, (tuple, list)):
        parts = [_filler(entry, found) for entry in nest]
        kind = type(nest) if type(nest) in (tuple, list) else list
        return lambda values: kind([fill(values) for fill in parts])
    raise TypeError(f"no nest of arguments: {type(nest).__name__}")  # pragma: no cover


def _has_nodes(nest: Any) -> bool:
    if isinstance(nest, (tuple, list)):
        return any(map(_has_nodes, nest))
    if isinstance(nest, dict):
        return any(map(_has_nodes, nest.values()))
    return isinstance(nest, Node)
