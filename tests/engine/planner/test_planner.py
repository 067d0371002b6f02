"""Plans against the definitions: the gather form, how the work is cut, where in the strip terms find inputs.

The strip is packed here once more, in plain loops over numbered inputs, so that offsets can be looked up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import FrozenInstanceError, replace
from itertools import accumulate, groupby, pairwise, product
from math import ceil, prod
from typing import Literal, TypeVar, get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from outstride import geometry
from outstride.bench.cases import Case, read_cases
from outstride.engine.codegen.arguments import CALL, FIXED, GRADIENT_ARGUMENTS
from outstride.engine.planner.axes import Axis, conv_axis, product_groups, transposed_axis, useful_terms
from outstride.engine.planner.bands import band_tiles
from outstride.engine.planner.blocks import pixel_tiles
from outstride.engine.planner.cost import kept_terms, task_cycles, term_cycles
from outstride.engine.planner.dots import DotPlan, dot_scalars, plan_dots
from outstride.engine.planner.gradient import GradientPlan, GradientProblem, gradient_scalars, plan_gradient
from outstride.engine.planner.layout import (
    BOX_SKIPS,
    NO_SKIPS,
    ROW_SKIPS,
    Layout,
    layout,
    sizes,
    total_weights,
    weight_block_stride,
)
from outstride.engine.planner.machine import CHANNEL_BLOCK, DOT_BYTES, INSTRUCTION_SETS, Machine
from outstride.engine.planner.plan import (
    GatherPlan,
    _best,
    _turns,
    estimates,
    phase_groups,
    plan_for,
    recipe_for,
    tiles_for,
)
from outstride.engine.planner.problem import Problem, coarse_size
from outstride.engine.planner.recipe import STORAGE_BYTES, Unit
from outstride.engine.planner.strip import Strip
from outstride.engine.planner.tables import phase_rows, pixel_offsets, residue_planes
from outstride.engine.planner.tiles import Dataflow
from outstride.engine.planner.windows import Spread
from outstride.layer.spec import ConvSpec
from tests import ROOT

Terms = list[tuple[int, int]]
Triple = tuple[int, int, int]
_T = TypeVar("_T")


def _triple(values: Sequence[_T]) -> tuple[_T, _T, _T]:
    return values[0], values[1], values[2]


# -- the gather form of an axis ------------------------------------------------------------------------------


def _defined(
    transposed: bool, output: int, size: int, kernel: int, stride: int, padding: int, dilation: int
) -> Terms:
    """The (kernel index, input index) pairs of one output, from u = i * stride + k * dilation - padding."""
    if transposed:
        return [
            (k, i)
            for k in range(kernel)
            for i in range(size)
            if i * stride + k * dilation - padding == output
        ]
    pairs = ((k, output * stride + k * dilation - padding) for k in range(kernel))
    return [(k, u) for k, u in pairs if 0 <= u < size]


def _gathered(axis: Axis) -> dict[int, Terms]:
    """The pairs of every output of an axis, in its order of summation; each output is made once."""
    found: dict[int, Terms] = {}
    for cell in range(axis.cells):
        for group in axis.groups:
            for phase, kernel in zip(group.members, group.kernel, strict=True):
                output = cell * axis.out_step + phase + axis.shift
                if 0 <= output < axis.output_size:
                    assert output not in found, f"output {output} is made twice"
                    found[output] = [
                        (k, cell * axis.in_step + o) for k, o in zip(kernel, group.offsets, strict=True)
                    ]
    assert sorted(found) == list(range(axis.output_size))
    return found


def _axes(
    transposed: bool, size: int, output_size: int, kernel: int, stride: int, padding: int, dilation: int
) -> list[Axis]:
    """The one gather form of a convolution's axis, or both of a transposed one's."""
    args = (size, output_size, kernel, stride, padding, dilation)
    if not transposed:
        return [conv_axis(*args)]
    return [transposed_axis(*args, cropped=cropped) for cropped in (False, True)]


def _assert_defined(transposed: bool, size: int, output_size: int, *options: int) -> None:
    for axis in _axes(transposed, size, output_size, *options):
        for output, pairs in _gathered(axis).items():
            inside = [(k, u) for k, u in pairs if 0 <= u < size]
            assert inside == _defined(transposed, output, size, *options), (axis, output)


@given(
    st.booleans(), st.integers(1, 12), st.integers(0, 40), st.integers(1, 7), st.integers(1, 7),
    st.integers(-3, 9), st.integers(1, 5),
)  # fmt: skip
@settings(max_examples=300)
def test_every_output_lists_the_terms_of_the_definition_in_kernel_order(
    transposed: bool, size: int, output_size: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    _assert_defined(transposed, size, output_size, kernel, stride, padding, dilation)


@pytest.mark.parametrize(
    ("size", "output_size", "kernel", "stride", "padding", "dilation"),
    [
        pytest.param(5, 16, 1, 3, 0, 1, id="holes"),
        pytest.param(5, 30, 2, 6, 1, 1, id="stride beyond kernel"),
        pytest.param(6, 20, 3, 4, 2, 2, id="dilation shares a factor with stride"),
        pytest.param(6, 20, 5, 2, 4, 2, id="dilation is stride"),
        pytest.param(6, 20, 5, 2, 4, 4, id="dilation is twice the stride"),
        pytest.param(1, 9, 3, 2, 1, 2, id="one input"),
        pytest.param(1, 4, 4, 2, 0, 1, id="one input, kernel beyond stride"),
        pytest.param(1, 1, 1, 1, 0, 1, id="one of everything"),
        pytest.param(4, 3, 9, 2, 7, 1, id="padding removes most outputs"),
        pytest.param(4, 25, 3, 2, 0, 1, id="outputs beyond the last stamp"),
        pytest.param(3, 0, 3, 2, 1, 1, id="no output"),
    ],
)
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "transposed"])
def test_axes_that_went_wrong_elsewhere(
    transposed: bool, size: int, output_size: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    _assert_defined(transposed, size, output_size, kernel, stride, padding, dilation)


@given(
    st.booleans(),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 6),
    st.integers(1, 4),
    st.integers(1, 9),
)
@settings(max_examples=150)
def test_the_gather_form_is_that_of_geometry(
    transposed: bool, kernel: int, stride: int, padding: int, dilation: int, size: int
) -> None:
    """Taps that read padding are listed too, so that they can be counted on both sides."""
    spec = ConvSpec(
        kind="conv_transpose" if transposed else "conv",
        kernel_size=(kernel,), stride=(stride,), padding=((padding, padding),), dilation=(dilation,),
    )  # fmt: skip
    window = dilation * (kernel - 1) + 1
    output_size = (
        (size - 1) * stride - 2 * padding + window
        if transposed
        else (size + 2 * padding - window) // stride + 1
    )
    assume(output_size >= 1)
    assert geometry.output_size(spec, size) == (output_size,)
    wanted: dict[int, Terms] = {}
    for (phase,) in geometry.phases(spec, size):
        for n, output in enumerate(range(phase.out_start, output_size, phase.out_step)):
            wanted[output] = [(k, n * phase.in_step + offset) for k, offset in phase.taps]
    for axis in _axes(transposed, size, output_size, kernel, stride, padding, dilation):
        assert _gathered(axis) == wanted


def test_phases_with_the_same_offsets_share_a_group() -> None:
    """Kernel 4, stride 2, padding 1: counted from the uncropped edge both phases read the same two inputs."""
    whole = transposed_axis(56, 112, 4, 2, 1, 1, cropped=False)
    (group,) = whole.groups
    assert (group.members, group.offsets, group.kernel) == ((0, 1), (0, -1), ((0, 2), (1, 3)))
    assert (whole.cells, whole.out_step, whole.shift, whole.reach) == (57, 2, -1, (-1, 0))
    cropped = transposed_axis(56, 112, 4, 2, 1, 1, cropped=True)
    assert [g.offsets for g in cropped.groups] == [(0, -1), (1, 0)]
    assert (cropped.cells, cropped.shift, cropped.reach) == (56, 0, (-1, 1))


@given(
    st.booleans(), st.integers(1, 9), st.integers(1, 30), st.integers(1, 6), st.integers(1, 6),
    st.integers(0, 7), st.integers(1, 4),
)  # fmt: skip
def test_no_cell_is_without_an_output(
    transposed: bool, size: int, output_size: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    for axis in _axes(transposed, size, output_size, kernel, stride, padding, dilation):
        for cell in range(axis.cells):
            made = [cell * axis.out_step + f + axis.shift for g in axis.groups for f in g.members]
            assert len(made) == axis.out_step
            assert any(0 <= o < output_size for o in made)
        low, high = axis.reach
        offsets = [o for g in axis.groups for o in g.offsets] or [0]
        assert low * axis.in_step <= min(offsets)
        assert max(offsets) < (high + 1) * axis.in_step
        assert {o % axis.in_step for o in offsets} == set(axis.residues)


_SMALL_AXIS = st.tuples(
    st.integers(1, 4),
    st.integers(1, 7),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(1, 2),
)


@given(st.booleans(), st.booleans(), st.tuples(_SMALL_AXIS, _SMALL_AXIS, _SMALL_AXIS))
def test_products_of_groups_and_the_terms_that_cannot_be_avoided(
    transposed: bool, cropped: bool, options: tuple[tuple[int, ...], ...]
) -> None:
    axes = [_axes(transposed, *o)[cropped and transposed] for o in options]
    groups = product_groups([a.groups for a in axes])
    phases = [phase for g in groups for phase in g.members]
    assert sorted(phases) == sorted(product(*(range(a.out_step) for a in axes)))
    of_axis = [
        {
            m: list(zip(k, g.offsets, strict=True))
            for g in a.groups
            for m, k in zip(g.members, g.kernel, strict=True)
        }
        for a in axes
    ]
    for group in groups:
        assert group.taps == len(group.offsets)
        for member, kernel in zip(group.members, group.kernel, strict=True):
            taps = list(product(*(of_axis[i][m] for i, m in enumerate(member))))
            assert list(kernel) == [tuple(k for k, _ in tap) for tap in taps]
            assert list(group.offsets) == [tuple(o for _, o in tap) for tap in taps]
            assert list(kernel) == sorted(kernel), "terms must ascend in the kernel index"
    counted = [
        sum(len(_defined(transposed, n, size, *rest)) for n in range(output_size))
        for size, output_size, *rest in options
    ]
    assert useful_terms(axes) == prod(counted)


# -- problems and their plans --------------------------------------------------------------------------------

_MACHINES = [
    Machine(isa, l2_bytes) for isa in INSTRUCTION_SETS.values() for l2_bytes in (1 << 13, 1 << 16, 1 << 20)
]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Contractions of one to three axes with sizes that no layer need have: output sizes are free."""
    nd = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    many = draw(st.sampled_from(["channels", "outputs", "neither"]))
    many_channels = st.sampled_from([1, 3, 63, 64, 65, 130, 200])

    def row(least: int, most: int, fill: int) -> Triple:
        return _triple([fill] * (3 - nd) + [draw(st.integers(least, most)) for _ in range(nd)])

    most = {1: 40, 2: 9, 3: 5}[nd]
    operator: Literal["conv", "conv_transpose"] = "conv_transpose" if transposed else "conv"
    units: st.SearchStrategy[Unit] = st.sampled_from(("width", "channel", "any"))
    return Problem(
        operator, draw(st.sampled_from(["float32", "float64", "bfloat16"])),
        draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 5])),
        draw(many_channels if many == "channels" else st.integers(1, 3)),
        draw(st.integers(1, 70) if many == "outputs" else st.integers(1, 4)),
        row(1, most, 1), row(1, most, 1), row(1, 4, 1), row(1, 5, 1), row(0, 4, 0), row(1, 3, 1),
        draw(units), draw(units),
    )  # fmt: skip


