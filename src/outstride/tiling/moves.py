"""Rules for what moves whole axes: other shapes, other orders, tensors beside each other, zeros around."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod

import torch
from torch import Tensor

from outstride.models.graph import Node, Source
from outstride.tiling.box import Box, Interval, clamped, elements, hull, replaced, shape_of, within
from outstride.tiling.elementwise import broadcast
from outstride.tiling.rule import NEEDS_ALL, Rule, cropped, given

Boxes = Sequence[Box | None]
Tensors = Sequence[Tensor | None]


# Axes in another order.
def _order(node: Node) -> list[int]:
    rank = len(node.shape)
    if node.name == "aten.permute":
        return [dim % rank for dim in node.argument("dims")]
    order = list(range(rank))
    a, b = (0, 1) if node.name == "aten.t" else (node.argument("dim0"), node.argument("dim1"))
    if rank > 1:
        order[a % rank], order[b % rank] = order[b % rank], order[a % rank]
    return order


def _permuted_demand(node: Node, box: Box) -> Boxes:
    asked = list(box)
    for place, axis in enumerate(_order(node)):
        asked[axis] = box[place]
    return [tuple(asked)]


def _permute(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del box, boxes
    return given(tensors)[0].permute(_order(node))


# Another shape of the same elements: axes that only split or join each other form a group.
def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
    groups: list[tuple[range, range]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        first, second, left, right = i, j, old[i], new[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        groups.append((range(first, i), range(second, j)))
    # What is left over has one element.
    old_start, new_start = (groups[-1][0].start, groups[-1][1].start) if groups else (0, 0)
    return [*groups[:-1], (range(old_start, len(old)), range(new_start, len(new)))]


def _flat_range(box: Box, shape: Sequence[int]) -> Interval:
    first = last = 0
    for (a, b), n in zip(box, shape, strict=True):
        first, last = first * n + a, last * n + b - 1
    return first, last + 1


def _covering(flat: Interval, shape: Sequence[int]) -> Box:
    """The least box of consecutive elements that holds a range of them."""
    axes: list[Interval] = []
    first, last = flat[0], flat[1] - 1
    parted = False
    for axis, n in enumerate(shape):
        step = prod(shape[axis + 1 :])
        a, b = first // step % n, last // step % n
        axes.append((0, n) if parted else (a, b + 1))
        parted = parted or a != b
    return tuple(axes)


def _reshaped_demand(node: Node, box: Box) -> Boxes:
    old = node.source_shapes[0]
    if elements(box) == 0:
        return [tuple((0, 0) for _ in old)]
    axes: list[Interval] = []
    for group, made in _groups(old, node.shape):
        flat = _flat_range(tuple(box[j] for j in made), [node.shape[j] for j in made])
        axes += _covering(flat, [old[i] for i in group])
    return [tuple(axes)]


def _reshape(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    (held,), (x,) = boxes, given(tensors)
    assert held is not None
    if elements(box) == 0:
        return x.new_empty(shape_of(box))
    old = node.source_shapes[0]
    groups = _groups(old, node.shape)
    x = x.reshape([prod(held[i][1] - held[i][0] for i in group) for group, _ in groups])
    for axis, (group, made) in enumerate(groups):
        start, _ = _flat_range(tuple(held[i] for i in group), [old[i] for i in group])
        positions = torch.zeros(1, dtype=torch.int64)
        for j in made:
            positions = positions[..., None] * node.shape[j] + torch.arange(*box[j])
        positions = positions.reshape(-1) - start
        if len(positions) != x.shape[axis]:
            x = x.index_select(axis, positions)
    return x.reshape(shape_of(box))


# One element of an axis.
def _selected_demand(node: Node, box: Box) -> Boxes:
    shape = node.source_shapes[0]
    axis, index = node.argument("dim") % len(shape), node.argument("index")
    index += shape[axis] if index < 0 else 0
    return [(*box[:axis], (index, index + 1), *box[axis:])]


def _select(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del box, boxes
    return given(tensors)[0].squeeze(node.argument("dim"))


# Axes of one element, repeated without being copied.
def _expanded_demand(node: Node, box: Box) -> Boxes:
    return [broadcast(box, node.source_shapes[0])]


def _expand(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del node, boxes
    return given(tensors)[0].expand(shape_of(box))


# Beside each other.
def _parts(node: Node, box: Box) -> list[tuple[int, Box]]:
    """What a box takes of every tensor that is put beside the others, by its place among the sources."""
    shapes = dict(zip(node.sources, node.source_shapes, strict=True))
    places = {index: place for place, index in enumerate(node.sources)}
    joined: list[Source] = [s for s in node.argument("tensors") if len(shapes[s.index]) == len(box)]
    axis = node.argument("dim") % len(box)
    sizes = [shapes[source.index][axis] for source in joined]
    parts = []
    for source, size, end in zip(joined, sizes, accumulate(sizes), strict=True):
        a, b = box[axis]
        parts.append(
            (places[source.index], replaced(box, axis, clamped(a - end + size, b - end + size, size)))
        )
    return parts


def _cat_demand(node: Node, box: Box) -> Boxes:
    asked: dict[int, list[Box]] = {}
    for place, part in _parts(node, box):
        if elements(part):
            asked.setdefault(place, []).append(part)
    return [hull(asked[place]) if place in asked else None for place in range(len(node.sources))]


def _cat(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    parts = []
    for place, part in _parts(node, box):
        tensor, held = tensors[place], boxes[place]
        if tensor is not None and held is not None and elements(part):
            parts.append(tensor[within(part, held)])
    if not parts:
        return torch.empty(shape_of(box), dtype=node.dtype)
    return torch.cat(parts, node.argument("dim")) if len(parts) > 1 else parts[0]


# Above each other, along an axis of their own.
def _stacked(node: Node, box: Box) -> list[int]:
    axis = node.argument("dim") % len(box)
    places = {index: place for place, index in enumerate(node.sources)}
    return [places[source.index] for source in node.argument("tensors")[slice(*box[axis])]]


def _stack_demand(node: Node, box: Box) -> Boxes:
    axis, asked = node.argument("dim") % len(box), _stacked(node, box)
    part = (*box[:axis], *box[axis + 1 :])
    return [part if place in asked else None for place in range(len(node.sources))]


def _stack(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del boxes
    return torch.stack(given([tensors[place] for place in _stacked(node, box)]), node.argument("dim"))


# Written into a part: what an assignment to a slice has become.
def _written(node: Node, box: Box) -> Box:
    """What a box takes of the tensor that is written."""
    shapes = dict(zip(node.sources, node.source_shapes, strict=True))
    axis, size = node.argument("dim") % len(box), node.shape[node.argument("dim")]
    start = range(size)[slice(node.argument("start"), None)].start
    (a, b), count = box[axis], shapes[node.argument("src").index][axis]
    return replaced(box, axis, clamped(a - start, b - start, count))


def _pasted_demand(node: Node, box: Box) -> Boxes:
    if node.argument("step") != 1 or len(node.sources) != 2:
        return NEEDS_ALL.demand(node, box)
    part = _written(node, box)
    written = part if elements(part) else None
    return [written if index == node.argument("src").index else box for index in node.sources]


def _paste(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    if node.argument("step") != 1 or len(node.sources) != 2:
        return NEEDS_ALL.run(node, box, boxes, tensors)
    held = dict(zip(node.sources, tensors, strict=True))
    result, part = held[node.argument("self").index], held[node.argument("src").index]
    assert result is not None
    result = result.clone()
    if part is not None:
        axis, (first, last) = node.argument("dim") % len(box), _written(node, box)[node.argument("dim")]
        start = range(node.shape[axis])[slice(node.argument("start"), None)].start - box[axis][0]
        result.narrow(axis, start + first, last - first).copy_(part)
    return result


# A constant around.
def _pads(node: Node) -> list[tuple[int, int]]:
    pad = list(node.argument("pad"))
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    return [(0, 0)] * (len(node.shape) - len(pairs)) + pairs


def _padded_demand(node: Node, box: Box) -> Boxes:
    return [
        tuple(
            clamped(a - low, b - low, n)
            for (a, b), (low, _), n in zip(box, _pads(node), node.source_shapes[0], strict=True)
        )
    ]


def _pad(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    (held,), (x,) = boxes, given(tensors)
    assert held is not None
    result = x.new_full(shape_of(box), node.argument("value", 0) or 0)
    places = []
    for (a, _), (first, last), (low, _) in zip(box, held, _pads(node), strict=True):
        places.append(slice(first + low - a, last + low - a))
    if elements(held):
        result[tuple(places)] = x
    return result


# Channels to pixels and back.
def _shuffle_demand(node: Node, box: Box) -> Boxes:
    r = node.argument("upscale_factor")
    channels = (0, node.source_shapes[0][-3])
    return [(*box[:-3], channels, *((a // r, -(-b // r)) for a, b in box[-2:]))]


def _unshuffle_demand(node: Node, box: Box) -> Boxes:
    r = node.argument("downscale_factor")
    channels = (0, node.source_shapes[0][-3])
    return [(*box[:-3], channels, *((a * r, b * r) for a, b in box[-2:]))]


def _shuffle(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    (held,), (x,) = boxes, given(tensors)
    assert held is not None
    up = node.name == "aten.pixel_shuffle"
    r = node.argument("upscale_factor") if up else node.argument("downscale_factor")
    pixels = ((a * r, b * r) if up else (a // r, b // r) for a, b in held[-2:])
    return cropped(node.call([x]), box, (*box[:-3], (0, node.shape[-3]), *pixels))


# The same under another name, or in another type.
def _same_demand(node: Node, box: Box) -> Boxes:
    del node
    return [box]


def _same(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del box, boxes
    return given(tensors)[0].to(node.dtype)


# A number everywhere.
def _nothing(node: Node, box: Box) -> Boxes:
    del box
    return [tuple((0, 0) for _ in shape) for shape in node.source_shapes]


def _filled(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del boxes, tensors
    value = {"zeros": 0, "ones": 1}.get(node.name.split(".")[1].removeprefix("new_").removesuffix("_like"))
    return torch.full(
        shape_of(box), node.argument("fill_value") if value is None else value, dtype=node.dtype
    )


PERMUTE = Rule(_permuted_demand, _permute)
RESHAPE = Rule(_reshaped_demand, _reshape)
SELECT = Rule(_selected_demand, _select)
EXPAND = Rule(_expanded_demand, _expand)
CAT = Rule(_cat_demand, _cat)
PASTE = Rule(_pasted_demand, _paste)
STACK = Rule(_stack_demand, _stack)
PAD = Rule(_padded_demand, _pad)
SHUFFLE = Rule(_shuffle_demand, _shuffle)
UNSHUFFLE = Rule(_unshuffle_demand, _shuffle)
SAME = Rule(_same_demand, _same)
FILLED = Rule(_nothing, _filled)
