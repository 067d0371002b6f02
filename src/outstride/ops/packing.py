"""Packed weights: made once a weight version, kept as long as the weight lives."""

from __future__ import annotations

import sys
import weakref
from array import array
from dataclasses import dataclass
from functools import partial
from math import isfinite, prod
from typing import NamedTuple

import torch
from torch import Tensor

from outstride.codegen.arguments import WEIGHT_GROUP_FIELDS, WEIGHT_INDEX
from outstride.codegen.authorship import authorship
from outstride.codegen.weights import weights_source
from outstride.ops.blocks import Block, address, table
from outstride.ops.fingerprints import Watch, watch
from outstride.planner.layout import Layout
from outstride.planner.plan import GatherPlan
from outstride.runtime import Module, prefer_large

_W, _PACKED, _SPOILED = (WEIGHT_INDEX[n] for n in ("w_at", "packed_at", "spoiled_at"))


@dataclass(frozen=True)
class WeightStrides:
    """Elements between groups, outputs, channels and kernel positions of a weight as contractions see it."""

    group: int
    output: int
    channel: int
    kernel: tuple[int, int, int]


def weights_module(plan: GatherPlan) -> Module:
    """The module that packs weights for a plan."""
    dtype = plan.problem.dtype
    source = partial(weights_source, dtype)
    return Module(f"weights_{dtype}", source, plan.machine.instruction_set, authorship())


class Packer:
    """Packs weights for one plan and one set of strides."""

    def __init__(self, plan: GatherPlan, made: Layout, strides: WeightStrides) -> None:
        p = plan.problem
        self.elements = p.groups * made.chunks * made.chunk_weights
        self.dtype = torch.float64 if p.dtype == "float64" else torch.float32
        form = (
            p.operator, p.dtype, p.kernel_size, p.stride, p.groups, p.channels, p.outputs, strides,
            plan.tile_rows, plan.blocks.chunk_outputs, tuple(g.kernel for g in made.groups),
        )  # fmt: skip
        self.key = sys.intern(repr(form))
        self._kernel = weights_module(plan).kernel()
        tables: dict[str, array[int]] = {}
        rows = []
        _, height, width = p.kernel_size
        order = (height * width, width, 1)
        positions = prod(p.kernel_size)
        # Squares pay where a row, or a channel of it, has a few weights side by side.
        in_order = all(n == 1 or s == o for n, s, o in zip(p.kernel_size, strides.kernel, order, strict=True))
        in_order = in_order and (positions >= 4 or strides.channel == positions)
        for i, g in enumerate(made.groups):
            places = [at for member in g.kernel for at in member]
            taps = array("q", [sum(k * s for k, s in zip(at, strides.kernel, strict=True)) for at in places])
            tables[f"taps_{i}"] = taps
            tap_of = array("q", [-1] * prod(p.kernel_size))
            for tap, at in enumerate(g.kernel[0]):
                tap_of[sum(k * s for k, s in zip(at, order, strict=True))] = tap
            tables[f"tap_of_{i}"] = tap_of
            rows.append(
                {
                    "tiles": g.tiles, "members": g.members, "taps": g.taps, "w_offset": g.w_offset,
                    "taps_at": address(taps), "tap_of_at": address(tap_of),
                }
            )  # fmt: skip
        tables["phase_groups_at"] = table(WEIGHT_GROUP_FIELDS, rows)
        scalars = {
            "tasks": p.groups * made.chunks, "chunks": made.chunks,
            "chunk_outputs": plan.blocks.chunk_outputs,
            "outputs": p.outputs, "channels": p.channels, "width": plan.tile_rows,
            "w_stride_g": strides.group, "w_stride_m": strides.output, "w_stride_c": strides.channel,
            "packed_stride_g": made.chunks * made.chunk_weights, "packed_stride_chunk": made.chunk_weights,
            "phase_groups": len(made.groups), "kernel": positions, "in_order": int(in_order),
        }  # fmt: skip
        self._block = Block.of(WEIGHT_INDEX, scalars, tables)

    def pack(self, weight: Tensor, threads: int, packed: Tensor | None = None) -> Packed:
        """The weight in the order of the microkernel, into the room of an earlier version if there is one."""
        if packed is None:
            packed = torch.empty(self.elements + _MARGIN, dtype=self.dtype)
            prefer_large(packed.data_ptr(), packed.nbytes)
        pointer = packed.data_ptr()
        spoiled = array("d" if self.dtype is torch.float64 else "f", (0.0,))
        block = self._block.fresh()
        block[_W], block[_PACKED], block[_SPOILED] = weight.data_ptr(), pointer, address(spoiled)
        self._kernel.launch(address(block), threads if self.elements > _PARALLEL else 1)
        return Packed(packed, pointer, isfinite(spoiled[0]))


#: Packed elements from which more than one thread is worth waking.
_PARALLEL = 1 << 16
#: Elements behind the packed weights: room for a vector read in advance.
_MARGIN = 64


class Packed(NamedTuple):
    """Packed weights, where they are, and whether all of them are finite."""

    values: Tensor
    pointer: int
    finite: bool


@dataclass(slots=True)
class _Kept:
    version: int
    pointer: int
    packed: Packed
    watch: Watch


class PackedWeights:
    """The packed forms of every living weight."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[weakref.ref[Tensor], dict[object, _Kept]]] = {}

    def get(self, weight: Tensor, packer: Packer, threads: int) -> Packed:
        """The packed weight, made anew when the weight has changed."""
        found = self._of.get(id(weight))
        kept = found[1].get(packer.key) if found is not None and found[0]() is weight else None
        pointer = weight.data_ptr()
        if kept is None or kept.pointer != pointer:
            packed = packer.pack(weight, threads, None if kept is None else kept.packed.values)
            if not weight.is_inference():  # such a tensor has no version
                kept = _Kept(weight._version, pointer, packed, watch(weight))
                self._forms(weight)[packer.key] = kept
            return packed
        version = weight._version
        if kept.version != version or not kept.watch.hold():
            kept.packed = packer.pack(weight, threads, kept.packed.values)
            kept.version = version
            kept.watch.renew()
        return kept.packed

    def _forms(self, weight: Tensor) -> dict[object, _Kept]:
        name = id(weight)
        found = self._of.get(name)
        if found is not None and found[0]() is weight:
            return found[1]
        forms: dict[object, _Kept] = {}

        def forget(gone: weakref.ref[Tensor]) -> None:
            entry = self._of.get(name)
            if entry is not None and entry[0] is gone:
                del self._of[name]

        self._of[name] = (weakref.ref(weight, forget), forms)
        return forms
