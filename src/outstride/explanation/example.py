"""A layer on a small input, one channel of each, as numbers that a scene is made of."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from outstride.errors import ArgumentError, ShapeError, UnsupportedError
from outstride.geometry import output_size, resolved_padding
from outstride.layer.spec import ConvSpec

Array = npt.NDArray[np.float64]
Pair = tuple[int, int]
Size = tuple[int, ...]

#: Cells along an axis, and outputs or inputs that are gone through one by one: what an eye follows.
MOST_CELLS, MOST_STEPS = 24, 100
_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@dataclass(frozen=True)
class Example:
    """Numbers on two axes; a layer of one axis has one row."""

    spec: ConvSpec
    x: Array
    weight: Array
    bias: float
    low: Pair
    output: Pair

    @property
    def transposed(self) -> bool:
        """Whether inputs stamp and outputs collect."""
        return self.spec.kind == "conv_transpose"

    @property
    def stride(self) -> Pair:
        """Steps of the output where transposed, of the input else."""
        return _two(self.spec.stride, 1)

    @property
    def dilation(self) -> Pair:
        """From tap to tap."""
        return _two(self.spec.dilation, 1)

    @property
    def span(self) -> Pair:
        """What the kernel covers on each axis."""
        (kh, kw), (dh, dw) = self.weight.shape, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1

    @property
    def padded(self) -> Array:
        """The input with its padding, as far as outputs read it."""
        needed = [(o - 1) * s + k for o, s, k in zip(self.output, self.stride, self.span, strict=True)]
        sizes = zip(needed, self.x.shape, self.low, strict=True)
        pads = [(low, max(n - size - low, 0)) for n, size, low in sizes]
        mode: Any = _MODES[self.spec.padding_mode]
        padded: Array = np.pad(self.x, pads, mode=mode)
        return padded

    def taps(self) -> list[tuple[int, int, int, int]]:
        """Kernel row and column with their offset on the map, in the order in which they are summed."""
        (kh, kw), (dh, dw) = self.weight.shape, self.dilation
        return [(i, j, i * dh, j * dw) for i in range(kh) for j in range(kw)]


def example(spec: ConvSpec, weight: Any, bias: Any, source: Any) -> Example:
    """The numbers of one channel: those of the source, counting ones where none were.

    Raises:
        UnsupportedError: three axes, pooling, or a transposed layer with a padding mode.
        ArgumentError: the input has other axes than the layer.
        ShapeError: it is too large to be shown, or no output is left.
    """
    if spec.nd > 2 or spec.is_pool or (spec.kind == "conv_transpose" and spec.padding_mode != "zeros"):
        raise UnsupportedError(
            "'layer' must be a convolution or a transposed one of one or two axes, the latter padded with "
            f"zeros: got {spec!r}; legal: 'Conv2d(1, 1, 3)' or 'ConvTranspose1d(1, 1, 4, stride=2)'"
        )
    kernel, size = _two(spec.kernel_size, 1), _size(spec, source)
    out = output_size(spec, size)
    pads = resolved_padding(spec, size)
    _check_small(spec, size, out, pads)
    x = _numbers(size, source).reshape(_two(size, 1))
    if weight is None:
        weight = np.arange(1, prod(kernel) + 1)
    w = np.asarray(weight, np.float64).reshape(kernel)
    lows = [low for low, _ in pads]
    return Example(spec, x, w, float(bias or 0), _two(lows, 0), _two(out, 1))


def _check_small(spec: ConvSpec, size: Size, out: Size, pads: tuple[Pair, ...]) -> None:
    """Refuse what nobody could follow, by its sizes alone: its numbers may fit into no memory."""
    stamping = spec.kind == "conv_transpose"
    if stamping:
        seen = zip(size, spec.stride, spec.window, out, pads, strict=True)
        widths = [max((n - 1) * s + k, low + o) for n, s, k, o, (low, _) in seen]
    else:
        read = zip(size, spec.stride, spec.window, out, pads, strict=True)
        widths = [max(n + low, (o - 1) * s + k) for n, s, k, o, (low, _) in read]
    steps = prod(size if stamping else out)
    if steps > MOST_STEPS or max(*size, *widths, *out, *spec.kernel_size) > MOST_CELLS:
        raise ShapeError(
            f"'input' must be small enough to be followed: got {size} with {out} outputs; "
            f"legal: at most {MOST_CELLS} cells an axis, padding and kernel too, and {MOST_STEPS} steps"
        )


def _two(values: Any, fill: int) -> Pair:
    values = tuple(int(v) for v in values)
    return (fill, values[0]) if len(values) == 1 else (values[0], values[1])


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
    shape = tuple(np.shape(source))
    if len(shape) < spec.nd or 0 in shape[: -spec.nd]:
        raise ArgumentError(
            f"'input' must have the layer's {spec.nd} axes, with batch and channels before them or not: "
            f"got {shape}; legal: an array, or a size such as {(4,) * spec.nd}"
        )
    return shape[-spec.nd :]


def _numbers(size: Size, source: Any) -> Array:
    """What was given, of its first image the first channel; counting numbers where only a size was."""
    if source is None or isinstance(source, tuple):
        return np.arange(1.0, prod(size) + 1)
    values: Array = np.asarray(source.detach().cpu() if hasattr(source, "detach") else source, np.float64)
    first: Array = values.reshape(-1, prod(size))[0]
    return first


def _good_size(spec: ConvSpec) -> Size:
    """The least size with three outputs an axis; two inputs where they stamp."""
    if spec.kind == "conv_transpose":
        return (3,) * spec.nd if max(spec.kernel_size) + 2 * max(spec.stride) <= 7 else (2,) * spec.nd
    good = (n for n in range(1, MOST_CELLS) if _outputs(spec, n) >= 3)
    return (next(good, max(spec.window)),) * spec.nd


def _outputs(spec: ConvSpec, n: int) -> int:
    try:
        return min(output_size(spec, (n,) * spec.nd))
    except ShapeError:
        return 0
