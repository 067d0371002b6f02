"""The shapes of a call's tensors, checked: of the six functions, and of the operators called directly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from outstride.engine.launch.plans import DTYPES
from outstride.errors import DTypeError, ShapeError
from outstride.layer.arguments import CALL, whole

Ints = Sequence[int]

ENGINE_DTYPES = frozenset(DTYPES)
#: Beyond so many elements no dtype's bytes can be counted in 63 bits.
_MOST_ELEMENTS = 2**59 - 1
_MOST_POSITION = 2**63 - 1


def call_channels(
    nd: int, transposed: bool, input: Ints, weight: Ints, bias: Ints | None, groups: int
) -> int:
    """Check the ranks and channels of a call, and return its output channels.

    Args:
        nd: number of spatial axes.
        transposed: whether the layer is a transposed convolution.
        input: the shape (N, C, *size) or (C, *size).
        weight: the shape (O, C/groups, *kernel_size), or (C, O/groups, *kernel_size) when transposed.
        bias: the shape (O,) or None.
        groups: 1 or more.

    Raises:
        ShapeError: they do not fit each other; the sentence says what would be legal.
    """
    name = f"conv{'_transpose' if transposed else ''}{nd}d"
    check_rank(name, nd, input)
    if len(weight) != nd + 2:
        raise ShapeError(
            f"'weight' must be {nd + 2}-d for {name}: got {len(weight)}-d of shape {shown(weight)}; legal: "
            f"two channel axes and {nd} spatial axes"
        )
    return _out_channels(("input", "weight"), transposed, input[-nd - 1], weight, bias, groups)


def check_rank(function: str, nd: int, input: Ints) -> None:
    """Refuse the shape of an input that is neither a batch nor a single image of ``nd`` axes."""
    if len(input) not in (nd + 1, nd + 2):
        raise ShapeError(
            f"'input' must be {nd + 1}-d (unbatched) or {nd + 2}-d (batched) for {function}: "
            f"got {len(input)}-d of shape {shown(input)}; legal: (C, *size) or (N, C, *size) "
            f"with {nd} spatial axes"
        )


def conv_shape(x: Tensor, w: Tensor, bias: Tensor | None, size: Ints, groups: int) -> tuple[int, ...]:
    """The shape of what ``torch.ops.outstride.conv`` returns."""
    _check_operands(x, w, bias, len(size), groups)
    bias_shape = None if bias is None else bias.shape
    return (x.shape[0], _out_channels(("x", "w"), False, x.shape[1], w.shape, bias_shape, groups), *size)


def conv_transpose_shape(
    y: Tensor, w: Tensor, bias: Tensor | None, size: Ints, groups: int
) -> tuple[int, ...]:
    """The shape of what ``torch.ops.outstride.conv_transpose`` returns."""
    _check_operands(y, w, bias, len(size), groups)
    bias_shape = None if bias is None else bias.shape
    return (y.shape[0], _out_channels(("y", "w"), True, y.shape[1], w.shape, bias_shape, groups), *size)


def conv_weight_shape(x: Tensor, y: Tensor, _: None, size: Ints, groups: int) -> tuple[int, ...]:
    """The shape of what ``torch.ops.outstride.conv_weight`` returns."""
    _check_operands(x, y, None, len(size), groups)
    for name, channels in (("x", x.shape[1]), ("y", y.shape[1])):
        if channels % groups:
            raise ShapeError(
                f"'groups' must divide the channels of {name!r}: got groups={groups} with {channels} "
                f"channels; legal: a positive divisor of {channels}"
            )
    if x.shape[0] != y.shape[0]:
        raise ShapeError(
            f"'x' and 'y' must have the same batch: got {x.shape[0]} and {y.shape[0]}; "
            "legal: equal sizes on axis 0"
        )
    return (y.shape[1], x.shape[1] // groups, *size)


def check_geometry(stride: Ints, padding: Ints, size: Ints, dilation: Ints) -> None:
    """Check the numbers that reach an operator: one per axis; the low padding may be below zero."""
    for name, values, least in (
        ("stride", stride, 1),
        ("padding", padding, None),
        ("dilation", dilation, 1),
        ("size", size, 0),
    ):
        if len(values) != len(size):
            raise ShapeError(
                f"{name!r} must have one entry per axis: got {list(values)}; legal: {len(size)} integers"
            )
        if least is not None:
            for value in values:
                whole(name, value, least, list(values), CALL)


def check_allocatable(shape: Sequence[int]) -> None:
    """Refuse a result that no machine can hold; symbolic sizes pass."""
    elements = 1
    for size in shape:
        if type(size) is not int:
            return  # a symbolic size: comparing it would pin it down
        elements *= size
    if elements > _MOST_ELEMENTS:
        raise ShapeError(
            f"the output must fit in memory: got shape {shown(shape)} of {elements} elements; "
            f"legal: at most {_MOST_ELEMENTS}"
        )


def check_countable(
    windows: Sequence[int], taps: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int],
) -> None:  # fmt: skip
    """Refuse positions i * stride + k * dilation - padding beyond 64 bits; symbolic numbers pass."""
    for axis in zip(windows, taps, stride, padding, dilation, strict=True):
        if any(type(number) is not int for number in axis):
            return
        i, k, s, p, d = axis
        span = max(i - 1, 0) * s + max(k - 1, 0) * d
        if span + abs(p) > _MOST_POSITION:
            raise ShapeError(
                "'stride', 'dilation' and 'padding' must lead to positions of 64 bits: got stride="
                f"{s}, dilation={d} and padding={p} for {i} windows of {k} taps; legal: "
                f"(windows - 1) * stride + (taps - 1) * dilation + |padding| of at most {_MOST_POSITION}"
            )


def shown(values: Sequence[Any]) -> str:
    """A shape as Python writes a tuple, whatever its sizes are."""
    return f"({', '.join(map(str, values))}{',' if len(values) == 1 else ''})"


def _out_channels(
    names: tuple[str, str], transposed: bool, channels: int, weight: Ints, bias: Ints | None, groups: int
) -> int:
    data, filters = names
    rows, columns = weight[0], weight[1]
    if rows < groups or rows % groups:
        raise ShapeError(
            f"{filters!r} must have a positive multiple of 'groups' on axis 0: got {rows} with "
            f"groups={groups} and shape {shown(weight)}; legal: {groups}, {2 * groups}, ..."
        )
    expected = rows if transposed else columns * groups
    if channels != expected:
        raise ShapeError(
            f"{data!r} must have the {expected} channels that {filters!r} of shape {shown(weight)} with "
            f"groups={groups} expects: got {channels}; legal: {expected}"
        )
    out_channels = columns * groups if transposed else rows
    if bias is not None and (len(bias) != 1 or bias[0] != out_channels):
        raise ShapeError(
            f"'bias' must have one element per output channel: got shape {shown(bias)} with "
            f"{out_channels} output channels; legal: ({out_channels},)"
        )
    return out_channels


def _check_operands(first: Tensor, second: Tensor, bias: Tensor | None, nd: int, groups: int) -> None:
    if not 0 <= nd <= 3 or first.dim() != nd + 2 or second.dim() != nd + 2:
        raise ShapeError(
            f"both operands must have two axes more than there are sizes: got {first.dim()} and "
            f"{second.dim()} axes with {nd} sizes; legal: 0 to 3 sizes and 2 to 5 axes"
        )
    if first.dtype != second.dtype or first.dtype not in ENGINE_DTYPES:
        raise DTypeError(
            f"both operands must have one dtype of the engine: got {first.dtype} and {second.dtype}; "
            f"legal: {', '.join(sorted(map(str, ENGINE_DTYPES)))}"
        )
    if bias is not None and bias.dtype != first.dtype:
        raise DTypeError(
            f"'bias' must have the dtype of the operands: got {bias.dtype}; legal: {first.dtype}"
        )
    whole("groups", groups, 1, None, CALL)
