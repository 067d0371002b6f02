"""What a model returns, one tensor or a nest of several, and how a tile of the finest cuts the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from outstride.errors import ArgumentError
from outstride.models.graph import Graph, Nest
from outstride.tiling.box import Box, Interval, whole

#: Where in the path of several results the name of each comes.
HERE = "{}"
#: By how many of its own elements a smaller tensor may miss the finest divided by a whole number.
_NEAR = 16


@dataclass(frozen=True)
class Outputs:
    """The tensors that a model returns."""

    indices: tuple[int, ...]
    """Where they are in the graph, in the order in which the model returns them."""
    shapes: Mapping[int, tuple[int, ...]]
    nest: Nest
    """How the model wraps them."""
    most: int
    """How many of the last axes are cut at most."""

    @classmethod
    def of(cls, graph: Graph, tiled: int) -> Outputs:
        """Those of a graph."""
        shapes = {index: graph.nodes[index].shape for index in graph.outputs}
        return cls(graph.outputs, shapes, graph.nest, tiled)

    @property
    def main(self) -> int:
        """The finest, of which tiles are counted."""
        return max(self.indices, key=lambda index: prod(self.shapes[index][2:]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.shapes[self.main]

    @property
    def tiled(self) -> int:
        """How many of its last axes are cut."""
        return min(self.most, max(len(self.shape) - 1, 1))

    def boxes(self, tile: Box) -> dict[int, Box]:
        """The part of every output that belongs to a tile of the finest: together they are all of it."""
        return {index: self._box(tile, shape) for index, shape in self.shapes.items()}

    def _box(self, tile: Box, shape: tuple[int, ...]) -> Box:
        if shape == self.shape:
            return tile
        if len(shape) != len(self.shape):  # no picture: with the first tile
            return whole(shape) if all(a == 0 for a, _ in tile) else tuple((0, 0) for _ in shape)
        cut: list[Interval] = []
        for axis, ((a, b), fine, size) in enumerate(zip(tile, self.shape, shape, strict=True)):
            if axis >= len(shape) - self.tiled or (axis == 0 and size == fine):
                cut.append((_place(a, fine, size), _place(b, fine, size)))
            else:
                cut.append((0, size) if a == 0 else (0, 0))
        return tuple(cut)

    def tile_of(self, index: int, tile: Sequence[int]) -> tuple[int, ...]:
        """The size on its last axes of what of an output belongs to a tile of the finest in the middle."""
        shape = self.shapes[index]
        last = shape[max(len(shape) - len(tile), 0) :]
        if len(shape) != len(self.shape):
            return last
        sizes = zip(tile, self.shape[-len(tile) :], last, strict=True)
        return tuple(size if n >= fine else max(_place(n, fine, size), 1) for n, fine, size in sizes)

    def wrapped(self, made: Sequence[Any]) -> Any:
        """What the model would return, of all in their order."""
        return self.nest.of(made)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What each is called, by its place in the nest: "out", "deep-0"."""
        paths = self.nest.paths(self.indices)
        return tuple(
            "-".join(re.sub(r"[^\w-]+", "_", str(_key(key))) for key in path) or "result" for path in paths
        )

    def places(self, template: str) -> list[str]:
        """The paths of all, of one in which ``HERE`` stands for the name of each.

        Raises:
            ArgumentError: two of them are one.
        """
        made = [template.replace(HERE, name) for name in self.names]
        if len(set(made)) < len(made):
            raise ArgumentError(
                f"'out' must name another place for each result: got {', '.join(self.names)} for "
                f"{template!r}; legal: a list of {len(made)}"
            )
        return made

    def targets(self, out: Any) -> list[Any]:
        """The place of each result among those that a caller names, in their order.

        Raises:
            ArgumentError: there are not as many.
        """
        if len(self.indices) == 1:
            return [out]
        if out is None:
            return [None] * len(self.indices)
        named: Sequence[Any] = list(out.values()) if isinstance(out, Mapping) else out
        if not isinstance(named, (tuple, list)) or len(named) != len(self.indices):
            count = len(named) if isinstance(named, (tuple, list)) else repr(out)[:80]
            raise ArgumentError(
                f"'out' must name a place for each of the {len(self.indices)} tensors that 'model' returns: "
                f"got {count}; legal: a list of {len(self.indices)}, or None"
            )
        return list(named)


def _place(at: int, fine: int, size: int) -> int:
    """Where on an axis of so many elements what lies at a place of the finest one begins.

    Where one is the other divided by a whole number, nearly, it is the place divided by that: so tiles of one
    size have parts of one size, and what is stored in chunks shares none among them.
    """
    if at >= fine > 0:
        return size
    times = max(round(fine / max(size, 1)), 1)
    if abs(size * times - fine) <= _NEAR * times:
        return min(at // times, size)
    return at * size // max(fine, 1)


def _key(key: Any) -> Any:
    """A step on the way to a tensor in a nest: a number, a key of a dict or the name of an attribute."""
    return next((getattr(key, name) for name in ("idx", "key", "name") if hasattr(key, name)), key)
