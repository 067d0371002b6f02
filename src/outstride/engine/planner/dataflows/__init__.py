"""The dataflows, a module each: all that the planner knows of what lies in the vectors of a register tile."""

from __future__ import annotations

from outstride.engine.planner.dataflow import Dataflow
from outstride.engine.planner.dataflows.channels import CHANNELS
from outstride.engine.planner.dataflows.in_place import IN_PLACE
from outstride.engine.planner.dataflows.lanes import LANES
from outstride.engine.planner.dataflows.pixels import PIXELS
from outstride.engine.planner.dataflows.rows import ROWS
from outstride.engine.planner.dataflows.unpacked import UNPACKED

#: Those that have a kernel to themselves: a layer that one of them serves compiles no other tiles.
ALONE: tuple[Dataflow, ...] = (IN_PLACE, LANES, UNPACKED)
#: Those whose tiles share a kernel, which takes those that suit a size.
SHARED: tuple[Dataflow, ...] = (PIXELS, CHANNELS, ROWS)
DATAFLOWS = (*SHARED, *ALONE)
