"""Calls of the gather kernels: a plan bound to the strides of tensors, ready to be launched."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import nan
from typing import Any, NamedTuple

from torch import Tensor

from outstride.engine.codegen.arguments import GROUP_FIELDS, INDEX, REGION_FIELDS
from outstride.engine.launch.argument_block import ArgumentBlock, address, table
from outstride.engine.launch.call_cache import CallCache, Memo
from outstride.engine.launch.launches import At, Launch, Operand, Weight, memory_of
from outstride.engine.launch.matrix_product import Operands
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.launch.plans import GatherPlan, loop_nest, posed, three, tile_address, tile_modules
from outstride.engine.launch.weights.packer import Packer, WeightStrides, weights_module
from outstride.engine.launch.weights.packing import PACKED
from outstride.engine.planner.arguments import KernelArguments, kernel_arguments, sizes
from outstride.engine.planner.dataflow import LOOPS
from outstride.engine.planner.epilogue import BIAS, Epilogue
from outstride.engine.planner.plan import memoized, shared_plan
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.steps import Step
from outstride.engine.runtime import Kernel, chosen, machine, prepare, scratch

_X, _W, _BIAS, _Y, _SCRATCH, _FOUND, _OPERANDS = (
    INDEX[n] for n in ("x_at", "w_at", "bias_at", "y_at", "scratch_at", "found", "operands_at")
)  # fmt: skip
SIZE_CLASSES: CallCache[tuple[Any, ...], SizeClass] = CallCache("size classes", most=1024)
PLANS = Memo("plans", memoized())
KERNELS: CallCache[tuple[Any, ...], _Compiled] = CallCache("kernels", most=1024)


class _Compiled(NamedTuple):
    """What is the same at all sizes: the loop nest, what packs weights, if anything, the tile's address."""

    kernel: Kernel
    packer: Packer | None
    tile: int


@dataclass(frozen=True, slots=True)
class SizeClass:
    """What calls of a layer share at all sizes that the same blocks serve."""

    plan: GatherPlan
    kernel: Kernel
    packer: Packer | None
    scratch_bytes: int
    positions: int
    block: ArgumentBlock


@dataclass(frozen=True, slots=True)
class GatherCall:
    """One kernel for one problem and one set of strides."""

    size_class: SizeClass
    problem: Problem
    workers: int
    block: ArgumentBlock

    @property
    def is_short(self) -> bool:
        """Whether outputs come from fewer products than one for each tap."""
        return self.problem.short

    @property
    def is_resizable(self) -> bool:
        """Whether contiguous operands of other sizes may be served as well."""
        return self.size_class.plan.stretches

    def resized(self, size: Sequence[int], result_size: Sequence[int]) -> GatherCall | None:
        """The call for contiguous operands of another size; None where that needs other blocks."""
        if self.size_class.positions > 1:
            return None
        problem = self.problem.of_size(three(size, 1), three(result_size, 1))
        channels, outputs = (problem.groups * n for n in (problem.packed_channels, problem.outputs))
        x, y = (problem.batch, channels, *size), (problem.batch, outputs, *result_size)
        return _sized(self.size_class, problem, contiguous_strides(x), contiguous_strides(y))

    def __call__(
        self, x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, operands: Sequence[Tensor] = (), *,
        inside: bool = False,
    ) -> bool:  # fmt: skip
        """Compute y.

        Args:
            x, w, bias, y: of the shapes and strides that it was made for.
            operands: those of the steps of its epilogue, of y's type: contiguous vectors over the channels,
                and tensors of y's shape and strides, one of which may be y.
            inside: whether no weight meets padding.

        Returns:
            False where weights are not finite and might meet padding, unless all is `inside`; and where y is
            not finite or, for such weights, all NaN, because it was not computed by the direct chain. With
            steps it is the sums that are looked at, and for such weights y is as it was.
        """
        shared = self.size_class
        if shared.packer is None:
            _read, weight = memory_of(w)
        else:
            packed = PACKED.get(w, shared.packer, self.workers)
            if not (packed.finite or inside):
                if self.problem.short and not (self.problem.epilogue.steps or self.problem.before):
                    y.fill_(nan)
                return False
            weight = packed.pointer
        block = self.block.fresh()
        block[_X], block[_W], block[_Y] = x.data_ptr(), weight, y.data_ptr()
        block[_SCRATCH] = scratch(shared.scratch_bytes * self.workers)
        if bias is not None:
            if shared.positions > 1:
                bias = bias.repeat_interleave(shared.positions)
            elif not bias.is_contiguous():
                bias = bias.contiguous()
            _held = bias.untyped_storage()  # another thread may give the bias other memory meanwhile
            block[_BIAS] = bias.data_ptr()
        if operands:
            if shared.positions > 1:
                operands = [t.repeat_interleave(shared.positions) if t.dim() == 1 else t for t in operands]
            forms, there = self.problem.epilogue.forms, y.data_ptr()
            table = array("q", [
                t.data_ptr() if form == "channel" else t.data_ptr() - there
                for t, form in zip(operands, forms, strict=True)
            ])  # fmt: skip
            block[_OPERANDS] = address(table)
        shared.kernel.launch(block.buffer_info()[0], self.workers)
        return not block[_FOUND]

    def launch(self, x: At, w: At, bias: At | None, y: At, operands: Sequence[At] = ()) -> Launch | None:
        """What such a call launches, with operands as they are; None where they are to be made anew."""
        shared, addresses = self.size_class, {"x_at": x, "y_at": y}
        if bias is not None:
            addresses["bias_at"] = bias
            if not bias.tensor.is_contiguous():
                return None
        if shared.positions > 1:
            return None
        weight = None
        if shared.packer is None:
            addresses["w_at"] = w
        else:
            keep = partial(PACKED.entry, packer=shared.packer, threads=self.workers)
            weight = Weight(w, keep, self.workers, shared.packer.key)
        forms = zip(operands, self.problem.epilogue.forms, strict=True)
        return Launch(
            shared.kernel, self.block, self.workers, addresses,
            [Operand(operand, form == "tensor") for operand, form in forms], weight,
            shared.scratch_bytes * self.workers, "found",
        )  # fmt: skip


