"""The one table of cases: every option at least once, sizes at, below and beyond a tile, odd, one and zero.

Register tiles are multiples of 16 wide and input channels are summed in blocks of 64, so widths around 16, 32
and 48 and channel counts around 16 and beyond 64 are where an edge can go wrong. Every case is small enough
for loops.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, cast

Pairs = tuple[tuple[int, int], ...]
LAYOUTS = ("contiguous", "channels_last", "permuted", "sliced", "expanded")


@dataclass(frozen=True)
class Case:
    """One layer on one input size."""

    id: str
    operator: str
    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    in_channels: int
    out_channels: int
    batch: int = 2
    stride: tuple[int, ...] = ()
    padding: Pairs | str = ()
    dilation: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    output_size: tuple[int, ...] | None = None
    groups: int = 1
    padding_mode: str = "zeros"
    bias: bool = True
    batched: bool = True
    layout: str = "contiguous"
    weight_layout: str = "contiguous"

    @property
    def nd(self) -> int:
        return len(self.input_size)

    @property
    def transposed(self) -> bool:
        return self.operator == "conv_transpose"

    @property
    def seed(self) -> int:
        return int.from_bytes(hashlib.sha256(self.id.encode()).digest()[:4], "big")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.batch, self.in_channels, *self.input_size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        if self.transposed:
            return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def pads(self) -> Pairs:
        """Padding as (low, high) numbers, with "same" worked out by TensorFlow's rule."""
        if not isinstance(self.padding, str):
            return self.padding
        if self.padding == "valid":
            return ((0, 0),) * self.nd
        pairs = []
        for i, k, s, d in zip(self.input_size, self.kernel_size, self.stride, self.dilation, strict=True):
            extent = (k - 1) * d + 1
            total = max(extent - s if self.transposed else (-(-i // s) - 1) * s + extent - i, 0)
            pairs.append((total // 2, total - total // 2))
        return tuple(pairs)

    @property
    def out_spatial(self) -> tuple[int, ...]:
        """The output size, from the formulas of the documentation."""
        if self.output_size is not None:
            return self.output_size
        sizes = []
        for axis, (low, high) in enumerate(self.pads):
            i, s = self.input_size[axis], self.stride[axis]
            extent = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
            if not self.transposed:
                sizes.append((i + low + high - extent) // s + 1)
            elif self.padding == "same":
                sizes.append(i * s)
            else:
                sizes.append((i - 1) * s - low - high + extent + self.output_padding[axis])
        return tuple(sizes)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.out_channels, *self.out_spatial)

    @property
    def terms(self) -> int:
        """Products in the longest sum of one output element."""
        taps = self.kernel_size
        if self.transposed:
            taps = tuple(
                max(sum((f - k * d) % s == 0 for k in range(n)) for f in range(s))
                for n, s, d in zip(self.kernel_size, self.stride, self.dilation, strict=True)
            )
        return max(1, prod(taps) * self.in_channels // self.groups)

    def tiny(self) -> Case:
        """The same options on the fewest channels and the smallest input that still has an output."""
        groups = min(self.groups, 2)
        ratio = 2 if self.groups > 1 and self.out_channels > self.in_channels else 1
        size = tuple(min(i, 3 if self.transposed else (k - 1) * d + 1 + s) for i, k, d, s in self._axes())
        kernel = tuple(min(k, 5) for k in self.kernel_size)
        small = replace(
            self, id=f"tiny-{self.id}", batch=1, input_size=size, kernel_size=kernel, groups=groups,
            in_channels=groups if groups > 1 else 2, out_channels=groups * ratio, output_size=None,
        )  # fmt: skip
        return small if min(small.out_spatial) >= 1 else replace(small, input_size=self.input_size)

    def _axes(self) -> Iterator[tuple[int, int, int, int]]:
        return zip(self.input_size, self.kernel_size, self.dilation, self.stride, strict=True)


def case(
    name: str,
    operator: str,
    input_size: Sequence[int],
    kernel_size: int | Sequence[int],
    channels: tuple[int, int] = (3, 5),
    **options: object,
) -> Case:
    """A case from short notation: a single number stands for every axis."""
    nd = len(input_size)
    axes = {option: _spread(options.pop(option, default), nd) for option, default in _PER_AXIS.items()}
    pads = _pairs(options.pop("padding", 0), nd)
    fixed: dict[str, Any] = {"padding": pads, **axes, **options}
    return Case(name, operator, tuple(input_size), _spread(kernel_size, nd), *channels, **fixed)


_PER_AXIS = {"stride": 1, "dilation": 1, "output_padding": 0}


def _spread(value: object, nd: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (cast("int", value),) * nd


def _pairs(padding: object, nd: int) -> Pairs | str:
    if isinstance(padding, str):
        return padding
    per_axis: Sequence[Any] = padding if isinstance(padding, Sequence) else (padding,) * nd
    return tuple((p, p) if isinstance(p, int) else (p[0], p[1]) for p in per_axis)


_C, _T = "conv", "conv_transpose"
_WIDTHS = (1, 2, 15, 16, 17, 31, 33, 47, 48, 49, 95, 97)
_DEPTHS = (  # in, out
    (1, 1),
    (1, 16),
    (16, 15),
    (17, 31),
    (3, 33),
    (63, 2),
    (64, 3),
    (65, 3),
    (70, 17),
    (130, 4),
    (2, 130),
)
_STRIDES = (2, 3, 4, 5, 8, 16)

#: Groups of one input or output channel, several in a task whose pixels lie apart.
_GROUPED: dict[str, object] = {"groups": 8, "padding": 1, "layout": "channels_last", "batch": 1}
_TALL: dict[str, object] = {"groups": 3, "layout": "channels_last", "batch": 1}

_CONV = [
    *(case(f"conv1d-width-{w}", _C, (w,), 3, (2, 3), padding=1) for w in _WIDTHS),
    *(case(f"conv2d-width-{w}", _C, (5, w), 3, (2, 3), padding=1) for w in (15, 16, 17, 33)),
    *(case(f"conv2d-channels-{i}-{o}", _C, (3, 5), 3, (i, o), padding=1, batch=1) for i, o in _DEPTHS),
    *(case(f"conv1d-kernel-{k}", _C, (19,), k, padding=k // 2) for k in (1, 2, 4, 5, 7)),
    *(case(f"conv1d-stride-{s}", _C, (67,), 5, stride=s, padding=2) for s in (2, 3, 4, 8, 16)),
    case("conv2d-pointwise", _C, (4, 9), 1, (17, 18)),
    case("conv2d-pointwise-deep", _C, (3, 4), 1, (140, 9)),
    case("conv2d-pointwise-stride-2", _C, (6, 19), 1, (5, 6), stride=2),
    case("conv2d-kernel-5x3", _C, (8, 8), (5, 3), padding=(2, 1)),
    case("conv2d-kernel-3x5-stride-3x4", _C, (8, 18), (3, 5), padding=(0, 1), stride=(3, 4)),
    case("conv2d-kernel-equals-stride", _C, (8, 34), 2, stride=2),
    case("conv2d-kernel-equals-input", _C, (5, 6), (5, 6)),
    case("conv2d-kernel-reaches-into-padding-only", _C, (2, 3), 5, padding=2),
    case("conv2d-holes", _C, (9, 20), 2, stride=(3, 5)),
    case("conv2d-dilation-2", _C, (9, 21), 3, dilation=2, padding=2),
    case("conv2d-dilation-4-columns-apart", _C, (12, 12), 3, (48, 32), dilation=4, padding=4),
    case("conv2d-dilation-12-small-map", _C, (7, 9), 3, dilation=12, padding=12),
    case("conv2d-dilation-shares-factor", _C, (11, 23), 3, stride=2, dilation=(4, 2), padding=3),
    case("conv2d-dilation-2x3-stride-1x2", _C, (9, 20), (3, 2), stride=(1, 2), dilation=(2, 3)),
    case("conv1d-dilation-beyond-width", _C, (20,), 2, dilation=64, padding=64),
    case("conv2d-asymmetric-padding", _C, (6, 17), 3, padding=((0, 2), (3, 1))),
    case("conv2d-padding-low-only", _C, (6, 17), 4, padding=((3, 0), (2, 0)), stride=2),
    case("conv2d-padding-beyond-kernel", _C, (4, 5), 2, padding=(4, 6)),
    case("conv2d-padding-beyond-kernel-stride-3", _C, (4, 5), 2, padding=((5, 4), (6, 3)), stride=3),
    case("conv1d-same-even-kernel", _C, (18,), 4, padding="same"),
    case("conv2d-same-stride-1", _C, (5, 17), (4, 3), padding="same"),
    case("conv2d-same-stride-2", _C, (7, 18), 3, padding="same", stride=2),
    case("conv2d-same-stride-3-dilation-2", _C, (8, 17), (2, 3), padding="same", stride=3, dilation=(1, 2)),
    case("conv2d-same-stride-beyond-kernel", _C, (9, 16), 2, padding="same", stride=4),
    case("conv3d-same-stride-2", _C, (3, 4, 5), 3, (2, 3), padding="same", stride=(2, 1, 2)),
    case("conv2d-valid", _C, (6, 18), 3, padding="valid"),
    case("conv1d-reflect", _C, (17,), 5, padding=3, padding_mode="reflect"),
    case("conv2d-reflect", _C, (5, 18), 3, padding=((1, 2), (0, 3)), padding_mode="reflect"),
    case("conv2d-replicate", _C, (4, 17), 3, padding=((1, 0), (2, 5)), padding_mode="replicate"),
    case("conv2d-replicate-beyond-input", _C, (2, 3), 3, padding=4, padding_mode="replicate", stride=2),
    case(
        "conv2d-replicate-long-sums",
        _C,
        (1, 18),
        (1, 2),
        (2, 1),
        padding=((2, 9), (0, 0)),
        dilation=(1, 17),
        padding_mode="replicate",
        bias=False,
    ),
    case("conv2d-circular", _C, (4, 17), 3, padding=((1, 2), (4, 0)), padding_mode="circular"),
    case("conv3d-reflect", _C, (3, 4, 5), 3, (2, 2), padding=(1, 2, 1), padding_mode="reflect"),
    case("conv3d-replicate", _C, (2, 4, 5), 2, (2, 2), padding=1, padding_mode="replicate"),
    case("conv3d-circular", _C, (3, 4, 5), 3, (2, 2), padding=(1, 2, 1), padding_mode="circular", groups=2),
    case("conv2d-same-reflect", _C, (6, 17), 3, padding="same", padding_mode="reflect"),
    case("conv2d-groups-2", _C, (5, 17), 3, (6, 4), groups=2, padding=1),
    case("conv2d-groups-deep", _C, (2, 3), 3, (136, 6), groups=2, padding=1, batch=1),
    case("conv1d-groups-3-of-1", _C, (17,), 3, (3, 9), groups=3, padding=1),
    case("conv2d-groups-16-wide", _C, (3, 5), 3, (32, 34), groups=2, padding=1, batch=1),
    case("conv1d-groups-fan-out-channels-last", _C, (29,), 3, (8, 128), **_GROUPED),
    case("conv2d-groups-fan-out-channels-last", _C, (5, 6), 3, (8, 128), **_GROUPED),
    case("conv2d-groups-fan-out-stride-2-channels-last", _C, (9, 10), 3, (8, 128), stride=2, **_GROUPED),
    case("conv2d-groups-fan-in-channels-last", _C, (5, 6), 3, (128, 8), **_GROUPED),
    case("conv3d-groups-fan-in-channels-last", _C, (2, 4, 5), (2, 3, 3), (64, 8), **_GROUPED),
    case("conv2d-groups-34-fan-out-channels-last", _C, (4, 5), 3, (34, 272), **_GROUPED | {"groups": 34}),
    case(
        "conv2d-depthwise-tall-channels-last",
        _C,
        (12, 13),
        (5, 1),
        (3, 3),
        padding=1,
        stride=(2, 3),
        dilation=(3, 1),
        **_TALL,
    ),
    case(
        "conv3d-depthwise-tall-channels-last",
        _C,
        (3, 12, 7),
        (3, 5, 1),
        (3, 3),
        stride=(1, 2, 3),
        dilation=(1, 2, 1),
        padding=1,
        **_TALL,
    ),
    case("conv2d-depthwise", _C, (5, 18), 3, (7, 7), groups=7, padding=1),
    case("conv2d-depthwise-17", _C, (4, 6), 3, (17, 17), groups=17, padding=1, layout="channels_last"),
    case("conv2d-depthwise-stride-2", _C, (7, 33), 3, (5, 5), groups=5, padding=1, stride=2),
    case("conv2d-depthwise-dilated", _C, (7, 19), 3, (4, 4), groups=4, padding=2, dilation=2),
    case("conv2d-depthwise-wide", _C, (10, 150), 3, (2, 2), groups=2, padding=1, batch=1),
    case("conv2d-depthwise-taps-7", _C, (9, 60), 7, (2, 2), groups=2, padding=3, batch=1),
    case("conv2d-depthwise-taps-7-ends", _C, (9, 49), 7, (2, 2), groups=2, padding=3, batch=1),
    case("conv2d-depthwise-taps-7-narrow", _C, (9, 14), 7, (3, 3), groups=3, padding=3),
    case("conv2d-depthwise-steps", _C, (9, 95), (3, 4), (3, 3), groups=3, padding=(2, 3), stride=(2, 3)),
    case("conv2d-depthwise-taps-5-steps", _C, (6, 70), 5, (3, 3), groups=3, padding=2, stride=2, batch=1),
    case("conv1d-depthwise-taps-7", _C, (75,), 7, (3, 3), groups=3, padding=3),
    case("conv1d-depthwise-taps-5-steps", _C, (100,), 5, (2, 4), groups=2, padding=1, stride=3),
    case("conv1d-depthwise-multiplier-3", _C, (33,), 4, (3, 9), groups=3),
    case("conv2d-depthwise-multiplier-2", _C, (4, 18), 3, (3, 6), groups=3, padding=1),
    case("conv3d-depthwise", _C, (3, 4, 6), 3, (3, 3), groups=3, padding=1),
    case("conv3d-depthwise-steps", _C, (4, 5, 20), 3, (2, 2), groups=2, padding=2, stride=2, dilation=2),
    case("conv3d-basic", _C, (3, 4, 17), 3, (2, 3), padding=1),
    case("conv3d-stride-2", _C, (5, 5, 7), 3, (2, 5), padding=1, stride=2),
    case(
        "conv3d-mixed",
        _C,
        (4, 6, 7),
        (2, 3, 1),
        (4, 2),
        stride=(1, 2, 3),
        padding=((0, 1), (2, 0), (1, 1)),
        groups=2,
    ),
    case("conv3d-dilation-2", _C, (6, 6, 8), 3, (2, 2), dilation=2, padding=2),
    case("conv3d-pointwise", _C, (2, 3, 6), 1, (9, 10)),
    case("conv2d-no-bias", _C, (5, 16), 3, padding=1, bias=False),
    case("conv2d-unbatched", _C, (5, 16), 3, padding=1, batched=False, batch=1),
    case(
        "conv1d-unbatched-circular", _C, (9,), 3, padding=1, batched=False, batch=1, padding_mode="circular"
    ),
    case("conv2d-batch-0", _C, (5, 16), 3, padding=1, batch=0),
    case("conv2d-batch-1", _C, (5, 16), 3, padding=1, batch=1),
    case("conv2d-batch-5", _C, (3, 7), 3, (2, 17), padding=1, batch=5),
    case("conv2d-size-1", _C, (1, 1), 1),
    case("conv2d-size-1-padded", _C, (1, 1), 3, (4, 18), padding=1),
    case("conv3d-size-1-axis", _C, (1, 5, 1), (1, 3, 1), (3, 4), padding=(0, 1, 0)),
    case("conv2d-channels-last", _C, (5, 17), 3, (6, 18), padding=1, layout="channels_last"),
    case("conv3d-channels-last", _C, (2, 4, 5), 2, (5, 6), layout="channels_last"),
    case("conv2d-permuted", _C, (6, 17), 3, padding=1, layout="permuted", weight_layout="permuted"),
    case("conv2d-sliced", _C, (6, 17), 3, padding=1, layout="sliced", weight_layout="sliced"),
    case("conv2d-expanded", _C, (6, 17), 3, padding=1, layout="expanded", weight_layout="expanded"),
    case("tiny-resnet-stem", _C, (15, 15), 7, (3, 8), stride=2, padding=3, batch=1),
    case("tiny-alexnet-stem", _C, (19, 19), 11, (3, 6), stride=4, batch=1),
    case("tiny-hifigan-residual", _C, (49,), 11, (4, 4), padding=25, dilation=5, batch=1),
    case("tiny-wavenet", _C, (50,), 2, (6, 12), dilation=16, batch=1),
    case("tiny-textcnn", _C, (13,), 5, (12, 10), batch=4),
    case("tiny-unet3d", _C, (4, 4, 6), 3, (4, 8), stride=2, padding=1, batch=1),
]

_TRANSPOSED = [
    *(
        case(f"transpose1d-width-{w}", _T, (w,), 4, (3, 2), stride=2, padding=1)
        for w in (1, 2, 7, 8, 9, 15, 16, 17, 25)
    ),
    *(
        case(f"transpose2d-width-{w}", _T, (4, w), 3, (3, 2), stride=2, padding=1, output_padding=1)
        for w in (3, 8, 9, 17)
    ),
    *(case(f"transpose2d-channels-{i}-{o}", _T, (2, 3), 4, (i, o), stride=2, padding=1) for o, i in _DEPTHS),
    *(
        case(f"transpose1d-stride-1-kernel-{k}", _T, (19,), k, (4, 3), padding=k // 2)
        for k in (1, 2, 3, 5, 7)
    ),
    *(case(f"transpose1d-kernel-is-stride-{s}", _T, (6,), s, (4, 3), stride=s) for s in _STRIDES),
    *(
        case(f"transpose1d-kernel-twice-stride-{s}", _T, (6,), 2 * s, (4, 2), stride=s, padding=s // 2)
        for s in _STRIDES
    ),
    *(
        case(f"transpose1d-kernel-odd-to-stride-{s}", _T, (6,), 2 * s + 1, (3, 2), stride=s, padding=s - 1)
        for s in _STRIDES
    ),
    case("transpose2d-kernel-is-stride-2", _T, (5, 17), 2, (5, 3), stride=2),
    case("transpose2d-kernel-is-stride-4", _T, (3, 5), 4, (3, 4), stride=4),
    case("transpose2d-kernel-is-stride-3x2", _T, (3, 9), (3, 2), (3, 17), stride=(3, 2)),
    case("transpose2d-stride-one-axis", _T, (4, 9), (8, 1), (4, 3), stride=(4, 1)),
    case("transpose2d-stride-2x3", _T, (4, 6), (3, 5), (4, 3), stride=(2, 3), padding=(1, 2)),
    case("transpose2d-big-stride", _T, (3, 3), 16, (2, 2), stride=8, batch=1),
    case("transpose2d-holes", _T, (3, 5), 2, (4, 3), stride=(3, 5)),
    case("transpose2d-holes-pointwise", _T, (4, 9), 1, (5, 4), stride=2, output_padding=1),
    case("transpose1d-holes-padding", _T, (7,), 2, (3, 2), stride=5, padding=((2, 1),), output_padding=4),
    case("transpose1d-holes-in-padding-only", _T, (3,), 1, (3, 2), stride=4, output_padding=3),
    case("transpose2d-dilation-4-columns-apart", _T, (5, 12), 5, (32, 32), dilation=4, padding=6),
    case("transpose2d-dilation-2", _T, (5, 9), 3, (4, 3), dilation=2, padding=2),
    case("transpose2d-dilation-3-stride-2", _T, (4, 7), 3, (4, 3), stride=2, dilation=3, padding=2),
    case("transpose2d-dilation-is-stride", _T, (4, 8), 3, (4, 3), stride=2, dilation=2, padding=1),
    case(
        "transpose2d-dilation-shares-factor", _T, (4, 5), 3, (3, 2), stride=4, dilation=(6, 2), padding=(3, 1)
    ),
    case("transpose1d-dilation-6-stride-9", _T, (5,), 4, (3, 2), stride=9, dilation=6, padding=2),
    case(
        "transpose2d-output-padding-by-dilation",
        _T,
        (4, 6),
        3,
        (3, 2),
        dilation=3,
        output_padding=2,
        padding=1,
    ),
    case(
        "transpose2d-output-padding-beyond-stride",
        _T,
        (3, 5),
        3,
        (3, 2),
        stride=2,
        dilation=4,
        output_padding=3,
    ),
    case("transpose2d-output-padding-uncovers-bias", _T, (3, 5), 2, (3, 2), stride=4, output_padding=3),
    case("transpose2d-output-size", _T, (4, 6), 3, (3, 2), stride=3, padding=1, output_size=(11, 18)),
    case("transpose3d-output-size", _T, (2, 3, 2), 3, (2, 2), stride=2, padding=1, output_size=(3, 6, 4)),
    case("transpose2d-asymmetric-padding", _T, (4, 8), 5, (3, 2), stride=2, padding=((0, 3), (4, 1))),
    case("transpose2d-padding-low-only", _T, (4, 8), 4, (3, 2), stride=3, padding=((2, 0), (3, 0))),
    case("transpose2d-padding-beyond-kernel", _T, (7, 8), 3, (3, 2), stride=2, padding=(5, 4)),
    case("transpose1d-padding-leaves-one", _T, (4,), 3, (3, 2), stride=2, padding=4),
    case("transpose1d-same-even-kernel", _T, (9,), 4, (3, 2), padding="same", stride=2),
    case("transpose2d-same-stride-1", _T, (4, 9), (3, 4), (3, 2), padding="same"),
    case("transpose2d-same-stride-2", _T, (4, 9), 3, (3, 2), padding="same", stride=2),
    case("transpose2d-same-stride-3-dilation-2", _T, (4, 7), 3, (3, 2), padding="same", stride=3, dilation=2),
    case("transpose2d-same-stride-beyond-kernel", _T, (3, 4), 2, (3, 2), padding="same", stride=4),
    case("transpose3d-same-stride-2", _T, (2, 3, 2), 3, (2, 2), padding="same", stride=2),
    case("transpose2d-valid", _T, (4, 9), 3, (3, 2), padding="valid", stride=2),
    case("transpose1d-reflect", _T, (9,), 5, (3, 2), stride=2, padding=2, padding_mode="reflect"),
    case(
        "transpose2d-reflect",
        _T,
        (4, 9),
        4,
        (3, 2),
        stride=2,
        padding=((1, 2), (3, 0)),
        padding_mode="reflect",
    ),
    case(
        "transpose2d-replicate",
        _T,
        (4, 9),
        3,
        (3, 2),
        stride=2,
        padding=((1, 0), (2, 3)),
        padding_mode="replicate",
        output_padding=1,
    ),
    case(
        "transpose2d-circular",
        _T,
        (4, 9),
        3,
        (3, 2),
        stride=(1, 2),
        padding=((1, 1), (2, 1)),
        padding_mode="circular",
    ),
    case("transpose3d-circular", _T, (3, 2, 4), 3, (2, 2), padding=1, padding_mode="circular"),
    case("transpose3d-reflect", _T, (3, 2, 4), 3, (2, 2), padding=1, stride=2, padding_mode="reflect"),
    case("transpose2d-groups-2", _T, (4, 9), 3, (6, 4), groups=2, stride=2, padding=1),
    case("transpose2d-groups-deep", _T, (2, 3), 3, (136, 4), groups=2, stride=2, padding=1, batch=1),
    case("transpose1d-groups-fan-out", _T, (9,), 4, (3, 9), groups=3, stride=2, padding=1),
    case("transpose2d-groups-16-wide", _T, (2, 4), 4, (32, 34), groups=2, stride=2, padding=1, batch=1),
    case("transpose1d-groups-fan-out-channels-last", _T, (19,), 4, (8, 128), stride=2, **_GROUPED),
    case("transpose2d-groups-fan-in-channels-last", _T, (5, 6), 3, (128, 8), stride=2, **_GROUPED),
    case("transpose3d-groups-fan-out-channels-last", _T, (2, 3, 4), 3, (8, 64), stride=2, **_GROUPED),
    case("transpose1d-depthwise-taps-6", _T, (40,), 6, (3, 3), groups=3, padding=2),
    case("transpose2d-depthwise-taps-5-wide", _T, (6, 77), 5, (3, 3), groups=3, padding=(2, 1)),
    case("transpose2d-depthwise-taps-5-narrow", _T, (6, 13), 5, (3, 3), groups=3, padding=(2, 1)),
    case("transpose2d-depthwise-taps-3", _T, (5, 34), 3, (3, 3), groups=3, padding=1),
    case("transpose2d-depthwise", _T, (4, 17), 4, (5, 5), groups=5, stride=2, padding=1),
    case(
        "transpose2d-depthwise-17",
        _T,
        (3, 4),
        4,
        (17, 17),
        groups=17,
        stride=2,
        padding=1,
        layout="channels_last",
    ),
    case("transpose2d-depthwise-stride-1", _T, (8, 37), (3, 5), (4, 4), groups=4, padding=2, dilation=(2, 1)),
    case("transpose2d-depthwise-up-4", _T, (3, 5), 8, (3, 3), groups=3, stride=4, padding=2),
    case("transpose1d-depthwise-long", _T, (29,), 12, (4, 4), groups=4, stride=2),
    case("transpose1d-depthwise-multiplier", _T, (9,), 3, (3, 6), groups=3, stride=2),
    case("transpose3d-depthwise", _T, (2, 3, 4), 2, (3, 3), groups=3, stride=2),
    case(
        "transpose3d-depthwise-flat", _T, (3, 4, 19), (1, 4, 4), (3, 3), groups=3, stride=(1, 2, 2), padding=1
    ),
    case(
        "transpose1d-depthwise-tiles", _T, (149,), 6, (2, 2), groups=2, stride=3, padding=2, output_padding=1
    ),
    case("transpose1d-depthwise-stride-11", _T, (19,), 12, (2, 4), groups=2, stride=11, padding=5),
    case("transpose1d-depthwise-stride-25", _T, (5,), 9, (2, 2), groups=2, stride=25),
    case(
        "transpose2d-depthwise-columns", _T, (5, 33), (1, 5), (3, 3), groups=3, stride=(1, 4), padding=(0, 2)
    ),
    case("transpose2d-depthwise-rows", _T, (9, 18), (4, 1), (3, 6), groups=3, stride=(3, 1), padding=(1, 0)),
    case(
        "transpose2d-depthwise-tiles",
        _T,
        (13, 66),
        3,
        (2, 2),
        groups=2,
        stride=2,
        padding=1,
        output_padding=1,
    ),
    case("transpose2d-depthwise-holes", _T, (5, 9), 2, (3, 3), groups=3, stride=(3, 4), padding=1),
    case(
        "transpose2d-depthwise-dilated",
        _T,
        (9, 17),
        3,
        (3, 3),
        groups=3,
        stride=(2, 3),
        dilation=(3, 2),
        padding=((4, 1), (0, 3)),
    ),
    case("transpose2d-depthwise-many-taps", _T, (3, 5), 9, (2, 2), groups=2, stride=2, padding=4),
    case("transpose3d-basic", _T, (2, 3, 5), 3, (3, 2), stride=2, padding=1),
    case("transpose3d-kernel-is-stride", _T, (2, 3, 9), 2, (4, 3), stride=2),
    case(
        "transpose3d-mixed",
        _T,
        (2, 3, 4),
        (2, 3, 1),
        (4, 2),
        stride=(1, 2, 3),
        padding=((0, 1), (2, 0), (0, 0)),
        groups=2,
        output_padding=(0, 1, 2),
    ),
    case("transpose3d-dilation-2", _T, (3, 3, 3), 3, (2, 2), dilation=2, padding=1),
    case("transpose2d-no-bias", _T, (4, 8), 3, (3, 2), stride=2, bias=False),
    case("transpose2d-unbatched", _T, (4, 8), 3, (3, 2), stride=2, batched=False, batch=1),
    case("transpose2d-batch-0", _T, (4, 8), 3, (3, 2), stride=2, batch=0),
    case("transpose2d-batch-1", _T, (4, 8), 3, (3, 2), stride=2, batch=1),
    case("transpose2d-batch-5", _T, (2, 5), 3, (3, 18), stride=2, batch=5),
    case("transpose2d-size-1", _T, (1, 1), 4, (6, 17)),
    case("transpose1d-size-1-spread", _T, (1,), 2, (6, 17), dilation=2, padding=((0, 1),)),
    case("transpose2d-size-1-spread", _T, (1, 1), (3, 2), (6, 17), dilation=(1, 3), padding=((0, 0), (0, 2))),
    case("transpose1d-size-1", _T, (1,), 5, (3, 2), batch=1, bias=False),
    case("transpose1d-size-1-one-channel", _T, (1,), 4, (1, 3), batch=5),
    case("transpose2d-size-1-one-channel", _T, (1, 1), 4, (1, 17), batch=3),
    case("transpose3d-size-1-batch", _T, (1, 1, 1), (2, 3, 2), (70, 3), batch=19, stride=2),
    case("transpose2d-channels-last", _T, (4, 9), 4, (18, 6), stride=2, padding=1, layout="channels_last"),
    case("transpose3d-channels-last", _T, (2, 3, 4), 2, (5, 4), stride=2, layout="channels_last"),
    case(
        "transpose2d-permuted",
        _T,
        (4, 9),
        3,
        (4, 3),
        stride=2,
        padding=1,
        layout="permuted",
        weight_layout="permuted",
    ),
    case(
        "transpose2d-sliced",
        _T,
        (4, 9),
        3,
        (4, 3),
        stride=2,
        padding=1,
        layout="sliced",
        weight_layout="sliced",
    ),
    case(
        "transpose2d-expanded",
        _T,
        (4, 9),
        3,
        (4, 3),
        stride=2,
        padding=1,
        layout="expanded",
        weight_layout="expanded",
    ),
    case("tiny-dcgan-rgb", _T, (6, 6), 4, (8, 3), stride=2, padding=1, batch=3),
    case("tiny-fsrcnn-x2", _T, (5, 9), 9, (7, 1), stride=2, padding=4, output_padding=1, batch=1),
    case("tiny-fsrcnn-x3", _T, (4, 7), 9, (7, 1), stride=3, padding=4, output_padding=2, batch=1),
    case("tiny-hifigan", _T, (21,), 16, (6, 4), stride=8, padding=4, batch=1),
    case("tiny-encodec", _T, (20,), 10, (5, 4), stride=5, batch=1),
    case("tiny-istft", _T, (7,), 64, (10, 1), stride=16, batch=1),
    case("tiny-demucs-spectrogram", _T, (4, 11), (8, 1), (6, 4), stride=(4, 1), batch=1),
    case("tiny-fcn32s", _T, (2, 2), 12, (3, 3), stride=6, batch=1),
    case("tiny-nnunet", _T, (2, 2, 2), 2, (20, 16), stride=2),
    case("tiny-centernet-depthwise", _T, (5, 6), 4, (4, 4), groups=4, stride=2, padding=1, batch=1),
]


CASES: tuple[Case, ...] = (*_CONV, *_TRANSPOSED)
BY_ID: dict[str, Case] = {c.id: c for c in CASES}
assert len(BY_ID) == len(CASES), "two cases share an id"

# Large enough that threads share the work and every cache block repeats; judged by float64 torch, not loops.
LARGE_CASES: tuple[Case, ...] = (
    case("large-resnet-3x3", _C, (28, 28), 3, (64, 64), padding=1, batch=1),
    case("large-resnet-stem", _C, (112, 112), 7, (3, 64), stride=2, padding=3, batch=1),
    case("large-pointwise", _C, (14, 14), 1, (256, 96), batch=2),
    case("large-depthwise", _C, (56, 56), 3, (64, 64), padding=1, groups=64, batch=1),
    case("large-batch", _C, (9, 9), 3, (16, 24), padding=1, batch=33),
    case("large-groups", _C, (27, 27), 5, (48, 64), padding=2, groups=2, batch=1),
    case("large-dilated", _C, (33, 33), 3, (64, 32), padding=12, dilation=12, batch=1),
    case("large-hifigan-residual", _C, (1811,), 11, (64, 64), padding=25, dilation=5, batch=1),
    case("large-thin-output", _C, (7244,), 7, (32, 1), padding=3, batch=1),
    case("large-unet3d", _C, (12, 12, 12), 3, (32, 32), padding=1, batch=1),
    case("large-odd", _C, (61, 67), 3, (33, 47), padding=1, stride=(2, 1), batch=1),
    case("large-hifigan", _T, (283,), 16, (128, 64), stride=8, padding=4, batch=1),
    case("large-istft", _T, (56,), 256, (130, 1), stride=64, batch=1),
    case("large-dcgan", _T, (8, 8), 4, (128, 64), stride=2, padding=1, batch=8),
    case("large-dcgan-rgb", _T, (32, 32), 4, (64, 3), stride=2, padding=1, batch=4),
    case("large-cyclegan", _T, (32, 32), 3, (64, 32), stride=2, padding=1, output_padding=1, batch=1),
    case("large-unet", _T, (32, 32), 2, (96, 48), stride=2, batch=1),
    case("large-fcn8s", _T, (27, 35), 16, (21, 21), stride=8, batch=1),
    case("large-fsrcnn", _T, (60, 90), 9, (56, 1), stride=2, padding=4, output_padding=1, batch=1),
    case("large-depthwise-up", _T, (32, 32), 8, (64, 64), stride=4, padding=2, groups=64, batch=1),
    case("large-depthwise-1d", _T, (4099,), 12, (24, 24), stride=2, groups=24, batch=2),
    case("large-unet3d-up", _T, (8, 8, 8), 3, (48, 32), stride=2, padding=1, batch=1),
    case("large-dilated-up", _T, (33, 33), 3, (40, 24), stride=2, dilation=3, padding=2, batch=1),
)


def closure_cases() -> tuple[Case, ...]:
    """Every combination of options once, on the smallest tensors, for the laws that cost a Jacobian."""
    seen: dict[tuple[object, ...], Case] = {}
    for c in CASES:
        if c.batch and c.kernel_size and prod(c.kernel_size) <= 36:
            small = c.tiny()
            key = tuple(
                getattr(small, f)
                for f in small.__dataclass_fields__
                if f not in ("id", "layout", "weight_layout")
            )
            seen.setdefault(key, small)
    return tuple(seen.values())
