"""The tables of a plan: where each term reads, which results make which phase, and how a box lies."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from operator import itemgetter

from outstride.engine.planner.blocking import Blocking, rows_of
from outstride.engine.planner.gather_form import GatherAxis, PhaseGroup
from outstride.engine.planner.machine import CHANNEL_BLOCK
from outstride.engine.planner.strip import Strip

#: Room for the table of what is still to be prefetched.
PREFETCH_TABLE_BYTES = 64


def round_up_line(size_bytes: int) -> int:
    """Bytes rounded up to whole cache lines."""
    return ceil(size_bytes / 64) * 64


def placed(sizes_bytes: dict[str, int]) -> tuple[dict[str, int], int]:
    """Where rooms of these sizes begin, one behind the other, the nameless one first, and where all end."""
    offsets, end = dict[str, int](), 0
    for name, size in sizes_bytes.items():
        offsets[name] = end
        end += round_up_line(size)
    del offsets[""]
    return offsets, end


def box_scalars(
    axes: tuple[GatherAxis, ...], box: tuple[int, int, int, int], strip: Strip, batch: int
) -> dict[str, int]:
    """What every kernel that packs boxes of cells must know about them, by the names of the arguments."""
    scalars = {"batch": batch, "image_block": box[0], "images": ceil(batch / box[0])}
    scalars |= strip_scalars(axes, strip)
    for name, a, block in zip("dhw", axes, box[1:], strict=True):
        scalars |= {
            f"block_{name}": block, f"in_step_{name}": a.in_step, f"low_{name}": a.reach[0],
            f"reach_{name}": a.reach[1] - a.reach[0],
        }  # fmt: skip
    return scalars


def strip_scalars(axes: tuple[GatherAxis, ...], strip: Strip) -> dict[str, int]:
    """How a packed input lies."""
    return {
        "strip_w": strip.extent[2], "planes": strip.planes // axes[2].in_step,
        "image_pitch": strip.image_pitch, "depth_pitch": strip.extent[1] * strip.extent[2],
        "plane_pitch": strip.plane_pitch, "channel_pitch": strip.channel_pitch,
        "pixel_pitch": strip.pixel_pitch,
    }  # fmt: skip


def size_scalars(
    box: tuple[int, int, int, int], input_size: Sequence[int], cells: Sequence[int]
) -> dict[str, int]:
    """What they must know of a size: the input, its cells and the boxes that cover them."""
    (_, bd, bh, bw), (d, h, w), (cd, ch, cw) = box, input_size, cells
    return {
        "in_size_d": d, "in_size_h": h, "in_size_w": w, "cells_d": cd, "cells_h": ch, "cells_w": cw,
        "tasks_d": -(-cd // bd), "tasks_h": -(-ch // bh), "tasks_w": -(-cw // bw),
    }  # fmt: skip


def term_offsets(
    axes: tuple[GatherAxis, ...], group: PhaseGroup, blocking: Blocking, channels: int
) -> list[int]:
    """Strip offsets of the terms of a block of `channels` channels, in the order of summation."""
    strip = blocking.strip
    places = tap_places(blocking.packed(axes), group, strip) if channels else []
    # Ranges are an order of magnitude faster than element by element, and every new size pays for this.
    step = strip.channel_pitch
    starts = [p * strip.pixel_pitch for p in places] if strip.pixel_pitch > 1 else places
    if channels == 1:
        return starts
    return [at for start in starts for at in range(start, start + channels * step, step)]


def tap_places(axes: tuple[GatherAxis, ...], group: PhaseGroup, strip: Strip) -> list[int]:
    """The strip positions that the taps of a group add to a pixel's."""
    of_axes: list[dict[int, int]] = []
    planes, pitch = strip.plane_pitch, 1
    for i, axis in reversed(list(enumerate(axes))):
        # The width is packed in vectors, every residue at once; of the other axes only what taps read.
        kept = range(axis.in_step) if i == 2 else axis.residues
        plane_of = {residue: planes * number for number, residue in enumerate(kept)}
        places = {}
        for offset in group.axes[i].offsets:
            cell, residue = divmod(offset, axis.in_step)
            places[offset] = plane_of[residue] + (cell - axis.reach[0]) * pitch
        of_axes.insert(0, places)
        planes *= len(kept)
        pitch *= strip.extent[i]
    return group.places(of_axes)


def residue_planes(axes: tuple[GatherAxis, ...]) -> list[int]:
    """Of every group of planes, one for each residue of the width, what its depth and its height are.

    Of each the input's residue, and how many positions no tap reads at the beginning and at the end.
    """
    depth, height = ([(r, *a.unread(r)) for r in a.residues] for a in axes[:2])
    return [number for d in depth for h in height for number in (*d, *h)]


def block_lengths(channels: int) -> tuple[int, int]:
    """How many channels the whole blocks and the last, partial one have (0: there is none)."""
    return min(CHANNEL_BLOCK, channels) if channels >= CHANNEL_BLOCK else 0, channels % CHANNEL_BLOCK


def phase_rows(
    axes: tuple[GatherAxis, ...], groups: tuple[PhaseGroup, ...], chunk: int, tile_rows: int
) -> list[int]:
    """For every output phase the row of results of a chunk's output 0, and the rows to its next output."""
    steps = [sum(len(g.members) for g in a.groups) for a in axes]
    table = [0] * (2 * prod(steps))
    start = 0
    for group, rows in zip(groups, rows_of(groups, chunk, tile_rows), strict=True):
        for i, (d, h, w) in enumerate(group.members):
            entry = 2 * ((d * steps[1] + h) * steps[2] + w)
            table[entry], table[entry + 1] = start + i, group.phases
        start += rows
    return table


def pixel_offsets(blocking: Blocking, rows: int) -> list[int]:
    """Offsets in the strip of a box's pixels, region by region.

    The last of a region is repeated up to a whole tile of `rows` pixels.
    """
    strip, step = blocking.strip, blocking.strip.pixel_pitch
    images = range(blocking.box[0])
    places: list[int] = []
    for (plane, d), (row, h), (column, w) in blocking.regions:
        order = [(j, k, i) for j in range(plane, plane + d) for k in range(row, row + h) for i in images]
        if d > 1:
            order.sort(key=itemgetter(2))
        starts = (i * strip.image_pitch + (j * strip.extent[1] + k) * strip.extent[2] for j, k, i in order)
        places += [at for s in starts for at in range((s + column) * step, (s + column + w) * step, step)]
        places += [places[-1]] * (-len(places) % rows)
    return places
