"""Register tiles: how many broadcast operands by how many vectors, and which of them layers may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dataflow = Literal["pixels", "channels", "rows", "lanes", "in_place"]
#: Loops over tiles; "direct" is that of "pixels" whose results are stored where they belong in the output.
Sweep = Literal["channels", "pixels", "rows", "in_place", "direct"]
#: Their order is the number by which kernels know them.
SWEEPS: tuple[Sweep, ...] = ("channels", "pixels", "rows", "in_place", "direct")


@dataclass(frozen=True)
class Tile:
    """A register tile: how many broadcast operands by how many vectors.

    "pixels": vectors run along the width and weights are broadcast; "channels": vectors hold weights of
    neighbouring outputs and each broadcast is a pixel; "rows": one output at a time, so many of its
    rows by vectors along the width; "in_place": the same, read from the input itself; "lanes": each output
    has an input channel of its own, and vectors hold both.
    """

    dataflow: Dataflow
    rows: int
    vectors: int
    #: Of "channels": whether its results are turned, so that pixels lie side by side and no longer outputs.
    turned: bool = True
    #: Of "channels": whether weights are so many that memory must be asked for them.
    far: bool = False

    @property
    def kind(self) -> str:
        """Its dataflow, or what tells it from the others of its dataflow."""
        return (self.dataflow if self.turned else "straight") + "_far" * self.far

    @property
    def name(self) -> str:
        """Its function's name in the generated code."""
        return f"tile_{self.kind}_{self.rows}x{self.vectors}"

    @property
    def outputs_together(self) -> bool:
        """Whether the results of a pixel lie side by side."""
        return self.dataflow == "lanes" or not self.turned

    def outputs(self, lanes: int) -> int:
        """Output channels (times phases) of the tile: rows of packed weights."""
        if self.by_row:
            return 1
        return self.rows if self.dataflow == "pixels" else self.vectors * lanes

    def pixels(self, lanes: int) -> int:
        """Neighbouring pixels of the tile, of each row."""
        return self.rows if self.by_pixel else self.vectors * lanes

    @property
    def by_pixel(self) -> bool:
        """Whether its vectors hold outputs, and its rows are pixels by list."""
        return self.dataflow in ("channels", "lanes")

    @property
    def by_row(self) -> bool:
        """Whether its rows are output rows, along which its vectors lie."""
        return self.dataflow in ("rows", "in_place")

    @property
    def sweep(self) -> Sweep:
        """The loop it is called in, where its results go to scratch."""
        return "channels" if self.dataflow == "lanes" else self.dataflow


#: The tiles of a kernel by the number of vector registers: accumulators, a vector of each column and a
#: broadcast fit. Few enough that one kernel holds them all, so that another size never asks for other code
#: (law 6); between them they lose few lanes on any count of outputs. Dataflow "channels" reads each pixel
#: through a pointer: 8 of them fit.
TILES: dict[int, tuple[Tile, ...]] = {
    32: (
        Tile("pixels", 8, 3), Tile("pixels", 4, 5), Tile("pixels", 3, 7), Tile("pixels", 1, 8),
        Tile("channels", 8, 2), Tile("channels", 7, 2),
    ),
    16: (
        Tile("pixels", 6, 2), Tile("pixels", 4, 2), Tile("pixels", 3, 3), Tile("pixels", 1, 6),
        Tile("channels", 6, 2),
    ),
}  # fmt: skip

#: Those that make vectors of channels, for results that are contiguous along them.
STRAIGHT_TILES: dict[int, tuple[Tile, ...]] = {
    32: (
        Tile("channels", 8, 2, turned=False), Tile("channels", 7, 2, turned=False),
        Tile("channels", 8, 1, turned=False),
    ),
    16: (Tile("channels", 6, 2, turned=False), Tile("channels", 8, 1, turned=False)),
}  # fmt: skip

#: Of depthwise layers whose tensors are contiguous along the channels, which compile no other.
LANE_TILES: dict[int, tuple[Tile, ...]] = {32: (Tile("lanes", 8, 2),), 16: (Tile("lanes", 6, 2),)}

#: Tiles for few outputs, which only layers that can use them compile.
ROW_TILES: dict[int, tuple[Tile, ...]] = {32: (Tile("rows", 4, 4),), 16: (Tile("rows", 3, 3),)}
#: Of layers of one channel a group, which compile no other (see `planner.bands`): the usual maps of 7, 14, 28
#: and 56 rows fill them, and wider ones take those of four rows.
IN_PLACE_TILES: tuple[Tile, ...] = (
    Tile("in_place", 7, 1), Tile("in_place", 7, 2), Tile("in_place", 4, 3), Tile("in_place", 4, 4),
)  # fmt: skip

#: More outputs than this and the other dataflows have enough to do with every vector they load.
ROW_TILE_OUTPUTS = 2
