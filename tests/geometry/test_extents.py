"""Sizes in both directions: as torch has them, every input of an output, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from outstride import geometry
from outstride.errors import ArgumentError, ShapeError
from outstride.layer.spec import ConvSpec
from tests.geometry.drawn_layers import accepted, draw_sizes, pads_of, parse, specs
from tests.spec_strategies import conv_specs, pool_specs

LAYERS: dict[str, Any] = {
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "conv_transpose": (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    "max_pool": (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    "avg_pool": (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
}


def torch_size(spec: ConvSpec, size: tuple[int, ...]) -> tuple[int, ...] | None:
    """The size that torch's own layer gives, or None where it refuses."""
    build = LAYERS[spec.kind][spec.nd - 1]
    options: dict[str, Any] = {"kernel_size": spec.kernel_size, "stride": spec.stride}
    options["padding"] = tuple(low for low, _ in pads_of(spec))
    if spec.kind != "avg_pool":
        options["dilation"] = spec.dilation
    if spec.is_pool:
        options["ceil_mode"] = spec.ceil_mode
    else:
        options |= {"in_channels": 1, "out_channels": 1, "padding_mode": spec.padding_mode}
    if spec.kind == "conv_transpose":
        options["output_padding"] = spec.output_padding
    try:
        return tuple(build(**options).double()(torch.zeros(1, 1, *size, dtype=torch.float64)).shape[2:])
    except RuntimeError as error:
        assume(
            "smaller than kernel size" not in str(error)
        )  # avg_pool3d alone wants the kernel to fit unpadded
        return None


@settings(max_examples=200)
@given(st.one_of(conv_specs(torchs=True), pool_specs(torchs=True)), st.data())
def test_output_size_is_that_of_torchs_layer(spec: ConvSpec, data: st.DataObject) -> None:
    size = draw_sizes(data, spec)
    assert accepted(spec, size) == torch_size(spec, size)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@given(conv_specs(torchs=True), st.data())
def test_output_size_is_that_of_torchs_shape_functions(spec: ConvSpec, data: st.DataObject) -> None:
    from torch.jit import _shape_functions as torch_shapes  # importing it is what warns

    size = draw_sizes(data, spec, 4, 2**40)
    found = accepted(spec, size)
    assume(found is not None)
    expected = torch_shapes.conv_forwards(
        [1, 1, *size],
        [1, 1, *spec.kernel_size],
        None,
        list(spec.stride),
        [low for low, _ in pads_of(spec)],
        list(spec.dilation),
        spec.kind == "conv_transpose",
        list(spec.output_padding),
        1,
    )
    assert list(found or ()) == expected[2:]


@pytest.mark.parametrize(
    ("text", "size", "pads", "out"),
    [
        # TensorFlow's documentation: width 13, filter 6, stride 5 pads one on the left and two on the right.
        ("Conv1d(1, 1, 6, stride=5, padding='same')", 13, (1, 2), 3),
        ("Conv1d(1, 1, 3, padding='same')", 7, (1, 1), 7),
        ("Conv1d(1, 1, 4, padding='same')", 7, (1, 2), 7),
        ("Conv1d(1, 1, 3, stride=2, padding='same')", 5, (1, 1), 3),
        ("Conv1d(1, 1, 3, stride=2, padding='same')", 6, (0, 1), 3),
        ("Conv1d(1, 1, 7, stride=2, padding='same')", 224, (2, 3), 112),
        ("Conv1d(1, 1, 3, dilation=4, padding='same')", 5, (4, 4), 5),
        ("Conv1d(1, 1, 2, stride=4, padding='same')", 9, (0, 1), 3),
        ("Conv1d(1, 1, 2, stride=4, padding='same')", 10, (0, 0), 3),
        ("Conv1d(1, 1, 1, stride=3, padding='same')", 7, (0, 0), 3),
        ("MaxPool1d(4, stride=2, padding='same')", 5, (1, 2), 3),
        ("AvgPool1d(2, padding='same')", 5, (0, 1), 3),
        ("ConvTranspose1d(1, 1, 4, stride=2, padding='same')", 5, (1, 1), 10),
        ("ConvTranspose1d(1, 1, 5, stride=2, padding='same')", 5, (1, 2), 10),
        ("ConvTranspose1d(1, 1, 3, stride=2, padding='same')", 5, (0, 1), 10),
        ("ConvTranspose1d(1, 1, 2, stride=2, padding='same')", 5, (0, 0), 10),
        ("ConvTranspose1d(1, 1, 3, dilation=2, stride=3, padding='same')", 4, (1, 1), 12),
        ("ConvTranspose1d(1, 1, 2, stride=5, padding='same')", 3, (0, -3), 15),
        ("ConvTranspose1d(1, 1, 6, padding='same')", 1, (2, 3), 1),
    ],
)
def test_same_padding_has_tensorflows_values(text: str, size: int, pads: tuple[int, int], out: int) -> None:
    spec = parse(text)
    assert geometry.resolved_padding(spec, size) == (pads,)
    assert geometry.output_size(spec, size) == (out,)


