"""The dataflow "lanes" in code: vectors of inputs times vectors of weights, channel by channel."""

from __future__ import annotations

from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.dataflows.channels import Channels, PixelResults
from outstride.engine.codegen.ir import Value
from outstride.engine.codegen.outer_products import Parameters, TileResults
from outstride.engine.codegen.registers import Sums, fused, vectors_at
from outstride.engine.planner.dataflow import Tile


class Lanes(Channels):
    """Each pixel reads a vector, whose lanes are the input channels of the outputs."""

    def results(self, k: Vectors, tile: Tile, p: Parameters) -> TileResults:
        return PixelResults(k, tile, p)

    def term(
        self, k: Vectors, tile: Tile, sums: Sums, weights: Value, inputs: list[Value], offset: Value
    ) -> None:  # fmt: skip
        f = k.f
        of_weights = vectors_at(k, tile.vectors, weights)
        pixels = [f.at(base, offset, k.e.accumulator) for base in inputs]
        for row, pixel in zip(sums, pixels, strict=True):
            for total, x, w in zip(row, vectors_at(k, tile.vectors, pixel), of_weights, strict=True):
                f.set(total, fused(k, x, w, f.get(total, k.vector)))
