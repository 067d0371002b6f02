"""What a model is called with: one source, or several in the nest that its ``forward`` takes.

A tuple are its arguments in order, a dict those by name; a list, tuple or dict inside of these is handed over
as one. Leaves are sources, and numbers, which stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils import _pytree as pytree

from outstride.errors import ArgumentError
from outstride.tiling.files import formats
from outstride.tiling.files.readers import File

_NUMBERS = (type(None), bool, int, float, np.generic)
#: Files of arrays that say nothing of their axes: a vector is one, and no picture without channels.
_PLAIN = (".npy", ".zarr", ".h5", ".hdf5")
#: How many times smaller than the picture along an axis an input may be to be one of its kind.
_COARSEST = 64
#: Elements of an input of another kind that is read whole, and the share of the picture's.
_SMALL, _SHARE = 1 << 20, 8
#: Eight bytes each, a tensor of them has a size that torch can count.
_MOST_ELEMENTS = 2**60 - 1


class Arguments(NamedTuple):
    """Arguments in order and by names, for who has both."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """The arguments of a model."""

    leaves: tuple[Any, ...]
    structure: Any
    names: tuple[str, ...]
    """What each leaf is called in a sentence."""

    @classmethod
    def of(cls, source: Any, argument: str = "source") -> Inputs:
        """Those that a caller names.

        Raises:
            ArgumentError: there is no source among them.
        """
        if isinstance(source, Inputs):
            return source
        if isinstance(source, list):
            raise ArgumentError(
                f"'{argument}' must be what a model is called with once: got a list of {len(source)}; legal: "
                "one of them, or ([x, y],) for a list as an argument; a list of sources goes to tile_run"
            )
        alone = type(source) not in (tuple, Arguments) and not isinstance(source, Mapping)
        if isinstance(source, Arguments):
            args, named = source
        else:
            named = dict(source) if isinstance(source, Mapping) else {}
            args = (source,) if alone else () if named else tuple(source)
        paths, structure = pytree.tree_flatten_with_path((args, named))
        leaves = [leaf.item() if isinstance(leaf, np.generic) else leaf for _, leaf in paths]
        names = [f"{argument}{pytree.keystr(path[1 + alone :])}" for path, _ in paths]
        made = cls(tuple(leaves), structure, tuple(names))
        if not made.places:
            raise ArgumentError(
                f"'{argument}' must be an array, a tensor or a path, or a nest of such, the arguments of the "
                f"model: got {str(source)[:80]}; legal: x, (x, y), {{'image': x, 'mask': y}}"
            )
        return made

    @property
    def places(self) -> tuple[int, ...]:
        """Where among the leaves sources are."""
        return tuple(i for i, leaf in enumerate(self.leaves) if not isinstance(leaf, _NUMBERS))

    @property
    def sources(self) -> tuple[Any, ...]:
        """All of them, in order."""
        return tuple(self.leaves[place] for place in self.places)

    @property
    def alone(self) -> bool:
        """Whether the caller gave one source, and not a nest."""
        return len(self.names) == 1 and self.names[0].isidentifier()

    def mapped(self, change: Callable[[Any], Any]) -> Inputs:
        """The same with other sources."""
        places = set(self.places)
        return replace(
            self, leaves=tuple(change(leaf) if i in places else leaf for i, leaf in enumerate(self.leaves))
        )

    def call(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a model is called with where these are the leaves."""
        args, kwargs = pytree.tree_unflatten(list(leaves), self.structure)
        return args, kwargs

    def main(self, nd: int | None) -> int:
        """The place of the source with the most positions on its last ``nd`` axes, of equals the first.

        Without ``nd`` all are positions but the first two axes.
        """

        def positions(place: int) -> int:
            shape = self.leaves[place].shape
            return prod(shape[2:] if nd is None else shape[len(shape) - nd :] if len(shape) >= nd else ())

        return max(self.places, key=positions)


def is_cut(shape: Sequence[int], main: Sequence[int], nd: int) -> bool:
    """Whether an input is read in boxes, and not whole before anything else.

    Those are inputs whose last ``nd`` axes are as the main one's, or all smaller by about the same factor,
    and whatever is large.
    """
    own, other = shape[len(shape) - nd :], main[len(main) - nd :]
    if len(shape) >= nd and tuple(own) == tuple(other):
        return True
    count = prod(shape)
    if len(shape) == len(main) and all(n > 1 for n in own) and all(other):
        factors = [n / m for n, m in zip(own, other, strict=True)]
        if max(factors) <= 2 * min(factors) and min(factors) * _COARSEST >= 1:
            return True
    return count > max(_SMALL, prod(main) // _SHARE)


@contextmanager
def opened(source: Any, nd: int | None) -> Iterator[Inputs]:
    """The same with files as arrays; ``nd``: along how many axes the model's layers slide.

    Raises:
        ArgumentError: there is no such file, it is of another kind, or it cannot be read.
        UnsupportedError: the library for its format is not installed.
    """
    given = Inputs.of(source)
    with ExitStack() as stack:
        first = given.places[0]

        def open_one(place: int, leaf: Any) -> Any:
            found = formats.file_of(leaf)
            plain = isinstance(found, File) and formats.suffix_of(found.place) in _PLAIN
            return stack.enter_context(formats.opened(leaf, None if plain and place != first else nd))

        places = set(given.places)
        yield replace(
            given,
            leaves=tuple(open_one(i, leaf) if i in places else leaf for i, leaf in enumerate(given.leaves)),
        )


def as_shapes(source: Any) -> Any:
    """A nest in which tensors without memory stand for tuples of numbers, which are shapes.

    Raises:
        ArgumentError: a shape has more elements than tensors have.
    """
    if isinstance(source, tuple) and source and all(type(n) is int for n in source):
        if prod(source) > _MOST_ELEMENTS:
            raise ArgumentError(
                f"'source' must have fewer than 2**60 elements, as tensors have: got {source}; "
                "legal: such as (1, 3, 60000, 60000)"
            )
        return torch.zeros(1).expand(source)
    if isinstance(source, Arguments):
        return Arguments(*map(as_shapes, source))
    if isinstance(source, (tuple, list)):
        return type(source)(map(as_shapes, source))
    return {name: as_shapes(part) for name, part in source.items()} if isinstance(source, dict) else source