@given(specs, st.data())
def test_same_keeps_the_size_over_the_stride(spec: ConvSpec, data: st.DataObject) -> None:
    assume(spec.padding == "same")
    size = draw_sizes(data, spec, 9, 2**70)
    up = spec.kind == "conv_transpose"
    expected = [i * s if up else -(-i // s) for i, s in zip(size, spec.stride, strict=True)]
    assert list(geometry.output_size(spec, size)) == expected


@given(specs, st.data())
def test_same_on_a_transposed_layer_is_the_padding_of_its_convolution(
    spec: ConvSpec, data: st.DataObject
) -> None:
    """The adjoint pads what the convolution pads that maps its output back to its input."""
    assume(spec.kind == "conv_transpose" and spec.padding == "same")
    size = draw_sizes(data, spec)
    forward = ConvSpec("conv", spec.kernel_size, spec.stride, "same", spec.dilation)
    out = tuple(i * s for i, s in zip(size, spec.stride, strict=True))
    assert geometry.output_size(forward, out) == size
    pads = geometry.resolved_padding(spec, size)
    assert tuple((low, max(high, 0)) for low, high in pads) == geometry.resolved_padding(forward, out)


@given(specs, st.data())
def test_input_sizes_are_all_that_give_the_output(spec: ConvSpec, data: st.DataObject) -> None:
    """Axes do not see each other, so enumerating each by itself is enough."""
    output_size = draw_sizes(data, spec)
    found = geometry.input_sizes(spec, output_size)
    easy = geometry.input_sizes(spec, 40)
    for axis, out in enumerate(output_size):
        line = ConvSpec(
            *(spec.kind, spec.kernel_size[axis : axis + 1], spec.stride[axis]),
            "same" if spec.padding == "same" else spec.padding[axis : axis + 1],
            *(spec.dilation[axis], spec.output_padding[axis]),
            padding_mode=spec.padding_mode,
            ceil_mode=spec.ceil_mode,
        )
        assert list(found[axis]) == [i for i in range(1, 70) if accepted(line, (i,)) == (out,)]
    for sizes in product(*([r[0], r[-1]] for r in easy if r)):
        if len(sizes) == spec.nd:
            assert geometry.output_size(spec, sizes) == (40,) * spec.nd


@pytest.mark.parametrize(
    ("text", "output_size", "expected"),
    [
        ("Conv1d(1, 1, 3, stride=2)", 4, range(9, 11)),
        ("Conv1d(1, 1, 3, stride=2, padding='same')", 4, range(7, 9)),
        ("ConvTranspose1d(1, 1, 4, stride=2, padding=1)", 7, range(0)),
        ("ConvTranspose1d(1, 1, 4, stride=2, padding=1)", 8, range(4, 5)),
        ("Conv1d(1, 1, 3, padding=4, padding_mode='reflect')", 10, range(0)),
        ("Conv1d(1, 1, 3, padding=4, padding_mode='reflect')", 11, range(5, 6)),
        (
            "Conv1d(1, 1, 1, stride=3000000000)",
            2**33,
            range((2**33 - 1) * 3000000000 + 1, 2**33 * 3000000000 + 1),
        ),
    ],
)
def test_input_sizes_by_hand(text: str, output_size: int, expected: range) -> None:
    assert geometry.input_sizes(parse(text), output_size) == (expected,)


@given(specs, st.data())
def test_a_refused_input_is_told_the_smallest_legal_one(spec: ConvSpec, data: st.DataObject) -> None:
    size = draw_sizes(data, spec, -1, 6)
    assume(accepted(spec, size) is None)
    with pytest.raises(ShapeError) as caught:
        geometry.output_size(spec, size)
    sentence = r"got (-?\d+) on axis (\d) of input_size=(.*?)( \(.*\))?; legal: (\d+) or more$"
    found = re.search(sentence, str(caught.value))
    assert found
    axis, least = int(found[2]), int(found[5])
    assert (int(found[1]), found[3]) == (size[axis], str(size))
    assert size[axis] < least
    enough = [least if a == axis else 100 + least for a in range(spec.nd)]
    assert accepted(spec, tuple(enough)) is not None
    enough[axis] -= 1
    assert accepted(spec, tuple(enough)) is None


@pytest.mark.parametrize(
    ("text", "size", "message"),
    [
        (
            "Conv2d(3, 8, 5)",
            (8, 3),
            r"got 3 on axis 1 of input_size=\(8, 3\) \(an output of -1\); legal: 5 or more",
        ),
        (
            "Conv2d(3, 8, 5)",
            (0, 8),
            r"for Conv2d\(3, 8, 5\): got 0 on axis 0 of input_size=\(0, 8\); legal: 5 or more",
        ),
        (
            "ConvTranspose1d(1, 1, 1, padding=3)",
            5,
            r"got 5 on axis 0 .*\(an output of -1\); legal: 7 or more",
        ),
        ("ConvTranspose1d(1, 1, 1, padding=3)", 6, r"got 6 on axis 0 .*\(an output of 0\); legal: 7 or more"),
        (
            "Conv1d(1, 1, 3, padding=4, padding_mode='circular')",
            3,
            r"\(a border of 4 with padding_mode='circular'\); legal: 4 or more",
        ),
        (
            "Conv2d(1, 1, 3)",
            (8,),
            r"'input_size' must have one entry per axis: got input_size=\(8,\) .*legal: 2",
        ),
        ("Conv2d(1, 1, 3)", (8, 8.0), r"'input_size' must hold integers: got 8.0"),
        ("Conv2d(1, 1, 3)", (8, True), r"'input_size' must hold integers: got True"),
    ],
)
def test_a_refused_input_names_axis_size_and_remedy(text: str, size: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        geometry.output_size(parse(text), size)


def test_an_output_of_nothing_comes_from_nowhere() -> None:
    with pytest.raises(
        ShapeError, match=r"'output_size' must be at least 1 .*got 0 on axis 1 .*legal: 1 or more"
    ):
        geometry.input_sizes(parse("Conv2d(1, 1, 3)"), (4, 0))


def test_one_number_stands_for_every_axis() -> None:
    assert geometry.output_size(parse("Conv3d(1, 1, 3)"), 8) == (6, 6, 6)
    assert geometry.output_size(parse("Conv2d(1, 1, 3)"), [np.int8(127), np.int32(8)]) == (125, 6)


def test_sizes_beyond_32_and_64_bits_are_right() -> None:
    conv = parse("ConvTranspose1d(1, 1, 1024, stride=256)")
    assert geometry.output_size(conv, 2**31) == ((2**31 - 1) * 256 + 1024,)
    wide = ConvSpec("conv_transpose", (3,), stride=2**40, dilation=2**50, output_padding=2**50 - 1)
    assert geometry.output_size(wide, 2**60) == ((2**60 - 1) * 2**40 + 2 * 2**50 + 1 + 2**50 - 1,)
    assert geometry.input_sizes(wide, geometry.output_size(wide, 2**60)) == (range(2**60, 2**60 + 1),)
    deep = ConvSpec("conv", (3,), dilation=2**50, padding=2**50, stride=3)
    assert geometry.output_size(deep, 2**70) == ((2**70 - 1) // 3 + 1,)


@pytest.mark.parametrize(
    "text",
    [
        "Conv2d(1, 1, 3, stride=2, padding=1)",
        "Conv2d(1, 1, 3, stride=2, padding='same')",
        "Conv2d(1, 1, 3, padding=1, padding_mode='reflect')",
        "ConvTranspose2d(1, 1, 3, stride=2, output_padding=1)",
        "ConvTranspose2d(1, 1, 5, stride=2, padding='same', padding_mode='circular')",
        "MaxPool2d(3, ceil_mode=True)",
    ],
)
def test_symbolic_sizes_stay_symbolic(text: str) -> None:
    mode = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=False)
    size = mode.from_tensor(torch.empty(2, 3, 17, 19)).shape[2:]
    spec = parse(text)
    found = geometry.output_size(spec, size)
    assert all(isinstance(out, torch.SymInt) for out in found)
    assert tuple(map(int, found)) == geometry.output_size(spec, (17, 19))
    pads = geometry.resolved_padding(spec, size)
    assert [list(map(int, pair)) for pair in pads] == [
        list(p) for p in geometry.resolved_padding(spec, (17, 19))
    ]


def test_legal_output_padding_is_what_the_description_takes() -> None:
    spec = parse("ConvTranspose3d(1, 1, 3, stride=(1, 2, 3), dilation=(2, 1, 1))")
    legal = geometry.legal_output_padding(spec)
    assert legal == (range(2), range(2), range(3))
    for axis, values in enumerate(legal):
        for value in (*values, values[-1] + 1):
            extra = tuple(value if a == axis else 0 for a in range(3))
            try:
                ConvSpec("conv_transpose", 3, (1, 2, 3), 0, (2, 1, 1), extra, nd=3)
            except ArgumentError:
                assert value not in values
            else:
                assert value in values
    assert geometry.legal_output_padding(parse("ConvTranspose1d(1, 1, 3, stride=4, padding='same')")) == (
        range(1),
    )
    assert geometry.legal_output_padding(parse("Conv1d(1, 1, 3, stride=4)")) == (range(1),)


@given(specs, st.data())
def test_a_resolved_layer_is_the_same_layer_in_numbers(spec: ConvSpec, data: st.DataObject) -> None:
    size = draw_sizes(data, spec, 1, 12)
    out = accepted(spec, size)
    assume(out is not None)
    numbers = geometry.resolve(spec, size)
    assert numbers.padding != "same"
    assert geometry.output_size(numbers, size) == out
    assert replace(numbers, padding=spec.padding, output_padding=spec.output_padding) == spec


@given(conv_specs(kinds=("conv_transpose",)), st.data())
def test_an_output_size_is_reached_or_refused_with_the_legal_ones(
    spec: ConvSpec, data: st.DataObject
) -> None:
    assume(spec.padding_mode == "zeros")
    size = draw_sizes(data, spec)
    natural = accepted(spec, size)
    assume(natural is not None)
    wanted = tuple(max(1, o + data.draw(st.integers(-4, 4))) for o in natural or ())
    forward = ConvSpec("conv", spec.kernel_size, spec.stride, spec.padding, spec.dilation)
    within = [
        0 <= o - n + p < max(s, d)
        for o, n, p, s, d in zip(
            wanted, natural or (), spec.output_padding, spec.stride, spec.dilation, strict=True
        )
    ]
    possible = accepted(forward, wanted) == size if spec.padding == "same" else all(within)
    if possible:
        resolved = geometry.resolve(spec, size, wanted)
        assert geometry.output_size(resolved, size) == wanted
        if spec.padding == "same":
            assert geometry.resolved_padding(forward, wanted) == resolved.padding
        return
    with pytest.raises(ShapeError) as caught:
        geometry.resolve(spec, size, wanted)
    found = re.search(r"got (\d+) on axis (\d) .*legal: (-?\d+) to (-?\d+)$", str(caught.value))
    assert found
    out, axis, low, high = map(int, found.groups())
    assert out == wanted[axis]
    assert not low <= out <= high


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("wanted", [9, 10, 11, 12])
def test_same_on_a_transposed_layer_reaches_every_size_of_its_convolution(
    kernel_size: int, wanted: int
) -> None:
    spec = ConvSpec("conv_transpose", (kernel_size,), 4, "same")
    resolved = geometry.resolve(spec, 3, wanted)
    assert geometry.output_size(resolved, 3) == (wanted,)
    forward = ConvSpec("conv", (kernel_size,), 4, "same")
    assert resolved.padding == geometry.resolved_padding(forward, wanted)
    for beyond in (8, 13):
        with pytest.raises(ShapeError, match=f"got {beyond} on axis 0 .*; legal: 9 to 12"):
            geometry.resolve(spec, 3, beyond)


def test_only_transposed_layers_leave_their_output_size_open() -> None:
    with pytest.raises(ShapeError, match="'output_size' must be left out for Conv1d"):
        geometry.resolve(parse("Conv1d(1, 1, 3)"), 8, 6)


@pytest.mark.parametrize(
    "other", ["Conv2d(1, 1, 3)", nn.Conv2d(1, 1, 3), None], ids=["text", "layer", "nothing"]
)
def test_what_is_no_description_is_refused_with_the_ways_to_one(other: Any) -> None:
    functions: list[Callable[[Any], object]] = [
        geometry.legal_output_padding,
        geometry.phases,
        lambda spec: geometry.output_size(spec, 8),
        lambda spec: geometry.input_sizes(spec, 8),
        lambda spec: geometry.resolved_padding(spec, 8),
        lambda spec: geometry.receptive_field(spec, 0),
    ]
    for function in functions:
        with pytest.raises(ArgumentError, match=r"'spec' must be a ConvSpec: got .*; legal: ConvSpec\.parse"):
            function(other)
    if not isinstance(other, str):  # which it takes
        with pytest.raises(ArgumentError, match="'spec' must be a ConvSpec"):
            geometry.judge(other, 14, 28)
