"""Rules for windows written out beside each other, and for their sums: the windows are counted by axes."""

from __future__ import annotations

import torch
from torch import Tensor

from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.reach import Window
from outstride.models.operators.unfolding import Columns, FromColumns
from outstride.tiling.box import Box, Interval, clamped, elements, replaced, shape_of
from outstride.tiling.rules.interface import Boxes, Rule, RuleTable, Tensors, copies, cropped, present


def _windows(node: Node) -> tuple[Window, ...]:
    operator: Columns | FromColumns = describe(node)
    return operator.windows


def _reads(node: Node, box: Box) -> list[Interval]:
    """What a box reads along the last two axes, padding included."""
    return [window.reads(*axis) for window, axis in zip(_windows(node), box[-2:], strict=True)]


def _demand(node: Node, box: Box) -> Boxes:
    shape = node.source_shapes[0]
    sizes = zip(_reads(node, box), shape[-2:], strict=True)
    read = [clamped(*interval, size) if elements(box) else (0, 0) for interval, size in sizes]
    return [(*box[:-3], (0, shape[-3]), *read)]


def _columns(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    (held,), (x,) = boxes, present(tensors)
    assert held is not None
    pads = list[int]()
    for (start, stop), (first, last) in reversed(list(zip(_reads(node, box), held[-2:], strict=True))):
        pads += [first - start, stop - last]
    windows = node.call([torch.nn.functional.pad(x, pads)], padding=[0, 0])
    made = windows.reshape(*windows.shape[:-1], *shape_of(box[-2:]))
    return cropped(made, box, replaced(box, -3, (0, node.shape[-3])))


def _sums(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    (held,), (x,) = boxes, present(tensors)
    assert held is not None
    made = replaced(box, -3, (0, node.shape[-3]))
    result = x.new_zeros(shape_of(made))
    if elements(held):
        counts = [b - a for a, b in held[-2:]]
        windows = list(zip(_windows(node), held[-2:], box[-2:], strict=True))
        size = [(n - 1) * w.stride + w.span for (w, _, _), n in zip(windows, counts, strict=True)]
        sums = node.call([x.flatten(-2)], padding=[0, 0], output_size=size)
        part, places = result, list[slice]()
        for axis, ((window, (first, _), (a, b)), n) in enumerate(zip(windows, size, strict=True), -2):
            start = first * window.stride - window.low
            begin, end = max(start, a), min(start + n, b)
            places.append(slice(begin - start, end - start))
            part = part.narrow(axis, begin - a, end - begin)
        rows, columns = places
        part.copy_(sums[..., rows, columns])
    return cropped(result, box, made)


def _scratch(node: Node, box: Box, boxes: Boxes) -> int:
    return copies(node, boxes) + node.dtype.itemsize * elements(box)


RULES: RuleTable = {
    Columns: Rule(_demand, _columns, scratch=_scratch),
    FromColumns: Rule(_demand, _sums, scratch=_scratch),
}
