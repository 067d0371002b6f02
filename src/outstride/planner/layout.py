"""From a plan to numbers: the argument block and the tables of the kernel that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from outstride.planner.blocks import rows_of
from outstride.planner.machine import CHANNEL_BLOCK
from outstride.planner.plan import GatherPlan
from outstride.planner.recipe import DATAFLOWS
from outstride.planner.tables import block_lengths, phase_rows, pixel_offsets, residue_planes, term_offsets

_AXES = "dhw"


@dataclass(frozen=True)
class GroupLayout:
    """A phase group's share of a chunk: tiles, term tables, and where its weights lie."""

    tiles: int
    members: int
    taps: int
    offsets: list[int]
    runs_offset: int
    full: list[int]
    rest: list[int]
    w_offset: int
    row: int
    kernel: tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True)
class Layout:
    """Scalars by the names of the argument block; tables; sizes of scratch and of the packed weights."""

    scalars: dict[str, int]
    groups: tuple[GroupLayout, ...]
    planes: list[int]
    phase_rows: list[int]
    pixels: list[int]
    chunks: int
    chunk_weights: int
    scratch_bytes: int


def layout(plan: GatherPlan) -> Layout:
    """Everything the kernel needs to know but pointers and the strides of tensors."""
    p, b, strip = plan.problem, plan.blocks, plan.blocks.strip
    item = 8 if p.dtype == "float64" else 4
    rows = rows_of(plan.groups, b.chunk_outputs, plan.tile_rows)
    chunks = ceil(p.outputs / b.chunk_outputs)
    passes = ceil(p.channels / b.channels_per_pass)
    reach = plan.tile.vectors * plan.lanes
    if plan.tile.dataflow == "rows":  # the last group of rows may lie beyond the box in part
        reach += (plan.tile.rows - 1) * strip.extent[2]
    temp_pitch = (ceil((b.extent + reach) / 16) | 1) * 16
    chunk_temp = sum(rows) * temp_pitch if passes > 1 else 0
    # A tile may read a vector beyond the strip and write one beyond the results: both stay within scratch.
    temp_at = _line(item * (strip.elements + reach + 64))
    line_at = temp_at + _line(item * (sum(rows) * temp_pitch if passes == 1 else chunk_temp * b.chunks_per_task) + 64)
    width = plan.axes[2].out_step * (b.box[3] + plan.lanes)
    runs_at = line_at + _line(item * (width + 64))
    groups: list[GroupLayout] = []
    offset = row = runs = 0
    full, rest = block_lengths(p.channels)
    for group, count in zip(plan.groups, rows, strict=True):
        groups.append(
            GroupLayout(
                count // plan.tile_rows, len(group.members), group.taps, [o for tap in group.offsets for o in tap], runs,
                term_offsets(plan.axes, group, b, full), term_offsets(plan.axes, group, b, rest),
                offset, row, group.kernel,
            )
        )  # fmt: skip
        offset += count * group.taps * p.channels
        row += count
        runs += 2 * group.taps + 1
    scratch = runs_at + _line(8 * runs)
    cells = (p.batch, *(a.cells for a in plan.axes))
    counts = [ceil(c / n) for c, n in zip(cells, b.box, strict=True)]
    scalars = {
        "tasks": plan.tasks, "scratch_bytes": scratch, "temp_bytes_offset": temp_at, "line_bytes_offset": line_at,
        "runs_bytes_offset": runs_at, "skips": int(_skips(plan)),
        "images": counts[0], "groups": p.groups, "m_tasks": ceil(chunks / b.chunks_per_task),
        "batch": p.batch, "image_block": b.box[0], "strip_w": strip.extent[2], "planes": strip.planes // plan.axes[2].in_step,
        "image_pitch": strip.image_pitch, "depth_pitch": strip.extent[1] * strip.extent[2],
        "plane_pitch": strip.plane_pitch, "channel_pitch": strip.channel_pitch, "pixel_pitch": strip.pixel_pitch,
        "channels": p.channels, "channels_per_pass": b.channels_per_pass, "passes": passes,
        "outputs": p.outputs, "chunk_outputs": b.chunk_outputs, "chunks_per_task": b.chunks_per_task,
        "chunks": chunks, "chunk_temp": chunk_temp, "temp_pitch": temp_pitch,
        "w_stride_g": chunks * offset, "w_stride_chunk": offset, "phase_groups": len(groups),
        "spans": int(b.nested),
        "dataflow": DATAFLOWS.index(plan.tile.dataflow), "tile_outputs": plan.tile_rows,
        "tile_pixels": plan.tile.pixels(plan.lanes), "tile_rows": plan.tile.rows,
        "pixel_tiles": ceil(b.pixels / plan.tile.rows),
    }  # fmt: skip
    for i, axis in enumerate(_AXES):
        a = plan.axes[i]
        scalars |= {
            f"tasks_{axis}": counts[i + 1], f"cells_{axis}": a.cells, f"block_{axis}": b.box[i + 1],
            f"in_size_{axis}": a.input_size, f"in_step_{axis}": a.in_step, f"low_{axis}": a.reach[0],
            f"reach_{axis}": a.reach[1] - a.reach[0], f"out_size_{axis}": a.output_size,
            f"kernel_{axis}": p.kernel_size[i], f"out_step_{axis}": a.out_step, f"out_shift_{axis}": a.shift,
        }  # fmt: skip
    pixels = pixel_offsets(b, plan.tile.rows) if plan.tile.dataflow == "channels" else []
    return Layout(
        scalars, tuple(groups), residue_planes(plan.axes),
        phase_rows(plan.axes, plan.groups, b.chunk_outputs, plan.tile_rows), pixels, chunks, offset, scratch,
    )  # fmt: skip


def _skips(plan: GatherPlan) -> bool:
    """Whether some box has a tap that reads nothing but padding there."""
    for axis, block in zip(plan.axes, plan.blocks.box[1:], strict=True):
        if axis.cells == 0:
            continue
        offsets = [o for g in axis.groups for o in g.offsets]
        last_of_first = (min(block, axis.cells) - 1) * axis.in_step
        first_of_last = (ceil(axis.cells / block) - 1) * block * axis.in_step
        if any(last_of_first + o < 0 or first_of_last + o >= axis.input_size for o in offsets):
            return True
    return False


def _line(size: int) -> int:
    """Rounded up to whole cache lines."""
    return ceil(size / 64) * 64


def weight_block_stride(plan: GatherPlan, group: GroupLayout) -> int:
    """Packed elements from one channel block of a tile to the next."""
    return CHANNEL_BLOCK * group.taps * plan.tile_rows


def total_weights(plan: GatherPlan, made: Layout) -> int:
    """Elements of the packed weights of all groups."""
    return prod((plan.problem.groups, made.chunks, made.chunk_weights))
