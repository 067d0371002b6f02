"""What each output reads: phases and receptive fields against the definition."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from outstride import geometry, reference
from outstride.errors import ArgumentError, ShapeError
from outstride.layer.spec import ConvSpec
from tests.geometry.drawn_layers import accepted, draw_sizes, parse, specs
from tests.spec_strategies import conv_specs


@given(specs, st.data())
def test_every_output_belongs_to_one_phase_and_gathers_what_the_formula_ties(
    spec: ConvSpec, data: st.DataObject
) -> None:
    """u = i * stride + k * dilation - low ties input u and output i of a conv through kernel index k."""
    size = draw_sizes(data, spec, 1, 7)
    transposed = spec.kind == "conv_transpose"
    lows = [low for low, _ in geometry.resolved_padding(spec, size)]
    for axis, phases in enumerate(geometry.axis_phases(spec, size)):
        k, s, d, low = spec.kernel_size[axis], spec.stride[axis], spec.dilation[axis], lows[axis]
        assert len(phases) == (s if transposed else 1)
        for out in range(20):
            mine = [p for p in phases if out >= p.out_start and (out - p.out_start) % p.out_step == 0]
            assert len(mine) == 1
            n = (out - mine[0].out_start) // mine[0].out_step
            reads = {(index, mine[0].in_step * n + offset) for index, offset in mine[0].taps}
            if transposed:
                tied = {
                    (index, i) for index in range(k) for i in range(-30, 30) if i * s + index * d - low == out
                }
            else:
                tied = {(index, out * s + index * d - low) for index in range(k)}
            assert reads == tied
        # The minimum of arithmetic: every kernel element appears once in the whole.
        assert sorted(index for phase in phases for index, _ in phase.taps) == list(range(k))


def test_phases_are_the_products_of_their_axes() -> None:
    spec = parse("ConvTranspose2d(1, 1, (3, 2), stride=(2, 3), padding=(1, 0))")
    rows, columns = geometry.axis_phases(spec)
    assert geometry.phases(spec) == tuple(product(rows, columns))
    assert rows == (geometry.Phase(0, 2, 1, ((1, 0),)), geometry.Phase(1, 2, 1, ((0, 1), (2, 0))))
    assert [phase.taps for phase in columns] == [((0, 0),), ((1, 0),), ()]
    holes = [phase for phase in geometry.phases(spec) if not all(axis.taps for axis in phase)]
    assert len(holes) == 2


def test_phases_of_a_convolution_are_one() -> None:
    ((phase,),) = geometry.phases(parse("Conv1d(1, 1, 3, stride=2, padding=2, dilation=3)"))
    assert phase == geometry.Phase(0, 1, 2, ((0, -2), (1, 1), (2, 4)))


def test_phases_ask_for_the_size_they_depend_on() -> None:
    spec = parse("Conv1d(1, 1, 3, stride=2, padding='same')")
    with pytest.raises(
        ArgumentError, match="'input_size' must be given with padding='same' and a stride above 1"
    ):
        geometry.phases(spec)
    assert geometry.phases(spec, 5)[0][0].taps[0] == (0, -1)
    assert geometry.phases(spec, 6)[0][0].taps[0] == (0, 0)
    assert geometry.phases(parse("Conv1d(1, 1, 4, padding='same')"))[0][0].taps[0] == (0, -1)


@given(conv_specs(most=3), st.data())
def test_receptive_field_is_what_the_definition_reads(spec: ConvSpec, data: st.DataObject) -> None:
    """Each output's row of the matrix, taken from the loops with a kernel of ones, shows what it reads."""
    size = draw_sizes(data, spec, 1, 5)
    out = accepted(spec, size)
    assume(out is not None)
    assert out is not None
    transposed = spec.kind == "conv_transpose"
    numbers = geometry.resolve(spec, size)
    W = reference.kernel2matrix(
        np.ones(spec.kernel_size, dtype=int),
        out if transposed else size,
        spec.stride,
        numbers.padding,
        spec.dilation,
        padding_mode=spec.padding_mode,
    )
    if transposed:
        # Where output_padding exceeds the stride the convolution has outputs beyond the layer's input.
        forward = ConvSpec("conv", spec.kernel_size, spec.stride, numbers.padding, spec.dilation)
        rows = W.reshape(*geometry.output_size(forward, out), -1)[tuple(slice(n) for n in size)]
        W = rows.reshape(int(np.prod(size)), -1).T
    for row, at in enumerate(np.ndindex(*out)):
        reads = np.argwhere(W[row].reshape(size))
        field = geometry.receptive_field(spec, at, size)
        if len(reads):
            assert field == tuple(range(int(c.min()), int(c.max()) + 1) for c in reads.T)
        else:
            assert not all(field)


