"""What a dataflow is: which operand of a register tile lies in vectors, and all that follows from it.

A dataflow is a module of `planner.dataflows`, and its namesake in `codegen.dataflows` writes its microkernel
and its loop over tiles. Here is what the planner asks of each of them: its register tiles, how they cover a
box, what they cost, what room they need and how they are put into words. Nobody compares its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import ClassVar

from outstride.engine.planner.blocking import Blocking, Cut, Region, rows_of
from outstride.engine.planner.dtypes import ACCUMULATOR_BYTES
from outstride.engine.planner.gather_form import GatherAxis, PhaseGroup
from outstride.engine.planner.machine import Costs, Machine
from outstride.engine.planner.prefetch import NO_PREFETCH, Prefetch
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.strip import Strip
from outstride.engine.planner.unrolled import RowTaps, Unrolled


@dataclass(frozen=True)
class Tile:
    """A register tile: `rows` broadcast operands by `vectors` vectors; its dataflow says which is which."""

    dataflow: Dataflow
    rows: int
    vectors: int
    #: Of vectors of outputs: whether the results are transposed, so that pixels lie side by side in them.
    transposed: bool = True
    #: Whether it asks for the weights that are read next.
    prefetches: bool = False

    @property
    def variant(self) -> str:
        """Its dataflow's name, or what tells it from the other tiles of its dataflow."""
        if not self.transposed:
            return "straight"
        # Where vectors hold outputs, all tiles of a dataflow prefetch or none does.
        return self.dataflow.name + "_prefetch" * (self.prefetches and not self.dataflow.lists_pixels)

    @property
    def name(self) -> str:
        """Its function's name in the generated code."""
        return f"tile_{self.variant}_{self.rows}x{self.vectors}"

    def outputs(self, lanes: int) -> int:
        """Output channels (times phases) of the tile: rows of packed weights."""
        return self.dataflow.outputs(self, lanes)

    def pixels(self, lanes: int) -> int:
        """Neighbouring pixels of the tile, of each row where it has several rows of the output."""
        return self.dataflow.pixels(self, lanes)


