"""Rules for cubic and antialiased interpolation: sums of a few neighbours along one axis after the other.

Weights are torch's for each position of the whole axis. Those of antialiased interpolation it says itself, of
a line with a single one in it; cubic ones are computed here in its arithmetic, as at the border several of
them fall on one position. How it rounds a sum of products, its compiler chose; that is tried on a small map
that is like the whole, and so is each line.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple

import torch
from torch import Tensor

from outstride.models.layouts import laid_out
from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.resizing import AntialiasedResize, CubicResize, Resize
from outstride.tiling.box import Box, elements, replaced
from outstride.tiling.rules.interface import Boxes, Rule, RuleTable, Tensors, present
from outstride.tiling.rules.resizing import is_even
from outstride.tiling.surroundings import computing_by, threads_of_whole

_DTYPES = (torch.float32, torch.float64)
#: Sizes of the small map that is tried, and of what is made of it.
_TRIED, _MADE = (9, 11), ((13, 17), (5, 6))
#: Weights of a line, and elements that torch is asked for them by at a time.
_MOST, _AT_ONCE = 1 << 24, 1 << 22
#: Keys' kernel as torch has it.
_A = -0.75


class _Line(NamedTuple):
    """Of each position of an axis those that it is made of, and their weights."""

    places: Tensor
    """(positions, taps)"""
    weights: Tensor
    inside: Tensor
    """Which of them there are."""
    fours: Tensor
    """Which are of a whole four behind the first."""

    def part(self, start: int, stop: int, first: int) -> _Line:
        """That of some positions, made of what begins at a position."""
        places, *rest = (tensor[start:stop] for tensor in self)
        return _Line(places - first, *rest)


def _line_of(places: Tensor, weights: Tensor, inside: Tensor) -> _Line:
    number, counts = torch.arange(places.shape[1]), inside.sum(1, keepdim=True)
    return _Line(places, weights, inside, (number > 0) & (number <= (counts - 1) // 4 * 4))


class _Rounding(Enum):
    """Which products of a sum are rounded before they are added; the others are added as they are."""

    SECOND = 1
    ALL = 2
    FOURS = 3
    """The first, and behind it whole fours: a compiler multiplies these as a vector and adds in order."""


def _function(node: Node) -> Any:
    return getattr(torch.ops.aten, node.name.removeprefix("aten.")).default


# Weights.
@lru_cache(256)
def _line(node: Node, axis: int) -> _Line | None:
    """Those of an axis; None where they are not known."""
    operator: Resize = describe(node)
    inputs, outputs = node.source_shapes[0][2 + axis], node.shape[2 + axis]
    return _weights(_function(node), operator, inputs, outputs, operator.factors[axis], node.dtype)


def _weights(
    function: Any, operator: Resize, inputs: int, outputs: int, factor: float | None, dtype: torch.dtype
) -> _Line | None:
    if isinstance(operator, CubicResize):
        line: _Line | None = _cubic(inputs, outputs, factor, operator.aligned, dtype)
    else:
        line = _asked(function, operator, inputs, outputs, factor, dtype)
    if line is None:
        return None
    x = torch.linspace(-1, 1, inputs, dtype=dtype).mul(1e3).sin().view(1, 1, 1, inputs)
    expected = _called(function, x, outputs, operator.aligned, factor)
    along = (_made(x, 3, line, rounding) for rounding in _Rounding)
    return line if any(torch.equal(made, expected) for made in along) else None


def _called(function: Any, x: Tensor, outputs: int, aligned: bool, factor: float | None) -> Tensor:
    made: Tensor = function(x, [1, outputs], aligned, None, factor)
    return made


def _cubic(inputs: int, outputs: int, factor: float | None, aligned: bool, dtype: torch.dtype) -> _Line:
    positions, number = torch.arange(outputs, dtype=dtype), torch.tensor(inputs, dtype=dtype)
    if aligned:
        real = (number - 1) / (outputs - 1) * positions if outputs > 1 else positions * 0
    else:
        scale = torch.tensor(1 / factor, dtype=dtype) if factor else number / outputs
        real = torch.addcmul(torch.full_like(positions, -0.5), scale.expand_as(positions), positions + 0.5)
    low = real.floor().to(torch.int64).clamp(max=inputs - 1)
    t = (real - low).clamp(0, 1)
    places = (low[:, None] + torch.arange(-1, 3)).clamp(0, inputs - 1)
    weights = torch.stack([_far(t + 1), _near(t), _near(1 - t), _far(1 - t + 1)], 1)
    return _line_of(places, weights, torch.ones_like(places, dtype=torch.bool))


def _near(x: Tensor) -> Tensor:
    return _fused(torch.full_like(x, _A + 2), x, -(_A + 3)) * x * x + 1


def _far(x: Tensor) -> Tensor:
    return _fused(_fused(torch.full_like(x, _A), x, -5 * _A), x, 8 * _A) * x - 4 * _A


def _fused(x: Tensor, y: Tensor, constant: float) -> Tensor:
    return torch.addcmul(torch.full_like(x, constant), x, y)


def _asked(
    function: Any, operator: Resize, inputs: int, outputs: int, factor: float | None, dtype: torch.dtype
) -> _Line | None:
    """Weights as torch has them: what it makes of a one at every so many positions, and where of a NaN."""
    radius = 2 if "cubic" in operator.mode else 1
    scale = 1 / factor if factor else inputs / max(outputs, 1)
    period = min(2 * ceil(radius * max(scale, 1)) + 3, inputs)
    if period * outputs > _MOST:
        return None

    def combed(value: float) -> Tensor:
        """What comes of a value at every so many positions, from each of the first ones on."""
        step, made = max(_AT_ONCE // inputs, 1), list[Tensor]()
        for first in range(0, period, step):
            comb = torch.zeros(1, min(step, period - first), 1, inputs, dtype=dtype)
            for place in range(comb.shape[1]):
                comb[0, place, 0, first + place :: period] = value
            made.append(_called(function, comb, outputs, operator.aligned, factor)[0, :, 0])
        return torch.cat(made)

    values, there = combed(1.0), combed(float("nan")).isnan()
    counts = there.sum(0)
    if bool((counts == period).any()) and period < inputs:
        return None
    # The first of a run of places that may go round the end of the period.
    middle = ((torch.arange(outputs, dtype=torch.float64) + 0.5) * scale).to(torch.int64)
    from_ = (middle - period // 2).clamp(0, max(inputs - period, 0))
    order = (from_[:, None] + torch.arange(period)) % period
    inside = there.T.gather(1, order)
    first = inside.to(torch.int8).argmax(1)
    taps = torch.arange(int(counts.max()))
    places = (from_ + first)[:, None] + taps
    inside = taps < counts[:, None]
    places = torch.where(inside, places, (from_ + first)[:, None])
    weights = torch.where(inside, values.T.gather(1, places % period), values.new_zeros(()))
    return _line_of(places, weights, inside)


# Sums.
def _made(x: Tensor, dim: int, line: _Line, rounding: _Rounding) -> Tensor:
    """The sums along one axis of positions that are counted from where `x` begins."""
    shape = [-1, *(1 for _ in range(dim + 1, x.dim()))]

    def tap(number: int) -> tuple[Tensor, Tensor]:
        part = x.index_select(dim, line.places[:, number])
        return part, line.weights[:, number].view(shape).expand_as(part)

    first, weight = tap(0)
    total = first * weight
    for number in range(1, line.places.shape[1]):
        part, by = tap(number)
        fours = line.fours[:, number]
        if rounding is _Rounding.SECOND and number == 1:
            longer = torch.addcmul(part * by, first, weight)
        elif rounding is _Rounding.ALL or (rounding is _Rounding.FOURS and bool(fours.all())):
            longer = total + part * by
        else:
            longer = torch.addcmul(total, part, by)
            if rounding is _Rounding.FOURS and bool(fours.any()):
                longer = torch.where(fours.view(shape), total + part * by, longer)
        inside = line.inside[:, number]  # a window that has ended keeps what it has
        total = longer if bool(inside.all()) else torch.where(inside.view(shape), longer, total)
    return total


def _by_axes(x: Tensor, lines: Sequence[_Line], rounding: _Rounding) -> Tensor:
    for axis in reversed(range(len(lines))):
        x = _made(x, 2 + axis, lines[axis], rounding)
    return x


@lru_cache(256)
def _rounding_of(node: Node, threads: int) -> _Rounding | None:
    """How torch adds products up in maps such as this; None where it is not known."""
    del threads  # torch asks for it
    operator: Resize = describe(node)
    function, shape = _function(node), (1, node.shape[1], *_TRIED)
    x = torch.linspace(-1, 1, torch.Size(shape).numel(), dtype=node.dtype).mul(1e3).sin().reshape(shape)
    like = laid_out(x, node.source_shapes[0], node.source_strides[0])
    fits = list(_Rounding)
    for sizes in _MADE:
        lines = [
            _weights(function, operator, n, m, None, node.dtype) for n, m in zip(_TRIED, sizes, strict=True)
        ]
        known = [line for line in lines if line is not None]
        expected = function(like, list(sizes), operator.aligned)
        fits = [
            rounding
            for rounding in fits
            if len(known) == 2 and torch.equal(_by_axes(x, known, rounding), expected)
        ]
    return fits[0] if fits else None


def _rounding(node: Node) -> _Rounding | None:
    if node.dtype not in _DTYPES or not elements(tuple((0, n) for n in node.shape)) or len(node.shape) != 4:
        return None
    with computing_by(threads_of_whole()):
        return _rounding_of(node, torch.get_num_threads())


def _lines(node: Node) -> list[_Line]:
    lines = [_line(node, axis) for axis in range(len(node.shape) - 2)]
    return [line for line in lines if line is not None]


def _serves(node: Node) -> bool:
    if node.shape[-1] == 1 and isinstance(describe(node), AntialiasedResize):
        return False  # torch's antialiased sums of a single column are of other elements, by its strides
    return _rounding(node) is not None and len(_lines(node)) == len(node.shape) - 2


def _demand(node: Node, box: Box) -> Boxes:
    axes = []
    for line, (a, b) in zip(_lines(node), box[2:], strict=True):
        places = line.places[a:b]
        axes.append((int(places.min()), int(places.max()) + 1) if b > a else (0, 0))
    return [(*box[:2], *axes)]


def _interpolate(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    (held,), (x,), rounding = boxes, present(tensors), _rounding(node)
    assert held is not None
    assert rounding is not None
    lines = [
        line.part(a, b, first)
        for line, (a, b), (first, _) in zip(_lines(node), box[2:], held[2:], strict=True)
    ]
    return _by_axes(x, lines, rounding)


def _scratch(node: Node, box: Box, boxes: Boxes) -> int:
    """A tap of an axis, its weights and sums, and what was made along the axis before."""
    (held,), most = boxes, 0
    assert held is not None
    made = held
    for axis in reversed(range(2, len(box))):
        before, made = elements(made) if made != held else 0, replaced(made, axis, box[axis])
        most = max(most, before + 5 * elements(made))
    return node.dtype.itemsize * max(most - elements(box), 0)


RULES: RuleTable = dict.fromkeys(
    (CubicResize, AntialiasedResize),
    Rule(_demand, _interpolate, scratch=_scratch, serves=_serves, even=is_even),
)