def test_receptive_field_without_a_size_runs_into_the_padding() -> None:
    conv = parse("Conv1d(1, 1, 3, stride=2, padding=1, dilation=2)")
    assert geometry.receptive_field(conv, 0) == (range(-1, 4),)
    assert geometry.receptive_field(conv, 0, 9) == (range(1, 4),)
    assert geometry.receptive_field(conv, 10**20) == (range(2 * 10**20 - 1, 2 * 10**20 + 4),)
    hole = parse("ConvTranspose1d(1, 1, 2, stride=3)")
    assert [geometry.receptive_field(hole, at) for at in range(3)] == [(range(1),), (range(1),), (range(0),)]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("zeros", [range(1, 2), range(2, 3), range(3, 4)]),
        ("reflect", [range(1, 6), range(5), range(3, 4)]),
        ("replicate", [range(2), range(2, 3), range(3, 6)]),
        ("circular", [range(1, 5), range(2, 6), range(4)]),
    ],
)
def test_receptive_field_follows_a_folded_border(mode: str, expected: list[range]) -> None:
    """Six stamps of one element on three outputs with a border of one below and two above."""
    spec = ConvSpec("conv_transpose", (1,), padding=((1, 2),), padding_mode=mode)
    assert [geometry.receptive_field(spec, at, 6)[0] for at in range(3)] == expected


def test_receptive_field_of_pooling() -> None:
    assert geometry.receptive_field(parse("MaxPool2d((2, 3), padding=(1, 1))"), (0, 2), (8, 8)) == (
        range(1),
        range(5, 8),
    )


@pytest.mark.parametrize(
    ("text", "at", "size", "error", "message"),
    [
        (
            "Conv1d(1, 1, 3)",
            6,
            8,
            ShapeError,
            r"'output_index' must lie in the output: got 6 .*legal: 0 to 5",
        ),
        (
            "Conv1d(1, 1, 3)",
            -1,
            None,
            ShapeError,
            r"'output_index' must lie in the output: got -1 .*legal: 0 or more",
        ),
        ("Conv1d(1, 1, 3, stride=2, padding='same')", 0, None, ArgumentError, r"'input_size' must be given"),
        (
            "ConvTranspose1d(1, 1, 3, padding=1, padding_mode='circular')",
            0,
            None,
            ArgumentError,
            r"'input_size' must be given for a transposed layer with padding_mode='circular'",
        ),
    ],
)
def test_receptive_field_says_what_it_needs(
    text: str, at: int, size: int | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        geometry.receptive_field(parse(text), at, size)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "zeros"])
def test_source_index_is_torchs_padding(mode: str) -> None:
    row = torch.arange(1.0, 6.0)[None, None]
    name = {"zeros": "constant"}.get(mode, mode)
    padded = torch.nn.functional.pad(row, (4, 4), mode=name)[0, 0].int().tolist()
    ours = [geometry.source_index(i, 5, mode) for i in range(-4, 9)]
    assert [0 if i is None else i + 1 for i in ours] == padded
