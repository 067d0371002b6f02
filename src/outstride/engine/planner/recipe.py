"""The part of a plan that machine code depends on: kernels are cached under it."""

from __future__ import annotations

from dataclasses import dataclass

from outstride.engine.planner.dtypes import Unit, WeightAxis
from outstride.engine.planner.epilogue import BIAS, Epilogue
from outstride.engine.planner.steps import Step, steps_name
from outstride.engine.planner.unrolled import RowTaps, Unrolled
from outstride.layer.shortening import ShortAxis


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
    #: The loops over tiles that sizes may need.
    loops: tuple[str, ...] = ("pixels", "channels")
    #: The taps that the code is unrolled over; None: it loops over a table of taps.
    unrolled: Unrolled | RowTaps | None = None
    #: What is done to the sums before they are stored.
    epilogue: Epilogue = BIAS
    #: The axes whose outputs come from sums of products of sums; none where a product has one input.
    short: tuple[ShortAxis, ...] = ()
    #: What is done to elements of the input when they are read.
    before: tuple[Step, ...] = ()
    #: Along what vectors of weights are read where they lie; None: they are packed.
    unpacked: WeightAxis | None = None

    @property
    def name(self) -> str:
        """The kernel's name in the generated code and in memory."""
        units = f"i{self.in_step}{self.in_unit[0]}_o{self.out_step}{self.out_unit[0]}"
        loops = "".join(s[0] for s in self.loops)
        if self.unrolled is not None:
            loops += "_".join(map(str, ("", *self.unrolled.numbers)))
        if self.unpacked is not None:
            loops += f"_{self.unpacked}"
        short = "".join(f"_{axis.name}" for axis in self.short)
        before = f"_of{steps_name(self.before)}" if self.before else ""
        return f"{self.dtype}_{units}_{loops}{short}{before}{self.epilogue.name}_{self.instruction_set}"
