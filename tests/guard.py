"""Tensors whose neighbouring memory pages may not be touched: one byte too far and the process dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from unittest import mock

import torch
from torch import Tensor

import tests.poison
from outstride.engine.launch.weights.packer import Packed, Packer
from tests import ROOT, protected
from tests.cases import BY_ID, Case
from tests.environments import Environment, computed_by
from tests.fences import Fences
from tests.operands import arrange, contractions, draw
from tests.poison import poison
from tests.protected import ProtectedRooms
from tests.tolerance import assert_same_bits

Edge = protected.Edge
_ENOUGH_CRASHES = 5


class GuardedPages:
    """Hands out tensors that lie flush against a protected page; within the block the engine has no others.

    Nor have its kernels other scratch and tables (`tests/fences.py`). A value in the arena of a compiled
    model has memory of its own, and behind packed weights no number changes.
    """

    def __init__(self, alignment_bytes: int = 1) -> None:
        """Tensors begin at multiples of `alignment_bytes`; of bytes that are left behind a change is seen."""
        self._alignment_bytes = alignment_bytes
        self._rooms = weakref.WeakSet[ProtectedRooms]()
        self._spoiled = list[str]()
        self._stack = ExitStack()

    def __enter__(self) -> GuardedPages:
        pack = Packer.pack

        def packed(packer: Packer, pointer: int, threads: int, buffer: Tensor | None = None) -> Packed:
            made = pack(packer, pointer, threads, buffer)
            assert made.values[packer.elements :].isnan().all(), "numbers behind packed weights were written"
            return made

        self._stack.enter_context(mock.patch.object(tests.poison, "handed_out", self._like))
        self._stack.enter_context(poison())
        self._stack.enter_context(Fences(self._look).standing())
        self._stack.enter_context(mock.patch.object(Packer, "pack", packed))
        if "outstride.compilation" in sys.modules:  # else nothing is compiled, and its import takes seconds
            self._stack.enter_context(self._apart())
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        self._stack.close()
        for rooms in self._rooms:
            self._look(rooms)
        if kind is None:
            assert not self._spoiled, f"memory before or behind {self._spoiled[0]} was written"

    def empty_like(self, tensor: Tensor, edge: Edge) -> Tensor:
        """A tensor of the same size, strides and dtype in guarded memory, filled with NaN."""
        span = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
        if not tensor.numel():
            return torch.empty_like(tensor)
        return self._elements(span, tensor.dtype, edge).as_strided(tensor.shape, tensor.stride())

    def copy(self, tensor: Tensor, edge: Edge) -> Tensor:
        """The same tensor, its size and strides too, in guarded memory."""
        place = self.empty_like(tensor, edge)
        if 0 in tensor.stride():  # an expanded tensor refuses copy_: write its own elements once instead
            core = [slice(0, 1) if s == 0 else slice(None) for s in tensor.stride()]
            place[tuple(core)].copy_(tensor[tuple(core)])
        else:
            place.copy_(tensor)
        return place

    def _like(self, made: Tensor) -> Tensor:
        """A new tensor that is no view, in the place of one that was made."""
        flat = self._elements(made.untyped_storage().nbytes() // made.itemsize, made.dtype, "end")
        new = flat.new_empty(0)
        return new.set_(flat.untyped_storage(), made.storage_offset(), made.shape, made.stride())

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Within the block each value of an arena has memory of its own, or is part of another one."""
        from outstride.compilation import arena

        place = arena.Arena.__init__

        def placed(there: arena.Arena, plan: arena.MemoryPlan) -> None:
            place(there, plan)
            known = {value.line: value for value, _ in plan.places}
            with torch.inference_mode(False):
                wholes = {
                    line: self._elements(value.size_bytes, torch.uint8, "end")
                    for line, value in known.items() if value.inside is None
                }  # fmt: skip
                for line, value in known.items():
                    whole, before = arena._whole(value, known)
                    row = wholes[whole][before : before + value.size_bytes].view(value.dtype)
                    there.tensors[line] = row.as_strided(value.shape, value.strides, row.storage_offset())

        with mock.patch.object(arena.Arena, "__init__", placed):
            yield

    def _elements(self, count: int, dtype: torch.dtype, edge: Edge) -> Tensor:
        size_bytes = count * dtype.itemsize
        rooms = ProtectedRooms([size_bytes], edge=edge, alignment_bytes=self._alignment_bytes)
        self._rooms.add(rooms)
        return torch.frombuffer(rooms.memory(self._look), dtype=dtype, count=count)

    def _look(self, rooms: ProtectedRooms) -> None:
        if not rooms.is_sound:
            self._spoiled.append(" and ".join(f"{size} bytes" for size in rooms.sizes))


