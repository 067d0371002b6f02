"""A model whose input's length is not known yet: captured for one that is out of reach.

Sizes of its tensors grow evenly with the length, so those at any length follow from a few captures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil, floor, lcm, prod

import torch

from outstride.errors import ShapeError, UnsupportedError
from outstride.models.graph import Graph
from outstride.models.isolation import undisturbed
from outstride.models.node import Node, listed
from outstride.models.operators.convolution import Convolution
from outstride.models.operators.describing import describe
from outstride.models.operators.indexing import Slice
from outstride.models.operators.padding import BorderPad
from outstride.models.operators.pooling import AveragePool, MaxPool
from outstride.models.operators.resizing import Resize
from outstride.models.operators.unfolding import Columns
from outstride.tiling.box import Box, Interval, complete_but, elements, replaced, whole
from outstride.tiling.capturing import served_graph
from outstride.tiling.evaluation import INPUT, Program
from outstride.tiling.loops import check_steps
from outstride.tiling.quiet import TRIALS, silent
from outstride.tiling.streams.carrying import carried

#: Lengths for which a model is captured: the first at which it needs neither end of its input. Those after
#: the first have many divisors, for models that run at multiples of something only.
_LENGTHS = (1 << 14, 105 << 10, 105 << 13, 105 << 16)
#: Lengths beyond that which are tried, for models that run at some lengths only.
_TRIES = 65
#: The same where what was tried is remembered.
_MOST_TRIES = 1000
#: Activations that a convolution can do to its input, each of one tensor.
_READ_THROUGH = frozenset(("aten.relu", "aten.leaky_relu", "aten.hardswish"))
#: Denominators up to which a scale is taken for a fraction.
_DENOMINATOR = 1000


class Captured:
    """A model for one length."""

    @undisturbed()
    def __init__(self, model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype, length: int) -> None:
        graph = served_graph(model, (*shape[:-1], length), dtype)
        self.carried = carried(graph)
        self.program, self.length = Program(graph, self.carried), length
        self.output = self.program.graph.only_output("streamed")
        self.remade = _read_through(graph)
        if self.program.wholes:
            names = listed(self.program.graph.nodes[i] for i in self.program.wholes)
            raise UnsupportedError(
                f"'model' must not need its whole input to be streamed: got {names}; "
                "legal: layers whose windows end, and recurrent ones of one direction"
            )

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The tensors."""
        return self.program.graph.nodes

    def names(self) -> list[str]:
        """What the graph consists of."""
        return [node.name for node in self.nodes]

    def need(self, start: int, stop: int, axes: Mapping[int, int]) -> Mapping[int, Box]:
        """What results from ``start`` to ``stop`` need, along the axes on which time runs."""
        box = replaced(whole(self.nodes[self.output].shape), axes[self.output], (start, stop))

        def complete(index: int, needed: Box) -> Box:
            return complete_but(needed, self.nodes[index].shape, axes.get(index))

        return self.program.need(self.output, box, complete).boxes


def _read_through(graph: Graph) -> frozenset[int]:
    """Activations that a convolution does to what it reads, so that what they are made of is kept for both.

    That is kept for others anyway.
    """
    users = Counter(source for node in graph.nodes for source in node.sources)
    found = set[int]()
    for node in graph.nodes:
        if node.target is None or not isinstance(describe(node), Convolution):
            continue
        read = describe(node).input.index
        made_by = graph.nodes[read]
        if made_by.target is not None and made_by.name in _READ_THROUGH and users[read] == 1:
            (source,) = made_by.sources
            if users[source] > 1 and source not in graph.constants and read not in graph.outputs:
                found.add(read)
    return frozenset(found)


