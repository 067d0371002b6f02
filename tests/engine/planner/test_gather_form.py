"""The gather form of an axis against the definition: which inputs each output sums, in which order."""

from __future__ import annotations

from itertools import accumulate, groupby, product
from math import prod

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from outstride import geometry
from outstride.engine.planner.gather_form import (
    GatherAxis,
    conv_axis,
    product_groups,
    transposed_axis,
    useful_terms,
)
from outstride.engine.planner.problem import Problem
from outstride.layer.spec import ConvSpec
from tests.engine.planner.definitions import Terms, defined_terms
from tests.engine.planner.problems import problems
from tests.tolerance import assert_within_roundings


def _gathered(axis: GatherAxis) -> dict[int, Terms]:
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
) -> list[GatherAxis]:
    """The one gather form of a convolution's axis, or both of a transposed one's."""
    args = (size, output_size, kernel, stride, padding, dilation)
    if not transposed:
        return [conv_axis(*args)]
    return [transposed_axis(*args, cropped=cropped) for cropped in (False, True)]


def _assert_defined(transposed: bool, size: int, output_size: int, *options: int) -> None:
    for axis in _axes(transposed, size, output_size, *options):
        for output, pairs in _gathered(axis).items():
            inside = [(k, u) for k, u in pairs if 0 <= u < size]
            assert inside == defined_terms(transposed, output, size, *options), (axis, output)


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
        sum(len(defined_terms(transposed, n, size, *rest)) for n in range(output_size))
        for size, output_size, *rest in options
    ]
    assert useful_terms(axes) == prod(counted)


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
        assert_within_roundings(
            axis.kept(block), kept / total if total else 1.0, 8, "a quotient of sums of whole numbers"
        )
        offsets = {o for g in axis.groups for o in g.offsets}
        used = [
            {o for o in offsets if 0 <= j * axis.in_step + o < axis.input_size} for j in range(axis.cells)
        ]
        before = [{o for o in offsets if j * axis.in_step + o < 0} for j in range(axis.cells)]
        runs = [len(list(run)) for _, run in groupby(zip(used, before, strict=True))]
        assert axis.ranges == tuple(zip(accumulate(runs, initial=0), runs, strict=False))
        for first, columns in axis.ranges:
            assert {axis.kept_at(j) for j in range(first, first + columns)} == {axis.kept_at(first)}
            terms = [(o, len(g.members)) for g in axis.groups for o in g.offsets]
            kept, total = sum(n for o, n in terms if o in used[first]), sum(n for _, n in terms)
            assert_within_roundings(
                axis.kept_at(first), kept / total if total else 1.0, 8, "a quotient of whole numbers"
            )