def check_bounds(case: Case, dtype: torch.dtype, edge: Edge) -> None:
    """Law 5 of one case: every tensor in guarded memory, and the results are those of ordinary memory."""
    operands = arrange(draw(case, "short", dtype), case.layout, case.weight_layout)
    if not case.batched:
        operands = replace(operands, input=operands.input[None], grad_output=operands.grad_output[None])
    expected = {name: call() for name, call in contractions(case, operands).items()}
    with GuardedPages() as pages:
        guarded = operands.map(lambda t: pages.copy(t, edge))
        for name, call in contractions(case, guarded).items():
            assert_same_bits(call(), expected[name], f"{name}, operands at the {edge} of a page")
            if name == "grad_weight":  # it leaves through a tensor of the engine's own
                continue
            place = pages.empty_like(expected[name], edge)
            call(out=place)
            assert_same_bits(place, expected[name], f"{name}, also the result at the {edge} of a page")


@dataclass(frozen=True)
class Play:
    """Law 5 of one case: in which dtype, against which edge, and whose plans run."""

    case: str
    dtype: str
    edge: Edge
    instruction_set: str
    algorithm: str

    def check(self) -> None:
        """Assert that it holds."""
        where = Environment.of(self.instruction_set, "bounds", self.case, self.edge)
        with poison(), computed_by(self.algorithm), where.entered():
            case = replace(BY_ID[self.case], algorithm=self.algorithm)
            check_bounds(case, getattr(torch, self.dtype), self.edge)


def main() -> None:
    """Play what comes by the standard input and say how each went, neighbours of one algorithm together."""
    plays = [(n, Play(**fields)) for n, fields in json.load(sys.stdin)]
    for algorithm, together in groupby(plays, key=lambda numbered: numbered[1].algorithm):
        with computed_by(algorithm):
            for number, play in together:
                print(json.dumps({"begin": number}), flush=True)
                try:
                    play.check()
                    reason = ""
                except Exception:  # noqa: BLE001 - the parent shows whatever it was as the failure of this case
                    reason = traceback.format_exc()
                print(json.dumps({"end": number, "failure": reason}), flush=True)


def played(plays: Sequence[Play]) -> dict[Play, str]:
    """Play cases in processes of their own; what went wrong with each, "" where nothing did.

    A process that dies takes down one case only: the rest starts again behind it, until that has happened
    too often.
    """
    found: dict[int, str] = {}
    crashes = 0
    while len(found) < len(plays) and crashes < _ENOUGH_CRASHES:
        waiting = json.dumps([(n, asdict(play)) for n, play in enumerate(plays) if n not in found])
        command = [sys.executable, "-m", "tests.guard"]
        # More threads than cores, and they wait for each other: they must not do it at the others' expense.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, input=waiting, capture_output=True, text=True, timeout=600,
            check=False,
        )  # fmt: skip
        running = None
        for line in filter(lambda text: text.startswith("{"), done.stdout.splitlines()):
            record = json.loads(line)
            running = record.get("begin")
            if "end" in record:
                found[record["end"]] = record["failure"]
        if done.returncode and running is None:
            raise RuntimeError(f"the guarded process did not start: {done.stderr[-2000:]}")
        if running is not None:
            crashes += 1
            end = (
                signal.Signals(-done.returncode).name
                if done.returncode < 0
                else f"exit code {done.returncode}"
            )
            found[running] = (
                f"the process died of {end}: memory outside the tensors was touched\n{done.stderr[-2000:]}"
            )
    return {play: found.get(n, f"not played after {crashes} crashes") for n, play in enumerate(plays)}


if __name__ == "__main__":
    main()
