"""One call of a layer, checked and brought to the numbers that the contractions take.

The same code serves real, meta and traced tensors: it reads shapes only, and a symbolic size passes through
the arithmetic unharmed. What it refuses, it refuses before anything is allocated.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

from outstride.engine.launch.extents import check_allocatable
from outstride.errors import ArgumentError, ShapeError
from outstride.layer.axis import Axis

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

MODES = ("zeros", "reflect", "replicate", "circular")
# Beyond this many elements no dtype's bytes can be counted in 63 bits.
# The numbers of a call and positions in a padded tensor are counted in 63 bits, as in torch.
_MOST = 2**63 - 1


class Request(NamedTuple):
    """The arguments of a call other than its tensors, as the caller wrote them."""

    stride: Any
    padding: Any
    dilation: Any
    groups: Any
    output_padding: Any = 0
    output_size: Any = None
    padding_mode: Any = "zeros"


class Call(NamedTuple):
    """One checked call: what the contraction takes, and what is done around it."""

    nd: int
    transposed: bool
    batched: bool
    stride: Ints
    padding: Ints
    """What the contraction gets: the low padding, or 0 where a border is built or folded."""
    contracted_size: Ints
    """Spatial size of the contraction's result."""
    dilation: Ints
    groups: int
    pairs: Pairs
    """The padding (low, high) of the layer."""
    output_padding: Ints
    bordered: bool
    """Whether ``pad`` comes before or ``fold`` after the contraction."""
    padding_mode: str
    output_size: Ints

    @property
    def geometry(self) -> tuple[Ints, Ints, Ints, int]:
        """stride, padding, dilation and groups, as the contractions take them."""
        return self.stride, self.padding, self.dilation, self.groups


def check(
    nd: int,
    transposed: bool,
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    bias_shape: Sequence[int] | None,
    request: Request,
) -> Call:
    """Check one call.

    Args:
        nd: number of spatial axes.
        transposed: whether the layer is a transposed convolution.
        input_shape: (N, C, *size) or (C, *size).
        weight_shape: (O, C/groups, *kernel_size), or (C, O/groups, *kernel_size) when transposed.
        bias_shape: (O,) or None.
        request: the other arguments.

    Returns:
        The call in numbers.

    Raises:
        TypeError: an argument is of a type that has no meaning here.
        ShapeError: sizes or numbers do not fit each other; the sentence says what would be legal.
    """
    name = f"conv{'_transpose' if transposed else ''}{nd}d"
    _check_ranks(name, nd, input_shape, weight_shape)
    stride = _per_axis("stride", request.stride, nd, 1)
    dilation = _per_axis("dilation", request.dilation, nd, 1)
    groups = _whole("groups", request.groups, 1)
    same, pairs = _pairs(request.padding, nd)
    extra = _per_axis("output_padding", request.output_padding, nd, 0)
    mode = request.padding_mode
    if not isinstance(mode, str) or mode not in MODES:
        raise ShapeError(
            f"'padding_mode' must be one of its names: got {mode!r}; legal: {', '.join(map(repr, MODES))}"
        )
    batched = len(input_shape) == nd + 2
    out_channels = _check_channels(transposed, input_shape[-nd - 1], weight_shape, groups)
    _check_bias(bias_shape, out_channels)
    sizes, kernel = tuple(input_shape[-nd:]), tuple(weight_shape[2:])
    axes = []
    for i in range(nd):
        low, high = pairs[i]
        window = dilation[i] * (kernel[i] - 1) + 1
        axis = Axis(
            i, transposed, same, False, mode, kernel[i], stride[i], dilation[i], window, low, high, extra[i]
        )
        axes.append(axis)
    # An empty batch may have empty sizes, as in torch; a symbolic batch is none.
    empty = batched and type(input_shape[0]) is int and input_shape[0] == 0
    _check_sizes(sizes, kernel, empty)
    if transposed:
        _check_output_padding(extra, stride, dilation, same)
        pairs, extra = _aim(axes, sizes, _wanted(request.output_size, nd, batched, extra))
    else:
        pairs = tuple(axis.pads(size) for axis, size in zip(axes, sizes, strict=True))
    out = _output_sizes(axes, sizes, pairs, extra, 0 if empty else 1)
    bordered = mode != "zeros" and any(low > 0 or high > 0 for low, high in pairs)
    contracted = out
    if bordered:
        _check_border(mode, pairs, out if transposed else sizes, transposed)
        if transposed:
            contracted = tuple(o + low + high for o, (low, high) in zip(out, pairs, strict=True))
    batch = input_shape[0] if batched else 1
    check_allocatable((batch, out_channels, *contracted))
    _check_countable(kernel, dilation, pairs)
    low_padding = tuple(0 if bordered else low for low, _ in pairs)
    return Call(
        nd,
        transposed,
        batched,
        stride,
        low_padding,
        contracted,
        dilation,
        groups,
        pairs,
        extra,
        bordered,
        mode,
        out,
    )


