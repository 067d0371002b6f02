"""A model whose input's length is not known yet: captured for one that is out of reach.

Sizes of its tensors grow evenly with the length, so those at any length follow from a few captures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import lcm, prod

import torch

from outstride.errors import ShapeError, UnsupportedError
from outstride.tiling.box import Box, complete_but, replaced, whole
from outstride.tiling.evaluation import INPUT, Program
from outstride.tiling.graph import Node, capture

#: Length for which a model is captured at first.
_LENGTH = 1 << 14
#: Lengths beyond that which are tried, for models that run at some lengths only.
_TRIES = 65
#: Denominators up to which a scale is taken for a fraction.
_DENOMINATOR = 1000


class Captured:
    """A model for one length."""

    def __init__(self, model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype, length: int) -> None:
        self.program, self.length = Program(capture(model, (*shape[:-1], length), dtype)), length
        self.output = self.program.graph.only_output("streamed")
        if self.program.anchors:
            names = sorted({self.program.graph.nodes[i].name for i in self.program.anchors})
            raise UnsupportedError(
                f"'model' must not need its whole input to be streamed: got {', '.join(names)}; "
                "legal: layers whose windows end"
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

        def complete(index: int, asked: Box) -> Box:
            return complete_but(asked, self.nodes[index].shape, axes.get(index))

        return self.program.need(self.output, box, complete).boxes


class Lengths:
    """A model at every length: which axis of each tensor time runs along, and how long it is then."""

    def __init__(self, model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype) -> None:
        self._model, self._shape, self._dtype = model, tuple(shape), dtype
        self.far = self._from(_LENGTH)
        # So much longer that every layer has a whole number of results more.
        self.period = prod(_shortens(node) for node in self.far.nodes)
        other = self._from(self.far.length + self.period)
        self.axes = self._time_axes(other)
        if self.far.output not in self.axes:
            raise UnsupportedError(
                "'model' must return results along the axis that is streamed: got a result whose size does "
                "not depend on it; legal: a model without a pooling over its whole input"
            )
        self.axis = self.axes[self.far.output]
        longer = other.length - self.far.length
        self._growth = {
            index: Fraction(other.nodes[index].shape[axis] - self.far.nodes[index].shape[axis], longer)
            for index, axis in self.axes.items()
        }
        self.period = lcm(self.period, *(growth.denominator for growth in self._growth.values()))
        self.rate = self._growth[self.far.output]
        #: By what lengths leave over after whole periods: one of them, and the model at the first from it on.
        self._known: dict[int, tuple[int, Captured]] = {}

    def beyond(self, length: int) -> None:
        """See to it that the length that is captured stays out of reach."""
        if 2 * length > self.far.length:
            self.far = self._alike(self._from(4 * length))

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
            asked = _LENGTH + (length - _LENGTH) % self.period
            self._known[residue] = asked, self._alike(self._from(asked))
        asked, known = self._known[residue]
        sizes = {
            index: max(int(known.nodes[index].shape[axis] - self._growth[index] * (asked - length)), 0)
            for index, axis in self.axes.items()
        }
        return sizes | {INPUT: length}

    def _from(self, least: int) -> Captured:
        """The model at the first length from this one on at which it runs."""
        refused: ShapeError | None = None
        for length in range(least, least + _TRIES):
            found = self._tried(length)
            if isinstance(found, Captured):
                return found
            refused = refused or found
        assert refused is not None
        raise refused

    def _tried(self, length: int) -> Captured | ShapeError:
        try:
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

    def reach(self, result: int) -> int:
        """The last element of the input that a result reads, and one."""
        asked = self.far.need(result, result + 1, self.axes).get(INPUT)
        return 0 if asked is None else asked[-1][1]

    def length_for(self, result: int) -> int:
        """A length from which on a result does not depend on where the input ends.

        The least one for layers without strides, else less than a period more.
        """
        late = 0
        for index, box in self.far.need(result, result + 1, self.axes).items():
            if index in self.axes and self._growth[index]:
                axis = self.axes[index]
                spare = self.far.nodes[index].shape[axis] - box[axis][1]
                periods = spare // int(self._growth[index] * self.period)
                late = max(late, self.far.length - periods * self.period)
        return late


def rate_of(
    model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype, result: Sequence[int]
) -> Fraction:
    """Results for each element along the last axis, borders aside; what is left of the whole where none grow.

    ``result``: the shape for an input of that ``shape``.
    """
    length = shape[-1]
    period = prod(_shortens(node) for node in capture(model, shape, dtype).nodes)
    for more in range(period, _TRIES * period, period):
        try:
            graph = capture(model, (*shape[:-1], length + more), dtype)
        except ShapeError:  # it runs at some lengths only
            continue
        grown = graph.nodes[graph.only_output("run")].shape[-1] - result[-1]
        return Fraction(grown, more) or Fraction(result[-1], max(length, 1))
    return Fraction(result[-1], max(length, 1))


def _shortens(node: Node) -> int:
    """By how much a layer shortens its input, or how many inputs make a whole number of its results."""
    if node.target is None or node.name == "outstride.conv_transpose":
        return 1
    if node.name == "aten.slice":
        return int(node.argument("step"))
    if "upsample" in node.name:
        scale = node.argument("scales") or node.argument("scales_w") or 1
        return Fraction(scale).limit_denominator(_DENOMINATOR).denominator
    value = node.argument("stride") or node.argument("kernel_size") or 1
    return int(value if isinstance(value, int) else value[-1])
