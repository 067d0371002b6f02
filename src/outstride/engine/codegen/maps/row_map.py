"""A row of neighbours mapped in vectors: some at a time, then single ones, the last one under a mask."""

from __future__ import annotations

from collections.abc import Callable

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.ir import Operand, Value

#: What a vector becomes: its elements, where the first of them lies in the row, and which lanes exist.
Mapping = Callable[[Value, Operand, Value | None], Value]
#: Vectors at a time.
VECTORS = 4


def map_row(k: Vectors, source: Value, target: Value, count: Operand, mapping: Mapping) -> None:
    """Write what becomes of `count` elements; the target may be the source."""
    f, e, lanes = k.f, k.e, k.lanes
    many = VECTORS * lanes
    bulk, whole = f.mul(f.div(count, many), many), f.mul(f.div(count, lanes), lanes)
    for vectors, begin, end in ((VECTORS, 0, bulk), (1, bulk, whole)):
        with f.loop(begin, end, vectors * lanes) as i:
            places = [f.add(i, v * lanes) for v in range(vectors)]
            found = [elements.load(f, e, f.at(source, place, e.storage), lanes) for place in places]
            made = [mapping(value, place, None) for value, place in zip(found, places, strict=True)]
            for value, place in zip(made, places, strict=True):
                elements.store(f, e, value, f.at(target, place, e.storage), lanes)
    rest = f.sub(count, whole)
    with f.when(f.compare("sgt", rest, 0)):
        inside = elements.first_lanes(f, rest, lanes)
        value = elements.load_masked(f, e, f.at(source, whole, e.storage), lanes, inside)
        made_of_rest = mapping(value, whole, inside)
        elements.store_masked(f, e, made_of_rest, f.at(target, whole, e.storage), lanes, inside)
