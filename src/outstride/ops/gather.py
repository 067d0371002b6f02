"""Calls of the gather kernels: a plan bound to the strides of tensors, ready to be launched."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from outstride.codegen.arguments import GROUP_FIELDS, INDEX, STRIPE_FIELDS
from outstride.ops.blocks import Block, address, table
from outstride.ops.packing import PackedWeights, Packer, WeightStrides, weights_module
from outstride.ops.plans import loop_nest, plan_of, three, tile_address, tile_modules
from outstride.ops.single import Operands, as_product
from outstride.planner.layout import layout, weight_block_stride
from outstride.runtime import prepare, scratch

_X, _W, _BIAS, _Y, _SCRATCH, _SKIPS = (
    INDEX[n] for n in ("x_at", "w_at", "bias_at", "y_at", "scratch_at", "skips")
)
_packed = PackedWeights()


class GatherCall:
    """One kernel for one problem and one set of strides."""

    def __init__(
        self, operator: Literal["conv", "conv_transpose"], x: Tensor, w: Tensor, y: Tensor,
        stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int, threads: int,
    ) -> None:  # fmt: skip
        given = as_product(Operands(operator, x, w, y, stride, padding, dilation, groups))
        _, x, w, y, *_, self._positions = given
        self.plan = plan = plan_of(given, threads)
        problem = plan.problem
        inner, outer, forward = problem.packed_channels, problem.outputs, problem.operator == "conv"
        xs, ys, ws = x.stride(), y.stride(), w.stride()
        made = layout(plan)
        self.workers = min(threads, plan.tasks)
        self._scratch_bytes = made.scratch_bytes * self.workers
        nest, tiles = loop_nest(plan), tile_modules(plan)
        prepare([nest, *tiles, weights_module(plan)])
        self._kernel = nest.kernel()
        per_group = w.shape[0] // problem.groups * ws[0]
        by_row = forward or problem.depthwise
        strides = WeightStrides(
            per_group, ws[0] if by_row else ws[1], ws[1] if by_row else ws[0], three(ws[2:], 0)
        )
        self._packer = Packer(plan, made, strides)
        tables: dict[str, array[int]] = {
            "planes_at": array("q", made.planes), "phase_rows_at": array("q", made.phase_rows),
            "pixel_at": array("i", made.pixels),
            "stripes_at": table(STRIPE_FIELDS, [stripe._asdict() for stripe in made.stripes]),
        }  # fmt: skip
        rows = []
        for i, g in enumerate(made.groups):
            full, rest, offsets = array("i", g.full), array("i", g.rest), array("i", g.offsets)
            runs = array("q", [1, 0, g.taps])
            for stem, values in (("full", full), ("rest", rest), ("offsets", offsets), ("runs", runs)):
                tables[f"{stem}_{i}"] = values
            rows.append(
                {
                    "tiles": g.tiles, "taps": g.taps, "tap_offsets_at": address(offsets),
                    "runs_at": address(runs), "runs_offset": g.runs_offset,
                    "full_at": address(full), "rest_at": address(rest),
                    "w_offset": g.w_offset, "row": g.row,
                    "w_tile_stride": g.taps * problem.channels * plan.tile_rows,
                    "w_block_stride": weight_block_stride(plan, g),
                    **{f"taps_{axis}": count for axis, count in zip("dhw", g.extent, strict=True)},
                }
            )  # fmt: skip
        tables["phase_groups_at"] = table(GROUP_FIELDS, rows)
        scalars = dict(made.scalars)
        scalars |= {
            "x_stride_n": xs[0], "x_stride_g": inner * xs[1], "x_stride_c": xs[1],
            "y_stride_n": ys[0], "y_stride_g": outer * ys[1], "y_stride_m": ys[1],
        }  # fmt: skip
        for axis, a, b in zip("dhw", three(xs[2:], 0), three(ys[2:], 0), strict=True):
            scalars[f"x_stride_{axis}"], scalars[f"y_stride_{axis}"] = a, b
        scalars["tile_at"] = tile_address(plan, tiles)
        self._block = Block(INDEX, scalars, tables)

    def __call__(self, x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor) -> None:
        """Compute y."""
        packed = _packed.get(w, self._packer, self.workers)
        block = self._block.fresh()
        block[_X], block[_W], block[_Y] = x.data_ptr(), packed.pointer, y.data_ptr()
        block[_SCRATCH] = scratch(self._scratch_bytes)
        if bias is not None:
            if self._positions > 1:
                bias = bias.repeat_interleave(self._positions)
            elif not bias.is_contiguous():
                bias = bias.contiguous()
            block[_BIAS] = bias.data_ptr()
        if not packed.finite:
            block[_SKIPS] = 0
        self._kernel.launch(block.buffer_info()[0], self.workers)
