"""The dataflows in code, a module each: their microkernels, and their loops over tiles.

They are the namesakes of the modules of `planner.dataflows`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from outstride.engine.codegen.context import Kernel
from outstride.engine.codegen.dataflows import channels, in_place, lanes, pixels, rows, unpacked
from outstride.engine.codegen.dataflows.pixels import results_in_scratch
from outstride.engine.codegen.elements import Element
from outstride.engine.codegen.ir import Function
from outstride.engine.codegen.loops import TileLoop
from outstride.engine.planner.dataflow import Tile

__all__ = ["KERNELS", "LOOPS", "MICROKERNELS", "results_in_scratch"]

#: What writes the microkernel of a tile, by the name of its dataflow.
MICROKERNELS: Mapping[str, Callable[[Tile, Element, int], Function]] = {
    "pixels": pixels.Pixels().microkernel,
    "channels": channels.Channels().microkernel,
    "rows": rows.microkernel,
}
#: What writes a loop over tiles.
LOOPS: Mapping[str, Callable[[TileLoop], None]] = {
    "pixels": pixels.over_rows,
    "direct": pixels.direct,
    "channels": channels.over_pixels,
    "stored": channels.stored,
    "rows": rows.over_row_groups,
}
#: What writes the functions of kernels that have a loop nest of their own.
KERNELS: Mapping[str, Callable[[Kernel], list[Function]]] = {
    "in_place": in_place.functions,
    "lanes": lanes.functions,
    "unpacked": unpacked.functions,
}
