"""Nontemporal stores: long rows of an output that is larger than the caches go straight to memory.

An ordinary store would first read from memory what it overwrites.
"""

from __future__ import annotations

from typing import Protocol

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.ir import Operand, Value


class ValueAt(Protocol):
    """A vector of a row's finished values, from an element on; with `left` only so many of them exist."""

    def __call__(self, i: Operand, left: Operand | None = None) -> Value: ...


def store_whole_vectors(k: Vectors, value_at: ValueAt, target: Value, count: Operand) -> Operand:
    """Store a row but its last few elements, and say where they begin.

    Such stores take aligned vectors only; elements before the first of these are stored under a mask.
    """
    f, e, lanes = k.f, k.e, k.lanes
    head = f.div(f.bytes_to_multiple(target, lanes * e.storage_bytes), e.storage_bytes)
    with f.when(f.compare("sgt", head, 0)):  # a mask without lanes is the slowest of all
        elements.store_first(f, e, value_at(0), target, lanes, head)
    end = f.add(head, f.mul(f.div(f.sub(count, head), lanes), lanes))
    with f.loop(head, end, lanes) as i:
        elements.store_nontemporal(f, e, value_at(i), f.at(target, i, e.storage), lanes)
    return end


def store_rest(k: Vectors, value_at: ValueAt, target: Value, begin: Operand, count: Operand) -> None:
    """Store the last elements of a row, fewer than a vector."""
    f, e = k.f, k.e
    with f.when(f.compare("slt", begin, count)):
        place = f.at(target, begin, e.storage)
        elements.store_first(f, e, value_at(begin, f.sub(count, begin)), place, k.lanes, f.sub(count, begin))


def store_line(k: Vectors, line: Value, target: Value, count: Operand) -> None:
    """Store a long row that was made beside the output."""
    f, e = k.f, k.e

    def value_at(i: Operand, left: Operand | None = None) -> Value:
        del left  # there is room behind
        return elements.load(f, e, f.at(line, i, e.storage), k.lanes)

    end = store_whole_vectors(k, value_at, target, count)
    store_rest(k, value_at, target, end, count)
