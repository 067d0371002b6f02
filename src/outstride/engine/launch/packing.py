"""Packed weights: kept as long as the memory that they were packed from, used while it holds the same.

The law: after any write to a weight, by whatever means, the next call uses it, and a call beside the write
uses the one or the other. So what is kept belongs to memory and not to a tensor; what the memory holds is
looked at in every call (`launch/weight_snapshots.py`), and before it is packed, so that a write in between
is seen by the next; and packed weights that a call may be reading are never written to.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from outstride.engine.codegen.arguments import WEIGHT_GROUP_FIELDS, WEIGHT_INDEX
from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.weights import weights_source
from outstride.engine.launch import call_cache
from outstride.engine.launch.argument_block import ArgumentBlock, address, table
from outstride.engine.launch.launches import Kept, Launch
from outstride.engine.launch.weight_snapshots import Snapshot, take_snapshot
from outstride.engine.planner.arguments import GroupArguments, KernelArguments
from outstride.engine.planner.gather_form import AxisPhases, PhaseGroup
from outstride.engine.planner.machine import CHANNEL_BLOCK
from outstride.engine.planner.plan import GatherPlan
from outstride.engine.planner.tables import round_up_line
from outstride.engine.runtime import Module, prefer_large, scratch

_W, _PACKED, _SPOILED, _SCRATCH = (
    WEIGHT_INDEX[n] for n in ("w_at", "packed_at", "spoiled", "scratch_at")
)  # fmt: skip


@dataclass(frozen=True)
class WeightStrides:
    """Elements between groups, outputs, channels and kernel positions of a weight as contractions see it."""

    group: int
    output: int
    channel: int
    kernel: tuple[int, int, int]


def weights_module(plan: GatherPlan) -> Module:
    """The module that packs weights for a plan."""
    dtype, short = plan.problem.dtype, plan.recipe.short
    source = partial(weights_source, dtype, short)
    name = "".join((f"weights_{dtype}", *(f"_{axis.name}" for axis in short)))
    return Module(name, source, plan.machine.instruction_set, authorship())


class Packer:
    """Packs weights for one plan and one set of strides."""

    def __init__(self, plan: GatherPlan, made: KernelArguments, strides: WeightStrides) -> None:
        p = plan.problem
        self.elements = p.groups * made.chunks * made.chunk_weights
        self.dtype = torch.float64 if p.dtype == "float64" else torch.float32
        form = (
            p.operator, p.dtype, p.kernel_size, p.stride, p.groups, p.channels, p.outputs, strides,
            plan.tile_rows, plan.blocking.chunk_outputs,
            [[along.kernel for along in g.of.axes] for g in made.groups], [a.name for a in plan.recipe.short],
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
        side_by_side = positions == strides.output == 1 and not in_order
        for i, g in enumerate(g for g in _packed(plan, made) if g.taps):
            taps = array("q", chain.from_iterable(g.of.kernel_places(strides.kernel)))
            tables[f"taps_{i}"] = taps
            tap_of = array("q", [-1] * prod(p.kernel_size))
            for tap, at in enumerate(next(g.of.kernel_places(order))):
                tap_of[at] = tap
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
            "chunk_outputs": plan.blocking.chunk_outputs,
            "outputs": p.outputs, "channels": p.channels, "width": plan.tile_rows,
            "w_stride_g": strides.group, "w_stride_m": strides.output, "w_stride_c": strides.channel,
            "packed_stride_g": made.chunks * made.chunk_weights, "packed_stride_chunk": made.chunk_weights,
            "phase_groups": len(rows), "kernel": positions, "in_order": int(in_order),
            "side_by_side": int(side_by_side),
            "product_pitch": made.groups[0].tiles * plan.tile_rows * p.channels,
        }  # fmt: skip
        if p.short:  # a block of channels as it lies, which products are summed from
            terms = CHANNEL_BLOCK * plan.tile_rows + _MARGIN
            scalars["scratch_bytes"] = round_up_line(positions * terms * self.dtype.itemsize)
        self._scratch_bytes = scalars.get("scratch_bytes", 0)
        self._block = ArgumentBlock.of(WEIGHT_INDEX, scalars, tables)

    def pack(self, pointer: int, threads: int, buffer: Tensor | None = None) -> Packed:
        """The weight at an address in the order of the microkernel, in the buffer if one is given."""
        if buffer is None:
            buffer = torch.empty(self.elements + _MARGIN, dtype=self.dtype)
            prefer_large(buffer.data_ptr(), buffer.nbytes)
        packed_at = buffer.data_ptr()
        block = self._block.fresh()
        block[_W], block[_PACKED] = pointer, packed_at
        workers = threads if self.elements > _PARALLEL else 1
        if self._scratch_bytes:
            block[_SCRATCH] = scratch(self._scratch_bytes * workers)
        self._kernel.launch(address(block), workers)
        return Packed(buffer, packed_at, not block[_SPOILED])


def _packed(plan: GatherPlan, made: KernelArguments) -> Sequence[GroupArguments]:
    """The phase groups whose taps are packed; of short axes the kernel as it is, for all products."""
    if not plan.problem.short:
        return made.groups
    kernel = plan.problem.kernel_size
    axes = tuple(AxisPhases((0,), tuple(range(n)), (tuple(range(n)),)) for n in kernel)
    return [replace(made.groups[0], taps=prod(kernel), of=PhaseGroup(axes))]


#: Packed elements from which more than one thread is worth waking.
_PARALLEL = 1 << 16
#: Forms of a weight that are kept, those packed last: a head that looks at five scales and is trained has
#: seven or so, and every form takes as much memory as the weight.
_MOST_FORMS = 8
#: Elements behind the packed weights: a vector of them may be read in advance.
_MARGIN = 64


class Packed(NamedTuple):
    """Packed weights, where they are, and whether all of them are finite."""

    values: Tensor
    pointer: int
    finite: bool


class _Entry(NamedTuple):
    """Packed weights, and of what: the version (an inference tensor has none), the contents, the storage."""

    packed: Packed
    version: int | None
    snapshot: Snapshot
    storage: weakref.ref[torch.UntypedStorage]

    @property
    def pointer(self) -> int:
        """Where the packed weight is."""
        return self.packed.pointer

    @property
    def finite(self) -> bool:
        """Whether all of it is."""
        return self.packed.finite

    @property
    def look(self) -> Launch | None:
        """What flags a change of the weight."""
        return self.snapshot.look


class _Memory:
    """A storage that weights lie in."""

    def __init__(self, storage: weakref.ref[torch.UntypedStorage]) -> None:
        self.storage = storage
        #: Where the forms of a weight are kept, by the weight's offset in bytes and the form.
        self.names: dict[tuple[int, str], tuple[int, str]] = {}
        #: Offsets of weights whose owner has promised not to change them.
        self.frozen: set[int] = set()


class _Frozen:
    """The snapshot of a frozen weight: nobody looks."""

    look: Launch | None = None

    def is_current(self, _: int) -> bool:
        return True


#: What `sys.getrefcount` says of a value that one variable or attribute refers to. Nothing is reused where it
#: says other numbers (Python 3.14 borrows from variables) or may change meanwhile (no interpreter lock).
_COUNTS = sys.version_info < (3, 14) and getattr(sys, "_is_gil_enabled", lambda: True)()
_ALONE = 2 if _COUNTS else -1


class PackedWeights:
    """The packed forms of weights, each kept by the weight's address and the form."""

    name = "packed weights"

    def __init__(self) -> None:
        self._entries: dict[tuple[int, str], _Entry] = {}
        self._memories: dict[int, _Memory] = {}
        #: Another object whenever who keeps an entry has to ask for it again.
        self.promises = object()

    def get(self, weight: Tensor, packer: Packer, threads: int) -> Packed:
        """The packed weight, made anew if the weight has changed."""
        entry = self._entries.get((weight.data_ptr(), packer.key))
        if entry is not None:
            # While this thread looks, another may give the weight other memory: this reference keeps the old.
            storage = entry.storage()
            if (
                storage is not None
                and entry.version == _version(weight)
                and entry.snapshot.is_current(threads)
            ):
                return entry.packed
            del storage
        del entry  # so that what nobody else uses is seen to be free
        return self._renew(weight, packer, threads)

    def entry(self, weight: Tensor, packer: Packer, threads: int) -> Kept:
        """The same with what finds out whether it is still current, for those who look themselves."""
        while True:
            packed = self.get(weight, packer, threads)
            entry = self._entries.get((weight.data_ptr(), packer.key))
            if entry is not None and entry.packed is packed:
                return entry  # else another thread packed it anew

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Drop all packed weights; a call that reads some keeps them until it ends, and promises stay."""
        self._entries.clear()
        self.promises = object()

    def forms(self, weight: Tensor) -> list[tuple[int, str]]:
        """Under what the packed forms of a weight are kept: its address and the form."""
        storage = weight.untyped_storage()
        names, offset = self._memory(storage).names, weight.data_ptr() - storage.data_ptr()
        return [name for (at, _), name in names.items() if at == offset and name in self._entries]

    def freeze(self, weight: Tensor) -> None:
        """Take its owner's word that a weight does not change, so that calls do not look."""
        storage = weight.untyped_storage()
        self._memory(storage).frozen.add(weight.data_ptr() - storage.data_ptr())
        self._forget(weight)

    def thaw(self, weight: Tensor) -> None:
        """Look again at every call."""
        storage = weight.untyped_storage()
        self._memory(storage).frozen.discard(weight.data_ptr() - storage.data_ptr())
        self._forget(weight)

    def is_frozen(self, weight: Tensor) -> bool:
        """Whether its owner has promised not to change it."""
        storage = weight.untyped_storage()
        memory = self._memories.get(id(storage))
        if memory is None or memory.storage() is not storage:
            return False
        return weight.data_ptr() - storage.data_ptr() in memory.frozen

    def _forget(self, weight: Tensor) -> None:
        for name in self.forms(weight):
            self._entries.pop(name, None)
        self.promises = object()

    def _renew(self, weight: Tensor, packer: Packer, threads: int) -> Packed:
        storage, pointer, version = weight.untyped_storage(), weight.data_ptr(), _version(weight)
        offset = pointer - storage.data_ptr()
        if not 0 <= offset < storage.nbytes():
            return self._renew(weight, packer, threads)  # another thread gave it other memory between the two
        memory, name = self._memory(storage), (pointer, packer.key)
        frozen = offset in memory.frozen
        old = self._entries.pop(name, None)  # no other call finds it from here on
        buffer = None
        if old is not None:
            if frozen and old.version != version:
                warnings.warn(_BROKEN_PROMISE, stacklevel=2)
            if sys.getrefcount(old) == _ALONE == sys.getrefcount(old.packed):
                buffer = old.packed.values
        snapshot: Snapshot = _Frozen() if frozen else take_snapshot(weight, pointer, threads)
        packed = packer.pack(pointer, threads, buffer)
        before = memory.names.pop((offset, packer.key), None)
        if before is not None and before != name:  # the storage has moved
            self._entries.pop(before, None)
        forms = [place for place in memory.names if place[0] == offset]
        for place in forms[: max(0, len(forms) + 1 - _MOST_FORMS)]:
            self._entries.pop(memory.names.pop(place), None)
        memory.names[offset, packer.key] = name
        self._entries[name] = _Entry(packed, version, snapshot, memory.storage)
        return packed

    def _memory(self, storage: torch.UntypedStorage) -> _Memory:
        found = self._memories.get(id(storage))
        if found is not None and found.storage() is storage:
            return found
        number = id(storage)

        def forget(gone: weakref.ref[torch.UntypedStorage]) -> None:
            memory = self._memories.get(number)
            if memory is not None and memory.storage is gone:
                del self._memories[number]
                for name in memory.names.values():
                    entry = self._entries.get(name)
                    if entry is not None and entry.storage is gone:
                        del self._entries[name]

        made = self._memories[number] = _Memory(weakref.ref(storage, forget))
        return made


_BROKEN_PROMISE = (
    "a weight of a model accelerated with frozen=True was changed in place: it is packed anew, but a change "
    "that torch does not count would not be seen; call restore(model) before weights are written to"
)


def _version(weight: Tensor) -> int | None:
    return None if weight.is_inference() else weight._version


#: Of all weights.
PACKED = PackedWeights()
call_cache.include(PACKED)