def _croppings(problem: Problem, machine: Machine) -> tuple[bool, ...]:
    """The ways to count cells; a kernel that reads in place knows one."""
    if isinstance(recipe_for(problem, machine, problem.axes()).window, Spread):
        return (True,)
    return (False, True)[: 1 + (problem.operator == "conv_transpose")]


def _candidates(problem: Problem, machine: Machine, threads: int) -> Iterator[GatherPlan]:
    """Every plan that `plan_for` chooses among, and for transposed layers those that it does not look at."""
    for cropped in _croppings(problem, machine):
        axes = problem.axes(cropped=cropped)
        for tile in tiles_for(problem, machine):
            yield from estimates(problem, machine, threads, axes, phase_groups(tile, axes), tile)


#: Layers whose plans take ways that random problems seldom take.
_SPECIAL = {
    "depthwise": Problem(
        "conv", "float32", 2, 3, 1, 1, (1, 21, 37), (1, 19, 35), (1, 3, 3), (1, 1, 1), (0, 0, 0), (1, 1, 1),
        "width", "width",
    ),
    "depthwise vectors": Problem(
        "conv_transpose", "float32", 2, 2, 1, 40, (1, 6, 7), (1, 13, 14), (1, 3, 4), (1, 2, 2), (0, 0, 1),
        (1, 1, 1), "channel", "channel", depthwise=True,
    ),
    "spread": Problem(
        "conv_transpose", "float32", 2, 3, 1, 1, (1, 9, 37), (1, 18, 74), (1, 4, 4), (1, 2, 2), (0, 1, 1),
        (1, 1, 1), "width", "width",
    ),
    "spread rows": Problem(
        "conv_transpose", "bfloat16", 2, 3, 1, 2, (1, 1, 300), (1, 1, 608), (1, 1, 12), (1, 1, 2),
        (0, 0, 1), (1, 1, 1), "width", "width",
    ),
    "two outputs": Problem(
        "conv", "float64", 1, 1, 70, 2, (3, 9, 20), (3, 9, 10), (2, 5, 3), (1, 1, 2), (1, 2, 1), (2, 1, 1),
        "width", "width",
    ),
    "dilated in space": Problem(
        "conv", "float32", 1, 1, 3, 4, (6, 14, 14), (6, 14, 14), (3, 3, 3), (1, 1, 1), (1, 5, 5), (1, 5, 5),
        "width", "width",
    ),
    "wide": Problem(
        "conv", "float32", 1, 1, 2, 5, (1, 1, 1500), (1, 1, 1492), (1, 1, 5), (1, 1, 1), (0, 0, 0), (1, 1, 2),
        "width", "width",
    ),
    "wide and padded": Problem(
        "conv", "float32", 1, 1, 2, 5, (1, 4, 150), (1, 4, 150), (1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1),
        "width", "width",
    ),
    "wide and strided": Problem(
        "conv_transpose", "bfloat16", 1, 1, 2, 3, (1, 1, 200), (1, 1, 603), (1, 1, 7), (1, 1, 3), (0, 0, 2),
        (1, 1, 1), "width", "width",
    ),
    "one position": Problem(
        "conv", "float32", 1, 1, 7, 5, (1, 30, 24), (1, 30, 24), (1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1),
        "width", "width",
    ),
    "same padding": Problem(
        "conv", "float32", 2, 1, 65, 8, (1, 12, 12), (1, 12, 12), (1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1),
        "width", "width",
    ),
    "border wider than a tile": Problem(
        "conv", "float32", 2, 1, 3, 4, (1, 3, 12), (1, 3, 12), (1, 1, 3), (1, 1, 1), (0, 0, 200), (1, 1, 200),
        "width", "width",
    ),
    "channels last": Problem(
        "conv", "float32", 1, 1, 130, 40, (1, 7, 7), (1, 4, 4), (1, 3, 3), (1, 2, 2), (0, 1, 1), (1, 1, 1),
        "channel", "any",
    ),
}  # fmt: skip

