"""The argument block of a kernel: one array of i64 with every pointer, size, stride and trip count.

Kernels are specialised on the recipe only, so everything that a size decides travels here and a new size
compiles nothing (law 6). Names ending in _at are pointers to tables of i32 or i64.
"""

from __future__ import annotations

_AXES = ("d", "h", "w")


def _each(stem: str) -> tuple[str, ...]:
    return tuple(f"{stem}_{a}" for a in _AXES)


#: Where rows of the strip lie, and how tensors are walked.
_STRIP = (
    "planes", "planes_at", "image_pitch", "depth_pitch", "plane_pitch", "channel_pitch", "pixel_pitch",
)  # fmt: skip
#: How the input lies that short algorithms sum into planes, as the strip does above, and where.
RAW_STRIP = ("strip_w", *_STRIP)
_RAW = tuple(f"raw_{name}" for name in RAW_STRIP)
_STRIDES = (
    "x_stride_n", "x_stride_g", "x_stride_c", *_each("x_stride"),
    "y_stride_n", "y_stride_g", "y_stride_m", *_each("y_stride"),
)  # fmt: skip

#: Filled in anew for each call.
CALL = (
    "x_at", "w_at", "bias_at", "y_at", "scratch_at", "tile_at", "found",
    "operands_at",
)  # fmt: skip

#: Decided by the plan, the sizes and the strides.
FIXED = (
    "tasks", "packs", "scratch_bytes", "temp_bytes_offset",
    "images", "groups", "groups_per_task", *_each("tasks"), "m_tasks",
    "batch", "image_block", *_each("cells"), *_each("block"),
    *_each("in_size"), *_each("in_step"), *_each("reach"), "strip_w",
    *_each("out_size"), *_each("out_step"), *_each("out_shift"),
    *_STRIDES, *_each("low"), *_STRIP,
    "channels", "channels_per_pass", "passes", "own_channels", "x_lane", "result_pixel",
    "outputs", "chunk_outputs", "chunks_per_task", "chunks", "chunk_temp", "temp_pitch",
    "regions", "regions_at", "region_runs",
    "w_stride_g", "w_stride_chunk", "w_stride_m", "w_stride_c",
    "phase_groups", "phase_groups_at", "phase_rows_at",
    "spans", "loop", "tile_rows", "row_way", "tile_outputs", "tile_pixels", "tile_vectors",
    "pixel_at", "line_bytes_offset", "nontemporal", "runs_bytes_offset", "tile_runs_offset", "skips",
    "prefetch_bytes_offset", "prefetch_bytes", "prefetch_step", "prefetch_rows",
    "unwritten", "unwritten_vectors", "strip_planes", "strip_channels",
    *_RAW, "raw_bytes_offset", "input_places_at", *_each("first_input"),
)  # fmt: skip

ARGUMENTS = CALL + FIXED
INDEX = {name: i for i, name in enumerate(ARGUMENTS)}

#: The row of a phase group in the table at phase_groups_at.
GROUP_FIELDS = (
    "tiles", "taps", *_each("taps"), "tap_offsets_at", "runs_at", "runs_offset", "full_at", "rest_at",
    "w_offset", "w_tile_stride", "row",
)  # fmt: skip
GROUP_INDEX = {name: i for i, name in enumerate(GROUP_FIELDS)}

#: The row of a region in the table at regions_at: its cells, and where and how far apart their results lie.
REGION_FIELDS = (
    *_each("first"), *_each("count"), "place", "image_pitch", "depth_pitch", "row_pitch",
)  # fmt: skip
REGION_INDEX = {name: i for i, name in enumerate(REGION_FIELDS)}

#: The argument block of a weight-packing kernel.
WEIGHT_ARGUMENTS = (
    "w_at", "packed_at", "spoiled", "scratch_at", "scratch_bytes", "tasks",
    "chunks", "chunk_outputs", "outputs", "channels", "width",
    "w_stride_g", "w_stride_m", "w_stride_c",
    "packed_stride_g", "packed_stride_chunk",
    "phase_groups", "phase_groups_at", "kernel", "positions_at", "square_tiles", "run", "starts_bytes_offset",
    "product_pitch",
)  # fmt: skip
WEIGHT_INDEX = {name: i for i, name in enumerate(WEIGHT_ARGUMENTS)}

#: The row of a phase group in a weight-packing kernel's table; taps_at holds members x taps element offsets,
#: row_step the elements from row to row where they are few and the same for all, else 0.
WEIGHT_GROUP_FIELDS = ("tiles", "members", "taps", "w_offset", "taps_at", "row_step")
WEIGHT_GROUP_INDEX = {name: i for i, name in enumerate(WEIGHT_GROUP_FIELDS)}
#: The row of a kernel position in it: its offset in elements, where its phase group begins and how many taps
#: that has, and which of them it is; -1 where it belongs to no group of one phase.
POSITION_FIELDS = ("offset", "place", "taps", "tap")

