"""One call of a layer, checked and brought to the numbers that the contractions take.

The same code serves real, meta and traced tensors: it reads shapes only, and a symbolic size passes through
the arithmetic unharmed. What it refuses, it refuses before anything is allocated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

from outstride.engine.dispatch.shapes import call_channels, check_allocatable, shown
from outstride.errors import ArgumentError, ShapeError
from outstride.layer.arguments import (
    CALL,
    MOST,
    PADDING_MODES,
    Pairs,
    check_output_padding,
    choice,
    padding_pairs,
    per_axis,
    whole,
)
from outstride.layer.axis import Axis
from outstride.layer.shortening import ALGORITHMS, AlgorithmName

Ints = tuple[int, ...]

#: Elements from which a result at another size is left to the check, which says whether memory holds it.
_MOST_UNCHECKED = 1 << 40


class Arguments(NamedTuple):
    """The arguments of a call other than its tensors, as the caller wrote them."""

    stride: Any
    padding: Any
    dilation: Any
    groups: Any
    output_padding: Any = 0
    output_size: Any = None
    padding_mode: Any = "zeros"
    algorithm: Any = "auto"


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
    algorithm: AlgorithmName
    recorded: bool = False
    """Whether the padding and the output_padding are traced themselves, and may not be looked at."""

    @property
    def geometry(self) -> tuple[Ints, Ints, Ints, int, AlgorithmName]:
        """stride, padding, dilation, groups and algorithm, as the contractions take them."""
        return self.stride, self.padding, self.dilation, self.groups, self.algorithm


def check(
    nd: int,
    transposed: bool,
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    bias_shape: Sequence[int] | None,
    arguments: Arguments,
) -> Call:
    """Check one call.

    Args:
        nd: number of spatial axes.
        transposed: whether the layer is a transposed convolution.
        input_shape: (N, C, *size) or (C, *size).
        weight_shape: (O, C/groups, *kernel_size), or (C, O/groups, *kernel_size) when transposed.
        bias_shape: (O,) or None.
        arguments: the others.

    Returns:
        The call in numbers.

    Raises:
        TypeError: an argument is of a type that has no meaning here.
        ShapeError: sizes or numbers do not fit each other; the sentence says what would be legal.
    """
    stride = per_axis("stride", arguments.stride, nd, 1, CALL)
    dilation = per_axis("dilation", arguments.dilation, nd, 1, CALL)
    groups = whole("groups", arguments.groups, 1, None, CALL)
    padding = padding_pairs(arguments.padding, nd, CALL)
    same = padding == "same"
    pairs = ((0, 0),) * nd if padding == "same" else padding
    output_padding = per_axis("output_padding", arguments.output_padding, nd, 0, CALL)
    mode = arguments.padding_mode
    choice("padding_mode", mode, PADDING_MODES, CALL)
    choice("algorithm", arguments.algorithm, ALGORITHMS, CALL)
    out_channels = call_channels(nd, transposed, input_shape, weight_shape, bias_shape, groups)
    batched = len(input_shape) == nd + 2
    sizes, kernel = tuple(input_shape[-nd:]), tuple(weight_shape[2:])
    axes = _axes(transposed, same, mode, kernel, stride, dilation, pairs, output_padding)
    # An empty batch may have empty sizes, as in torch; a symbolic batch is none.
    empty = batched and type(input_shape[0]) is int and input_shape[0] == 0
    _check_sizes(sizes, kernel, empty)
    if transposed:
        check_output_padding(output_padding, stride, dilation, same, CALL)
        wanted = _wanted(arguments.output_size, nd, batched, output_padding)
        pairs, output_padding = _padding_for(axes, sizes, wanted)
    else:
        pairs = tuple(axis.pads(size) for axis, size in zip(axes, sizes, strict=True))
    out = _output_sizes(axes, sizes, pairs, output_padding, 0 if empty else 1)
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
        output_padding,
        bordered,
        mode,
        out,
        arguments.algorithm,
    )


def result_size_at_any(call: Call, kernel_size: Ints) -> Callable[[Sequence[int]], Ints | None]:
    """The function from an input's size to the result's, for a checked call whose padding is in numbers.

    It returns None where no output is left, or more than is allocated unchecked.
    """
    axes = _axes(
        call.transposed, False, "zeros", kernel_size, call.stride, call.dilation, call.pairs,
        call.output_padding,
    )  # fmt: skip

    def result_size(size: Sequence[int]) -> Ints | None:
        result = tuple(axis.output(n) for axis, n in zip(axes, size, strict=True))
        return None if min(result) < 1 or min(size) < 1 or prod(result) > _MOST_UNCHECKED else result

    return result_size


def _axes(
    transposed: bool, same: bool, mode: str, kernel: Ints, stride: Ints, dilation: Ints, pairs: Pairs,
    output_padding: Ints,
) -> list[Axis]:  # fmt: skip
    numbers = zip(kernel, stride, dilation, pairs, output_padding, strict=True)
    return [
        Axis(i, transposed, same, False, mode, k, s, d, d * (k - 1) + 1, low, high, extra)
        for i, (k, s, d, (low, high), extra) in enumerate(numbers)
    ]


def _check_sizes(sizes: Ints, kernel: Ints, empty: bool) -> None:
    for name, values in (("weight", kernel), ("input", () if empty else sizes)):
        if any(value < 1 for value in values):
            raise ShapeError(
                f"{name!r} must have at least one element on every spatial axis: got {shown(values)}; "
                "legal: 1 or more"
            )


def _check_countable(kernel: Ints, dilation: Ints, pairs: Pairs) -> None:
    for k, d in zip(kernel, dilation, strict=True):
        if type(k) is int and type(d) is int and d * (k - 1) >= MOST:
            raise ShapeError(
                f"'dilation' must leave a window that 63 bits can count: got {shown(dilation)} with a "
                f"kernel of size {shown(kernel)}; legal: at most {(MOST - 1) // (k - 1)}"
            )
    for pair in pairs:
        if any(type(end) is int and end > MOST // 2 for end in pair):
            raise ShapeError(
                f"'padding' must be one that 63 bits can count on both sides: got {shown(pair)}; "
                f"legal: at most {MOST // 2}"
            )


def _wanted(output_size: Any, nd: int, batched: bool, output_padding: Ints) -> Ints | None:
    if output_size is None:
        return None
    lead = 2 if batched else 1
    row = tuple(output_size) if isinstance(output_size, (tuple, list)) else ()
    if len(row) not in (nd, nd + lead):
        raise ArgumentError(
            f"'output_size' must have {nd} or {nd + lead} elements for an input with {nd + lead} axes: got "
            f"{output_size!r}; legal: the spatial sizes, or the whole shape"
        )
    if any(e != 0 for e in output_padding):
        raise ArgumentError(
            f"'output_padding' must be 0 where 'output_size' says the size: got "
            f"output_padding={shown(output_padding)} with "
            f"output_size={output_size!r}; legal: one of the two"
        )
    return tuple(whole("output_size", value, 1, output_size, CALL) for value in wanted_sizes(row, nd))


def wanted_sizes(output_size: Sequence[Any], nd: int) -> tuple[Any, ...]:
    """The spatial part of a checked ``output_size``."""
    return tuple(output_size[-nd:])


def _padding_for(axes: list[Axis], sizes: Ints, wanted: Ints | None) -> tuple[Pairs, Ints]:
    """The padding and output_padding of a transposed layer that lead to the wanted size."""
    pairs, output_padding = [], []
    for i, (axis, size) in enumerate(zip(axes, sizes, strict=True)):
        natural = axis.output(size)
        out = natural if wanted is None else wanted[i]
        # No range object here: it would pin a symbolic size down.
        least = (size - 1) * axis.stride + 1 if axis.same else natural - axis.output_padding
        most = natural if axis.same else least + max(axis.stride, axis.dilation) - 1
        if wanted is not None and (out < least or out > most):
            raise ArgumentError(
                f"'output_size' must be one that the stride leaves open: got {out} on axis {i} of "
                f"output_size={shown(wanted)} for an input of size {shown(sizes)}; "
                f"legal: {least if least == most else f'{least} to {most}'}"
            )
        pair, extra = axis.aimed(size, out) if axis.same else ((axis.low, axis.high), out - least)
        pairs.append(pair)
        output_padding.append(extra)
    return tuple(pairs), tuple(output_padding)


def _output_sizes(axes: list[Axis], sizes: Ints, pairs: Pairs, output_padding: Ints, least: int) -> Ints:
    out = []
    for axis, size, (low, high), extra in zip(axes, sizes, pairs, output_padding, strict=True):
        if axis.transposed:
            length = (size - 1) * axis.stride - low - high + axis.window + extra
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
    most = [size - int(mode == "reflect") for size in sizes]
    if any(max(pair) > limit for pair, limit in zip(pairs, most, strict=True)):
        whose = "output" if transposed else "input"
        raise ShapeError(
            f"'padding' must be {'smaller than' if mode == 'reflect' else 'at most'} the {whose} with "
            f"padding_mode={mode!r}: got padding={shown(pairs)} for {whose} size {shown(sizes)}; "
            f"legal: at most {shown(most)}"
        )
