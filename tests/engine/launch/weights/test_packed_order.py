"""The order of packed weights, written down a second time: however they are packed, all are in place."""

from __future__ import annotations

from itertools import product
from typing import Literal, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.codegen.packing.weights import weights_source
from outstride.engine.launch.gather import _weight_strides
from outstride.engine.launch.matrix_product import Operands
from outstride.engine.launch.plans import plan_of
from outstride.engine.launch.weights.packer import Packer
from outstride.engine.planner.arguments import KernelArguments, kernel_arguments
from outstride.engine.planner.machine import CHANNEL_BLOCK, INSTRUCTION_SETS
from outstride.engine.planner.plan import GatherPlan
from tests.layouts import laid_out
from tests.poison import poison
from tests.tolerance import assert_same_bits

_Operator = Literal["conv", "conv_transpose"]


class Weight(NamedTuple):
    """The weight of a contraction: channels are those that are summed over."""

    operator: _Operator
    channels: int
    outputs: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    size: int = 9

    def numbers(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Stride, padding, dilation."""
        ones, zeros = (1,) * len(self.kernel), (0,) * len(self.kernel)
        return self.stride or ones, self.padding or zeros, self.dilation or ones

    def operands(self, dtype: torch.dtype, layout: str) -> Operands:
        """Those of the contraction; only the weight holds numbers."""
        c, o, g = self.channels, self.outputs, self.groups
        shape = (g * o, c) if self.operator == "conv" else (g * c, o)
        count = torch.Size(shape + self.kernel).numel()
        w = laid_out((1 + torch.arange(count) % 251).to(dtype).view(*shape, *self.kernel), layout)
        stride, padding, dilation = self.numbers()
        axes = list(zip(self.kernel, stride, padding, dilation, strict=True))
        if self.operator == "conv":
            sizes = [(self.size + 2 * p - d * (k - 1) - 1) // s + 1 for k, s, p, d in axes]
        else:
            sizes = [(self.size - 1) * s - 2 * p + d * (k - 1) + 1 for k, s, p, d in axes]
        x = torch.empty((1, g * c, *[self.size] * len(self.kernel)), dtype=dtype, device="meta")
        y = torch.empty((1, g * o, *sizes), dtype=dtype, device="meta")
        return Operands(self.operator, x, w, y, stride, padding, dilation, g)


WEIGHTS = {
    "3 x 3": Weight("conv", 70, 19, (3, 3)),
    "3 x 3, transposed": Weight("conv_transpose", 70, 19, (3, 3)),
    "3 x 3 x 3, one channel": Weight("conv", 1, 9, (3, 3, 3)),
    "4 x 4 in steps, transposed": Weight("conv_transpose", 66, 21, (4, 4), (2, 2), (1, 1)),
    "5 x 5 in steps, transposed": Weight("conv_transpose", 6, 40, (5, 5), (2, 2), (2, 2)),
    "3 x 3 in steps, transposed": Weight("conv_transpose", 6, 20, (3, 3), (2, 2), (1, 1)),
    "2 x 2 in steps, transposed": Weight("conv_transpose", 67, 18, (2, 2), (2, 2)),
    "2 x 2 x 2 in steps, transposed": Weight("conv_transpose", 5, 18, (2, 2, 2), (2, 2, 2), size=5),
    "2 x 2, transposed": Weight("conv_transpose", 5, 35, (2, 2)),
    "3, transposed": Weight("conv_transpose", 70, 37, (3,)),
    "4 in steps, transposed": Weight("conv_transpose", 9, 37, (4,), (2,), (1,)),
    "16 in steps of 8, transposed": Weight("conv_transpose", 9, 21, (16,), (8,), (4,)),
    "6 in steps of 3, dilated, transposed": Weight("conv_transpose", 9, 21, (6,), (3,), (1,), (2,)),
    "steps beyond the kernel, transposed": Weight("conv_transpose", 9, 21, (2, 2), (3, 3)),
    "one of them, transposed": Weight("conv_transpose", 9, 21, (1, 1), (2, 2)),
    "3": Weight("conv", 70, 37, (3,)),
    "2": Weight("conv", 3, 1, (2,)),
    "1 x 1": Weight("conv", 70, 50, (1, 1)),
    "1 x 1, transposed": Weight("conv_transpose", 130, 50, (1, 1)),
    "one of each": Weight("conv", 1, 1, (1, 1)),
    "groups": Weight("conv", 5, 11, (3, 3), groups=3),
    "groups, transposed": Weight("conv_transpose", 5, 11, (4, 4), (2, 2), (1, 1), groups=3),
    "short": Weight("conv", 70, 66, (3, 3), padding=(1, 1)),
    "short, transposed": Weight("conv_transpose", 66, 70, (3, 3), padding=(1, 1)),
}
_LAYOUTS = ("contiguous", "channels_last", "sliced", "swapped")


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_weight_is_where_the_microkernel_reads_it(name: str) -> None:
    weight = WEIGHTS[name]
    for isa, layout, dtype in product(runtime.available(), _LAYOUTS, (torch.float32, torch.float64)):
        with runtime.instruction_set(isa):
            operands = weight.operands(dtype, layout)
            plan = plan_of(operands, 1)
            made = kernel_arguments(plan)
            found = _packed(plan, made, operands.w)
            assert_same_bits(found, _expected(plan, made, operands.w), f"{layout}, {isa}, {dtype}")


@pytest.mark.parametrize("name", ["short", "short, transposed"])
def test_products_of_every_layout_are_the_same(name: str) -> None:
    for isa in runtime.available():
        with runtime.instruction_set(isa):
            packed = []
            for layout in _LAYOUTS:
                operands = WEIGHTS[name].operands(torch.float32, layout)._replace(algorithm="auto")
                plan = plan_of(operands, 1)
                assert plan.problem.short
                packed.append(_packed(plan, kernel_arguments(plan), operands.w))
            for other in packed[1:]:
                assert_same_bits(other, packed[0], isa)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_weights_are_widened(dtype: torch.dtype) -> None:
    for name, isa in product(("3 x 3", "2 x 2 in steps, transposed", "1 x 1"), runtime.available()):
        with runtime.instruction_set(isa):
            operands = WEIGHTS[name].operands(dtype, "contiguous")
            plan = plan_of(operands, 1)
            made = kernel_arguments(plan)
            expected = _expected(plan, made, operands.w.float())
            assert_same_bits(_packed(plan, made, operands.w), expected, f"{name}, {isa}")


def test_what_is_not_finite_is_reported() -> None:
    operands = WEIGHTS["2 x 2 in steps, transposed"].operands(torch.float32, "contiguous")
    plan = plan_of(operands, 1)
    packer = Packer(plan, kernel_arguments(plan), _weight_strides(plan.problem, operands.w))
    assert packer.pack(operands.w.data_ptr(), 1).finite
    operands.w.view(-1)[-1] = torch.inf
    assert not packer.pack(operands.w.data_ptr(), 1).finite


def test_every_set_has_a_packing_kernel() -> None:
    sources = {weights_source("float32", isa) for isa in INSTRUCTION_SETS.values()}
    assert len(sources) == len(INSTRUCTION_SETS)


def _packed(plan: GatherPlan, made: KernelArguments, w: Tensor) -> Tensor:
    """All packed weights; what lies behind them stays as it was."""
    packer = Packer(plan, made, _weight_strides(plan.problem, w))
    with poison():
        values = packer.pack(w.data_ptr(), 2).values
    assert values[packer.elements :].isnan().all(), "memory behind them was written"
    return values[: packer.elements]


def _expected(plan: GatherPlan, made: KernelArguments, w: Tensor) -> Tensor:
    """[group][chunk of outputs][phase group][tile][channel block][tap][channel of the block][row]."""
    p, rows, chunk_outputs = plan.problem, plan.tile_rows, plan.blocking.chunk_outputs
    shape = (p.groups, p.outputs, p.channels) if p.operator == "conv" else (p.groups, p.channels, p.outputs)
    weights = w.reshape(*shape, -1)
    weights = weights if p.operator == "conv" else weights.transpose(1, 2)
    order: list[Tensor] = []
    for group, chunk, g in product(range(p.groups), range(made.chunks), made.groups):
        positions = [[int(np.ravel_multi_index(at, p.kernel_size)) for at in taps] for taps in g.of.kernel]
        for tile, begin in product(range(g.tiles), range(0, p.channels, CHANNEL_BLOCK)):
            block = weights[group, :, begin : begin + CHANNEL_BLOCK]
            panel = w.new_zeros(g.taps, block.shape[1], rows)
            for row in range(rows):
                inside, member = divmod(tile * rows + row, g.members)
                output = chunk * chunk_outputs + inside
                if inside < chunk_outputs and output < p.outputs:
                    panel[:, :, row] = block[output][:, positions[member]].t()
            order.append(panel.flatten())
    return torch.cat(order)
