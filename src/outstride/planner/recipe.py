"""The part of a plan that machine code depends on: kernels are cached under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dataflow = Literal["pixels", "channels"]


@dataclass(frozen=True)
class Recipe:
    """What one kernel is specialised on; every size, stride and tap is a run-time argument instead."""

    dtype: str
    instruction_set: str
    #: "pixels": vectors run along the width and weights are broadcast; "channels": the other way round.
    dataflow: Dataflow
    #: The register tile: how many broadcast operands by how many vectors.
    rows: int
    vectors: int
    #: Which input axis has stride 1: "width", "channel" or none ("any").
    in_unit: Literal["width", "channel", "any"]
    out_unit: Literal["width", "any"]
    #: Stride of the input along the width, and of the output; 0 means known at run time only.
    in_step: int
    out_step: int

    @property
    def name(self) -> str:
        """The kernel's name in the generated code."""
        return (
            f"gather_{self.dtype}_{self.dataflow}_{self.rows}x{self.vectors}"
            f"_i{self.in_step}{self.in_unit[0]}_o{self.out_step}{self.out_unit[0]}_{self.instruction_set}"
        )
