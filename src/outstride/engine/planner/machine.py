"""What the planner knows about a machine: the few numbers of its cost model, each with its derivation."""

from __future__ import annotations

from dataclasses import dataclass, replace

#: Channels of one step of the summation order (law 4): fixed for every machine, size and
#: dataflow. 64 channels of a pixel tile are 64 * 4 lines of 64 bytes = 16 KB, half of the
#: smallest first-level cache in use.
CHANNEL_BLOCK = 64
#: Bytes of a cache line.
LINE_BYTES = 64

#: Bytes of the vector that dot products sum in, on every machine: it is part of the order of summation.
DOT_BYTES = 64


@dataclass(frozen=True)
class Costs:
    """What the cost model takes things to cost on a machine, in cycles unless the name says otherwise.

    The numbers were fitted on one machine, to every tile of 107 layers (docs/decisions/0012 and 0025), and
    serve all of x86: a machine that they do not fit gets others.
    """

    #: A broadcast: there are two load units, whatever they load. Whole vectors are loaded at the rate of
    #: multiply-adds.
    broadcast: float = 0.5
    #: A vector that crosses a line of 64 bytes is loaded twice, and waits: so many loads more on the average
    #: of all addresses.
    crossing: float = 1.8
    #: A line comes from the second-level cache to the first.
    fill: float = 1.7
    #: The same where pixels are listed: of each vector of weights, which all come from there, and of a line
    #: of inputs.
    listed_fill: float = 0.0
    #: Micro-operations that issue in a cycle; a term has 4 beside its loads and multiply-adds (offset, count,
    #: two jumps).
    issue_per_cycle: float = 6.0
    #: Bytes of results that lie between those of other threads and are written, and read next, in a cycle.
    shared_bytes_per_cycle: float = 3.0
    #: A multiply-add, until the next one of its chain may begin: fewer accumulators than this times the rate
    #: leave the units waiting.
    latency: float = 4.0
    #: Bytes that memory beyond the second-level cache delivers in a cycle, and the part of that time that is
    #: not hidden.
    memory_bytes_per_cycle: float = 8.0
    stream_share: float = 0.5
    #: Bytes of weights that come from the second-level cache in a cycle: few rows of pixels wait for them.
    panel_bytes_per_cycle: float = 24.0
    #: Bytes of weights that come from memory in a cycle, where products leave little to hide them behind.
    far_bytes_per_cycle: float = 6.0
    #: Call, loop start and end, first loads of a tile whose vectors hold pixels, and of one whose vectors
    #: hold outputs; addresses and stores of a row of it; and a vector of its results moved, transposed where
    #: pixels lie in vectors of outputs, or as it is. Few terms make the difference.
    pixel_tile: float = 10.0
    output_tile: float = 90.0
    tile_row: float = 8.0
    transposed_result: float = 4.0
    straight_result: float = 2.0
    #: The part of that where a tile's sums are short and the next one reads the same planes.
    short_around: float = 0.7
    #: Finding out whether a tile lies at the border: divisions by the pitches of results.
    tile_search: float = 100.0
    #: Writing an element of the results one at a time: a load, a store and an address each; in vectors, row
    #: starts included; from a tile to its place in the output, whose lines are not at hand; and through a
    #: square that is transposed in registers, log2(lanes) shuffles a vector more.
    scalar_move: float = 1.3
    vector_move: float = 0.25
    direct_move: float = 0.1
    transposed_move: float = 0.6
    #: Fetching a line of 64 bytes from the second-level cache for each term; measured on columns of 8 rows.
    line: float = 3.5
    #: Writing a row of one more range of columns, each phase: a vector or two under masks, or a loop that
    #: ends soon.
    range_row: float = 20.0
    #: Packing a vector of a row, mask and prefetch included, and what a row costs besides; 34 us were
    #: measured for 64 channels of 56 x 56, which these numbers give within a tenth, and 580 us for a strided
    #: 3-d layer.
    pack_vector: float = 5.0
    pack_row: float = 10.0
    #: A load, addition or store of a vector where inputs or products are summed.
    sum_vector: float = 0.8
    #: A vector's load under its mask, which often crosses two lines of the caches; the start and end of a
    #: tile that reads in place; and the bytes that the caches beyond the first deliver in a cycle beside its
    #: sums.
    masked_load: float = 2.5
    in_place_tile: float = 30.0
    stream_bytes_per_cycle: float = 16.0


COSTS = Costs()

#: The same of Arm's processors: derived, never measured on one (docs/decisions/0066). Four operations are
#: decoded in a cycle, and a vector that crosses a line is loaded twice without waiting. To move a vector is a
#: load and a store of four elements, a store alone where a tile writes its results, and two shuffles more
#: where it is transposed.
ARM_COSTS = replace(
    COSTS, issue_per_cycle=4.0, crossing=1.0, vector_move=0.5, direct_move=0.25, transposed_move=0.75
)
#: Of those with twice as many units: eight operations are decoded in a cycle, and there are three load units.
WIDE_ARM_COSTS = replace(ARM_COSTS, issue_per_cycle=8.0, broadcast=1 / 3)
#: Those of Intel's servers, whose second level delivers a line in two and a half cycles where weights and
#: inputs come from it: fitted to every tile of 38 layers (docs/decisions/0080).
MESH_COSTS = replace(COSTS, crossing=2.4, listed_fill=2.5, panel_bytes_per_cycle=16.0, scalar_move=3.5)


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
    #: What things cost on the processors that have it.
    costs: Costs = COSTS

    def lanes(self, item_bytes: int) -> int:
        """Elements of a vector."""
        return self.vector_bytes // item_bytes

    def masks_items(self, item_bytes: int) -> bool:
        """Whether one instruction loads or stores some lanes of such elements; else each lane takes a branch.

        AVX has such instructions for 4 and 8 bytes.
        """
        return self.masks or (self.triple == _X86 and item_bytes >= 4)