_CHOICES = (problems(), st.sampled_from(_MACHINES), st.sampled_from([1, 2, 7]))


def _box(counts: Sequence[int], cells: Sequence[int], block: Sequence[int], number: int) -> list[range]:
    """Box number -> cells, as kernels decode it: width fastest, images slowest."""
    ranges: list[range] = []
    for count, cell, size in reversed(list(zip(counts, cells, block, strict=True))):
        number, index = divmod(number, count)
        ranges.insert(0, range(index * size, min(cell, (index + 1) * size)))
    assert number == 0
    return ranges


def _boxes(plan: GatherPlan | GradientPlan | DotPlan, block: Sequence[int]) -> Iterator[list[range]]:
    cells = (plan.problem.batch, *(a.cells for a in plan.axes))
    counts = [ceil(c / b) for c, b in zip(cells, block, strict=True)]
    for number in range(prod(counts)):
        yield _box(counts, cells, block, number)


def _scalars(plan: GatherPlan) -> dict[str, int]:
    """All scalars of the argument block but the strides of tensors."""
    of_size = sizes(plan, plan.problem)
    assert of_size is not None
    return layout(plan).scalars | of_size


@given(*_CHOICES)
@settings(max_examples=40)
def test_the_tasks_make_every_output_once(problem: Problem, machine: Machine, threads: int) -> None:
    for plan in (plan_for(problem, machine, threads), *_candidates(problem, machine, threads)):
        blocks, s = plan.blocks, _scalars(plan)
        assert 1 <= s["chunks_per_task"] <= s["chunks"]
        made = np.zeros((problem.groups, problem.outputs, problem.batch, *problem.output_size), int)
        cells = [problem.batch, *(a.cells for a in plan.axes)]
        assert cells == [s["batch"], s["cells_d"], s["cells_h"], s["cells_w"]]
        assert blocks.box == (s["image_block"], s["block_d"], s["block_h"], s["block_w"])
        counts = [s["images"], s["tasks_d"], s["tasks_h"], s["tasks_w"]]
        for task in range(s["tasks"]):
            rest, part = divmod(task, s["m_tasks"])
            part_of_groups, number = divmod(rest, prod(counts))
            groups = range(problem.groups)[part_of_groups * s["groups_per_task"] :][: s["groups_per_task"]]
            box = _box(counts, cells, blocks.box, number)
            assert all(box), "a task has nothing to do"
            chunks = range(part * s["chunks_per_task"], min(s["chunks"], (part + 1) * s["chunks_per_task"]))
            assert chunks, "a task has no outputs"
            outputs = slice(chunks[0] * s["chunk_outputs"], (chunks[-1] + 1) * s["chunk_outputs"])
            places = [
                [
                    p
                    for j in cell
                    for f in range(a.out_step)
                    if 0 <= (p := j * a.out_step + f + a.shift) < a.output_size
                ]
                for a, cell in zip(plan.axes, box[1:], strict=True)
            ]
            made[np.ix_(groups, range(problem.outputs)[outputs], box[0], *places)] += 1
        assert made.min() == made.max() == 1, plan


@given(*_CHOICES)
@settings(max_examples=40)
def test_every_phase_has_rows_of_results_of_its_own(problem: Problem, machine: Machine, threads: int) -> None:
    for plan in _candidates(problem, machine, threads):
        chunk = plan.blocks.chunk_outputs
        table = phase_rows(plan.axes, plan.groups, chunk, plan.tile_rows)
        made = layout(plan)
        owner = [i for i, g in enumerate(made.groups) for _ in range(g.tiles * plan.tile_rows)]
        assert [g.row for g in made.groups] == [owner.index(i) for i in range(len(made.groups))]
        used: list[int] = []
        phases = product(*(range(a.out_step) for a in plan.axes))
        for phase, first, scale in zip(phases, table[::2], table[1::2], strict=True):
            rows = [first + o * scale for o in range(chunk)]
            assert all(phase in plan.groups[owner[row]].members for row in rows)
            # A group's weights are packed output by output, the members of each side by side.
            group = plan.groups[owner[first]]
            base = made.groups[owner[first]].row
            assert rows == [base + o * len(group.members) + group.members.index(phase) for o in range(chunk)]
            used += rows
        assert len(set(used)) == len(used)


# -- the strip -----------------------------------------------------------------------------------------------


def _packed(axes: Sequence[Axis], strip: Strip, box: Sequence[range], overrun: int) -> NDArray[np.int64]:
    """One channel of a box's strip: 1 + the number of the input at each place, 0 for padding, -1 for nothing.

    Vectors store `overrun` elements at a time; rows are written in the order in which the kernel writes them.
    """
    room = np.full(strip.plane_pitch * strip.planes + 64, -1)
    step = axes[2].in_step
    sizes = [a.input_size for a in axes]
    lows = [r.start + a.reach[0] for a, r in zip(axes, box[1:], strict=True)]
    depth, height, width = (len(r) + a.reach[1] - a.reach[0] for a, r in zip(axes, box[1:], strict=True))
    width += overrun
    planes = residue_planes(tuple(axes))
    residues = [tuple(planes[i : i + 6]) for i in range(0, len(planes), 6)]
    assert len(residues) * step == strip.planes
    for (plane, numbers), n, d, h in product(enumerate(residues), box[0], range(depth), range(height)):
        rd, before_d, behind_d, rh, before_h, behind_h = numbers
        if not (before_d <= d < depth - behind_d and before_h <= h < height - behind_h):
            continue
        ud = (lows[0] + d) * axes[0].in_step + rd
        uh = (lows[1] + h) * axes[1].in_step + rh
        image = (n - box[0].start) * strip.image_pitch + (d * strip.extent[1] + h) * strip.extent[2]
        for residue in range(step):
            u = (lows[2] + np.arange(width)) * step + residue
            inside = (u >= 0) & (u < sizes[2]) & (0 <= ud < sizes[0]) & (0 <= uh < sizes[1])
            number = 1 + ((n * sizes[0] + ud) * sizes[1] + uh) * sizes[2] + u
            place = (plane * step + residue) * strip.plane_pitch + image
            room[place : place + width] = np.where(inside, number, 0)
    assert not (room[strip.plane_pitch * strip.planes :] >= 0).any(), "packing writes behind the last plane"
    return room[: strip.plane_pitch * strip.planes]


def _all_channels(
    one: NDArray[np.int64], strip: Strip, channels: Iterable[int], inputs: int
) -> NDArray[np.int64]:
    """The strip of these channels of the input, each with numbers of its own."""
    listed = list(channels)
    full = np.full(strip.elements, -1)
    for i, channel in enumerate(listed):
        numbers = np.where(one > 0, one + channel * inputs, one)
        if strip.pixel_pitch > 1:
            full[i :: strip.pixel_pitch][: len(one)] = numbers
        else:
            assert len(one) <= strip.channel_pitch
            full[i * strip.channel_pitch :][: len(one)] = numbers
    return full


def _overrun(unit: Unit, step: int, machine: Machine, item: int) -> int:
    """Elements of a store of the packing loop: a vector where the input is contiguous along the width."""
    return machine.instruction_set.lanes(item) if unit == "width" and step <= 4 else 1


def _term_count(problem: Problem, output: Sequence[int]) -> int:
    """How many terms a channel has that read an input."""
    rows = zip(
        output,
        problem.input_size,
        problem.kernel_size,
        problem.stride,
        problem.padding,
        problem.dilation,
        strict=True,
    )
    return prod(len(_defined(problem.operator == "conv_transpose", *row)) for row in rows)


def _read(problem: Problem, output: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...] | None:
    """The input position that an output reads through a kernel element, None for padding."""
    place = []
    for i, (o, k) in enumerate(zip(output, kernel, strict=True)):
        s, p, d = problem.stride[i], problem.padding[i], problem.dilation[i]
        u, left = divmod(o + p - k * d, s) if problem.operator == "conv_transpose" else (o * s + k * d - p, 0)
        if left or not 0 <= u < problem.input_size[i]:
            return None
        place.append(u)
    return tuple(place)