@dataclass(frozen=True)
class Candidate:
    """A tile for a problem on a machine: what is cut into tasks, and costed."""

    problem: Problem
    tile: Tile
    machine: Machine
    threads: int
    axes: tuple[GatherAxis, ...]
    groups: tuple[PhaseGroup, ...]
    #: Whether the cells of a transposed layer are counted from the first output that is kept.
    cropped: bool
    #: Bytes of an element in sums, packed inputs and packed weights.
    item_bytes: int = field(init=False, repr=False, compare=False)
    #: Elements of a vector of accumulators.
    lanes: int = field(init=False, repr=False, compare=False)
    #: Rows of packed weights that a register tile takes.
    tile_rows: int = field(init=False, repr=False, compare=False)
    #: Images, and the cells of every axis.
    cells: tuple[int, ...] = field(init=False, repr=False, compare=False)
    #: The axes that the input is packed along.
    input_axes: tuple[GatherAxis, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Each is asked for many times a plan, and a new size waits for its plan.
        keep = partial(object.__setattr__, self)
        keep("item_bytes", ACCUMULATOR_BYTES[self.problem.dtype])
        keep("lanes", self.machine.instruction_set.lanes(self.item_bytes))
        keep("tile_rows", self.tile.outputs(self.lanes))
        keep("cells", (self.problem.batch, *(a.cells for a in self.axes)))
        keep("input_axes", self.problem.input_axes(self.axes))

    @property
    def dataflow(self) -> Dataflow:
        """The dataflow of its tile."""
        return self.tile.dataflow

    @property
    def tile_pixels(self) -> int:
        """Pixels of a register tile, all its rows together."""
        return self.tile.pixels(self.lanes) * (self.tile.rows if self.dataflow.of_rows else 1)

    def chunks(self, blocking: Blocking) -> int:
        """Chunks that cover the outputs of a group."""
        return ceil(self.problem.outputs / blocking.chunk_outputs)

    def passes(self, blocking: Blocking) -> int:
        """Passes over the channels."""
        return ceil(self.problem.channels / blocking.channels_per_pass)

    def result_rows(self, blocking: Blocking) -> list[int]:
        """Rows of results of each phase group of a chunk, rounded up to whole tiles."""
        return rows_of(self.groups, blocking.chunk_outputs, self.tile_rows)


#: The loops over tiles. Their order is the number by which kernels know them.
LOOPS = ("channels", "pixels", "rows", "in_place", "direct", "stored", "lanes", "unpacked")

#: Where taps that read nothing but padding are left out: nowhere, in whole boxes and regions, in rows too.
NO_SKIPS, BOX_SKIPS, ROW_SKIPS = range(3)


class Dataflow(ABC):
    """A dataflow as the planner knows it; the methods that have a body are what most of them answer."""

    name: ClassVar[str]
    #: The module that its microkernels are compiled in, once for all kernels; None: they are part of each.
    tile_module: ClassVar[str | None]
    #: Whether weights are packed, and kept so; else they are read where they lie.
    packs_weights: ClassVar[bool] = True
    #: Whether the plan of a size serves others.
    serves_other_sizes: ClassVar[bool]
    #: Whether its vectors hold outputs, and the rows of its tiles are pixels by list.
    lists_pixels: ClassVar[bool] = False
    #: Whether the rows of its tiles are rows of the output, along which its vectors lie.
    of_rows: ClassVar[bool] = False
    #: What lies in vectors and what is broadcast, as plans print it.
    operands: ClassVar[str] = "inputs in lanes, weights broadcast"

    def __repr__(self) -> str:
        return self.name

    @abstractmethod
    def packs(self, problem: Problem) -> bool:
        """Whether a task's input is packed into a strip; else it is read where it lies."""

    # -- register tiles --------------------------------------------------------------------------------------
    @abstractmethod
    def tiles(self, problem: Problem, machine: Machine) -> tuple[Tile, ...]:
        """The register tiles that a layer may use at some size, the same for all its sizes; or none."""

    @abstractmethod
    def outputs(self, tile: Tile, lanes: int) -> int:
        """Output channels (times phases) of a tile."""

    @abstractmethod
    def pixels(self, tile: Tile, lanes: int) -> int:
        """Neighbouring pixels of a tile, of each of its output rows."""

    def outputs_together(self, tile: Tile) -> bool:
        """Whether the results of a pixel lie side by side."""
        del tile
        return False

    @abstractmethod
    def loops(self, problem: Problem) -> tuple[str, ...]:
        """The loops over its tiles that sizes of a layer may need, by the names of `LOOPS`."""

    def loop(self, blocking: Blocking) -> str:
        """The loop that its tiles are called in."""
        del blocking
        return self.name

    def unrolled(self, problem: Problem) -> Unrolled | RowTaps | None:
        """The taps that its kernels have unrolled in their code; None: they loop over a table of taps."""
        del problem
        return None

    def croppings(self, problem: Problem) -> tuple[bool, ...]:
        """The ways to count cells: from the uncropped edge, or from the first output that is kept."""
        return (False, True) if problem.may_crop else (False,)

    # -- how tiles cover the work ----------------------------------------------------------------------------
    @abstractmethod
    def estimates(self, candidate: Candidate) -> Iterator[tuple[Blocking, float]]:
        """The ways to cut the work that are worth costing, each with its predicted cycles."""

    @abstractmethod
    def fitted(self, candidate: Candidate, model: Blocking) -> Blocking:
        """The blocking of a size a little larger, cut for this one."""

    @abstractmethod
    def pixels_over(self, candidate: Candidate, blocking: Blocking) -> int:
        """Pixels of the tiles that cover a box, those that do not exist included."""

    def regions(self, tile: Tile, blocking: Blocking) -> list[Region]:
        """The regions of a box, with the places of their results."""
        del tile
        s = blocking.strip  # gaps stay where vectors run over them
        pitches = (s.image_pitch, s.extent[1] * s.extent[2], s.extent[2])
        return [Region(0, 0, 0, *blocking.box[1:], 0, *pitches)]

    def widest(self, candidate: Candidate, blocking: Blocking) -> int:
        """Vectors of a tile, or at most where tiles are as wide as rows need."""
        del blocking
        return candidate.tile.vectors

    @abstractmethod
    def skips(self, candidate: Candidate, blocking: Blocking) -> int:
        """Where some box, or some row of one, has a tap that reads nothing but padding there."""

    @abstractmethod
    def prefetch(self, candidate: Candidate, blocking: Blocking) -> Prefetch:
        """What is prefetched of the input that is packed next."""

    @abstractmethod
    def scratch(self, candidate: Candidate, blocking: Blocking, runs: int) -> dict[str, int]:
        """A thread's scratch, by the names of the argument block; `runs` entries hold the runs of taps."""

    def unwritten(self, candidate: Candidate, blocking: Blocking) -> tuple[int, int]:
        """What tiles read and packing does not write: elements before it in a plane, and its vectors."""
        del candidate, blocking
        return 0, 0

    # -- words -----------------------------------------------------------------------------------------------
    def in_words(self, tile: Tile, lanes: int) -> str:
        """What a tile is, as plans print it."""
        of_rows = f" of {tile.rows} rows" if self.of_rows else ""
        return f"{tile.outputs(lanes)} outputs x {tile.pixels(lanes)} pixels{of_rows}: {self.operands}"


class ReadingDataflow(Dataflow):
    """One whose tiles read the input where it lies, in a kernel that has no others."""

    tile_module = None
    serves_other_sizes = False

    def packs(self, problem: Problem) -> bool:
        del problem
        return False

    def loops(self, problem: Problem) -> tuple[str, ...]:
        del problem
        return (self.name,)

    def skips(self, candidate: Candidate, blocking: Blocking) -> int:
        """It looks at every input row, whether it exists."""
        del candidate, blocking
        return NO_SKIPS

    def prefetch(self, candidate: Candidate, blocking: Blocking) -> Prefetch:
        del candidate, blocking
        return NO_PREFETCH


class PackingDataflow(Dataflow):
    """What is asked besides of a dataflow whose tiles read a packed strip and leave their sums in scratch."""

    serves_other_sizes = True

    #: Whether a tile may go on from the sums of an earlier pass over other channels.
    resumes: ClassVar[bool] = True

    def packs(self, problem: Problem) -> bool:
        """Rows of a matrix lie as a strip of theirs would."""
        return not (problem.rows and self.pixel_major(problem))

    # -- how a box is cut and packed -------------------------------------------------------------------------
    @abstractmethod
    def tiles_over(self, tile: Tile, blocking: Blocking, lanes: int) -> int:
        """Register tiles that cover the pixels of a full box."""

    def gap(self, axis: GatherAxis) -> int:
        """Columns between two rows of whole width over which vectors run on."""
        del axis
        return 0

    def rows_together(self, tile: Tile) -> int:
        """Rows of a box below which tiles are not full."""
        del tile
        return 1

    def aligned(self, problem: Problem) -> bool:
        """Whether each row of the strip begins a line of the caches."""
        del problem
        return False

    def pixel_major(self, problem: Problem) -> bool:
        """Whether the channels of a pixel lie side by side in the strip."""
        return self.lists_pixels and problem.in_unit == "channel" and not problem.short

    def may_store(self, problem: Problem) -> bool:
        """Whether tiles may store their results where they belong in the output."""
        del problem
        return False

    def worth_storing(self, candidate: Candidate, box: tuple[int, ...], strip: Strip) -> bool:
        """Whether those of a box of one region should, if they may."""
        del candidate, box, strip
        return False

    @abstractmethod
    def widths(self, candidate: Candidate) -> Iterator[tuple[int, Cut]]:
        """The most columns of a box, and the axes that are cut into ranges which use the same taps."""

    # -- what tiles cost -------------------------------------------------------------------------------------
    @abstractmethod
    def term_cycles(self, candidate: Candidate, row_tiles: Sequence[int]) -> float:
        """Cycles of a term of a tile, the mean over so many tiles of each phase group."""

    @abstractmethod
    def tile_cycles(self, costs: Costs) -> float:
        """Cycles of calling a tile: loop start and end, and first loads."""

    def result_cycles(self, tile: Tile, costs: Costs) -> float:
        """Cycles of moving a vector of a tile's results to scratch."""
        return costs.straight_result if self.outputs_together(tile) else costs.transposed_result

    @abstractmethod
    def tiles_look(self, box: tuple[int, int, int, int]) -> bool:
        """Whether tiles at a border may look for the taps that their own rows can use."""

    # -- room ------------------------------------------------------------------------------------------------
    def reach(self, tile: Tile, blocking: Blocking, lanes: int) -> int:
        """Elements that a tile may read beyond the strip, and write beyond the results."""
        del blocking
        return tile.vectors * lanes

    def results(self, tile: Tile, blocking: Blocking, lanes: int) -> int:
        """Results of a box in a row of scratch."""
        del tile, lanes
        return blocking.extent
