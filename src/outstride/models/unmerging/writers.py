"""How operators are written on tensors in parts: those they look along together, the others apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from outstride.models.node import Node, Source
from outstride.models.operators import (
    concatenation,
    indexing,
    norms,
    padding,
    pointwise,
    pooling,
    reductions,
    unfolding,
    views,
)
from outstride.models.unmerging import products
from outstride.models.unmerging.builder import Builder, Held, Write
from outstride.models.unmerging.parts import Axes, Part, length_of, plain, reshaped, strides_of


def _main(node: Node, name: str = "self") -> Source:
    source = node.argument(name)
    assert isinstance(source, Source)
    return source


# Views.
def _reshape(b: Builder, node: Node, kind: Any) -> Held | None:
    del kind
    held = b.held(_main(node))
    axes = reshaped(held.axes, node.shape)
    return None if axes is None else b.viewed(held, axes, node.strides)


def _permute(b: Builder, node: Node, kind: views.Permute) -> Held:
    held = b.held(_main(node))
    axes = tuple(held.axes[axis] for axis in kind.order)
    order = [held.place(axis) + n for axis in kind.order for n in range(len(held.axes[axis]))]
    source = {node.sources[0]: held}
    return b.add(node, axes, source, views.Permute(tuple(order)))


def _same(b: Builder, node: Node, kind: Any) -> Held:
    held = b.held(Source(node.sources[0]))
    del kind
    return b.add(node, held.axes, {node.sources[0]: held})


def _expand(b: Builder, node: Node, kind: views.Expand) -> Held:
    del kind
    held = b.held(_main(node))
    (held,), axes = b.together([held], node.shape)
    return b.add(node, axes, {node.sources[0]: held})


# Element by element.
def _pointwise(b: Builder, node: Node, kind: Any) -> Held:
    del kind
    helds = [b.held(Source(source)) for source in node.sources]
    made, axes = b.together(helds, node.shape)
    return b.add(node, axes, dict(zip(node.sources, made, strict=True)))


# Along axes, of which each is one part.
def _along(
    along: Callable[[Node, Any], Sequence[int]],
    described: Callable[[Node, Any, Callable[[int], int]], dict[str, Any]],
    kept: Callable[[Held, Node, Any], Axes] | None = None,
) -> Write:
    """An operator along some axes of its first source; all its other sources are small and whole.

    ``described``: its arguments, of what makes a part's place of an axis; ``kept``: the axes of the result,
    which are those of the source where none is said, but new ones along.
    """

    def write(b: Builder, node: Node, kind: Any) -> Held:
        first, *rest = node.sources
        axes = sorted({axis % len(b.held(Source(first)).axes) for axis in along(node, kind)})
        held = b.plain(b.held(Source(first)), axes)
        made = kept(held, node, kind) if kept is not None else _renewed(held, node, axes)
        sources = {first: held} | {source: b.plain(b.held(Source(source))) for source in rest}
        return b.add(node, made, sources, **described(node, kind, held.place))

    return write


def _renewed(held: Held, node: Node, along: Sequence[int]) -> Axes:
    return tuple(
        (Part(node.shape[axis]),) if axis in along and parts[0].size != node.shape[axis] else parts
        for axis, parts in enumerate(held.axes)
    )


def _one(node: Node, kind: Any, place: Callable[[int], int]) -> dict[str, Any]:
    del node
    return {"dim": place(kind.axis)}


def _several(node: Node, kind: Any, place: Callable[[int], int]) -> dict[str, Any]:
    del node
    return {"dims": [place(axis) for axis in kind.axes]}


def _rolled(b: Builder, node: Node, kind: indexing.Roll) -> Held:
    """What leaves an axis at one end beside what stays: two boxes where they would be one around both."""
    held = b.plain(b.held(_main(node)), [axis for axis, _ in kind.shifts])
    for axis, shift in kind.shifts:
        size, place = node.shape[axis], held.place(axis)
        moved = shift % size
        if moved:
            ends = [
                b.add_of(
                    node, (*held.axes[:axis], (Part(len(positions)),), *held.axes[axis + 1 :]), [held.index],
                    indexing.Slice(place, positions),
                )
                for positions in (range(size - moved, size), range(size - moved))
            ]  # fmt: skip
            indices = [end.index for end in ends]
            joined = concatenation.Concatenate(tuple(map(Source, indices)), place)
            held = b.add_of(node, held.axes, indices, joined)
    return held


def _turned(b: Builder, node: Node, kind: indexing.QuarterTurns) -> Held:
    """Turns are axes turned round and changed with each other."""
    held, (one, other) = b.plain(b.held(_main(node)), kind.axes), kind.axes
    flipped = {0: (), 1: (other,), 2: (one, other), 3: (one,)}[kind.turns]
    if flipped:
        held = b.add_of(node, held.axes, [held.index], indexing.Flip(tuple(map(held.place, flipped))))
    if kind.turns % 2 == 0:
        return held
    order = list(range(len(held.shape)))
    a, b_ = held.place(one), held.place(other)
    order[a], order[b_] = b_, a
    axes = list(held.axes)
    axes[one], axes[other] = held.axes[other], held.axes[one]
    return b.add_of(node, tuple(axes), [held.index], views.Permute(tuple(order)))


def _repeated(b: Builder, node: Node, kind: views.Repeat) -> Held:
    """With axes of one element in front where it has fewer than the result."""
    held = b.plain(b.held(_main(node)))
    new = len(node.shape) - len(held.axes)
    axes = (*plain((1,) * new), *held.axes)
    held = b.viewed(held, axes, (*(0,) * new, *held.strides))
    return b.add_of(node, plain(node.shape), [held.index], kind)


def _without(held: Held, node: Node, kind: indexing.Select) -> Axes:
    del node
    return (*held.axes[: kind.axis], *held.axes[kind.axis + 1 :])


def _padded(node: Node, kind: padding.ConstantPad, place: Callable[[int], int]) -> dict[str, Any]:
    # Pads are listed from the last axis on: parts behind an axis come between.
    first = min(kind.pads, default=len(node.shape))
    pads = {place(axis): pair for axis, pair in kind.pads.items()}
    last = place(len(node.shape)) - 1
    listed = [pads.get(at, (0, 0)) for at in range(last, place(first) - 1, -1)]
    return {"pad": [end for pair in listed for end in pair]}


def _reduced(b: Builder, node: Node, kind: reductions.Reduction) -> Held | None:
    dim = node.argument("dim")
    if dim is None or len(node.sources) != 1:
        return None
    held = b.held(Source(node.sources[0]))
    if _over_positions(kind, held):
        return _reduced_in_order(b, node, kind, held)
    held = b.plain(held, kind.axes)
    dims: Any = [held.place(axis) for axis in kind.axes]
    if isinstance(dim, int):
        (dims,) = dims
    one = (Part(1),)
    axes = tuple(
        one if axis in kind.axes else parts
        for axis, parts in enumerate(held.axes)
        if kind.keepdim or axis not in kind.axes
    )
    return b.add(node, axes, {node.sources[0]: held}, dim=dims)


def _over_positions(kind: reductions.Reduction, held: Held) -> bool:
    """Whether all positions of a map are reduced whose channels lie behind them.

    Of three axes that may as well be the channels of a line, unless a view has merged positions in it.
    """
    rank, shape = len(held.axes), [length_of(parts) for parts in held.axes]
    is_map = len(held.axes[1]) > 1 if rank == 3 else prod(shape[1:-1]) > shape[-1]
    return rank > 2 and kind.axes == tuple(range(1, rank - 1)) and is_map


def _reduced_in_order(b: Builder, node: Node, kind: reductions.Reduction, held: Held) -> Held:
    """The same of a map whose channels come before its positions, as rules and folds know it.

    What comes later reads the map through this one, so that one of them is kept between passes.
    """
    rank, dim = len(held.axes), node.argument("dim")
    held = b.plain(held, [0, rank - 1] if not isinstance(dim, int) else None)
    flat = Held(
        held.index, tuple((part,) for axis in held.axes for part in axis), strides_of(held.axes, held.strides)
    )
    count = len(flat.axes)
    source = b.turned(flat, (0, count - 1, *range(1, count - 1)))
    back = b.turned(source, (0, *range(2, count), 1))
    b.reads_through(Source(node.sources[0]), Held(back.index, held.axes, held.strides))
    dims: Any = 2 if isinstance(dim, int) else list(range(2, count))
    images, channels = source.axes[:2]
    made = b.add(
        replace(node, strides=(node.strides[0], node.strides[-1])), (images, channels),
        {node.sources[0]: source}, dim=dims, keepdim=False,
    )  # fmt: skip
    if not kind.keepdim:
        return made
    return b.viewed(made, (images, *plain((1,) * (rank - 2)), channels), node.strides)


def _normalized(node: Node, kind: norms.LayerNorm) -> Sequence[int]:
    del node
    return range(-kind.axes, 0)


# Windows in a row, which are counted by axes.
def _columns(b: Builder, node: Node, kind: unfolding.Columns) -> Held:
    held = b.plain(b.held(_main(node)))
    shape = [part.size for axis in held.axes[-2:] for part in axis]
    counts = [window.outputs(size) for window, size in zip(kind.windows, shape, strict=True)]
    axes = (*plain(node.shape[:-1]), tuple(map(Part, counts)))
    return b.add(node, axes, {node.sources[0]: held})


def _from_columns(b: Builder, node: Node, kind: unfolding.FromColumns) -> Held:
    held = b.held(_main(node))
    counts = [window.outputs(size) for window, size in zip(kind.windows, node.shape[-2:], strict=True)]
    axes = (*plain(map(length_of, held.axes[:-1])), tuple(map(Part, counts)))
    return b.add(node, plain(node.shape), {node.sources[0]: b.viewed(held, axes)})


# Places of maxima, which say of which windows they are.
def _unpooled(b: Builder, node: Node, kind: pooling.Unpool) -> Held | None:
    del kind
    places = b.operator(node.argument("indices"))
    if not isinstance(places, pooling.MaxPool) or any(w.span > w.stride for w in places.windows):
        return None  # windows that overlap may write to one place
    sources = {source: b.plain(b.held(Source(source))) for source in node.sources}
    return b.add(node, plain(node.shape), sources, pooling.Unpool(places.windows))


# Several tensors that lie along an axis.
def _concatenated(b: Builder, node: Node, kind: concatenation.Concatenate) -> Held | None:
    if len(kind.tensors) != len(node.argument("tensors")):
        return None  # an empty one that fits nowhere
    helds = [b.held(Source(source)) for source in node.sources]
    made, axes = b.together(helds, node.shape, [kind.axis])
    place = sum(len(parts) for parts in axes[: kind.axis])
    return b.add(node, axes, dict(zip(node.sources, made, strict=True)), dim=place)


def _stacked(b: Builder, node: Node, kind: concatenation.Stack) -> Held:
    helds = [b.held(Source(source)) for source in node.sources]
    shape = (*node.shape[: kind.axis], *node.shape[kind.axis + 1 :])
    made, parts = b.together(helds, shape)
    axes = (*parts[: kind.axis], (Part(node.shape[kind.axis]),), *parts[kind.axis :])
    place = sum(len(axis) for axis in axes[: kind.axis])
    return b.add(node, axes, dict(zip(node.sources, made, strict=True)), dim=place)


def _scattered(b: Builder, node: Node, kind: indexing.SliceScatter) -> Held:
    helds = [b.held(Source(source)) for source in node.sources]
    made, axes = b.together(helds, node.shape, [kind.axis])
    place = sum(len(parts) for parts in axes[: kind.axis])
    return b.add(node, axes, dict(zip(node.sources, made, strict=True)), dim=place)


WRITERS: dict[type, Write] = {
    views.Permute: _permute,
    views.Expand: _expand,
    indexing.Select: _along(lambda _, kind: [kind.axis], _one, _without),
    indexing.Slice: _along(lambda _, kind: [kind.axis], _one),
    indexing.Flip: _along(lambda _, kind: kind.axes, _several),
    indexing.Roll: _rolled,
    indexing.QuarterTurns: _turned,
    views.Repeat: _repeated,
    indexing.SliceScatter: _scattered,
    padding.ConstantPad: _along(lambda _, kind: list(kind.pads), _padded),
    norms.LayerNorm: _along(_normalized, lambda *_: {}),
    concatenation.Concatenate: _concatenated,
    concatenation.Stack: _stacked,
    pooling.Unpool: _unpooled,
    unfolding.Columns: _columns,
    unfolding.FromColumns: _from_columns,
    pointwise.Gate: _along(lambda _, kind: [kind.axis], _one),
}
WRITERS |= dict.fromkeys((views.Reshape, views.Squeeze, views.Unsqueeze), _reshape)
WRITERS |= dict.fromkeys((views.Alias, views.Copy), _same)
WRITERS |= dict.fromkeys((pointwise.Pointwise, pointwise.CopyInto, pointwise.Fill), _pointwise)
WRITERS |= dict.fromkeys(
    (reductions.Sum, reductions.Mean, reductions.Extremum, reductions.Deviation, reductions.Reduction),
    _reduced,
)
WRITERS |= dict.fromkeys(
    (reductions.Softmax, reductions.MaskedSoftmax, reductions.Scan, reductions.Sort),
    _along(lambda _, kind: [kind.axis], _one),
)
WRITERS |= products.WRITERS
