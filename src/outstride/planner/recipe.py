"""The part of a plan that machine code depends on: kernels are cached under it."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from itertools import product
from typing import Literal

Dataflow = Literal["pixels", "channels", "rows", "lanes", "in_place"]
#: Loops over tiles; "direct" is that of "pixels" whose results are stored where they belong in the output.
Sweep = Literal["channels", "pixels", "rows", "in_place", "direct"]
#: Their order is the number by which kernels know them.
SWEEPS: tuple[Sweep, ...] = ("channels", "pixels", "rows", "in_place", "direct")
Unit = Literal["width", "channel", "any"]

#: Bytes of an element as tensors keep it, and as kernels sum it (and keep packed inputs and weights).
STORAGE_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
ACCUMULATOR_BYTES = {"float32": 4, "float64": 8, "bfloat16": 4, "float16": 4}


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

    @property
    def kind(self) -> str:
        """Its dataflow, or what tells it from the others of its dataflow."""
        return self.dataflow if self.turned else "straight"

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


@dataclass(frozen=True)
class Window:
    """The taps along the height as kernels that read in place write them out.

    Output row r reads input row r * in_step + k * tap_step at tap k, counted from its first one. `shared`
    taps along the width deal out the same vectors among them.
    """

    taps: int
    in_step: int
    tap_step: int
    shared: int = 1

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """Its register tiles: only two where taps share vectors, for each is then several times as long."""
        return IN_PLACE_TILES if self.shared == 1 else IN_PLACE_TILES[:2]

    @property
    def widest(self) -> Tile:
        """The tile of the most vectors, which wide rows take."""
        return max(self.tiles, key=lambda tile: tile.vectors)

    def rows(self, count: int) -> list[tuple[int, list[tuple[int, int]]]]:
        """The input rows that `count` output rows read: each with the outputs and taps (r, k) that do.

        They come in such an order that the taps of an output ascend.
        """
        found: dict[int, list[tuple[int, int]]] = {}
        for r, k in product(range(count), range(self.taps)):
            found.setdefault(r * self.in_step + k * self.tap_step, []).append((r, k))
        return sorted(found.items(), reverse=self.tap_step < 0)


@dataclass(frozen=True)
class Recipe:
    """What a kernel is specialised on; sizes, strides, taps and the tile in use are run-time arguments."""

    dtype: str
    instruction_set: str
    #: Which axis of the input has stride 1: "width", "channel" or none ("any"); of the output likewise.
    in_unit: Unit
    out_unit: Unit
    #: Stride of the input along the width, and of the output; 0 means known at run time only.
    in_step: int
    out_step: int
    #: The loops over tiles that sizes may ask for.
    sweeps: tuple[Sweep, ...] = ("pixels", "channels")
    #: Of the sweep "in_place".
    window: Window | None = None

    @property
    def name(self) -> str:
        """The kernel's name in the generated code and in memory."""
        units = f"i{self.in_step}{self.in_unit[0]}_o{self.out_step}{self.out_unit[0]}"
        sweeps = "".join(s[0] for s in self.sweeps)
        if self.window is not None:
            sweeps += "_".join(map(str, ("", *astuple(self.window))))
        return f"{self.dtype}_{units}_{sweeps}_{self.instruction_set}"
