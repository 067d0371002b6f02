"""The weight gradient by short algorithms: exact on integers, of one order, whatever runs it.

`tests/short_order.py` writes the order down a second time.
"""

from __future__ import annotations

import zlib
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.launch.gradients.dots import DotCall
from outstride.engine.launch.gradients.gradient import GradientCall, gradient_call
from outstride.engine.planner.gradients.plan import GradientPlan
from tests.guard import GuardedPages
from tests.layouts import laid_out
from tests.short_order import gradient_in_the_short_order, gradient_magnitude
from tests.tolerance import assert_close_to_reference, assert_integers_equal, assert_same_bits

#: Of the input and of the gradient: what packs the one does not look at the other.
_LAYOUTS = (("channels_last", "sliced"), ("sliced", "channels_last"))


class Layer(NamedTuple):
    """A convolution on an input; channels and outputs are those of a group."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    padding: tuple[int, ...]
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    batch: int = 1
    channels: int = 17
    outputs: int = 18

    @property
    def geometry(self) -> tuple[list[int], list[int], list[int]]:
        """Stride, padding, dilation."""
        return [self.stride] * len(self.size), list(self.padding), [self.dilation] * len(self.size)

    def draw(self, dtype: torch.dtype, *, integers: bool = False) -> tuple[Tensor, Tensor]:
        """Input and output gradient."""
        axes = zip(self.size, self.kernel, self.padding, strict=True)
        outs = [(u + 2 * p - self.dilation * (k - 1) - 1) // self.stride + 1 for u, k, p in axes]
        generator = torch.Generator().manual_seed(zlib.crc32(repr(self).encode()))
        made = []
        for channels, size in ((self.channels, self.size), (self.outputs, outs)):
            shape = (self.batch, channels * self.groups, *size)
            if integers:
                made.append(torch.randint(-3, 4, shape, generator=generator).to(dtype))
            else:
                made.append(torch.randn(shape, generator=generator).to(dtype))
        return made[0], made[1]

    def call(self, x: Tensor, y: Tensor, threads: int = 1, *, short: bool = True) -> GradientCall:
        """The bound call."""
        stride, padding, dilation = self.geometry
        made = gradient_call(x, y, self.kernel, stride, padding, dilation, self.groups, threads, short)
        assert isinstance(made, GradientCall)
        assert made.plan.problem.short == short
        return made

    def definition(self, x: Tensor, y: Tensor) -> np.ndarray:
        """The gradient in float64 by torch."""
        shape = (y.shape[1], self.channels, *self.kernel)
        stride, padding, dilation = self.geometry
        _, gradient, _ = torch.ops.aten.convolution_backward.default(
            y.double(), x.double(), torch.zeros(shape, dtype=torch.float64), None, stride, padding, dilation,
            False, [0] * len(stride), self.groups, [False, True, False],
        )  # fmt: skip
        return gradient.numpy()  # type: ignore[no-any-return]


LAYERS = {
    "one box": Layer((9, 11), (3, 3), (1, 1), batch=2),
    "boxes in splits": Layer((33, 37), (3, 3), (1, 1)),
    "rows longer than a box": Layer((3, 301), (3, 3), (1, 0)),
    "images in a box": Layer((5, 6), (3, 3), (1, 1), batch=5),
    "boxes in a split": Layer((2, 10, 24), (3, 3, 3), (1, 1, 1), batch=4, channels=48, outputs=64),
    "one axis": Layer((1201,), (3,), (1,)),
    "one axis, k7 d5": Layer((90,), (7,), (15,), dilation=5, batch=2),
    "three axes": Layer((5, 7, 6), (3, 3, 3), (1, 1, 1), batch=2),
    "k5": Layer((14, 15), (5, 5), (2, 2)),
    "k7": Layer((13, 18), (7, 7), (3, 3)),
    "k2": Layer((8, 9), (2, 2), (0, 1)),
    "stride": Layer((15, 22), (3, 3), (1, 1), stride=2, batch=2),
    "stride, k4": Layer((16, 15), (4, 4), (1, 1), stride=2),
    "dilation": Layer((15, 14), (3, 3), (2, 2), dilation=2),
    "groups": Layer((9, 12), (3, 3), (1, 1), groups=3),
    "one axis stays direct": Layer((9, 12), (1, 3), (0, 1)),
    "padding wider than the input": Layer((4, 5), (3, 3), (9, 8)),
    "one channel": Layer((9, 12), (3, 3), (1, 1), batch=2, channels=1),
    "blocks of outputs": Layer((7, 8), (3, 3), (1, 1), outputs=150),
    "blocks of channels": Layer((4, 5), (3, 3), (1, 1), channels=300, outputs=64),
}


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_exact_on_integers(name: str) -> None:
    layer = LAYERS[name]
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x, y = layer.draw(dtype, integers=True)
        made = layer.call(x, y)(x, y)
        assert_integers_equal(made, layer.definition(x, y), dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_its_order_is_one(name: str) -> None:
    """On any threads and instruction set."""
    layer = LAYERS[name]
    x, y = layer.draw(torch.float32)
    expected = _ordered(layer, x, y)
    with GuardedPages() as pages:
        x, y = (pages.copy(t, "end") for t in (x, y))
        for isa, threads in product(runtime.available(), (1, 2, 4)):
            with runtime.instruction_set(isa):
                assert_same_bits(layer.call(x, y, threads)(x, y), expected, f"{isa}, {threads} threads")


@pytest.mark.parametrize("layouts", _LAYOUTS, ids=" by ".join)
def test_no_layout_moves_it(layouts: tuple[str, str]) -> None:
    for name in ("boxes in splits", "one axis", "three axes", "stride", "one channel"):
        layer = LAYERS[name]
        x, y = layer.draw(torch.float32)
        expected = _ordered(layer, x, y)
        first, second = (laid_out(*each) for each in zip((x, y), layouts, strict=True))
        with GuardedPages() as pages:
            first, second = (pages.copy(t, "end") for t in (first, second))
            for isa in runtime.available():
                with runtime.instruction_set(isa):
                    made = layer.call(first, second, 2)(first, second)
                    assert_same_bits(made, expected, f"{name}, {isa}")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_types_are_summed_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    for name in ("boxes in splits", "three axes", "stride"):
        layer = LAYERS[name]
        x, y = layer.draw(dtype)
        expected = _ordered(layer, x.float(), y.float()).to(dtype)
        for of_x, of_y in _LAYOUTS:
            first, second = laid_out(x, of_x), laid_out(y, of_y)
            assert_same_bits(layer.call(first, second)(first, second), expected, f"{name}, {of_x}, {of_y}")


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_within_the_bound_of_its_algorithm(name: str) -> None:
    layer = LAYERS[name]
    x, y = layer.draw(torch.float32)
    call = layer.call(x, y)
    magnitude = gradient_magnitude(call.plan.problem, x.numpy(), y.numpy()).reshape(call.shape)
    # Every product is summed over the cells, and both its factors and the kernel's elements over some more.
    cells = x.shape[0] * np.prod([a.cells for a in call.plan.axes])
    more = sum(len(a.products) + len(a.offsets) + a.out_step for a in call.plan.problem.short_axes)
    terms = int(cells) + more + call.plan.splits
    assert_close_to_reference(call(x, y), layer.definition(x, y), magnitude, terms, torch.float32)


def test_layers_are_cut_into_boxes_splits_and_blocks() -> None:
    """Else the tests above would not see any of them."""
    plans = {name: _plan(layer) for name, layer in LAYERS.items()}
    assert plans["boxes in splits"].splits > 1
    assert any(plan.boxes_per_split > 1 for plan in plans.values())
    assert plans["blocks of outputs"].output_chunks > 1
    assert plans["blocks of channels"].channel_blocks > 1
    assert plans["images in a box"].box[0] > 1
    assert any(plan.channels_per_slab < plan.channels_per_block for plan in plans.values())


def test_groups_of_few_outputs_stay_direct() -> None:
    layer = Layer((9, 9), (3, 3), (1, 1), outputs=3)
    x, y = layer.draw(torch.float32)
    stride, padding, dilation = layer.geometry
    call = gradient_call(x, y, layer.kernel, stride, padding, dilation, 1, 1, short=True)
    assert isinstance(call, DotCall)


def _plan(layer: Layer) -> GradientPlan:
    return layer.call(*layer.draw(torch.float32)).plan


def _ordered(layer: Layer, x: Tensor, y: Tensor) -> Tensor:
    call = layer.call(x, y)
    made = gradient_in_the_short_order(call.plan, x.numpy(), y.numpy())
    return torch.from_numpy(np.ascontiguousarray(made)).reshape(call.shape)