def _check_ranks(name: str, nd: int, input_shape: Sequence[int], weight_shape: Sequence[int]) -> None:
    if len(input_shape) not in (nd + 1, nd + 2):
        raise ShapeError(
            f"'input' must be {nd + 1}-d (unbatched) or {nd + 2}-d (batched) for {name}: "
            f"got {len(input_shape)}-d of shape {_shown(input_shape)}; legal: (C, *size) or (N, C, *size) "
            f"with {nd} spatial axes"
        )
    if len(weight_shape) != nd + 2:
        raise ShapeError(
            f"'weight' must be {nd + 2}-d for {name}: got {len(weight_shape)}-d of shape "
            f"{_shown(weight_shape)}; legal: two channel axes and {nd} spatial axes"
        )


def _check_channels(transposed: bool, channels: int, weight_shape: Sequence[int], groups: int) -> int:
    rows, columns = weight_shape[0], weight_shape[1]
    if rows < groups or rows % groups:
        raise ShapeError(
            f"'weight' must have a positive multiple of 'groups' on axis 0: got {rows} with groups={groups} "
            f"and weight of shape {_shown(weight_shape)}; legal: {groups}, {2 * groups}, ..."
        )
    expected = rows if transposed else columns * groups
    if channels != expected:
        raise ShapeError(
            f"'input' must have the {expected} channels that a weight of shape {_shown(weight_shape)} with "
            f"groups={groups} expects: got {channels}; legal: {expected}"
        )
    return columns * groups if transposed else rows


def _check_bias(bias_shape: Sequence[int] | None, out_channels: int) -> None:
    if bias_shape is not None and (len(bias_shape) != 1 or bias_shape[0] != out_channels):
        raise ShapeError(
            f"'bias' must have one element per output channel: got shape {_shown(bias_shape)} with "
            f"{out_channels} output channels; legal: ({out_channels},)"
        )


def _check_sizes(sizes: Ints, kernel: Ints, empty: bool) -> None:
    for name, values in (("weight", kernel), ("input", () if empty else sizes)):
        if any(value < 1 for value in values):
            raise ShapeError(
                f"{name!r} must have at least one element on every spatial axis: got {_shown(values)}; "
                "legal: 1 or more"
            )


