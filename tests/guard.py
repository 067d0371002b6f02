"""Tensors whose neighbouring memory pages may not be touched: one byte too far and the process dies."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import mmap
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Literal
from unittest import mock

import torch
from torch import Tensor

from outstride.engine.launch.packer import Packed, Packer
from tests import ROOT
from tests.cases import BY_ID, Case
from tests.environments import Environment, computed_by
from tests.operands import arrange, contractions, draw
from tests.poison import poison
from tests.tolerance import assert_same_bits

Edge = Literal["start", "end"]
_ENOUGH_CRASHES = 5
_PAGE_BYTES = mmap.PAGESIZE
_PROT_NONE, _PROT_READ_WRITE = 0, mmap.PROT_READ | mmap.PROT_WRITE
_LIBC = ctypes.CDLL(ctypes.util.find_library("c") or None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class GuardedPages:
    """Hands out tensors that lie flush against a protected page; frees them all on leaving the block.

    No tensor may be used after the block, its memory is gone then.
    """

    def __init__(self) -> None:
        self._mappings: list[tuple[int, int]] = []

    def __enter__(self) -> GuardedPages:
        return self

    def __exit__(self, *exc: object) -> None:
        for address, length_bytes in self._mappings:
            _LIBC.munmap(address, length_bytes)
        self._mappings.clear()

    def empty_like(self, tensor: Tensor, edge: Edge) -> Tensor:
        """A tensor of the same size, strides and dtype in guarded memory, filled with NaN."""
        span = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
        elements = span if tensor.numel() else 0
        flat = self._elements(elements, tensor.dtype, edge)
        flat.fill_(float("nan"))
        return flat.as_strided(tensor.shape, tensor.stride()) if elements else torch.empty_like(tensor)

    def copy(self, tensor: Tensor, edge: Edge) -> Tensor:
        """The same tensor, its size and strides too, in guarded memory."""
        place = self.empty_like(tensor, edge)
        if 0 in tensor.stride():  # an expanded tensor refuses copy_: write its own elements once instead
            core = [slice(0, 1) if s == 0 else slice(None) for s in tensor.stride()]
            place[tuple(core)].copy_(tensor[tuple(core)])
        else:
            place.copy_(tensor)
        return place

    def _elements(self, count: int, dtype: torch.dtype, edge: Edge) -> Tensor:
        size_bytes = count * dtype.itemsize
        inner = max(1, -(-size_bytes // _PAGE_BYTES)) * _PAGE_BYTES
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        base = _LIBC.mmap(None, inner + 2 * _PAGE_BYTES, _PROT_NONE, flags, -1, 0)
        if base in (None, ctypes.c_void_p(-1).value):
            raise MemoryError(f"mmap of {inner} bytes failed")
        self._mappings.append((base, inner + 2 * _PAGE_BYTES))
        if _LIBC.mprotect(base + _PAGE_BYTES, inner, _PROT_READ_WRITE):
            raise MemoryError(f"mprotect of {inner} bytes failed")
        if not count:
            return torch.empty(0, dtype=dtype)
        first = base + _PAGE_BYTES + (inner - size_bytes if edge == "end" else 0)
        raw = (ctypes.c_char * size_bytes).from_address(first)
        return torch.frombuffer(raw, dtype=dtype, count=count)


def check_bounds(case: Case, dtype: torch.dtype, edge: Edge) -> None:
    """Law 5 of one case: every tensor in guarded memory, and the results are those of ordinary memory."""
    operands = arrange(draw(case, "short", dtype), case.layout, case.weight_layout)
    if not case.batched:
        operands = replace(operands, input=operands.input[None], grad_output=operands.grad_output[None])
    with GuardedPages() as pages, _packed_in(pages):
        expected = {name: call() for name, call in contractions(case, operands).items()}
        guarded = operands.map(lambda t: pages.copy(t, edge))
        for name, call in contractions(case, guarded).items():
            assert_same_bits(call(), expected[name], f"{name}, operands at the {edge} of a page")
            if name == "grad_weight":  # its sums leave through a tensor of the engine's own
                continue
            place = pages.empty_like(expected[name], edge)
            call(out=place)
            assert_same_bits(place, expected[name], f"{name}, also the result at the {edge} of a page")


@contextmanager
def _packed_in(pages: GuardedPages) -> Iterator[None]:
    """Within the block weights are packed at the end of a page, too, and no number behind them changes."""
    pack = Packer.pack

    def packed(packer: Packer, pointer: int, threads: int, buffer: Tensor | None = None) -> Packed:
        made = pack(packer, pointer, threads, buffer)
        room = pages.empty_like(made.values, "end")
        pack(packer, pointer, threads, room)
        assert_same_bits(room[: packer.elements], made.values[: packer.elements], "weights, packed twice")
        assert room[packer.elements :].isnan().all(), "numbers behind the packed weights were written"
        return made

    with mock.patch.object(Packer, "pack", packed):
        yield


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
        done = subprocess.run(
            command, cwd=ROOT, input=waiting, capture_output=True, text=True, timeout=600, check=False
        )
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
