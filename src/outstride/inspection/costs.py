"""What an operation costs: the multiply-adds that are really formed, and the memory that a run needs."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from torch import Tensor

from outstride.engine.planner.gather_form import conv_axis, useful_terms
from outstride.inspection.walk import Walk
from outstride.inspection.windows import expanded
from outstride.models.trace import Call, Trace


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
    packet = call.name.rsplit(".", 1)[0]
    if packet in ("aten.convolution", "aten._convolution", "outstride.conv", "outstride.conv_transpose"):
        return _convolution(call)
    name = packet.removeprefix("aten.")
    if name in ("mm", "bmm", "mv", "addmm", "baddbmm", "linear"):
        left = call.args[1 if name in ("addmm", "baddbmm") else 0]
        each = 1 if name == "mv" else int(call.outputs[0].shape[-1])
        return Products(*[left.numel() * each] * 2)
    if name.startswith("_scaled_dot_product_"):
        query, key, value = call.args[:3]
        rows = query.numel() // max(query.shape[-1], 1)
        return Products(*[rows * key.shape[-2] * (query.shape[-1] + value.shape[-1])] * 2)
    return Products()


def _convolution(call: Call) -> Products:
    engine = call.name.startswith("outstride.")
    transposed = "transpose" in call.name if engine else bool(call.args[6])
    source, weight, result = call.args[0], call.args[1], call.outputs[0]
    nd = weight.dim() - 2
    dilation = expanded(call.args[6 if engine else 5], nd)
    # A transposed layer forms the products of the convolution that it is the adjoint of.
    large, small = (result, source) if transposed else (source, result)
    axes = zip(
        tuple(large.shape[-nd:]), tuple(small.shape[-nd:]), tuple(weight.shape[2:]),
        expanded(call.args[3], nd), expanded(call.args[4], nd), dilation, strict=True,
    )  # fmt: skip
    each = source.numel() // max(prod(source.shape[-nd:]), 1)
    channels = each * int(weight.shape[1])
    if not transposed:
        # Weights of a convolution are (outputs, inputs a group, *kernel): each input meets outputs / groups.
        channels = each * int(weight.shape[0]) * int(weight.shape[1]) // max(int(source.shape[-nd - 1]), 1)
    terms = useful_terms([conv_axis(*axis) for axis in axes])
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