_X86, _ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
#: Without the second, shorter division that compilers put beside each one: kernels divide a few times a tile.
_DIVISION = "-idivq-to-divl"
_AVX512 = f"+avx512f,+avx512vl,+avx512dq,+avx512bw,+fma,+f16c,+bmi2,-prefer-256-bit,{_DIVISION}"

INSTRUCTION_SETS = {
    s.name: s
    for s in (
        InstructionSet("avx512", 64, 32, 2.0, _X86, "x86-64-v4", _AVX512, masks=True),
        InstructionSet("avx2", 32, 16, 2.0, _X86, "x86-64-v3", f"+avx2,+fma,+f16c,+bmi2,{_DIVISION}"),
        InstructionSet("generic", 16, 16, 2.0, _X86, "x86-64-v2", f"+avx,+fma,+f16c,{_DIVISION}"),
        InstructionSet("neon", 16, 32, 2.0, _ARM, "generic", "+neon", costs=ARM_COSTS),
    )
}

#: Processors, by LLVM's names, that take two cycles for what others do in one with vectors of 512 bits.
HALF_RATE = frozenset(("znver4", "cannonlake", "icelake-client", "tigerlake", "rocketlake"))
#: Processors of Arm's that take four vectors of 128 bits in a cycle, where the others take two.
FOUR_UNITS = frozenset((
    "neoverse-v1", "neoverse-v2", "neoverse-v3", "neoverse-v3ae", "cortex-x1", "cortex-x1c", "cortex-x2",
    "cortex-x3", "cortex-x4", "cortex-x925", "apple-m1", "apple-m2", "apple-m3", "apple-m4",
))  # fmt: skip


#: Processors whose cores reach the third level over a mesh.
MESH = frozenset((
    "skylake-avx512", "cascadelake", "cooperlake", "icelake-server", "sapphirerapids", "emeraldrapids",
    "graniterapids", "graniterapids-d",
))  # fmt: skip
#: What plans count on of a second-level cache, however large it is: of one of two megabytes more is slower,
#: on a processor whose third level is far (docs/decisions/0080). The last is what planes and results may take
#: together without leaving it.
MOST_DIRECT_BYTES, MOST_SHORT_BYTES, MOST_KEPT_BYTES = 1 << 20, 3 << 19, 7 << 18


def as_run_by(isa: InstructionSet, processor: str) -> InstructionSet:
    """The instruction set at the rates of a processor, which LLVM has a name for."""
    if isa.vector_bytes == 64 and processor in HALF_RATE:
        return replace(isa, fma_per_cycle=isa.fma_per_cycle / 2)
    if isa.costs is COSTS and processor in MESH:
        return replace(isa, costs=MESH_COSTS)
    if isa.costs is ARM_COSTS and processor in FOUR_UNITS:
        return replace(isa, fma_per_cycle=2 * isa.fma_per_cycle, costs=WIDE_ARM_COSTS)
    return isa


@dataclass(frozen=True)
class Machine:
    """The instruction set, with its costs, and the private cache that a plan is made for."""

    instruction_set: InstructionSet
    l2_bytes: int = 1 << 20

    @property
    def costs(self) -> Costs:
        """What things cost here."""
        return self.instruction_set.costs

    @property
    def direct_bytes(self) -> int:
        """What a task of the direct chain counts on of the second-level cache: its shares may exceed it."""
        return min(self.l2_bytes, MOST_DIRECT_BYTES)

    @property
    def short_bytes(self) -> int:
        """The same of short algorithms, of which planes have a share."""
        return min(self.l2_bytes, MOST_SHORT_BYTES)

    @property
    def kept_bytes(self) -> int:
        """What planes and results of short algorithms may take without leaving the cache."""
        return min(self.l2_bytes, MOST_KEPT_BYTES)

    @property
    def strip_bytes(self) -> int:
        """Room for a packed input: 5/16 of the second-level cache leave space for weights and results.

        Measured from 1/16 to 7/16: 4/16 to 6/16 are the fastest, 2 % apart; longer strips lose more of what
        is written to the third level, shorter ones pack their surroundings more often.
        """
        return self.direct_bytes * 5 // 16

    @property
    def planes_bytes(self) -> int:
        """Room for the planes of a transformed input: half of the second-level cache.

        They are read once for each chunk of outputs, and a larger box shares its weights with more cells.
        """
        return self.short_bytes * 9 // 16

    @property
    def results_bytes(self) -> int:
        """Room for the results of a task, of a chunk or, where several passes add to them, of all its chunks.

        Beyond it boxes are smaller, or the outputs are parted and the input packed once a part: 1.5 to 5 %
        faster or 2 % slower, and a thread's memory stays below two megabytes.
        """
        return self.direct_bytes

    @property
    def panel_bytes(self) -> int:
        """Room beside the strip for the weights that all pixel tiles of a task reread."""
        return self.direct_bytes * 5 // 8