def _check_countable(kernel: Ints, dilation: Ints, pairs: Pairs) -> None:
    for k, d in zip(kernel, dilation, strict=True):
        if type(k) is int and type(d) is int and d * (k - 1) >= _MOST:
            raise ShapeError(
                f"'dilation' must leave a window that 63 bits can count: got {_shown(dilation)} with a "
                f"kernel of size {_shown(kernel)}; legal: at most {(_MOST - 1) // (k - 1)}"
            )
    for pair in pairs:
        if any(type(end) is int and end > _MOST // 2 for end in pair):
            raise ShapeError(
                f"'padding' must be one that 63 bits can count on both sides: got {_shown(pair)}; "
                f"legal: at most {_MOST // 2}"
            )


def _check_output_padding(extra: Ints, stride: Ints, dilation: Ints, same: bool) -> None:
    if same and any(e != 0 for e in extra):
        raise ShapeError(
            f"'output_padding' must be 0 with padding='same', which fixes the output at input * stride: got "
            f"{_shown(extra)}; legal: 0, or 'output_size'"
        )
    for e, s, d in zip(extra, stride, dilation, strict=True):
        if e >= s and e >= d:
            raise ShapeError(
                "'output_padding' must be smaller than 'stride' or 'dilation' on every axis: got "
                f"output_padding={_shown(extra)} with stride={_shown(stride)}, dilation={_shown(dilation)}; "
                f"legal: at most {_shown([max(a, b) - 1 for a, b in zip(stride, dilation, strict=True)])}"
            )


def _wanted(output_size: Any, nd: int, batched: bool, extra: Ints) -> Ints | None:
    if output_size is None:
        return None
    lead = 2 if batched else 1
    row = _row(output_size)
    if row is None or len(row) not in (nd, nd + lead):
        raise ArgumentError(
            f"'output_size' must have {nd} or {nd + lead} elements for an input with {nd + lead} axes: got "
            f"{output_size!r}; legal: the spatial sizes, or the whole shape"
        )
    if any(e != 0 for e in extra):
        raise ArgumentError(
            f"'output_padding' must be 0 where 'output_size' says the size: got "
            f"output_padding={_shown(extra)} with "
            f"output_size={output_size!r}; legal: one of the two"
        )
    return tuple(_whole("output_size", value, 1, output_size) for value in wanted_sizes(row, nd))


def wanted_sizes(output_size: Sequence[Any], nd: int) -> tuple[Any, ...]:
    """The spatial part of a checked ``output_size``."""
    return tuple(output_size[-nd:])


def _aim(axes: list[Axis], sizes: Ints, wanted: Ints | None) -> tuple[Pairs, Ints]:
    """The padding and output_padding of a transposed layer that lead to the wanted size."""
    pairs, extra = [], []
    for i, (axis, size) in enumerate(zip(axes, sizes, strict=True)):
        natural = axis.output(size)
        out = natural if wanted is None else wanted[i]
        # No range object here: it would pin a symbolic size down.
        least = (size - 1) * axis.stride + 1 if axis.same else natural - axis.output_padding
        most = natural if axis.same else least + max(axis.stride, axis.dilation) - 1
        if wanted is not None and (out < least or out > most):
            raise ArgumentError(
                f"'output_size' must be one that the stride leaves open: got {out} on axis {i} of "
                f"output_size={_shown(wanted)} for an input of size {_shown(sizes)}; legal: {least} to {most}"
            )
        pair, beyond = axis.aimed(size, out) if axis.same else ((axis.low, axis.high), out - least)
        pairs.append(pair)
        extra.append(beyond)
    return tuple(pairs), tuple(extra)


def _output_sizes(axes: list[Axis], sizes: Ints, pairs: Pairs, extra: Ints, least: int) -> Ints:
    out = []
    for axis, size, (low, high), beyond in zip(axes, sizes, pairs, extra, strict=True):
        if axis.transposed:
            length = (size - 1) * axis.stride - low - high + axis.window + beyond
            if length < least:
                raise ShapeError(
                    f"'padding' must leave an output of at least {least}: got output size {length} "
                    f"on axis {axis.number} for input size {size} with padding=({low}, {high}); "
                    "legal: a larger input or less padding"
                )
        else:
            if size + low + high < axis.window:
                raise ShapeError(
                    f"'weight' must not span more than the padded input: got a window of {axis.window} "
                    f"on axis {axis.number} for input size {size} with padding=({low}, {high}); "
                    f"legal: input size {axis.window - low - high} or more, or more padding"
                )
            length = (size + low + high - axis.window) // axis.stride + 1
        out.append(length)
    return tuple(out)


def _check_border(mode: str, pairs: Pairs, sizes: Ints, transposed: bool) -> None:
    if mode == "replicate":
        return
    most = [size - (mode == "reflect") for size in sizes]
    if any(max(pair) > limit for pair, limit in zip(pairs, most, strict=True)):
        whose = "output" if transposed else "input"
        raise ShapeError(
            f"'padding' must be {'smaller than' if mode == 'reflect' else 'at most'} the {whose} with "
            f"padding_mode={mode!r}: got padding={_shown(pairs)} for {whose} size {_shown(sizes)}; "
            f"legal: at most {_shown(most)}"
        )


def _pairs(padding: Any, nd: int) -> tuple[bool, Pairs]:
    if isinstance(padding, str):
        if padding not in ("valid", "same"):
            raise ShapeError(
                f"'padding' must be a number, numbers, pairs or one of its names: got {padding!r}; "
                "legal: 'valid' or 'same'"
            )
        return padding == "same", ((0, 0),) * nd
    row = _row(padding)
    if row is None or not any(_row(entry) is not None for entry in row):
        return False, tuple((p, p) for p in _per_axis("padding", padding, nd, 0))
    pairs = []
    for entry in row:
        ends = _row(entry)
        if ends is None or len(ends) != 2 or len(row) != nd:
            raise ShapeError(
                "'padding' must have one (low, high) pair per axis where it has pairs: "
                f"got {padding!r}; legal: {nd} pairs"
            )
        pairs.append((_whole("padding", ends[0], 0, padding), _whole("padding", ends[1], 0, padding)))
    return False, tuple(pairs)


def _per_axis(name: str, value: Any, nd: int, least: int) -> Ints:
    row = _row(value)
    if row is None:
        return (_whole(name, value, least),) * nd
    if len(row) == 1:
        return (_whole(name, row[0], least, value),) * nd
    if len(row) != nd:
        raise ShapeError(
            f"{name!r} must have one entry per spatial axis: got {value!r}; legal: an integer or {nd} of them"
        )
    return tuple(_whole(name, entry, least, value) for entry in row)


def _row(value: Any) -> tuple[Any, ...] | None:
    """The entries of a sequence, None for anything else."""
    return tuple(value) if isinstance(value, (tuple, list)) else None


def _whole(name: str, value: Any, least: int, given: Any = None) -> int:
    shown = value if given is None else given
    if isinstance(value, (bool, str, float)):
        raise TypeError(f"{name!r} must be an integer or integers: got {shown!r}; legal: {least} or more")
    if type(value) is not int and not hasattr(value, "node"):  # a symbolic integer stays what it is
        try:
            value = operator.index(value)
        except TypeError:
            message = f"{name!r} must be an integer or integers: got {shown!r}; legal: {least} or more"
            raise TypeError(message) from None
    if value < least:
        raise ShapeError(f"{name!r} must be at least {least}: got {shown!r}; legal: {least} or more")
    if type(value) is int and value > _MOST:
        raise ArgumentError(f"{name!r} must be a 64-bit integer: got {shown!r}; legal: {least} to {_MOST}")
    number: int = value
    return number


def _shown(values: Sequence[Any]) -> str:
    return f"({', '.join(map(str, values))}{',' if len(values) == 1 else ''})"
