"""A layer on a small input, one channel and all of them, as numbers that a scene is made of."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from outstride.errors import ArgumentError, ShapeError, UnsupportedError
from outstride.geometry import output_size, resolved_padding
from outstride.layer.spec import ConvSpec

Array = npt.NDArray[np.float64]
Place = tuple[int, ...]
Size = tuple[int, ...]

#: Cells along an axis, of volumes fewer, and outputs or inputs that are gone through one by one: what an eye
#: follows.
MOST_CELLS, MOST_CELLS_OF_VOLUMES, MOST_STEPS = 24, 8, 100
#: Channels that stand below each other.
MOST_CHANNELS = 4
_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@dataclass(frozen=True)
class Example:
    """Numbers of one channel, one axis of an array for each of the layer's."""

    spec: ConvSpec
    x: Array
    weight: Array
    bias: float
    pads: tuple[tuple[int, int], ...]
    output: Size

    @property
    def transposed(self) -> bool:
        """Whether inputs stamp and outputs collect."""
        return self.spec.kind == "conv_transpose"

    @property
    def low(self) -> Size:
        """The padding before each axis."""
        return tuple(low for low, _ in self.pads)

    @property
    def padded(self) -> Array:
        """The input with its padding, and with what outputs read beyond it.

        Where a pooled window does not count what it sees there is no number.
        """
        read = self._needed()
        sizes = zip(read, self.x.shape, self.pads, strict=True)
        pads = [(low, max(n - size - low, high, 0)) for n, size, (low, high) in sizes]
        if not self.spec.is_pool:
            mode: Any = _MODES[self.spec.padding_mode]
            padded: Array = np.pad(self.x, pads, mode=mode)
            return padded
        empty: Array = np.pad(self.x, pads, constant_values=np.nan)
        if self.spec.kind == "avg_pool" and self.spec.count_include_pad and not self.spec.divisor_override:
            counted = tuple(
                slice(n + low + high) for n, (low, high) in zip(self.x.shape, self.pads, strict=True)
            )
            empty[counted] = np.nan_to_num(empty[counted])
        return empty

    def _needed(self) -> list[int]:
        axes = zip(self.output, self.spec.stride, self.spec.window, strict=True)
        return [(o - 1) * s + k for o, s, k in axes]

    def taps(self) -> list[tuple[Place, Place]]:
        """Kernel elements with their offset on the map, in the order in which they are summed."""
        dilation = self.spec.dilation
        return [
            (tap, tuple(i * d for i, d in zip(tap, dilation, strict=True)))
            for tap in np.ndindex(*self.spec.kernel_size)
        ]


@dataclass(frozen=True)
class Channels:
    """Numbers of all channels that are shown: input, weight in torch's order, a bias for each output."""

    x: Array
    weight: Array
    bias: Array
    groups: int
    left_out: int
    """Output channels that are not shown."""


def example(spec: ConvSpec, weight: Any, bias: Any, source: Any) -> tuple[Example, Channels | None]:
    """The numbers of one channel, and those of all where a layer has several that can be shown.

    Both are those of the source, counting ones where none were.

    Raises:
        UnsupportedError: a transposed layer with a padding mode.
        ArgumentError: the input has other axes than the layer.
        ShapeError: it is too large to be shown, or no output is left.
    """
    if spec.kind == "conv_transpose" and spec.padding_mode != "zeros":
        raise UnsupportedError(
            "'layer' must be a convolution, a pooling layer, or a transposed convolution that is padded with "
            f"zeros: got {spec!r}; legal: 'Conv2d(1, 1, 3)' or 'ConvTranspose1d(1, 1, 4, stride=2)'"
        )
    size = _size(spec, source)
    out = output_size(spec, size)
    pads = resolved_padding(spec, size)
    _check_small(spec, size, out, pads)
    x = _numbers(spec, size, source, 1)[0]
    w = np.ones(spec.kernel_size)
    if not spec.is_pool:
        w = np.asarray(weight[0, 0], np.float64) if weight is not None else _counted(spec.kernel_size)
    first = 0.0 if bias is None else float(bias[0])
    return Example(spec, x, w, first, pads, out), _channels(spec, weight, bias, size, source, out)


