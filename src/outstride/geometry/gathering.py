"""What each output reads: phases, which share their taps, and receptive fields."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from outstride.errors import ArgumentError, ShapeError
from outstride.geometry.axes import SizesLike, axes_of, sizes_of
from outstride.geometry.extents import output_size, resolved_padding
from outstride.layer.axis import Counted, Phase
from outstride.layer.spec import ConvSpec


def axis_phases(spec: ConvSpec, input_size: SizesLike | None = None) -> tuple[Sequence[Phase], ...]:
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
    axes = axes_of(spec)
    return tuple(axis.phases(low) for axis, low in zip(axes, _lows(spec, input_size), strict=True))


def phases(spec: ConvSpec, input_size: SizesLike | None = None) -> Sequence[tuple[Phase, ...]]:
    """Return the layer as a list of gathers: each n-d phase is one phase per axis.

    Args:
        spec: the layer.
        input_size: elements per axis; only needed where padding "same" depends on it (stride above 1, not
            transposed).

    Returns:
        The n-d phases, the last axis fastest, each made when it is asked for. The outputs of one are the
        products of its axes' outputs, its taps the products of their taps; if any of them has none the phase
        is a hole: bias only.

    Raises:
        ArgumentError: ``input_size`` is needed and missing.

    Law: every output belongs to exactly one phase.

    Example:
        >>> [phase[0].taps for phase in phases(ConvSpec.parse("ConvTranspose1d(1, 1, 3, stride=2)"))]
        [((0, 0), (2, -1)), ((1, 0),)]
    """
    along = axis_phases(spec, input_size)

    def combined(number: int) -> tuple[Phase, ...]:
        found = []
        for of_axis in reversed(along):
            number, place = divmod(number, len(of_axis))
            found.append(of_axis[place])
        return tuple(reversed(found))

    return Counted(prod(map(len, along)), combined)


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
    at = sizes_of(spec, "output_index", output_index)
    outs = None if input_size is None else output_size(spec, input_size)
    for index, position in enumerate(at):
        if position < 0 or (outs is not None and position >= outs[index]):
            legal = "0 or more" if outs is None else f"0 to {outs[index] - 1}"
            raise ShapeError(
                f"'output_index' must lie in the output: got {position} on axis {index} of "
                f"output_index={at}; legal: {legal}"
            )
    sizes = (None,) * spec.nd if input_size is None else sizes_of(spec, "input_size", input_size)
    lows = _lows(spec, input_size)
    rows = zip(axes_of(spec), lows, at, sizes, strict=True)
    return tuple(axis.field(low, position, size) for axis, low, position, size in rows)


def _lows(spec: ConvSpec, input_size: SizesLike | None) -> list[int]:
    if input_size is not None:
        return [low for low, _ in resolved_padding(spec, input_size)]
    if spec.padding == "same" and spec.kind != "conv_transpose" and any(s > 1 for s in spec.stride):
        raise ArgumentError(
            f"'input_size' must be given with padding='same' and a stride above 1, where the padding depends "
            f"on it: got none for {spec!r}; legal: {spec.nd} integers"
        )
    # At stride 1 the low side does not depend on the size, and so it is with transposed layers.
    return [axis.pads(1)[0] for axis in axes_of(spec)]
