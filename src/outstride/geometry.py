"""Where a layer reads and writes: sizes in both directions, paddings, phases and receptive fields.

Every function works on integers of any length, and on torch's symbolic ones: sizes meet only +, -, *, // and
comparisons, never a float.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import SupportsIndex, cast

from outstride.arguments import Pairs
from outstride.axis import Axis, Phase, source_index
from outstride.errors import ArgumentError, ShapeError
from outstride.spec import ConvSpec

__all__ = [
    "Phase",
    "axis_phases",
    "input_sizes",
    "legal_output_padding",
    "output_size",
    "phases",
    "receptive_field",
    "resolve",
    "resolved_padding",
    "source_index",
]

SizesLike = SupportsIndex | Sequence[SupportsIndex]
"""One size per axis; a single number stands for every axis."""


def output_size(spec: ConvSpec, input_size: SizesLike) -> tuple[int, ...]:
    """Return the size of the layer's output.

    Args:
        spec: the layer.
        input_size: elements per axis, without batch and channels; one number stands for every axis.

    Returns:
        Per axis floor((i + low + high - window) / stride) + 1 for a convolution or pooling,
        (i - 1) * stride - low - high + window + output_padding for a transposed one, window being
        dilation * (kernel_size - 1) + 1; with padding "same" ceil(i / stride) and i * stride.

    Raises:
        ShapeError: on some axis the input has no element, the output would have none, or the padding mode
            cannot border so small a tensor.

    Example:
        >>> output_size(ConvSpec.parse("ConvTranspose2d(64, 32, 4, stride=2, padding=1)"), (16, 20))
        (32, 40)

    Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285.
    """
    sizes = _sizes(spec, "input_size", input_size)
    axes = _axes(spec)
    for axis, size in zip(axes, sizes, strict=True):
        if size < 1 or not axis.accepts(size):
            raise _refusal(spec, axis, sizes)
    return tuple(axis.output(size) for axis, size in zip(axes, sizes, strict=True))


def input_sizes(spec: ConvSpec, output_size: SizesLike) -> tuple[range, ...]:
    """Return every input size that gives an output size.

    Args:
        spec: the layer.
        output_size: elements per axis, at least 1; one number stands for every axis.

    Returns:
        Per axis the range of input sizes, each of which goes with each of the other axes'; empty where no
        input gives that output.

    Raises:
        ShapeError: the output size is below 1 on some axis.

    Law: ``output_size(spec, i)[a] == o`` exactly for the i of ``input_sizes(spec, o)[a]``.

    Example:
        >>> input_sizes(ConvSpec.parse("Conv1d(1, 1, 3, stride=2)"), 4)
        (range(9, 11),)
    """
    sizes = _sizes(spec, "output_size", output_size)
    for index, size in enumerate(sizes):
        if size < 1:
            raise ShapeError(
                f"'output_size' must be at least 1 on every axis: got {size} on axis {index} of "
                f"output_size={sizes}; legal: 1 or more"
            )
    return tuple(axis.inputs_for(size) for axis, size in zip(_axes(spec), sizes, strict=True))


def resolved_padding(spec: ConvSpec, input_size: SizesLike) -> Pairs:
    """Return the padding that the layer gives an input of that size, as numbers.

    Args:
        spec: the layer.
        input_size: elements per axis, at least 1; one number stands for every axis.

    Returns:
        Per axis ``(low, high)``. For "same", low = total // 2 and high the rest, with total =
        max((ceil(i / stride) - 1) * stride + window - i, 0) for a convolution or pooling. A transposed layer
        has total = window - stride; where the stride is larger, low is 0 and high negative: that many outputs
        lie beyond the last stamp.

    Raises:
        ShapeError: the input has no element on some axis.

    Example:
        >>> resolved_padding(ConvSpec.parse("Conv2d(1, 1, 3, stride=2, padding='same')"), (5, 6))
        ((1, 1), (0, 1))

    Source: TensorFlow's definition of SAME padding, of which the transposed layer is the adjoint.
    """
    sizes = _sizes(spec, "input_size", input_size)
    axes = _axes(spec)
    for axis, size in zip(axes, sizes, strict=True):
        if size < 1:
            raise _refusal(spec, axis, sizes)
    return tuple(axis.pads(size) for axis, size in zip(axes, sizes, strict=True))


def resolve(spec: ConvSpec, input_size: SizesLike, output_size: SizesLike | None = None) -> ConvSpec:
    """Return the same layer with its padding and output_padding in numbers, for one input size.

    Args:
        spec: the layer.
        input_size: elements per axis, at least 1; one number stands for every axis.
        output_size: transposed layers only: the output that is wanted among those the stride leaves open.

    Returns:
        A description with explicit padding. With "same" a transposed layer can give every size that the
        convolution with that padding maps to ``input_size``.

    Raises:
        ShapeError: the layer cannot give that output; the sentence says which it can.

    Law: ``output_size(resolve(spec, i, o), i) == o``.

    Example:
        >>> resolve(ConvSpec.parse("ConvTranspose1d(1, 1, 3, stride=2)"), 4, 10)
        ConvTranspose1d(1, 1, 3, stride=2, output_padding=1)
    """
    sizes = _sizes(spec, "input_size", input_size)
    pads = resolved_padding(spec, sizes)
    if spec.kind != "conv_transpose":
        if output_size is not None:
            raise ShapeError(f"'output_size' must be left out for {spec!r}: got {output_size}; legal: None")
        return replace(spec, padding=pads)
    if output_size is None:
        # Where "same" reaches beyond the last stamp, output_padding says so in numbers.
        beyond = tuple(max(-high, 0) for _, high in pads)
        extra = beyond if spec.padding == "same" else spec.output_padding
        return replace(spec, padding=tuple((low, max(high, 0)) for low, high in pads), output_padding=extra)
    wanted = _sizes(spec, "output_size", output_size)
    axes = _axes(spec)
    for axis, size, out in zip(axes, sizes, wanted, strict=True):
        legal = axis.outputs(size)
        if out not in legal:
            raise ShapeError(
                f"'output_size' must be one that {spec!r} can give: got {out} on axis {axis.number} of "
                f"output_size={wanted} for input_size={sizes}; legal: {legal[0]} to {legal[-1]}"
            )
    pads, extra = zip(*(a.aimed(i, o) for a, i, o in zip(axes, sizes, wanted, strict=True)), strict=True)
    return replace(spec, padding=pads, output_padding=extra)


def legal_output_padding(spec: ConvSpec) -> tuple[range, ...]:
    """Return the output paddings that the layer may have, its others staying as they are.

    Args:
        spec: the layer.

    Returns:
        Per axis ``range(max(stride, dilation))`` for a transposed layer; 0 alone for others and with "same".

    Example:
        >>> legal_output_padding(ConvSpec.parse("ConvTranspose1d(1, 1, 3, stride=2)"))
        (range(0, 2),)
    """
    if spec.kind != "conv_transpose" or spec.padding == "same":
        return (range(1),) * spec.nd
    return tuple(range(max(s, d)) for s, d in zip(spec.stride, spec.dilation, strict=True))


def axis_phases(spec: ConvSpec, input_size: SizesLike | None = None) -> tuple[tuple[Phase, ...], ...]:
    """Return the phases of each axis by itself; ``phases`` combines them.

    Args:
        spec: the layer.
        input_size: elements per axis; only needed where padding "same" depends on it (stride above 1, not
            transposed).

    Returns:
        Per axis, for a convolution or pooling one phase, with out_step 1, in_step = stride and offsets
        k * dilation - low; for a transposed layer ``stride`` phases, phase f with out_step = stride,
        in_step 1 and offset (f + low - k * dilation) / stride for each k for which that is a whole number. A
        padding mode acts beside the phases: before them on the input, after them on a transposed output.

    Raises:
        ArgumentError: ``input_size`` is needed and missing.

    Example:
        >>> axis_phases(ConvSpec.parse("ConvTranspose1d(1, 1, 1, stride=2)"))[0][1].taps
        ()
    """
    return tuple(axis.phases(low) for axis, low in zip(_axes(spec), _lows(spec, input_size), strict=True))


def phases(spec: ConvSpec, input_size: SizesLike | None = None) -> tuple[tuple[Phase, ...], ...]:
    """Return the layer as a list of gathers: each n-d phase is one phase per axis.

    Args:
        spec: the layer.
        input_size: elements per axis; only needed where padding "same" depends on it (stride above 1, not
            transposed).

    Returns:
        The n-d phases, the last axis fastest. The outputs of one phase are the products of its axes' outputs,
        its taps the products of their taps; if any of them has none the phase is a hole: bias only.

    Raises:
        ArgumentError: ``input_size`` is needed and missing.

    Law: every output belongs to exactly one phase.

    Example:
        >>> [phase[0].taps for phase in phases(ConvSpec.parse("ConvTranspose1d(1, 1, 3, stride=2)"))]
        [((0, 0), (2, -1)), ((1, 0),)]
    """
    return tuple(product(*axis_phases(spec, input_size)))


def receptive_field(
    spec: ConvSpec, output_index: SizesLike, input_size: SizesLike | None = None
) -> tuple[range, ...]:
    """Return the interval of inputs that one output reads.

    Args:
        spec: the layer.
        output_index: the output's position per axis, at least 0; one number stands for every axis.
        input_size: elements per axis. With it the interval is cut to the input and follows the padding mode;
            without it, it runs on into the padding.

    Returns:
        Per axis the range from the first to the last input that is read, both counted; with dilation not all
        between them are. Empty for a hole, and for an output that sees only zero padding.

    Raises:
        ArgumentError: ``input_size`` is missing where padding "same" or a transposed padding mode needs it.
        ShapeError: the output index lies outside the output.

    Example:
        >>> receptive_field(ConvSpec.parse("ConvTranspose1d(1, 1, 4, stride=2, padding=1)"), 5)
        (range(2, 4),)
    """
    at = _sizes(spec, "output_index", output_index)
    outs = None if input_size is None else output_size(spec, input_size)
    for index, position in enumerate(at):
        if position < 0 or (outs is not None and position >= outs[index]):
            legal = "0 or more" if outs is None else f"0 to {outs[index] - 1}"
            raise ShapeError(
                f"'output_index' must lie in the output: got {position} on axis {index} of "
                f"output_index={at}; legal: {legal}"
            )
    sizes = (None,) * spec.nd if input_size is None else _sizes(spec, "input_size", input_size)
    lows = _lows(spec, input_size)
    rows = zip(_axes(spec), lows, at, sizes, strict=True)
    return tuple(axis.field(low, position, size) for axis, low, position, size in rows)


def _axes(spec: ConvSpec) -> list[Axis]:
    same = spec.padding == "same"
    pads: Pairs = ((0, 0),) * spec.nd if spec.padding == "same" else spec.padding
    return [
        Axis(
            number=index,
            transposed=spec.kind == "conv_transpose",
            same=same,
            ceil=spec.ceil_mode,
            mode=spec.padding_mode,
            kernel_size=spec.kernel_size[index],
            stride=spec.stride[index],
            dilation=spec.dilation[index],
            window=spec.window[index],
            low=low,
            high=high,
            output_padding=spec.output_padding[index],
        )
        for index, (low, high) in enumerate(pads)
    ]


def _sizes(spec: ConvSpec, name: str, value: object) -> tuple[int, ...]:
    entries = tuple(value) if isinstance(value, Iterable) else (value,) * spec.nd
    if len(entries) != spec.nd:
        raise ShapeError(
            f"{name!r} must have one entry per axis: got {name}={value!r} for {spec!r}; "
            f"legal: {spec.nd} integers"
        )
    return tuple(_integer(name, entry) for entry in entries)


def _integer(name: str, value: object) -> int:
    # A symbolic size must stay symbolic: turning it into an int would fix it for good.
    if type(value) is int or type(value).__name__ == "SymInt":
        return cast(int, value)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ShapeError(f"{name!r} must hold integers: got {value!r}; legal: integers")
    return operator.index(cast(SupportsIndex, value))


def _refusal(spec: ConvSpec, axis: Axis, sizes: tuple[int, ...]) -> ShapeError:
    size, least = sizes[axis.number], axis.least_input()
    reason = ""
    if size >= 1:
        out = axis.output(size)
        reason = f" (an output of {out})"
        if out >= 1:
            reason = f" (a border of {max(axis.pads(size))} with padding_mode={axis.mode!r})"
    return ShapeError(
        f"'input_size' must be large enough on every axis for {spec!r}: got {size} on axis {axis.number} of "
        f"input_size={sizes}{reason}; legal: {least} or more"
    )


def _lows(spec: ConvSpec, input_size: SizesLike | None) -> list[int]:
    if input_size is not None:
        return [low for low, _ in resolved_padding(spec, input_size)]
    if spec.padding == "same" and spec.kind != "conv_transpose" and any(s > 1 for s in spec.stride):
        raise ArgumentError(
            f"'input_size' must be given with padding='same' and a stride above 1, where the padding depends "
            f"on it: got none for {spec!r}; legal: {spec.nd} integers"
        )
    # At stride 1 the low side does not depend on the size, and so it is with transposed layers.
    return [axis.pads(1)[0] for axis in _axes(spec)]
