"""Rows of output gradients packed pixel by pixel, a tile's width of outputs each; absent ones are zeros."""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Context
from outstride.engine.codegen.ir import Operand, Value
from outstride.engine.codegen.packing.strip import copy_row, zeros
from outstride.engine.codegen.packing.transpose import load_rows, transpose
from outstride.engine.planner.machine import INSTRUCTION_SETS


def pack_row(k: Context, width: int, line: Value, target: Value, pixels: Operand, outputs: Operand) -> None:
    """So many pixels of a row; whole vectors of pixels may be written."""
    pack = {"channel": _pixels, "width": _squares, "any": _elements}[k.recipe.out_unit]
    pack(k, width, line, target, pixels, outputs)


def _pixels(
    k: Context, width: int, line: Value, target: Value, pixels: Operand, outputs: Operand
) -> None:  # fmt: skip
    """Outputs lie side by side already."""
    f = k.f
    with f.loop(0, pixels) as w:
        pixel = f.at(target, f.mul(w, width), k.e.accumulator)
        zeros(k, pixel, 0, width)
        copy_row(k, f.at(line, f.mul(w, k.a["y_stride_w"]), k.e.storage), pixel, outputs)


def _squares(
    k: Context, width: int, line: Value, target: Value, pixels: Operand, outputs: Operand
) -> None:  # fmt: skip
    """Pixels lie side by side: squares of pixels by outputs are transposed."""
    f, e = k.f, k.e
    with f.loop(0, width, k.lanes) as o:
        source = f.at(line, f.mul(o, k.a["y_stride_m"]), e.storage)
        pack_squares(k, width, source, f.at(target, o, e.accumulator), pixels, f.sub(outputs, o))


def pack_squares(
    k: Context, width: int, line: Value, target: Value, pixels: Operand, outputs: Operand
) -> None:  # fmt: skip
    """So many pixels of a vector of outputs, of which some may be absent; what runs on is overwritten."""
    f, e, lanes = k.f, k.e, k.lanes
    masks = INSTRUCTION_SETS[k.recipe.instruction_set].masks_items(e.storage_bytes)
    with f.loop(0, pixels, lanes) as w:
        place = f.at(line, w, e.storage)
        of_rows = lanes, outputs
        rows = load_rows(k, place, k.a["y_stride_m"], of_rows, f.sub(pixels, w), lanes, masks=masks)
        for j, column in enumerate(transpose(f, rows, lanes)):
            pixel = f.at(target, f.mul(f.add(w, j), width), e.accumulator)
            f.store(column, pixel, e.accumulator_bytes)


def _elements(
    k: Context, width: int, line: Value, target: Value, pixels: Operand, outputs: Operand
) -> None:  # fmt: skip
    """Nothing lies side by side."""
    f, e, a = k.f, k.e, k.a
    with f.loop(0, pixels) as w:
        pixel = f.at(target, f.mul(w, width), e.accumulator)
        source = f.at(line, f.mul(w, a["y_stride_w"]), e.storage)
        with f.loop(0, outputs) as o:
            item = elements.load(f, e, f.at(source, f.mul(o, a["y_stride_m"]), e.storage), 1)
            f.store(item, f.at(pixel, o, e.accumulator), e.accumulator_bytes)
        with f.loop(outputs, width) as o:
            f.store(elements.zero(e, 1), f.at(pixel, o, e.accumulator), e.accumulator_bytes)
