"""What the planner knows about a machine: the few numbers of its cost model, each with its derivation."""

from __future__ import annotations

from dataclasses import dataclass

#: Channels of one step of the summation order (law 4): fixed for every machine, size and
#: dataflow. 64 channels of a pixel tile are 64 * 4 lines of 64 bytes = 16 KB, half of the
#: smallest first-level cache in use.
CHANNEL_BLOCK = 64
#: Bytes of a cache line.
LINE_BYTES = 64

#: Bytes of the vector that dot products sum in, on every machine: it is part of the order of summation.
DOT_BYTES = 64


@dataclass(frozen=True)
class InstructionSet:
    """A vector instruction set: register width, register count and how kernels for it are compiled."""

    name: str
    vector_bytes: int
    registers: int
    #: Whole-vector multiply-adds that retire in a cycle, and whole vectors that are loaded.
    fma_per_cycle: float
    triple: str
    cpu: str
    features: str
    #: Whether loads and stores take a mask, a bit for each lane, of elements of any size.
    masks: bool = False

    def lanes(self, item_bytes: int) -> int:
        """Elements of a vector."""
        return self.vector_bytes // item_bytes


_X86 = "x86_64-unknown-linux-gnu"
#: Without the second, shorter division that compilers put beside each one: kernels divide a few times a tile.
_DIVISION = "-idivq-to-divl"
_AVX512 = f"+avx512f,+avx512vl,+avx512dq,+avx512bw,+fma,+f16c,+bmi2,-prefer-256-bit,{_DIVISION}"

INSTRUCTION_SETS = {
    s.name: s
    for s in (
        InstructionSet("avx512", 64, 32, 2.0, _X86, "x86-64-v4", _AVX512, masks=True),
        InstructionSet("avx2", 32, 16, 2.0, _X86, "x86-64-v3", f"+avx2,+fma,+f16c,+bmi2,{_DIVISION}"),
        InstructionSet("generic", 16, 16, 2.0, _X86, "x86-64-v2", f"+avx,+fma,+f16c,{_DIVISION}"),
        InstructionSet("neon", 16, 32, 2.0, "aarch64-unknown-linux-gnu", "generic", "+neon"),
    )
}

#: Processors, by LLVM's names, that take two cycles for what others do in one with vectors of 512 bits.
HALF_RATE = frozenset(("znver4", "cannonlake", "icelake-client", "tigerlake", "rocketlake"))


@dataclass(frozen=True)
class Machine:
    """The instruction set and the private cache that a plan is made for."""

    instruction_set: InstructionSet
    l2_bytes: int = 1 << 20

    @property
    def strip_bytes(self) -> int:
        """Room for a packed input: 5/16 of the second-level cache leave space for weights and results.

        Measured from 1/16 to 7/16: 4/16 to 6/16 are the fastest, 2 % apart; longer strips lose more of what
        is written to the third level, shorter ones pack their surroundings more often.
        """
        return self.l2_bytes * 5 // 16

    @property
    def results_bytes(self) -> int:
        """Room for the results of a task, of a chunk or, where several passes add to them, of all its chunks.

        Beyond it boxes are smaller, or the outputs are parted and the input packed once a part: 1.5 to 5 %
        faster or 2 % slower, and a thread's memory stays below two megabytes.
        """
        return self.l2_bytes

    @property
    def panel_bytes(self) -> int:
        """Room beside the strip for the weights that all pixel tiles of a task reread."""
        return self.l2_bytes * 5 // 8
