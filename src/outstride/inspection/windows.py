"""Rules for what changes the grid: convolution, pooling, resizing, padding, pixel shuffling."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

from outstride.geometry import Phase, axis_phases
from outstride.inspection.gather import Gather
from outstride.inspection.lineage import Lineage, free, reshaped
from outstride.inspection.steps import NotUnderstoodError, Result, Step, known
from outstride.layer.spec import ConvSpec, Kind

MOST_DENOMINATOR = 4096
#: Phases of an axis that are listed.
MOST_PHASES = 1 << 16


@lru_cache(maxsize=1024)
def layer_gather(kind: Kind, kernel_size: int, stride: int, low: int, dilation: int) -> Gather:
    """One axis of a layer, from its phases; pooling reads what a convolution reads."""
    transposed: Kind = "conv_transpose" if kind == "conv_transpose" else "conv"
    spec = ConvSpec(transposed, (kernel_size,), stride, ((low, 0),), dilation)
    middle = Fraction(dilation * (kernel_size - 1), 2) - low
    return gather_of(axis_phases(spec)[0], middle)


def gather_of(phases: Sequence[Phase], middle: Fraction) -> Gather:
    """A layer's axis, as long as its phases can be listed; ``middle`` is as in ``Gather.of_phases``."""
    if len(phases) > MOST_PHASES:
        raise NotUnderstoodError(f"a stride of {len(phases)}")
    return Gather.of_phases(phases, middle)


def slid(
    lineage: Lineage, kind: Kind, window: Iterable[tuple[int, int, int, int]], sizes: Sequence[int]
) -> Lineage:
    """The last axes passed through the axes of a layer: (kernel_size, stride, low padding, dilation) each."""
    first = len(lineage.dims) - len(sizes)
    for number, (axis, size) in enumerate(zip(window, sizes, strict=True)):
        if min(axis[2], 0) < 0:
            raise NotUnderstoodError("a negative padding")
        lineage = known(lineage.moved(first + number, layer_gather(kind, *axis), size))
    return lineage


def expanded(values: Any, nd: int, otherwise: Sequence[int] = ()) -> tuple[int, ...]:
    """An argument that may be one number for all axes, or left out."""
    row = (values,) if isinstance(values, int) else tuple(values or otherwise)
    return row * nd if len(row) == 1 else row


def convolution(step: Step) -> Result:
    """aten.convolution, and the contractions of this package."""
    engine = step.call.name.startswith("outstride.")
    transposed = "transpose" in step.call.name if engine else bool(step.arg(6))
    weight = step.call.args[1]
    nd = weight.dim() - 2
    if step.known(weight) is not None:
        raise NotUnderstoodError("weights that are computed from the image")
    dilation = expanded(step.arg(6 if engine else 5), nd)
    strides, lows = (expanded(step.arg(n), nd) for n in (3, 4))
    axes = zip(tuple(weight.shape[2:]), strides, lows, dilation, strict=True)
    kind: Kind = "conv_transpose" if transposed else "conv"
    return slid(summed_channels(step, nd), kind, axes, step.shape[-nd:])


def summed_channels(step: Step, nd: int) -> Lineage:
    """The input with its channels summed, which matters where positions were moved into them."""
    source = step.source
    channel = len(source.dims) - nd - 1
    found, covered = source.reduced([channel])
    step.sees_all(covered, "sums over channels that hold positions")
    return found.put(channel, free(step.shape[channel]))


def pooling(step: Step) -> Result:
    """Maximum and average over windows; the indices of a maximum lie where the maximum does."""
    nd = _axes_in(step.call.name)
    kernel_size = expanded(step.arg(1), nd)
    strides = expanded(step.arg(2), nd, kernel_size)
    lows = expanded(step.arg(3, 0), nd)
    dilation = expanded(step.arg(4, 1) if "max" in step.call.name else 1, nd)
    axes = zip(kernel_size, strides, lows, dilation, strict=True)
    return [slid(step.source, "conv", axes, step.shape[-nd:])] * len(step.call.outputs)