def gather_call(
    operands: Operands, threads: int, epilogue: Epilogue = BIAS, before: tuple[Step, ...] = ()
) -> GatherCall:  # fmt: skip
    """The call for these operands, of which only shapes, strides and dtype are looked at."""
    operands, problem = posed(operands)
    if epilogue.steps or before:
        # What is done to an input first is done whenever it is read: here for every few outputs.
        unpacked, rows = (None, False) if before else (problem.unpacked, problem.rows)
        problem = replace(problem, epilogue=epilogue, before=before, unpacked=unpacked, rows=rows)
    key = (problem.coarse(), operands.w.shape, operands.w.stride(), operands.positions, threads, chosen())
    shared = SIZE_CLASSES.get(key)
    call = None if shared is None else _sized(shared, problem, operands.x.stride(), operands.y.stride())
    if call is None:
        layer = (problem.operator, problem.dtype, problem.stride, problem.padding, problem.dilation, *key[1:])
        shared = SIZE_CLASSES.keep(layer, key, _size_class(problem, operands, threads))
        call = _sized(shared, problem, operands.x.stride(), operands.y.stride())
        assert call is not None, "a plan serves its own size"
    return call


def _size_class(problem: Problem, operands: Operands, threads: int) -> SizeClass:
    """What calls of this size share with others that have the same blocks."""
    plan = shared_plan(problem, machine(), threads)
    made = kernel_arguments(plan)
    strides = _weight_strides(problem, operands.w)
    any_size = replace(problem, batch=0, input_size=(0, 0, 0), output_size=(0, 0, 0))
    key = (any_size, operands.w.shape, operands.w.stride(), plan.tile, plan.cropped, plan.machine)
    compiled = KERNELS.get(key)
    if compiled is None:
        nest, tiles = loop_nest(plan), tile_modules(plan)
        packs = plan.dataflow.packs_weights
        prepare([nest, *tiles, *([weights_module(plan)] if packs else [])])
        packer = Packer(plan, made, strides) if packs else None
        compiled = KERNELS.keep(key, key, _Compiled(nest.kernel(), packer, tile_address(plan, tiles)))
    scalars = made.scalars | {
        "tile_at": compiled.tile, "w_stride_m": strides.output, "w_stride_c": strides.channel
    }  # fmt: skip
    block = ArgumentBlock.of(INDEX, scalars, _tables(plan, made))
    return SizeClass(plan, compiled.kernel, compiled.packer, made.scratch_bytes, operands.positions, block)


def _weight_strides(problem: Problem, w: Tensor) -> WeightStrides:
    first, second, *kernel = w.stride()
    if problem.operator == "conv_transpose" and not problem.depthwise:
        first, second = second, first
    group = w.shape[0] // problem.groups * w.stride(0)
    return WeightStrides(group, first, second, three(kernel, 0))


def _sized(shared: SizeClass, problem: Problem, xs: Sequence[int], ys: Sequence[int]) -> GatherCall | None:
    """The call of a size for operands of these strides, None if the blocks of its class do not serve it."""
    scalars = sizes(shared.plan, problem)
    if scalars is None:
        return None
    (xd, xh, xw), (yd, yh, yw) = three(xs[2:], 0), three(ys[2:], 0)
    scalars |= {
        "x_stride_n": xs[0], "x_stride_g": problem.packed_channels * xs[1], "x_stride_c": xs[1],
        "y_stride_n": ys[0], "y_stride_g": problem.outputs * ys[1], "y_stride_m": ys[1],
        "x_stride_d": xd, "x_stride_h": xh, "x_stride_w": xw,
        "y_stride_d": yd, "y_stride_h": yh, "y_stride_w": yw,
    }  # fmt: skip
    if problem.stores_pixels and not _in_order(problem.output_size, (yd, yh, yw)):
        scalars["loop"] = LOOPS.index(shared.plan.later_loop)
    workers = min(shared.plan.threads, scalars["tasks"])
    return GatherCall(shared, problem, workers, shared.block.changed(scalars))


def _in_order(size: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether pixels follow each other at one distance, row by row and plane by plane."""
    (d, h, w), (sd, sh, sw) = size, strides
    return (h == 1 or sh == w * sw) and (d == 1 or sd == h * w * sw)


def _tables(plan: GatherPlan, made: KernelArguments) -> dict[str, array[int]]:
    planes = array("q", made.planes)
    tables: dict[str, array[int]] = {
        "planes_at": planes, "raw_planes_at": planes, "phase_rows_at": array("q", made.phase_rows),
        "pixel_at": array("i", made.pixels), "input_places_at": array("q", made.input_places),
        "regions_at": table(REGION_FIELDS, [region._asdict() for region in made.regions]),
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
                "w_tile_stride": g.taps * plan.problem.channels * plan.tile_rows,
                **{f"taps_{axis}": count for axis, count in zip("dhw", g.extent, strict=True)},
            }
        )  # fmt: skip
    tables["phase_groups_at"] = table(GROUP_FIELDS, rows)
    return tables