#: The argument block of a weight-gradient kernel.
GRADIENT_ARGUMENTS = (
    "x_at", "y_at", "partial_at", "result_at", "scratch_at", "scratch_bytes",
    "tasks", "panel_bytes_offset", "terms_bytes_offset",
    "output_blocks", "channel_blocks", "splits", "boxes_per_split", "boxes",
    "batch", "image_block", "images", *_each("tasks"), *_each("cells"), *_each("block"),
    *_each("in_size"), *_each("in_step"), *_each("low"), *_each("reach"), "strip_w",
    *_STRIP, *_STRIDES,
    "channels", "channels_per_block", "outputs", "taps", "taps_at", "groups",
    "by_tap", "tap_offsets_at", "runs_bytes_offset",
    "output_chunks", "blocks_per_chunk", "channels_per_slab", *_each("out_size"),
    "line_bytes_offset", "sums_bytes_offset", "panel_pitch", "sums_pitch", "part_n", *_each("part"),
    *_RAW, "raw_bytes_offset", "input_places_at", *_each("first_input"),
)  # fmt: skip
GRADIENT_INDEX = {name: i for i, name in enumerate(GRADIENT_ARGUMENTS)}

#: The argument block of the weight-gradient kernel of few rows.
FEW_ROWS_ARGUMENTS = (
    "x_at", "y_at", "result_at", "scratch_at", "scratch_bytes", "tasks",
    "outputs_per_task", "rows", "channels", "outputs", "x_stride", "y_stride", "y_stride_m",
)  # fmt: skip
FEW_ROWS_INDEX = {name: i for i, name in enumerate(FEW_ROWS_ARGUMENTS)}

#: The argument block of the fingerprint kernel.
FINGERPRINT_ARGUMENTS = (
    "data_at", "size_bytes", "keys_at", "marks_at", "renew", "changed",
    "scratch_at", "scratch_bytes", "tasks",
)  # fmt: skip
FINGERPRINT_INDEX = {name: i for i, name in enumerate(FINGERPRINT_ARGUMENTS)}

#: The argument block of the kernel that compares memory with a copy.
COMPARISON_ARGUMENTS = ("data_at", "copy_at", "size_bytes", "changed")
COMPARISON_INDEX = {name: i for i, name in enumerate(COMPARISON_ARGUMENTS)}

#: The argument block of a list of launches: where it goes on from, and after the call where it stopped;
#: what runs a function on several threads; what these share; a word that stays 0.
LIST_ARGUMENTS = ("entries_at", "next", "count", "fork_at", "team_at", "nothing")
LIST_INDEX = {name: i for i, name in enumerate(LIST_ARGUMENTS)}

#: An entry of it: a kernel, its argument block, its threads, and the word that stops the list where the
#: kernel leaves another number than 0 in it. No workers leave the entry out.
ENTRY_FIELDS = ("kernel_at", "block_at", "workers", "flag_at")
ENTRY_INDEX = {name: i for i, name in enumerate(ENTRY_FIELDS)}

#: The argument block of strands: for each, a task, a list of launches of its own; what runs one; whether one
#: of them stopped.
STRAND_ARGUMENTS = ("lists_at", "run_at", "found", "scratch_at", "scratch_bytes", "tasks")
STRAND_INDEX = {name: i for i, name in enumerate(STRAND_ARGUMENTS)}

#: The argument block of the kernel that looks for numbers that are not finite.
NONFINITE_ARGUMENTS = ("data_at", "count", "found")
NONFINITE_INDEX = {name: i for i, name in enumerate(NONFINITE_ARGUMENTS)}

#: The argument block of the kernel of steps alone.
STEPS_ARGUMENTS = ("x_at", "y_at", "operands_at", "count")
STEPS_INDEX = {name: i for i, name in enumerate(STEPS_ARGUMENTS)}

#: The argument block of a weight-gradient kernel of dot products.
DOT_ARGUMENTS = (
    "x_at", "y_at", "w_at", "scratch_at", "scratch_bytes", "tasks",
    "sums_bytes_offset", "boxes", "batch", "image_block", "images",
    *_each("tasks"), *_each("cells"), *_each("block"),
    *_each("in_size"), *_each("in_step"), *_each("low"), *_each("reach"), "strip_w",
    *_STRIP, *_STRIDES,
    "channels", "outputs", "taps", "taps_at",
)  # fmt: skip
DOT_INDEX = {name: i for i, name in enumerate(DOT_ARGUMENTS)}

#: The argument block of the peak kernel.
PEAK_ARGUMENTS = ("data_at", "result_at", "turns")
PEAK_INDEX = {name: i for i, name in enumerate(PEAK_ARGUMENTS)}
