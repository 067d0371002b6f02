"""The part of a plan that machine code depends on: kernels are cached under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from outstride.engine.planner.tiles import Sweep
from outstride.engine.planner.windows import Spread, Window

Unit = Literal["width", "channel", "any"]

#: Bytes of an element as tensors keep it, and as kernels sum it (and keep packed inputs and weights).
STORAGE_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
ACCUMULATOR_BYTES = {"float32": 4, "float64": 8, "bfloat16": 4, "float16": 4}


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
    window: Window | Spread | None = None

    @property
    def name(self) -> str:
        """The kernel's name in the generated code and in memory."""
        units = f"i{self.in_step}{self.in_unit[0]}_o{self.out_step}{self.out_unit[0]}"
        sweeps = "".join(s[0] for s in self.sweeps)
        if self.window is not None:
            sweeps += "_".join(map(str, ("", *self.window.numbers)))
        return f"{self.dtype}_{units}_{sweeps}_{self.instruction_set}"