def _assert_law_of_order(plan: GatherPlan) -> None:
    """Every output sums channels block by block, of a block tap by tap, of a tap channel by channel.

    Groups that share a task have one channel each, and lie in the strip as channels do.
    """
    if plan.tile.dataflow == "in_place":
        _assert_window(plan)
        return
    p, blocks, strip = plan.problem, plan.blocks, plan.blocks.strip
    made = layout(plan)
    inputs = p.batch * prod(p.input_size)
    scalar = plan.tile.by_pixel and strip.pixel_pitch > 1
    overrun = (
        1
        if scalar
        else _overrun(p.in_unit, plan.axes[2].in_step, plan.machine, 8 if p.dtype == "float64" else 4)
    )
    block_pitch = CHANNEL_BLOCK * strip.channel_pitch
    together = blocks.groups_per_task
    assert together == 1 or p.channels == 1
    for box in _boxes(plan, blocks.box):
        one = _packed(plan.axes, strip, box, overrun)
        for first in range(0, p.channels, blocks.channels_per_pass):
            channels = range(first, min(p.channels, first + blocks.channels_per_pass))
            assert first % CHANNEL_BLOCK == 0, "a pass begins inside a block of channels"
            full = _all_channels(one, strip, range(together) if together > 1 else channels, inputs)
            for cell, own in product(product(*(range(len(r)) for r in box)), range(together)):
                n, d, h, w = cell
                of_group = full[own * strip.channel_pitch :]
                place = n * strip.image_pitch + (d * strip.extent[1] + h) * strip.extent[2] + w
                for group, share in zip(plan.groups, made.groups, strict=True):
                    found: list[int] = []
                    for block in range(ceil(len(channels) / CHANNEL_BLOCK)):
                        whole = len(channels) - block * CHANNEL_BLOCK >= CHANNEL_BLOCK
                        table = np.array(share.full if whole else share.rest, int)
                        found += of_group[place * strip.pixel_pitch + block * block_pitch + table].tolist()
                    for member, kernel in zip(group.members, group.kernel, strict=True):
                        output = [
                            (r.start + j) * a.out_step + f + a.shift
                            for a, r, j, f in zip(plan.axes, box[1:], cell[1:], member, strict=True)
                        ]
                        if not all(0 <= o < a.output_size for o, a in zip(output, plan.axes, strict=True)):
                            continue
                        reads = [_read(p, output, k) for k in kernel]
                        numbers = [
                            0
                            if u is None
                            else 1 + int(np.ravel_multi_index((box[0][n], *u), (p.batch, *p.input_size)))
                            for u in reads
                        ]
                        wanted = [
                            number and number + (own + c) * inputs
                            for start in range(channels.start, channels.stop, CHANNEL_BLOCK)
                            for number in numbers
                            for c in range(start, min(channels.stop, start + CHANNEL_BLOCK))
                        ]
                        assert found == wanted, (plan, output)
                        assert sum(u is not None for u in reads) == _term_count(p, output), (
                            "a term is missing"
                        )


def _assert_window(plan: GatherPlan) -> None:
    """Every row of a tile meets its taps along the height in their order, each at the input row it reads."""
    assert plan.problem.channels == 1
    window, axis = plan.recipe.window, plan.axes[1]
    assert window is not None
    tiles = band_tiles(plan.problem, plan.axes, plan.blocks, plan.lanes)
    covered = sum(number * tile.vectors for tile, number in tiles.items())
    assert covered == ceil(plan.blocks.box[3] / plan.lanes)
    if isinstance(window, Spread):
        _assert_spread(plan, window)
        return
    (group,) = axis.groups
    assert group.kernel == (tuple(range(window.taps)),)
    rows = window.rows(plan.tile.rows)
    assert len({at for at, _ in rows}) == len(rows), "an input row is read twice"
    for r in range(plan.tile.rows):
        met = [(k, at) for at, reached in rows for row, k in reached if row == r]
        origin = group.offsets[0]
        assert met == [(k, r * axis.in_step + o - origin) for k, o in enumerate(group.offsets)]


def _assert_spread(plan: GatherPlan, spread: Spread) -> None:
    """The same where a cell has several outputs, and of the width; each with the weight that is its own."""
    p = plan.problem
    assert all(a.shift == 0 for a in plan.axes[1:]), "cells are counted from output 0"
    rows, columns = spread.rows(plan.tile.rows), spread.columns
    for i, (some, count) in enumerate(((rows, plan.tile.rows), (columns, 1)), start=1):
        assert len({at for at, _ in some}) == len(some), "an input is read twice"
        for r in range(count * p.stride[i]):
            met = [(k, at) for at, reached in some for row, k in reached if row == r]
            from_row = r + p.padding[i]
            places = [divmod(from_row - k * p.dilation[i], p.stride[i]) for k in range(p.kernel_size[i])]
            assert met == [(k, at) for k, (at, left) in enumerate(places) if not left]
    packed = {
        kernel[1:]: share.w_offset + m * share.taps + t
        for share in layout(plan).groups
        for m, member in enumerate(share.of.kernel)
        for t, kernel in enumerate(member)
    }
    assert spread.places == packed