def _channels(spec: ConvSpec, weight: Any, bias: Any, size: Size, source: Any, out: Size) -> Channels | None:
    """All channels, or of many outputs the first with all that they read; None where one is all, or too many.

    Of a transposed layer the inputs of the first group are shown with all that they stamp.
    """
    ins, outs = spec.in_channels or 1, spec.out_channels or 1
    if spec.is_pool or spec.nd > 2 or max(ins, outs) == 1:
        return None
    ins_each, outs_each = ins // spec.groups, outs // spec.groups
    groups = min(spec.groups, max(1, MOST_CHANNELS // max(ins_each, outs_each)))
    if spec.kind == "conv_transpose":
        shown = min(outs_each, MOST_CHANNELS)
        steps = groups * ins_each * prod(size)
    else:
        shown = min(outs_each, MOST_CHANNELS, max(1, MOST_STEPS // (groups * prod(out))))
        steps = groups * shown * prod(out)
    if ins_each > MOST_CHANNELS or steps > MOST_STEPS:
        return None
    x = _numbers(spec, size, source, ins)[: groups * ins_each]
    if spec.kind == "conv_transpose":
        whole = _counted((ins, outs_each, *spec.kernel_size)) if weight is None else np.asarray(weight)
        w = whole[: groups * ins_each, :shown]
    else:
        whole = _counted((outs, ins_each, *spec.kernel_size)) if weight is None else np.asarray(weight)
        w = np.concatenate([whole[g * outs_each : g * outs_each + shown] for g in range(groups)])
    biases = np.zeros(outs) if bias is None else np.asarray(bias, np.float64)
    b = np.concatenate([biases[g * outs_each : g * outs_each + shown] for g in range(groups)])
    return Channels(x, w, b, groups, outs - groups * shown)


def _check_small(spec: ConvSpec, size: Size, out: Size, pads: tuple[tuple[int, int], ...]) -> None:
    """Refuse what nobody could follow, by its sizes alone: its numbers may fit into no memory."""
    stamping = spec.kind == "conv_transpose"
    seen = zip(size, spec.stride, spec.window, out, pads, strict=True)
    if stamping:
        widths = [max((n - 1) * s + k, low + o) for n, s, k, o, (low, _) in seen]
    else:
        widths = [max(n + low + max(high, 0), (o - 1) * s + k) for n, s, k, o, (low, high) in seen]
    steps = prod(size if stamping else out)
    most = MOST_CELLS if spec.nd < 3 else MOST_CELLS_OF_VOLUMES
    if steps > MOST_STEPS or max(*size, *widths, *out, *spec.kernel_size) > most:
        raise ShapeError(
            f"'input' must be small enough to be followed: got {size} with {out} outputs; "
            f"legal: at most {most} cells an axis, padding and kernel too, and {MOST_STEPS} steps"
        )


def _size(spec: ConvSpec, source: Any) -> Size:
    """The elements per axis of what was given, or of what shows all there is to see."""
    if source is None:
        return _good_size(spec)
    if isinstance(source, tuple):
        if len(source) != spec.nd or any(not isinstance(n, int) or n < 1 for n in source):
            raise ArgumentError(
                f"'input' must have one positive size for each axis: got {source}; legal: {(4,) * spec.nd}"
            )
        return source
    shape = _given(source).shape
    if len(shape) < spec.nd or 0 in shape[: -spec.nd]:
        raise ArgumentError(
            f"'input' must have the layer's {spec.nd} axes, with batch and channels before them or not: "
            f"got {shape}; legal: an array, or a size such as {(4,) * spec.nd}"
        )
    return shape[-spec.nd :]


def _numbers(spec: ConvSpec, size: Size, source: Any, channels: int) -> Array:
    """What was given, of its first image the first channels; counting numbers where only a size was.

    A layer that pools gets them in another order, or every maximum would stand in the same corner.
    """
    if source is None or isinstance(source, tuple):
        count = channels * prod(size)
        numbers = np.arange(1.0, count + 1)
        if spec.is_pool:
            step = next(s for s in range(max(1, round(0.618 * count)), count + 2) if gcd(s, count) == 1)
            numbers = (np.arange(count) * step + count // 2) % count + 1.0
        return numbers.reshape(channels, *size)
    values = _given(source)
    every: Array = values.reshape(-1, *size)
    if channels > 1 and values.ndim == spec.nd:  # one channel was given for all
        every = np.repeat(every, channels, 0)
    return every[:channels]


def _given(source: Any) -> Array:
    """Numbers that were given, of a tensor, an array or nested lists."""
    try:
        return np.asarray(source.detach().cpu() if hasattr(source, "detach") else source, np.float64)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"'input' must be real numbers in rows of one length: got {type(source).__name__}; "
            "legal: such as [[1, 2], [3, 4]], or a size such as (4, 4)"
        ) from None


def _counted(shape: Size) -> Array:
    counted: Array = np.arange(1.0, prod(shape) + 1).reshape(shape)
    return counted


def _good_size(spec: ConvSpec) -> Size:
    """The least size with three outputs an axis, of volumes two; two or three inputs where they stamp."""
    if spec.kind == "conv_transpose":
        small = spec.nd < 3 and max(spec.kernel_size) + 2 * max(spec.stride) <= 7
        return (3 if small else 2,) * spec.nd
    outputs = 3 if spec.nd < 3 else 2
    good = (n for n in range(1, MOST_CELLS) if _outputs(spec, n) >= outputs)
    return (next(good, max(spec.window)),) * spec.nd


def _outputs(spec: ConvSpec, n: int) -> int:
    try:
        return min(output_size(spec, (n,) * spec.nd))
    except ShapeError:
        return 0