class Lengths:
    """A model at every length: which axis of each tensor time runs along, and how long it is then."""

    def __init__(self, model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype) -> None:
        self._model, self._shape, self._dtype = model, tuple(shape), dtype
        check_steps(model, (*self._shape[:-1], _LENGTHS[0]), dtype, "streamed")
        refusals: list[ShapeError | UnsupportedError] = []
        for self._base in _LENGTHS:
            refusal = self._started(1 if refusals else _TRIES)
            if refusal is None:
                return
            refusals.append(refusal)
            if isinstance(refusal.__cause__, TypeError):  # called wrongly at every length
                break
        raise refusals[0]

    def _started(self, tries: int) -> ShapeError | UnsupportedError | None:
        """Why the model is no stream at this length; None where it is one."""
        try:
            self._start(tries)
            self._check_reach()
        except (ShapeError, UnsupportedError) as error:
            return error
        return None

    def _start(self, tries: int) -> None:
        """Capture the model out of reach, and find how its tensors grow."""
        self.far = self._from(self._base, tries)
        # So much longer that every layer has a whole number of results more.
        self.period = prod(_shortens(node) for node in self.far.nodes)
        other = self._longer()
        self.axes = self._time_axes(other)
        if self.far.output not in self.axes:
            raise UnsupportedError(
                "'model' must return results along the axis that is streamed: got a result whose size does "
                "not depend on it; legal: a model without a pooling over its whole input"
            )
        self.axis = self.axes[self.far.output]
        longer = other.length - self.far.length
        #: Elements of each tensor for an element of the input.
        self.growth = {
            index: Fraction(other.nodes[index].shape[axis] - self.far.nodes[index].shape[axis], longer)
            for index, axis in self.axes.items()
        }
        self.period = lcm(self.period, *(growth.denominator for growth in self.growth.values()))
        self.rate = self.growth[self.far.output]
        #: By what lengths leave over after whole periods: the model at one of them, or why it is refused.
        self._tried_at: dict[int, Captured | ShapeError] = {}
        #: By the same: one of them, and the model at the first from it on.
        self._known: dict[int, tuple[int, Captured]] = {}
        self.sizes(self.far.length + 1)  # what leaves something over is refused now, if it does other things

    def _check_reach(self) -> None:
        """Refuse results that wait for the end, however far off it is."""
        middle = self.far.nodes[self.far.output].shape[self.axis] // 2
        reach = max(self._reach(0), self._reach(middle))
        if reach > self.far.length * 3 // 4:
            raise UnsupportedError(
                "'model' must not need the end of its input first to be streamed: its first results read "
                f"element {reach} of {self.far.length}; legal: padding that does not wrap round"
            )

    def beyond(self, length: int) -> bool:
        """See to it that the length that is captured stays out of reach; whether another one is."""
        if 2 * length <= self.far.length:
            return False
        periods = -((self.far.length - 4 * length) // self.period)
        self.far = self._alike(self._from(self.far.length + periods * self.period))
        return True

    def at(self, length: int) -> Captured:
        """The model at just this length.

        Raises:
            ShapeError: it refuses that.
        """
        return self._alike(Captured(self._model, self._shape, self._dtype, length))

    def sizes(self, length: int) -> dict[int, int]:
        """How long every tensor is if the input ends here, or at the next length that the model accepts."""
        residue = length % self.period
        if residue not in self._known:
            self._known[residue] = self._next(length)
        first, known = self._known[residue]
        sizes = {
            index: max(int(known.nodes[index].shape[axis] - self.growth[index] * (first - length)), 0)
            for index, axis in self.axes.items()
        }
        return sizes | {INPUT: length}

    def _longer(self) -> Captured:
        """The model at a length that is longer by whole periods, the first that it takes."""
        for periods in range(1, _TRIES):
            found = self._tried(self.far.length + periods * self.period)
            if isinstance(found, Captured):
                return found
        return self._from(self.far.length + lcm(self.far.length, self.period), 1)

    def _next(self, length: int) -> tuple[int, Captured]:
        """A length that leaves over what this one does, and the model at the first from it on."""
        refusals: list[ShapeError] = []
        for more in range(max(_TRIES, min(self.period, _MOST_TRIES))):
            residue = (length + more) % self.period
            if residue not in self._tried_at:
                self._tried_at[residue] = self._tried(self._base + (length + more - self._base) % self.period)
            found = self._tried_at[residue]
            if isinstance(found, Captured):
                return found.length - more, self._alike(found)
            refusals.append(found)
        raise refusals[0]

    def _from(self, least: int, tries: int = _TRIES) -> Captured:
        """The model at the first length from this one on at which it runs."""
        refused: ShapeError | None = None
        for length in range(least, least + tries):
            found = self._tried(length)
            if isinstance(found, Captured):
                return found
            refused = refused or found
            if isinstance(found.__cause__, TypeError):
                break
        assert refused is not None
        raise refused

    def _tried(self, length: int) -> Captured | ShapeError:
        try:
            with silent(TRIALS):
                return Captured(self._model, self._shape, self._dtype, length)
        except ShapeError as error:
            return error

    def _alike(self, captured: Captured) -> Captured:
        if captured.names() != self.far.names():
            raise UnsupportedError(
                f"'model' must do the same at every length to be streamed: at {captured.length} it does "
                "other things; legal: decisions that do not depend on the length"
            )
        return captured

    def _time_axes(self, other: Captured) -> dict[int, int]:
        """The axis of each tensor whose size depends on the length."""
        axes: dict[int, int] = {}
        for index, (a, b) in enumerate(zip(self.far.nodes, self._alike(other).nodes, strict=True)):
            moved = [axis for axis, (n, m) in enumerate(zip(a.shape, b.shape, strict=True)) if n != m]
            if len(moved) > 1:
                raise UnsupportedError(
                    f"'model' must keep time on one axis to be streamed: {b.name} spreads it over axes "
                    f"{moved}; legal: layers along one axis"
                )
            if moved:
                axes[index] = moved[0]
        return axes

    def _reach(self, result: int) -> int:
        """The last element of the input that a result reads, and one."""
        read = self.far.need(result, result + 1, self.axes).get(INPUT)
        return 0 if read is None else read[-1][1]

    def length_for(self, start: int, stop: int) -> int:
        """The least length from which on results from ``start`` on do not depend on where it ends."""
        need = self.far.need(start, stop, self.axes)
        # As much as they read at least; where layers have strides, up to a period more.
        least, most = need[INPUT][-1][1] if INPUT in need else 0, 0
        for index, box in need.items():
            if index in self.axes and self.growth[index]:
                axis = self.axes[index]
                spare = self.far.nodes[index].shape[axis] - box[axis][1]
                periods = spare // int(self.growth[index] * self.period)
                most = max(most, self.far.length - periods * self.period)
        tried = least  # which is the answer in all likelihood
        while least < most:
            if self._fit(need, tried):
                most = tried
            else:
                least = tried + 1
            tried = (least + most) // 2
        return most

    def lengths_for(self, start: int, stop: int) -> dict[int, int]:
        """Of results from ``start`` to ``stop``, the first that needs each length among them, that length."""
        found = {at: self.length_for(start, at + 1) for at in (start, stop - 1)}
        left = [(start, stop - 1)]
        while left:
            low, high = left.pop()
            if found[low] != found[high] and high - low > 1:
                middle = (low + high) // 2
                found[middle] = self.length_for(start, middle + 1)
                left += [(low, middle), (middle, high)]
        return found

    def _fit(self, need: Mapping[int, Box], length: int) -> bool:
        """Whether all that is needed is there if the input ends at a length."""
        sizes = self.sizes(length)
        return all(box[self.axes[i]][1] <= sizes[i] for i, box in need.items() if i in self.axes)

    def turns(self, index: int, source: int, read: Interval) -> int:
        """How far before the end of what it reads a layer may turn back, at whatever length that ends.

        How far depends on what is left over of whole periods, and no more. ``read``: what its last elements
        read where the length is out of reach.
        """
        node = self.far.nodes[index]
        size, kind = self.far.nodes[source].shape[self.axes[source]], describe(node)
        if isinstance(kind, BorderPad):
            _, high = kind.pads.get(self.axes[source], (0, 0))
            back = high + 1
        elif index not in self.axes and 2 * read[0] > size:  # what is cut off for a border
            back = size - read[0]
        else:
            return 0
        return back + ceil(self.period * self.growth[source])

    def end(self, index: int, length: int) -> int:
        """Where a tensor ends if the input does here, but for what is left over of whole periods."""
        size = self.far.nodes[index].shape[self.axes[index]]
        return floor(size - self.growth[index] * (self.far.length - length))

    def firsts(self) -> list[int]:
        """The first result of all, and each that is the first to read a tensor."""

        def read(result: int) -> set[int]:
            need = self.far.need(0, result + 1, self.axes)
            return {index for index, box in need.items() if elements(box)}

        found, last = [0], self.far.nodes[self.far.output].shape[self.axis] // 2
        every = read(last)
        while (known := read(found[-1])) != every:
            low, high = found[-1], last
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if read(middle) != known else (middle, high)
            found.append(high)
        return found


def rate_of(
    model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype, result: Sequence[int], place: int = 0
) -> Fraction:
    """Results for each element along the last axis, borders aside; what is left of the whole where none grow.

    ``result``: the shape for an input of that ``shape``; ``place``: of which of the model's results.
    """
    length = shape[-1]
    period = prod(_shortens(node) for node in served_graph(model, shape, dtype).nodes)
    for more in range(period, _TRIES * period, period):
        try:
            with silent(TRIALS):
                graph = served_graph(model, (*shape[:-1], length + more), dtype)
        except ShapeError:  # it runs at some lengths only
            continue
        grown = graph.nodes[graph.outputs[place]].shape[-1] - result[-1]
        return Fraction(grown, more) or Fraction(result[-1], max(length, 1))
    return Fraction(result[-1], max(length, 1))


def _shortens(node: Node) -> int:
    """By how much a layer shortens its input, or how many inputs make a whole number of its results."""
    kind = None if node.target is None else describe(node)
    if isinstance(kind, Slice):
        return kind.positions.step
    if isinstance(kind, Resize):
        return Fraction(kind.factors[-1] or 1).limit_denominator(_DENOMINATOR).denominator
    if isinstance(kind, (Convolution, MaxPool, AveragePool, Columns)) and not kind.windows[-1].transposed:
        return kind.windows[-1].stride
    return 1
