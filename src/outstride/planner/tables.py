"""The tables of a plan: where each term reads, and which results make which phase."""

from __future__ import annotations

from math import prod

from outstride.planner.axes import Axis, Group
from outstride.planner.blocks import Blocks, Strip, rows_of
from outstride.planner.machine import CHANNEL_BLOCK


def term_offsets(axes: tuple[Axis, ...], group: Group, blocks: Blocks, channels: int) -> list[int]:
    """Strip offsets of the terms of a block of `channels` channels, in the order of summation."""
    strip = blocks.strip
    places = [tap_place(axes, tap, strip) for tap in group.offsets]
    if strip.pixel_pitch > 1:
        return [p * strip.pixel_pitch + c for p in places for c in range(channels)]
    return [p + c * strip.channel_pitch for p in places for c in range(channels)]


def tap_place(axes: tuple[Axis, ...], tap: tuple[int, ...], strip: Strip) -> int:
    """The strip position that a tap adds to a pixel's."""
    plane = 0
    place = 0
    for i, (axis, offset, extent) in enumerate(zip(axes, tap, strip.extent, strict=True)):
        residue = offset % axis.in_step
        # The width is packed in vectors, every residue at once; of the other axes only what taps read.
        index, count = (residue, axis.in_step) if i == 2 else (axis.residues.index(residue), len(axis.residues))
        plane = plane * count + index
        place = place * extent + offset // axis.in_step - axis.reach[0]
    return plane * strip.plane_pitch + place


def residue_planes(axes: tuple[Axis, ...]) -> list[int]:
    """The input residues of depth and height of every group of planes, which has a plane for each width residue."""
    return [r for rd in axes[0].residues for rh in axes[1].residues for r in (rd, rh)]


def block_lengths(channels: int) -> tuple[int, int]:
    """How many channels the whole blocks and the last, partial one have (0: there is none)."""
    return min(CHANNEL_BLOCK, channels) if channels >= CHANNEL_BLOCK else 0, channels % CHANNEL_BLOCK


def phase_rows(axes: tuple[Axis, ...], groups: tuple[Group, ...], chunk: int, tile_rows: int) -> list[int]:
    """For every output phase the row of results of output 0 of a chunk, and the rows from one output to the next."""
    steps = [a.out_step for a in axes]
    table = [0] * (2 * prod(steps))
    start = 0
    for group, rows in zip(groups, rows_of(groups, chunk, tile_rows), strict=True):
        for i, (d, h, w) in enumerate(group.members):
            entry = 2 * ((d * steps[1] + h) * steps[2] + w)
            table[entry], table[entry + 1] = start + i, len(group.members)
        start += rows
    return table


def pixel_offsets(blocks: Blocks, rows: int) -> list[int]:
    """For every tile of `rows` pixels their offsets in the strip, then in the results; the last tile repeats its end."""
    strip = blocks.strip
    n, d, h, w = blocks.box
    places = [
        i * strip.image_pitch + (j * strip.extent[1] + k) * strip.extent[2] + m
        for i in range(n) for j in range(d) for k in range(h) for m in range(w)
    ]  # fmt: skip
    table: list[int] = []
    for first in range(0, len(places), rows):
        tile = places[first : first + rows]
        tile += [tile[-1]] * (rows - len(tile))
        table += [p * strip.pixel_pitch for p in tile] + tile
    return table
