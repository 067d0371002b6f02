"""How large a layer's output is, which inputs give it, and the padding in numbers.

Every function works on integers of any length, and on torch's symbolic ones: sizes meet only +, -, *, // and
comparisons, never a float.
"""

from __future__ import annotations

from dataclasses import replace

from outstride.errors import ShapeError
from outstride.geometry.axes import SizesLike, axes_of, check_spec, sizes_of
from outstride.layer.arguments import Pairs
from outstride.layer.axis import Axis
from outstride.layer.spec import ConvSpec


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
    sizes = sizes_of(spec, "input_size", input_size)
    axes = axes_of(spec)
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
    sizes = sizes_of(spec, "output_size", output_size)
    for index, size in enumerate(sizes):
        if size < 1:
            raise ShapeError(
                f"'output_size' must be at least 1 on every axis: got {size} on axis {index} of "
                f"output_size={sizes}; legal: 1 or more"
            )
    return tuple(axis.inputs_for(size) for axis, size in zip(axes_of(spec), sizes, strict=True))


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
    sizes = sizes_of(spec, "input_size", input_size)
    axes = axes_of(spec)
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
    sizes = sizes_of(spec, "input_size", input_size)
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
    wanted = sizes_of(spec, "output_size", output_size)
    axes = axes_of(spec)
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
    check_spec(spec)
    if spec.kind != "conv_transpose" or spec.padding == "same":
        return (range(1),) * spec.nd
    return tuple(range(max(s, d)) for s, d in zip(spec.stride, spec.dilation, strict=True))


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
