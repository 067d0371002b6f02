"""What an operation costs: the multiply-adds that are really formed, and the memory that a run needs."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from torch import Tensor

from outstride.engine.planner.gather_form import conv_axis, useful_terms
from outstride.inspection.walk import Walk
from outstride.models.call import Call
from outstride.models.operators.convolution import Convolution
from outstride.models.operators.describing import describe
from outstride.models.operators.products import Attention, Linear, MatrixProduct
from outstride.models.trace import Trace


class Products(NamedTuple):
    """Multiply-adds of convolutions, linear layers and matrix products; nothing else counts.

    ``formed`` are those of two elements that exist: taps that meet zero padding are left out, and so are the
    products of a transposed layer that its padding crops away. ``dense`` are what most papers count, every
    tap of every output of a convolution, every tap of every input of a transposed one.
    """

    formed: int = 0
    dense: int = 0

    def __add__(self, other: object) -> Products:
        assert isinstance(other, Products)
        return Products(self.formed + other.formed, self.dense + other.dense)


def products(call: Call) -> Products:
    """The multiply-adds of one operation."""
    kind = describe(call)
    if isinstance(kind, Convolution):
        return _convolution(kind, call.outputs[0])
    if isinstance(kind, (MatrixProduct, Linear)):
        left = kind.left if isinstance(kind, MatrixProduct) else kind.input
        by_vector = isinstance(kind, MatrixProduct) and kind.by_vector
        each = 1 if by_vector else int(call.outputs[0].shape[-1])
        return Products(*[left.numel() * each] * 2)
    if isinstance(kind, Attention):
        rows = kind.query.numel() // max(kind.query.shape[-1], 1)
        features = kind.query.shape[-1] + kind.value.shape[-1]
        return Products(*[rows * kind.key.shape[-2] * features] * 2)
    return Products()


def _convolution(kind: Convolution, result: Tensor) -> Products:
    source, weight, nd = kind.input, kind.weight, kind.nd
    # A transposed layer forms the products of the convolution that it is the adjoint of.
    large, small = (result, source) if kind.transposed else (source, result)
    axes = (
        conv_axis(outer, inner, window.kernel_size, window.stride, window.low, window.dilation)
        for outer, inner, window in zip(large.shape[-nd:], small.shape[-nd:], kind.windows, strict=True)
    )
    each = source.numel() // max(prod(source.shape[-nd:]), 1)
    channels = each * int(weight.shape[1])
    if not kind.transposed:
        # Weights of a convolution are (outputs, inputs a group, *kernel): each input meets outputs / groups.
        channels = each * int(weight.shape[0]) * int(weight.shape[1]) // max(int(source.shape[-nd - 1]), 1)
    terms = useful_terms(list(axes))
    return Products(channels * terms, channels * prod(small.shape[-nd:]) * prod(weight.shape[2:]))


def size_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor's elements."""
    return tensor.numel() * tensor.element_size()


def peak_bytes(trace: Trace, walk: Walk) -> int:
    """The most that tensors other than weights take at once, each freed right after its last use."""
    last: dict[int, int] = {}
    for index, call in enumerate(trace.calls):
        for tensor in (*call.inputs, *call.outputs):
            last[id(walk.base(tensor))] = index
    for tensor in trace.outputs:
        last[id(walk.base(tensor))] = len(trace.calls)
    ends: dict[int, list[int]] = {}
    live = peak = size_bytes(trace.input)
    seen = {id(trace.input)}
    ends.setdefault(last.get(id(trace.input), 0), []).append(live)
    for index, call in enumerate(trace.calls):
        for tensor in call.outputs:
            base = walk.base(tensor)
            if id(base) in seen or id(base) not in last or base is not tensor:
                continue
            seen.add(id(base))
            live += size_bytes(base)
            ends.setdefault(last[id(base)], []).append(size_bytes(base))
        peak = max(peak, live)
        live -= sum(ends.pop(index, ()))
    return peak