def adaptive_pooling(step: Step) -> Result:
    """Windows that follow the size: output q reads from floor(q n / m) up to ceil((q + 1) n / m)."""
    lineage = step.source
    nd = _axes_in(step.call.name)
    covered = frozenset[int]()
    for dim in range(len(lineage.dims) - nd, len(lineage.dims)):
        inputs, outputs = lineage.shape[dim], step.shape[dim]
        if inputs == outputs:
            continue
        axes = lineage.axes_of(dim)
        covered |= axes
        lineage = replace(lineage, whole=lineage.whole | axes)
        if outputs == 1:
            lineage = lineage.reduced([dim])[0]
            continue
        ratio = Fraction(inputs, outputs)
        taps = tuple(
            tuple(range(q * inputs // outputs, -((q + 1) * -inputs // outputs)))
            for q in range(ratio.denominator)
        )
        gather = Gather(ratio.denominator, ratio.numerator, taps, ratio, (ratio - 1) / 2)
        lineage = known(lineage.moved(dim, gather, outputs))
    step.sees_all(covered, "pools windows that follow the size of the image")
    return [lineage] * len(step.call.outputs)


def unpooling(step: Step) -> Result:
    """Each input goes to one place inside its window, which is as wide as the output is larger."""
    lineage = step.source
    for dim in range(2, len(lineage.dims)):
        inputs, outputs = lineage.shape[dim], step.shape[dim]
        if outputs % inputs:
            raise NotUnderstoodError(f"unpooling {inputs} positions to {outputs}")
        lineage = known(lineage.moved(dim, Gather.spread(outputs // inputs), outputs))
    return lineage


def resizing(step: Step, mode: str) -> Result:
    """Interpolation; with a factor given torch takes its reciprocal, and not the quotient of the sizes."""
    lineage, nd = step.source, _axes_in(step.call.name)
    aligned = False if mode.startswith("nearest") else bool(step.arg(2))
    first = 2 if mode.startswith("nearest") else 3
    factors = [step.arg(first + n) for n in range(nd)]
    if step.call.name.endswith(".vec"):
        factors = list(step.arg(first) or [None] * nd)
    for number, factor in enumerate(factors):
        dim = 2 + number
        inputs, outputs = lineage.shape[dim], step.shape[dim]
        ratio = Fraction(inputs, outputs)
        if factor:
            ratio = 1 / Fraction(factor).limit_denominator(MOST_DENOMINATOR)
        if inputs == outputs and ratio == 1:
            continue
        gather = Gather.resize(mode, inputs, outputs, ratio, aligned)
        lineage = known(lineage.moved(dim, gather, outputs))
    return lineage


def padding(step: Step) -> Result:
    """A border of any kind: inside it, positions move by the low padding; a negative one cuts off."""
    lineage, pads = step.source, step.arg(1)
    last = len(lineage.dims) - 1
    for number, low in enumerate(pads[::2]):
        dim = last - number
        high = pads[2 * number + 1]
        if lineage.axes_of(dim) and lineage.placed(dim) is None and min(low, high) >= 0 < low + high:
            lineage = lineage.joined(dim, low, step.shape[dim])
        elif low or high:
            lineage = known(lineage.moved(dim, Gather.slice(-low), step.shape[dim]))
    if step.call.wraps:
        step.wraps("circular padding reads the far side of the image")
    return lineage


def pixel_shuffle(step: Step) -> Result:
    """Channels to positions: (C r r, H, W) to (C, H r, W r)."""
    *lead, channels, height, width = step.source.shape
    r, n = step.arg(1), len(lead)
    parts = known(reshaped(step.source, (*lead, channels // r**2, r, r, height, width)))
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return known(reshaped(parts.with_dims(parts.dims[k] for k in order), step.shape))


def pixel_unshuffle(step: Step) -> Result:
    """Positions to channels: (C, H r, W r) to (C r r, H, W)."""
    *lead, channels, height, width = step.source.shape
    r, n = step.arg(1), len(lead)
    parts = known(reshaped(step.source, (*lead, channels, height // r, r, width // r, r)))
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return known(reshaped(parts.with_dims(parts.dims[k] for k in order), step.shape))


def columns(step: Step) -> Result:
    """F.unfold: a column of taps for each window, the windows in one row."""
    kernel_size, dilation, lows, strides = (expanded(step.arg(n), 2) for n in (1, 2, 3, 4))
    sizes = [
        (i + 2 * p - d * (k - 1) - 1) // s + 1
        for i, k, d, p, s in zip(step.source.shape[-2:], kernel_size, dilation, lows, strides, strict=True)
    ]
    channel = len(step.source.dims) - 3
    found = step.source.reduced([channel])[0].put(channel, free(step.shape[-2]))
    moved = slid(found, "conv", zip(kernel_size, strides, lows, dilation, strict=True), sizes)
    return known(reshaped(moved, step.shape))


def from_columns(step: Step) -> Result:
    """F.fold: the adjoint, which adds columns up."""
    kernel_size, dilation, lows, strides = (expanded(step.arg(n), 2) for n in (2, 3, 4, 5))
    sizes = [
        (o + 2 * p - d * (k - 1) - 1) // s + 1
        for o, k, d, p, s in zip(step.shape[-2:], kernel_size, dilation, lows, strides, strict=True)
    ]
    found = step.source.reduced([len(step.source.dims) - 2])[0]
    shape = (*step.shape[:-3], 1, *sizes)
    parts = known(reshaped(found, shape)).put(len(shape) - 3, free(step.shape[-3]))
    axes = zip(kernel_size, strides, lows, dilation, strict=True)
    return slid(parts, "conv_transpose", axes, step.shape[-2:])


def unfolding(step: Step) -> Result:
    """Tensor.unfold: windows along one axis, their elements in a new last one."""
    dim, size, every = (int(step.arg(n)) for n in (1, 2, 3))
    dim %= len(step.source.dims)
    moved = known(step.source.moved(dim, Gather.window(every, range(size)), step.shape[dim]))
    return moved.with_dims((*moved.dims, free(size)))


def _axes_in(name: str) -> int:
    found = re.search(r"(\d)d", name)
    assert found is not None
    return int(found[1])


_MODES = {
    "upsample_nearest{}d": "nearest",
    "_upsample_nearest_exact{}d": "nearest-exact",
    "upsample_linear{}d": "linear",
    "upsample_bilinear{}d": "linear",
    "upsample_trilinear{}d": "linear",
    "upsample_bicubic{}d": "cubic",
    "_upsample_bilinear{}d_aa": "linear-antialias",
    "_upsample_bicubic{}d_aa": "cubic-antialias",
}

RULES: dict[str, Callable[[Step], Result]] = {
    "aten.convolution": convolution,
    "aten._convolution": convolution,
    "outstride.conv": convolution,
    "outstride.conv_transpose": convolution,
    "aten.pixel_shuffle": pixel_shuffle,
    "aten.pixel_unshuffle": pixel_unshuffle,
    "aten.im2col": columns,
    "aten.col2im": from_columns,
    "aten.unfold": unfolding,
    "aten.constant_pad_nd": padding,
}
for _nd in (1, 2, 3):
    RULES |= {f"aten.{name.format(_nd)}": partial(resizing, mode=mode) for name, mode in _MODES.items()}
    for _name in (f"max_pool{_nd}d_with_indices", f"max_pool{_nd}d", f"avg_pool{_nd}d"):
        RULES[f"aten.{_name}"] = pooling
    for _name in (f"_adaptive_avg_pool{_nd}d", f"adaptive_avg_pool{_nd}d", f"adaptive_max_pool{_nd}d"):
        RULES[f"aten.{_name}"] = adaptive_pooling
    RULES |= {f"aten.{mode}_pad{_nd}d": padding for mode in ("reflection", "replication")}
    RULES[f"aten.max_unpool{_nd}d"] = unpooling