@given(*_CHOICES, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_every_plan_sums_the_same_inputs_in_the_same_order(
    problem: Problem, machine: Machine, threads: int, random: object
) -> None:
    """Law 4 for plans: the oracle knows no tile, dataflow, box, threads, instruction set or layout."""
    assume(problem.channels * prod(problem.kernel_size) * prod(problem.output_size) * problem.batch <= 40_000)
    _assert_law_of_order(plan_for(problem, machine, threads))
    others = list(_candidates(problem, machine, threads))
    for flow in get_args(Dataflow):
        plans = [plan for plan in others if plan.tile.dataflow == flow]
        if plans:
            _assert_law_of_order(random.choice(plans))  # type: ignore[attr-defined]  # hypothesis' own Random


def test_the_special_plans_are_what_they_are_for() -> None:
    """Else the tests of the strip and of scratch would miss a way without anybody seeing it."""
    plans = {
        name: [plan for m in _MACHINES for plan in _candidates(problem, m, 1)]
        for name, problem in _SPECIAL.items()
    }
    assert {plan.tile.dataflow for some in plans.values() for plan in some} == set(get_args(Dataflow))
    assert any(plan.blocks.nested for plan in plans["dilated in space"])
    assert any(plan.blocks.direct for plan in plans["wide"])
    assert any(plan.blocks.direct and plan.blocks.box[2] > 1 for plan in plans["one position"])
    assert any(plan.blocks.box[3] < plan.axes[2].cells for plan in plans["wide"])
    padded = [plan for plan in plans["wide and padded"] if plan.blocks.box[2] > 1]
    assert any(plan.blocks.box[3] < plan.axes[2].cells for plan in padded), (
        "boxes of rows that end in the input"
    )
    assert any(plan.axes[2].out_step > 1 and plan.blocks.box[3] > 64 for plan in plans["wide and strided"])
    assert any(plan.blocks.channels_per_pass < plan.problem.channels for plan in plans["same padding"])
    assert any(
        plan.blocks.strip.extent[2] < plan.blocks.box[3] + plan.axes[2].reach[1] - plan.axes[2].reach[0]
        for plan in plans["same padding"]
    ), "rows that share their border"
    assert any(plan.blocks.strip.pixel_pitch > 1 for plan in plans["channels last"])


@pytest.mark.parametrize("name", _SPECIAL)
def test_special_plans_sum_in_the_same_order_too(name: str) -> None:
    """One plan for each tile: the last way to cut, with the most boxes and passes."""
    problem = _SPECIAL[name]
    for machine in (_MACHINES[0], _MACHINES[-2]):
        axes = problem.axes(cropped=_croppings(problem, machine)[0])
        for tile in tiles_for(problem, machine):
            for plan in list(estimates(problem, machine, 1, axes, phase_groups(tile, axes), tile))[-1:]:
                _assert_law_of_order(plan)


@pytest.mark.parametrize("unit", ["width", "channel"])
def test_weights_are_asked_for_where_they_do_not_stay_near(unit: Unit) -> None:
    """By the layer's weights alone, so that another size needs no other tiles."""
    near = Problem(
        "conv", "float32", 1, 1, 512, 512, (1, 7, 7), (1, 7, 7), (1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1),
        unit, unit,
    )  # fmt: skip
    far = replace(near, channels=1024)
    larger = replace(far, input_size=(1, 90, 90), output_size=(1, 90, 90))
    assert near.weight_bytes == 9 << 20
    for machine in _MACHINES:
        assert not any(tile.far for tile in tiles_for(near, machine))
        assert {tile.far for tile in tiles_for(far, machine) if tile.dataflow == "channels"} == {True}
        assert not any(tile.far for tile in tiles_for(far, machine) if tile.dataflow != "channels")
        assert tiles_for(far, machine) == tiles_for(larger, machine)


@pytest.mark.parametrize("name", _SPECIAL)
def test_special_plans_have_room_too(name: str) -> None:
    for machine, threads in product(_MACHINES, (1, 4)):
        for plan in _candidates(_SPECIAL[name], machine, threads):
            _assert_scratch(plan, layout(plan))


@given(*_CHOICES)
@settings(max_examples=60)
def test_skips_are_offered_exactly_where_some_box_has_a_tap_without_input(
    problem: Problem, machine: Machine, threads: int
) -> None:
    for plan in _candidates(problem, machine, threads):
        useless, rows = False, False
        for axis in plan.axes[:2]:
            for j, o in product(range(axis.cells), {o for g in axis.groups for o in g.offsets}):
                rows |= not 0 <= j * axis.in_step + o < axis.input_size
        images, planes = plan.blocks.box[:2]
        rows &= images == planes == 1 or (plan.tile.by_pixel and 1 in (images, planes))
        rows &= not plan.tile.by_row
        isa, step = machine.instruction_set, plan.axes[2].in_step
        each = term_cycles(plan.tile, isa, plan.groups, step, plan.lanes)
        rows &= kept_terms(plan.axes, plan.groups, plan.tile, plan.blocks, plan.lanes, each)[1]
        for box in _boxes(plan, plan.blocks.box):
            for axis, cells in zip(plan.axes, box[1:], strict=True):
                reads = [[j * axis.in_step + o for j in cells] for g in axis.groups for o in g.offsets]
                useless |= any(max(r) < 0 or min(r) >= axis.input_size for r in reads)
        # Stripes are cut where taps differ; a kernel that reads in place looks at every row of the input.
        useless |= len(plan.blocks.columns) > 1 or plan.tile.dataflow == "in_place"
        assert layout(plan).scalars["skips"] == (ROW_SKIPS if rows else BOX_SKIPS if useless else NO_SKIPS)


@given(problems(), st.integers(1, 12))
@settings(max_examples=100)
def test_the_taps_that_blocks_keep_are_counted_right(problem: Problem, block: int) -> None:
    for axis in problem.axes():
        kept = total = 0
        for start in range(0, axis.cells, block):
            cells = range(start, min(start + block, axis.cells))
            for group in axis.groups:
                reads = [{j * axis.in_step + o for j in cells} for o in group.offsets]
                kept += len(group.members) * sum(not r.isdisjoint(range(axis.input_size)) for r in reads)
                total += len(group.members) * len(group.offsets)
        assert axis.kept(block) == pytest.approx(kept / total if total else 1.0)
        offsets = {o for g in axis.groups for o in g.offsets}
        used = [
            {o for o in offsets if 0 <= j * axis.in_step + o < axis.input_size} for j in range(axis.cells)
        ]
        runs = [len(list(run)) for _, run in groupby(used)]
        assert axis.stripes == tuple(zip(accumulate(runs, initial=0), runs, strict=False))
        for first, columns in axis.stripes:
            assert {axis.kept_at(j) for j in range(first, first + columns)} == {axis.kept_at(first)}
            terms = [(o, len(g.members)) for g in axis.groups for o in g.offsets]
            kept, total = sum(n for o, n in terms if o in used[first]), sum(n for _, n in terms)
            assert axis.kept_at(first) == pytest.approx(kept / total if total else 1.0)


def _dilated(channels: int, side: int, dilation: int) -> GatherPlan:
    size, window, step = (1, side, side), (1, 3, 3), (1, dilation, dilation)
    problem = Problem(
        "conv", "float32", 1, 1, channels, channels, size, size, window, (1, 1, 1), (0, dilation, dilation),
        step, "width", "width",
    )  # fmt: skip
    return plan_for(problem, Machine(INSTRUCTION_SETS["avx512"]), 1)


def test_boxes_at_a_wide_border_leave_out_its_taps() -> None:
    """A dilated layer whose padding is as wide as a third of the map: ASPP of DeepLab."""
    problem = _dilated(256, 33, 12).problem
    plan = _best(problem, Machine(INSTRUCTION_SETS["avx512"]), 1)
    assert plan.blocks.box[3] <= 12
    assert plan.axes[2].kept(plan.blocks.box[3]) == pytest.approx(7 / 9)


def test_columns_at_a_border_have_tiles_of_their_own() -> None:
    """A dilated residual layer: four columns at either side use two taps of three."""
    plan = _dilated(128, 56, 4)
    assert plan.blocks.columns == ((0, 4), (4, 48), (52, 4))


# -- scratch -------------------------------------------------------------------------------------------------


def _problem_of(case: Case) -> Problem:
    def row(values: Sequence[int], fill: int) -> Triple:
        return _triple([fill] * (3 - len(values)) + list(values))

    g = case.groups
    return Problem(
        "conv_transpose" if case.transposed else "conv", "float32", case.batch, g, case.in_channels // g,
        case.out_channels // g, row(case.input_size, 1), row(case.output_size, 1), row(case.kernel_size, 1),
        row(case.stride, 1), row(case.padding, 0), row(case.dilation, 1), "width", "width",
    )  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("table", ["layers", "more_layers", "small_layers"])
def test_a_thread_needs_less_than_two_megabytes(table: str, threads: int) -> None:
    """Of real layers, beside input, output and packed weights, whatever passes over the channels keep."""
    for case in read_cases(ROOT / "bench" / f"{table}.csv"):
        plan = plan_for(_problem_of(case), Machine(INSTRUCTION_SETS["avx512"]), threads)
        assert layout(plan).scratch_bytes < 2 << 20, case.id


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_packed_next_is_asked_for_in_time(threads: int) -> None:
    """Where inputs are far: all that a box reads of a channel, a few lines a tile, until it is packed."""
    some = 0
    for case in read_cases(ROOT / "bench" / "layers.csv"):
        plan = plan_for(_problem_of(case), Machine(INSTRUCTION_SETS["avx512"]), threads)
        p, (row, lines, rows) = plan.problem, plan.ahead
        if 4 * p.batch * p.groups * p.channels * prod(p.input_size) < 2 << 20:
            assert plan.ahead == (0, 0, 0), f"{case.id} asks for what is near"
        if row:
            some += 1
            cells = zip(plan.axes, plan.blocks.box[1:], strict=True)
            read = [min(n * a.in_step, a.input_size) for a, n in cells]
            assert 64 * row >= 4 * prod(read), f"{case.id} leaves out a part of a row"
            assert 1 <= lines * rows <= 32
            made = layout(plan)
            tiles = sum(g.tiles for g in made.groups) * plan.blocks.chunks_per_task
            tiles *= pixel_tiles(plan.tile, plan.blocks, plan.lanes)
            needed = ceil(row / lines) * plan.blocks.channels_per_pass
            enough = tiles * rows >= 0.66 * needed or lines * (rows + 1) > 32
            assert enough, f"{case.id} is still asking when the next is packed"
    assert some > 20


def _last_place(plan: GatherPlan) -> int:
    """The last place of the strip, and of a row of results, at which a tile along the width begins."""
    blocks, strip = plan.blocks, plan.blocks.strip
    step = plan.tile.pixels(plan.lanes)
    n, d, h, w = blocks.box
    if plan.tile.dataflow == "rows":
        row = (h - 1) // plan.tile.rows * plan.tile.rows
        start = (n - 1) * strip.image_pitch + ((d - 1) * strip.extent[1] + row) * strip.extent[2]
        return start + (w - 1) // step * step
    if blocks.direct:
        planes = (n - 1) * strip.image_pitch + (d - 1) * strip.extent[1] * strip.extent[2]
        if strip.extent[2] == w:
            return planes + (h * w - 1) // step * step
        return planes + (h - 1) * strip.extent[2] + (w - 1) // step * step
    if blocks.nested:
        assert n == 1, "planes of several images are not looped over"
        plane = (h - 1) * strip.extent[2] + w
        return (d - 1) * strip.extent[1] * strip.extent[2] + (plane - 1) // step * step
    return (blocks.extent - 1) // step * step


def _assert_room_for_masks(plan: GatherPlan, made: Layout) -> None:
    """A bit for each lane of every vector of a row: of each tap and part of a stride, and of the outputs.

    Behind them an output row.
    """
    p, lanes, line = plan.problem, plan.lanes, made.scalars["line_bytes_offset"]
    window, step = plan.recipe.window, plan.axes[2].in_step
    tiles = [*Counter(band_tiles(p, plan.axes, plan.blocks, lanes)).elements()]
    if isinstance(window, Spread):
        masks = (len(window.columns) + p.stride[2]) * sum(tile.vectors for tile in tiles)
    else:
        assert window is not None
        at_once = [window.across > 0 and (tile.vectors == 1 or not window.narrow) for tile in tiles]
        reads = [
            tile.vectors * step + (window.across > step) if whole else tile.vectors * step * p.kernel_size[2]
            for tile, whole in zip(tiles, at_once, strict=True)
        ]
        masks = sum(n + tile.vectors for n, tile in zip(reads, tiles, strict=True))
    assert masks * lanes // 8 <= line
    assert line <= made.scratch_bytes == made.scalars["scratch_bytes"]
    if isinstance(window, Spread) and window.alone:  # a whole row of the box, last vectors under masks
        assert line + plan.blocks.box[3] * p.stride[2] * STORAGE_BYTES[p.dtype] <= made.scratch_bytes


def _assert_scratch(plan: GatherPlan, made: Layout) -> None:
    p, blocks, strip, s = plan.problem, plan.blocks, plan.blocks.strip, made.scalars
    item = 8 if p.dtype == "float64" else 4
    if plan.tile.dataflow == "in_place":
        _assert_room_for_masks(plan, made)
        return
    regions = [0, s["temp_bytes_offset"], s["line_bytes_offset"], s["runs_bytes_offset"], made.scratch_bytes]
    assert made.scratch_bytes == s["scratch_bytes"]
    assert regions == sorted(regions)
    assert not any(r % 64 for r in regions), "a region begins inside a cache line"
    room, temp, line, runs = (b - a for a, b in pairwise(regions))
    channels = min(p.channels, blocks.channels_per_pass)
    tables = [o for g in made.groups for o in (*g.full, *g.rest)]
    assert all(0 <= o < strip.elements for o in tables)
    if strip.pixel_pitch == 1:
        within = [o % strip.channel_pitch for o in tables]
        assert all(o < strip.plane_pitch * strip.planes for o in within), "a term leaves its channel's strip"
    else:
        assert strip.pixel_pitch >= channels
    block_pitch = CHANNEL_BLOCK * strip.channel_pitch
    full, rest = divmod(channels, CHANNEL_BLOCK)
    far = 0
    for g in made.groups:
        far = max([far, *(o + (full - 1) * block_pitch for o in g.full if full)])
        far = max([far, *(o + full * block_pitch for o in g.rest if rest)])
    if plan.tile.by_pixel:
        pixels = pixel_offsets(blocks, plan.tile.rows)
        assert made.pixels == pixels
        assert [c for s in made.stripes for c in range(s.first, s.first + s.columns)] == list(
            range(blocks.box[3])
        )
        ends = [*(s.place for s in made.stripes[1:]), len(pixels)]
        for stripe, end in zip(made.stripes, ends, strict=True):
            count = prod(blocks.box[:3]) * stripe.columns
            tiles = -(-count // plan.tile.rows) * plan.tile.rows
            assert end == stripe.place + tiles
            pitches = (stripe.image_pitch, stripe.depth_pitch, stripe.row_pitch, 1)
            order = sorted(
                (sum(i * p for i, p in zip(place, pitches, strict=True)), place)
                for place in product(*map(range, (*blocks.box[:3], stripe.columns)))
            )
            assert [q for q, _ in order] == list(range(count)), "results do not lie pixel by pixel"
            wanted = [
                (n * strip.image_pitch + (d * strip.extent[1] + h) * strip.extent[2] + stripe.first + w)
                * strip.pixel_pitch
                for _, (n, d, h, w) in order
            ]
            found = pixels[stripe.place : stripe.place + tiles]
            assert found[:count] == wanted
            assert set(found[count:]) <= {wanted[-1]}
        last_read, last_write = max(pixels) + far, len(pixels) - 1
    else:
        assert strip.pixel_pitch == 1
        assert not made.pixels
        beyond = plan.tile.pixels(plan.lanes) - 1
        # A group of rows that lies partly beyond the box reads and writes as if it did not.
        beyond += (plan.tile.rows - 1) * strip.extent[2] if plan.tile.dataflow == "rows" else 0
        last_read, last_write = _last_place(plan) + far + beyond, _last_place(plan) + beyond
    assert last_read * item < room, "a tile reads beyond the strip"
    assert last_write < s["temp_pitch"], "a tile writes into the next row of results"
    rows = sum(g.tiles * plan.tile_rows for g in made.groups)
    kept = blocks.chunks_per_task if s["passes"] > 1 else 1
    assert s["chunk_temp"] == (rows * s["temp_pitch"] if s["passes"] > 1 else 0)
    assert kept * rows * s["temp_pitch"] * item <= temp
    assert plan.axes[2].out_step * ceil(blocks.box[3] / plan.lanes) * plan.lanes * item <= line
    taken = [w for g in made.groups for w in range(g.runs_offset, g.runs_offset + 1 + 2 * g.taps)]
    assert len(set(taken)) == len(taken)
    assert max(taken) < s["stripe_runs"]
    assert s["stripe_runs"] * s["stripes"] <= s["tile_runs_offset"]
    assert 8 * (s["tile_runs_offset"] + 1 + 2 * max(g.taps for g in made.groups)) <= runs


@given(*_CHOICES)
@settings(max_examples=60)
def test_scratch_has_room_for_all_that_is_laid_into_it(
    problem: Problem, machine: Machine, threads: int
) -> None:
    for plan in _candidates(problem, machine, threads):
        _assert_scratch(plan, layout(plan))


@given(*_CHOICES)
@settings(max_examples=60)
def test_packed_weights_lie_one_behind_the_other(problem: Problem, machine: Machine, threads: int) -> None:
    for plan in _candidates(problem, machine, threads):
        made = layout(plan)
        place = 0
        for share, group in zip(made.groups, plan.groups, strict=True):
            assert (share.w_offset, share.taps, share.members) == (place, group.taps, len(group.members))
            assert share.tiles * plan.tile_rows >= plan.blocks.chunk_outputs * share.members
            assert weight_block_stride(plan, share) == CHANNEL_BLOCK * share.taps * plan.tile_rows
            place += share.tiles * plan.tile_rows * share.taps * problem.channels
        assert made.chunk_weights == place == made.scalars["w_stride_chunk"]
        assert made.chunks * plan.blocks.chunk_outputs >= problem.outputs
        assert total_weights(plan, made) == problem.groups * made.scalars["w_stride_g"]


@given(*_CHOICES)
@settings(max_examples=40)
def test_tiles_of_rows_find_lower_kernel_rows_one_strip_row_down(
    problem: Problem, machine: Machine, threads: int
) -> None:
    """Their kernel walks input rows and looks up the first kernel row's places only."""
    problem = replace(
        problem, operator="conv", outputs=1, stride=_triple([problem.stride[0], 1, problem.stride[2]]),
        dilation=_triple([problem.dilation[0], 1, problem.dilation[2]]),
        kernel_size=_triple([problem.kernel_size[0], max(2, problem.kernel_size[1]), problem.kernel_size[2]]),
    )  # fmt: skip
    plans = [plan for plan in _candidates(problem, machine, threads) if plan.tile.dataflow == "rows"]
    assume(plans)  # there are none where the channels of one pass do not fit the cache
    for plan in plans:
        assert plan.blocks.channels_per_pass == problem.channels, (
            "sums of an earlier pass cannot be taken up again"
        )
        (share,) = layout(plan).groups
        for table, channels in ((share.full, CHANNEL_BLOCK), (share.rest, problem.channels % CHANNEL_BLOCK)):
            depth, height, width = problem.kernel_size
            if table:
                places = np.array(table).reshape(depth, height, width * channels)
                steps = np.arange(height)[None, :, None] * plan.blocks.strip.extent[2]
                assert (places == places[:, :1] + steps).all()


# -- plans as values -----------------------------------------------------------------------------------------


@given(*_CHOICES)
@settings(max_examples=25)
def test_plans_are_frozen_hashable_and_always_the_same(
    problem: Problem, machine: Machine, threads: int
) -> None:
    plan = plan_for(problem, machine, threads)
    _best.cache_clear()
    again = plan_for.__wrapped__(replace(problem), replace(machine), threads)
    assert plan == again
    assert plan is not again
    assert hash(plan) == hash(again)
    assert layout(plan) == layout(again)
    assert (plan.problem, plan.machine, plan.threads) == (problem, machine, threads)
    for value in (
        plan,
        plan.blocks,
        plan.blocks.strip,
        plan.recipe,
        plan.tile,
        problem,
        machine,
        plan.axes[0],
    ):
        with pytest.raises(FrozenInstanceError):
            value.anything = 1  # type: ignore[union-attr]
    if problem.coarse() is problem:
        candidates = _candidates(problem, machine, threads)
        assert plan.predicted_cycles == min(each.predicted_cycles for each in candidates)


@given(st.integers(33, 3000), st.integers(33, 400), st.sampled_from(_MACHINES), st.sampled_from([1, 2]))
@settings(max_examples=30)
def test_a_size_between_coarse_ones_is_planned_nearly_as_well(
    width: int, height: int, machine: Machine, threads: int
) -> None:
    """To cost all ways for each new size would take longer than some layers run."""
    wide = (1, 1, width)
    problems = [
        Problem(
            "conv_transpose", "float32", 1, 1, 128, 64, wide, (1, 1, 2 * width), (1, 1, 4), (1, 1, 2),
            (0, 0, 1), (1, 1, 1), "width", "width",
        ),
        Problem(
            "conv", "float32", 1, 1, 64, 64, (1, height, height), (1, height, height), (1, 3, 3), (1, 1, 1),
            (0, 1, 1), (1, 1, 1), "width", "width",
        ),
    ]  # fmt: skip
    for problem in problems:
        plan = plan_for(problem, machine, threads)
        best = _best(problem, machine, threads).predicted_cycles
        p, axes, blocks, lanes = plan.problem, plan.axes, plan.blocks, plan.lanes
        task = task_cycles(p, axes, plan.groups, plan.tile, blocks, machine, lanes, 4)
        assert task * _turns(p, axes, blocks, threads) <= 1.2 * best
        assert 0.9 * best <= plan.predicted_cycles <= 1.2 * best
        # Sizes that are coarse themselves, as most in use are, get the best plan.
        coarse = problem.coarse()
        assert plan_for(coarse, machine, threads) == _best(coarse, machine, threads)


@given(
    st.sampled_from(["conv", "conv_transpose"]), st.integers(1025, 20000), st.integers(1, 60),
    st.integers(1, 7), st.integers(1, 3), st.integers(1, 90), st.integers(1, 90), *_CHOICES[1:],
)  # fmt: skip
@settings(max_examples=60)
def test_a_size_that_shares_blocks_shares_all_but_its_scalars(
    operator: Literal["conv", "conv_transpose"], width: int, more: int, kernel: int, stride: int,
    channels: int, outputs: int, machine: Machine, threads: int,
) -> None:  # fmt: skip
    """What an earlier size left ready serves a later one: with its scalars it is what planning would make."""

    def of_width(n: int) -> Problem:
        longer, step = (n - 1) * stride + kernel, (1, 1, stride)
        size, result = (longer, n) if operator == "conv" else (n, longer)
        return Problem(
            operator, "float32", 1, 1, channels, outputs, (1, 1, size), (1, 1, result), (1, 1, kernel), step,
            (0, 0, 0), (1, 1, 1), "width", "width",
        )  # fmt: skip

    first, second = of_width(width), of_width(min(width + more, *coarse_size([width])))
    plan = plan_for(first, machine, threads)
    found = sizes(plan, second)
    assert first.coarse() == second.coarse()
    assume(found is not None)
    other = plan_for(second, machine, threads)
    assert other.blocks == plan.blocks
    assert found == sizes(other, second)
    one, two = layout(plan), layout(other)
    assert replace(one, scalars={}) == replace(two, scalars={})
    differ = {name for name, value in one.scalars.items() if two.scalars[name] != value}
    assert differ <= {"skips", "ahead_bytes", "ahead_step", "ahead_rows"}  # what costs time alone


@given(st.one_of(problems(), st.sampled_from(list(_SPECIAL.values()))), *_CHOICES[1:], st.data())
@settings(max_examples=60)
def test_the_tiles_of_a_layer_are_the_same_for_all_its_sizes(
    problem: Problem, machine: Machine, threads: int, data: st.DataObject
) -> None:
    sizes = st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
    other = replace(
        problem,
        batch=data.draw(st.integers(1, 99)),
        input_size=data.draw(sizes),
        output_size=data.draw(sizes),
    )
    assert tiles_for(other, machine) == tiles_for(problem, machine)
    assert plan_for(other, machine, threads).tile in tiles_for(problem, machine)
    names = [tile.name for tile in tiles_for(problem, machine)]
    assert len(set(names)) == len(names), "two tiles would be one function"


@given(*_CHOICES, st.data())
@settings(max_examples=60)
def test_the_recipe_of_a_layer_is_the_same_for_all_its_sizes(
    problem: Problem, machine: Machine, threads: int, data: st.DataObject
) -> None:
    """Law 6 for plans: kernels are cached under the recipe."""
    sizes = st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(2, 300))
    first, second = (
        replace(
            problem,
            batch=data.draw(st.integers(1, 9)),
            input_size=data.draw(sizes),
            output_size=data.draw(sizes),
        )
        for _ in range(2)
    )
    assert plan_for(first, machine, threads).recipe == plan_for(second, machine, 1).recipe


def test_the_recipe_is_the_same_for_an_input_of_one_column() -> None:
    """Law 6 has no exception: ConvTranspose1d(5, 6, 7, stride=2) must not compile again for one column."""
    wide = Problem(
        "conv_transpose", "float32", 1, 1, 5, 6, (1, 1, 9), (1, 1, 23), (1, 1, 7), (1, 1, 2), (0, 0, 0),
        (1, 1, 1), "width", "width",
    )  # fmt: skip
    narrow = replace(wide, input_size=(1, 1, 1), output_size=(1, 1, 7))
    assert plan_for(narrow, _MACHINES[0], 1).recipe == plan_for(wide, _MACHINES[0], 1).recipe


@given(*_CHOICES)
@settings(max_examples=25)
def test_the_argument_block_is_filled_and_names_nothing_else(
    problem: Problem, machine: Machine, threads: int
) -> None:
    given_by_the_call = {n for n in FIXED if n.endswith("_at") or n.startswith(("x_stride", "y_stride"))}
    scalars = _scalars(plan_for(problem, machine, threads))
    assert set(scalars) == set(FIXED) - given_by_the_call
    assert not set(CALL) & set(FIXED)
    assert all(isinstance(v, int) for v in scalars.values())
    assert problem.flops == 2 * problem.terms


# -- the weight gradient -------------------------------------------------------------------------------------


def _gradient_of(problem: Problem) -> GradientProblem:
    p = problem
    return GradientProblem(
        p.dtype, p.batch, p.groups, p.channels, p.outputs, p.input_size, p.output_size, p.kernel_size,
        p.stride, p.padding, p.dilation, p.in_unit, "channel" if p.out_unit == "any" else "any",
    )  # fmt: skip


@given(problems(), st.integers(1, 40_000), st.data())
@settings(max_examples=100)
def test_boxes_and_splits_of_the_weight_gradient_depend_on_the_problem_alone(
    problem: Problem, width: int, data: st.DataObject
) -> None:
    """They fix the order of summation, so neither machine nor threads nor layout may move them."""
    large = replace(problem, output_size=_triple([*problem.output_size[:2], width]))
    gradient = _gradient_of(large)
    one = plan_gradient(gradient, _MACHINES[0], 1)
    assert (one.splits - 1) * one.boxes_per_split < one.boxes <= one.splits * one.boxes_per_split
    for _ in range(4):
        moved = replace(
            gradient,
            in_unit=data.draw(st.sampled_from(["width", "channel", "any"])),
            out_unit=data.draw(st.sampled_from(["channel", "any"])),
        )
        other = plan_gradient(moved, data.draw(st.sampled_from(_MACHINES)), data.draw(st.integers(1, 64)))
        assert (other.box, other.boxes, other.splits, other.boxes_per_split) == (
            one.box, one.boxes, one.splits, one.boxes_per_split,
        )  # fmt: skip
        assert plan_dots(moved, other.machine).box == plan_dots(gradient, _MACHINES[0]).box


def test_the_splits_do_depend_on_the_problem() -> None:
    """Else the law above would hold for nothing."""
    small = _gradient_of(
        Problem(
            "conv", "float32", 8, 1, 3, 8, (1, 64, 64), (1, 64, 64), (1, 3, 3), (1, 1, 1), (0, 1, 1),
            (1, 1, 1), "width", "width",
        )
    )  # fmt: skip
    assert plan_gradient(small, _MACHINES[0], 1).splits > 1
    assert plan_gradient(replace(small, channels=512, outputs=512), _MACHINES[0], 1).splits == 1


@given(*_CHOICES)
@settings(max_examples=60)
def test_the_weight_gradient_sums_every_pixel_once_and_finds_it(
    problem: Problem, machine: Machine, threads: int
) -> None:
    assume(problem.channels * prod(problem.kernel_size) * prod(problem.output_size) * problem.batch <= 40_000)
    plan = plan_gradient(_gradient_of(problem), machine, threads)
    p, strip = plan.problem, plan.strip
    scalars, taps, scratch_bytes = gradient_scalars(plan)
    boxes = list(_boxes(plan, plan.box))
    assert len(boxes) == plan.boxes
    assert (plan.splits - 1) * plan.boxes_per_split < plan.boxes <= plan.splits * plan.boxes_per_split
    pixels = [cell for box in boxes for cell in product(*box)]
    assert sorted(pixels) == list(product(range(p.batch), *(range(n) for n in p.output_size)))
    assert plan.output_blocks * plan.width >= p.outputs
    item = 8 if p.dtype == "float64" else 4
    panel, terms = scalars["panel_bytes_offset"], scalars["terms_bytes_offset"]
    assert strip.elements * item <= panel
    assert prod(plan.box) * plan.width * item <= terms - panel
    assert 4 * prod(plan.box) <= scratch_bytes - terms
    slabs = ceil(p.channels / plan.channels_per_block)
    assert scalars["tasks"] == p.groups * plan.splits * slabs * plan.output_blocks
    inputs = p.batch * prod(p.input_size)
    kernel = list(product(*(range(k) for k in p.kernel_size)))
    overrun = _overrun(p.in_unit, plan.axes[2].in_step, machine, item)
    direct = replace(problem, operator="conv")
    for box in boxes:
        one = _packed(plan.axes, strip, box, 1 if strip.pixel_pitch > 1 else overrun)
        full = _all_channels(one, strip, range(min(p.channels, plan.channels_per_block)), inputs)
        pitch = strip.channel_pitch
        for n, d, h, w in product(*(range(len(r)) for r in box)):
            place = n * strip.image_pitch + (d * strip.extent[1] + h) * strip.extent[2] + w
            output = [r[i] for r, i in zip(box[1:], (d, h, w), strict=True)]
            for tap, k in zip(taps, kernel, strict=True):
                u = _read(direct, output, k)
                number = 0
                if u is not None:
                    number = 1 + int(np.ravel_multi_index((box[0][n], *u), (p.batch, *p.input_size)))
                found = full[place * strip.pixel_pitch + tap :: pitch][
                    : min(p.channels, plan.channels_per_block)
                ]
                wanted = [number and number + c * inputs for c in range(len(found))]
                assert found.tolist() == wanted


@given(*_CHOICES)
@settings(max_examples=60)
def test_dot_products_find_every_input(problem: Problem, machine: Machine, threads: int) -> None:
    plan = plan_dots(_gradient_of(problem), machine)
    p, strip = plan.problem, plan.strip
    scalars, taps, scratch_bytes = dot_scalars(plan)
    item = 8 if p.dtype == "float64" else 4
    assert strip.elements * item <= scalars["sums_bytes_offset"]
    assert DOT_BYTES * p.outputs * prod(p.kernel_size) <= scratch_bytes - scalars["sums_bytes_offset"]
    assert scalars["tasks"] == p.groups * p.channels
    boxes = list(_boxes(plan, plan.box))
    assert len(boxes) == scalars["boxes"]
    assert sum(prod(map(len, box)) for box in boxes) == p.batch * prod(p.output_size)
    kernel = list(product(*(range(k) for k in p.kernel_size)))
    overrun = _overrun(p.in_unit, plan.axes[2].in_step, machine, item)
    for box in boxes:
        one = _packed(plan.axes, strip, box, overrun)
        for n, d, h, w in product(*(range(len(r)) for r in box)):
            place = n * strip.image_pitch + (d * strip.extent[1] + h) * strip.extent[2] + w
            output = [r[i] for r, i in zip(box[1:], (d, h, w), strict=True)]
            for tap, k in zip(taps, kernel, strict=True):
                u = _read(replace(problem, operator="conv"), output, k)
                number = 0
                if u is not None:
                    number = 1 + int(np.ravel_multi_index((box[0][n], *u), (p.batch, *p.input_size)))
                assert one[place + tap] == number


@given(*_CHOICES)
@settings(max_examples=25)
def test_the_argument_block_of_the_weight_gradient_is_filled(
    problem: Problem, machine: Machine, threads: int
) -> None:
    given_by_the_call = {
        n
        for n in GRADIENT_ARGUMENTS
        if n.endswith("_at") or n.startswith(("x_stride", "y_stride")) or n in ("next_task", "next_worker")
    }
    plan = plan_gradient(_gradient_of(problem), machine, threads)
    scalars, _, _ = gradient_scalars(plan)
    assert set(scalars) == set(GRADIENT_ARGUMENTS) - given_by_the_call
    assert hash(plan) == hash(plan_gradient(_gradient_of(problem), machine, threads))
