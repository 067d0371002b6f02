"""A description holds what was meant, refuses what has no meaning and can be written and read back."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from outstride.errors import ArgumentError
from outstride.layer.notation import LAYER_NAMES
from outstride.layer.spec import ConvSpec
from tests.spec_strategies import conv_specs, pool_specs

specs = st.one_of(conv_specs(), pool_specs())


@pytest.mark.parametrize(
    ("options", "field", "expected"),
    [
        ({"kernel_size": 3, "nd": 2}, "kernel_size", (3, 3)),
        ({"kernel_size": (3, 5)}, "stride", (1, 1)),
        ({"kernel_size": [3]}, "kernel_size", (3,)),
        ({"kernel_size": (3, 5), "stride": 2}, "stride", (2, 2)),
        ({"kernel_size": (3, 5), "stride": (2,)}, "stride", (2, 2)),
        ({"kernel_size": (3, 5), "padding": (1, 2)}, "padding", ((1, 1), (2, 2))),
        ({"kernel_size": (3, 5), "padding": ((1, 2), (0, 1))}, "padding", ((1, 2), (0, 1))),
        ({"kernel_size": (3, 5), "padding": (1, (0, 2))}, "padding", ((1, 1), (0, 2))),
        ({"kernel_size": (3,), "padding": [[0, 2]]}, "padding", ((0, 2),)),
        ({"kernel_size": 3, "nd": 3, "padding": 1}, "padding", ((1, 1),) * 3),
        ({"kernel_size": (3,), "padding": "valid"}, "padding", ((0, 0),)),
        ({"kernel_size": (3,), "padding": "same", "stride": 7}, "padding", "same"),
        ({"kernel_size": (np.int64(3),), "dilation": np.int8(2)}, "dilation", (2,)),
        ({"kernel_size": (torch.tensor(3),), "stride": torch.tensor(2)}, "stride", (2,)),
        ({"kernel_size": (3, 4), "dilation": (2, 1)}, "window", (5, 4)),
        ({"kernel_size": (2**40,), "dilation": 2**40}, "window", (2**80 - 2**40 + 1,)),
        ({"kernel_size": (3,), "in_channels": 0, "out_channels": 6, "groups": 3}, "in_channels", 0),
    ],
)
def test_arguments_are_brought_to_one_tuple_per_axis(
    options: dict[str, Any], field: str, expected: object
) -> None:
    held = getattr(ConvSpec("conv", **options), field)
    assert held == expected
    assert repr(held) == repr(expected)  # plain Python numbers, whatever came in


def test_pooling_steps_by_its_window_unless_told() -> None:
    assert ConvSpec("max_pool", (3, 2)).stride == (3, 2)
    assert ConvSpec("avg_pool", (3, 2), 1).stride == (1, 1)


def test_equal_descriptions_are_one_key() -> None:
    first = ConvSpec("conv", 3, nd=2, padding=1)
    second = ConvSpec("conv", (3, 3), (1, 1), ((1, 1), (1, 1)))
    assert first == second
    assert hash(first) == hash(second)
    assert pickle.loads(pickle.dumps(first)) == second
    assert first != dataclasses.replace(first, stride=(2, 2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.groups = 2  # type: ignore[misc]


def test_replacing_a_field_checks_the_whole_again() -> None:
    spec = ConvSpec("conv_transpose", (3,), stride=2, output_padding=1)
    assert dataclasses.replace(spec, stride=(3,)).output_padding == (1,)
    with pytest.raises(ArgumentError, match="'output_padding' must be smaller"):
        dataclasses.replace(spec, stride=(1,))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "fold",
        {},
        r"'kind' must be .*got kind='fold'; legal: 'conv', 'conv_transpose', 'max_pool', 'avg_pool'",
    ),
    ("conv", {"kernel_size": 3}, r"'nd' must say .*got kernel_size=3; legal: nd=1, 2 or 3"),
    ("conv", {"kernel_size": (3,) * 4}, r"must have 1, 2 or 3 axes: got 4"),
    ("conv", {"kernel_size": ()}, r"must have 1, 2 or 3 axes: got 0"),
    ("conv", {"kernel_size": (3, 0)}, r"'kernel_size' must be at least 1: got kernel_size=\(3, 0\)"),
    ("conv", {"kernel_size": "33"}, r"'nd' must say"),
    ("conv", {"kernel_size": ("3",)}, r"'kernel_size' must be an integer: got kernel_size=\('3',\)"),
    ("conv", {"stride": 0}, r"'stride' must be at least 1: got stride=0; legal: 1 or more"),
    ("conv", {"stride": -(2**63)}, r"'stride' must be at least 1"),
    ("conv", {"stride": 1.5}, r"'stride' must be an integer: got stride=1.5"),
    ("conv", {"stride": True}, r"'stride' must be an integer: got stride=True"),
    (
        "conv",
        {"stride": (1, 2, 3)},
        r"'stride' must have one entry per axis: got .* for 2 axes; legal: an integer or 2",
    ),
    ("conv", {"dilation": 0}, r"'dilation' must be at least 1: got dilation=0"),
    ("conv", {"padding": -1}, r"'padding' must be at least 0: got padding=-1"),
    ("conv", {"padding": ((0, -1), 0)}, r"'padding' must be at least 0: got padding=\(\(0, -1\), 0\)"),
    ("conv", {"padding": (1, 2, 3)}, r"'padding' must have one entry per axis: .*or \(low, high\) pairs"),
    ("conv", {"padding": ((1, 2, 3), 0)}, r"'padding' must be an integer or a \(low, high\) pair"),
    (
        "conv",
        {"padding": "full"},
        r"'padding' must be one of its names: got padding='full'; legal: 'valid', 'same'",
    ),
    (
        "conv",
        {"padding_mode": "mirror"},
        r"'padding_mode' must .*legal: 'zeros', 'reflect', 'replicate', 'circular'",
    ),
    ("conv", {"groups": 0}, r"'groups' must be at least 1: got groups=0"),
    ("conv", {"groups": (1, 1)}, r"'groups' must be an integer: got groups=\(1, 1\)"),
    (
        "conv",
        {"groups": 4, "in_channels": 6},
        r"'in_channels' must be divisible by 'groups': .*groups=1, 2, 3, 6$",
    ),
    (
        "conv",
        {"groups": 2, "out_channels": 3},
        r"'out_channels' must be divisible by 'groups': .*groups=1, 3$",
    ),
    ("conv", {"in_channels": -1}, r"'in_channels' must be at least 0: got in_channels=-1"),
    ("conv", {"bias": "no"}, r"'bias' must be a truth value: got bias='no'; legal: True or False"),
    ("conv", {"output_padding": 1, "stride": 2}, r"'output_padding' must be 0 except on a transposed"),
    ("conv", {"ceil_mode": True}, r"'ceil_mode' must be left out except for pooling"),
    ("conv_transpose", {"output_padding": -1}, r"'output_padding' must be at least 0"),
    ("conv_transpose", {"output_padding": 1}, r"with stride=\(1, 1\), dilation=\(1, 1\); legal: 0$"),
    ("conv_transpose", {"output_padding": (0, 3), "stride": (1, 3)}, r"legal: at most \(0, 2\)$"),
    ("conv_transpose", {"output_padding": 4, "dilation": 4}, r"legal: 0 to 3$"),
    (
        "conv_transpose",
        {"output_padding": 1, "stride": 2, "padding": "same"},
        r"must be 0 with padding='same'",
    ),
    ("conv_transpose", {"divisor_override": 2}, r"'divisor_override' must be left out except for pooling"),
    ("max_pool", {"padding": 2}, r"at most half the window .*got padding=2 with kernel_size=\(3, 3\)"),
    ("max_pool", {"groups": 2}, r"'groups' has no other meaning in this max_pool: got groups=2; legal: 1"),
    ("max_pool", {"padding_mode": "circular"}, r"'padding_mode' has no other meaning"),
    ("max_pool", {"count_include_pad": False}, r"'count_include_pad' has no other meaning in this max_pool"),
    ("max_pool", {"padding": "same", "ceil_mode": True}, r"'ceil_mode' has no other meaning"),
    ("avg_pool", {"dilation": 2}, r"'dilation' has no other meaning in this avg_pool"),
    ("avg_pool", {"divisor_override": 0}, r"'divisor_override' must be at least 1"),
]


@pytest.mark.parametrize(
    ("kind", "options", "message"), REFUSED, ids=lambda v: v if isinstance(v, str) else None
)
def test_an_argument_without_meaning_is_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ConvSpec(kind, **{"kernel_size": (3, 3), **options})


def test_the_error_says_what_would_be_legal() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the family is what is asked here
        ConvSpec("conv_transpose", (3,), stride=2, output_padding=2)
    assert str(caught.value) == (
        "'output_padding' must be smaller than 'stride' or 'dilation' on every axis: got output_padding=(2,) "
        "with stride=(2,), dilation=(1,); legal: 0 or 1"
    )


@given(st.integers(1, 6), st.integers(0, 5))
def test_pooling_refuses_the_paddings_that_torch_refuses(kernel_size: int, padding: int) -> None:
    def legal(build: Any) -> bool:
        try:
            build()
        except (ValueError, RuntimeError):
            return False
        return True

    ours = legal(lambda: ConvSpec("avg_pool", (kernel_size,), padding=padding))
    assert ours == legal(lambda: nn.AvgPool1d(kernel_size, padding=padding)(torch.zeros(1, 1, 20)))


def test_a_dilated_window_counts_from_its_first_tap_to_its_last() -> None:
    """Otherwise padding "same" could not be said in numbers; torch takes less here."""
    assert ConvSpec("max_pool", (3,), padding=3, dilation=3).padding == ((3, 3),)
    with pytest.raises(ArgumentError, match=r"legal: at most \(3,\)"):
        ConvSpec("max_pool", (3,), padding=4, dilation=3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "ConvTranspose2d(64, 32, 4, stride=2, padding=1)",
            ConvSpec("conv_transpose", (4, 4), 2, 1, in_channels=64, out_channels=32),
        ),
        (
            "Conv1d(3, 8, kernel_size=5, dilation=2)",
            ConvSpec("conv", (5,), dilation=2, in_channels=3, out_channels=8),
        ),
        ("nn.MaxPool2d(3)", ConvSpec("max_pool", (3, 3), 3)),
        (" torch.nn.AvgPool3d((1, 2, 2), ceil_mode=True)\n", ConvSpec("avg_pool", (1, 2, 2), ceil_mode=True)),
        ("outstride.nn.Conv2d(kernel_size=3, padding='same')", ConvSpec("conv", (3, 3), padding="same")),
        ("Conv2d(kernel_size=3, padding=same)", ConvSpec("conv", (3, 3), padding="same")),
        (
            "Conv2d(4, 4, (3, 1), padding=((0, 1), (2, 0)), padding_mode=circular, device=cuda, dtype=half)",
            ConvSpec(
                *("conv", (3, 1), 1, ((0, 1), (2, 0))), padding_mode="circular", in_channels=4, out_channels=4
            ),
        ),
        (
            "nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, 2, False, 3, 'zeros')",
            ConvSpec(*("conv_transpose", (3,), 2, 1, 3, 1, 2), in_channels=4, out_channels=6, bias=False),
        ),
        ("MaxPool1d(3, 2, 1, 2, True, True)", ConvSpec("max_pool", (3,), 2, 1, 2, ceil_mode=True)),
    ],
)
def test_parse_reads_what_one_writes_in_torch(text: str, expected: ConvSpec) -> None:
    assert ConvSpec.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"'text' must be one layer, written as a call: got ''"),
        ("Conv2d", r"'text' must be one layer, written as a call"),
        ("Conv2d(3, 8, 3", r"'text' must be one layer, written as a call"),
        ("a = Conv2d(3, 8, 3)", r"'text' must be one layer"),
        ("(" * 900 + ")" * 900, r"'text' must be one layer"),
        (
            "Conv2d(" + "1," * 1500 + ")",
            r"'text' must be one layer: got 3008 characters; legal: at most 2000",
        ),
        (
            "Conv2D(3, 8, 3)",
            r"must name a convolution .*: got Conv2D \(did you mean Conv2d\?\); legal: Conv1d,",
        ),
        ("Linear(3, 8)", r"must name a convolution or pooling layer: got Linear; legal"),
        ("my.Conv2d(3, 8, 3)", r"got my.Conv2d"),
        ("Conv4d(3, 8, 3)", r"got Conv4d"),
        ("Conv2d(3, 8)", r"'kernel_size' must be given: got Conv2d\(3, 8\); legal: kernel_size=3"),
        (
            "Conv2d(3, 8, 3, strid=2)",
            r"Conv2d has no argument 'strid' \(did you mean stride\?\); legal: in_channels,",
        ),
        ("Conv2d(3, 8, 3, output_padding=1)", r"Conv2d has no argument 'output_padding'"),
        ("AvgPool1d(2, divisor_override=3)", r"AvgPool1d has no argument 'divisor_override'"),
        ("Conv2d(3, 8, 3, kernel_size=5)", r"'kernel_size' must be given once: got it twice in Conv2d"),
        ("MaxPool2d(1, 2, 3, 4, 5, 6, 7)", r"MaxPool2d takes at most 6 arguments: got 7"),
        ("Conv2d(3, 8, **{'kernel_size': 3})", r"Conv2d has no argument \"\*\*\{'kernel_size': 3\}\""),
        ("Conv2d(*[3, 8, 3])", r"'in_channels' must be a plain value: got \*\[3, 8, 3\]"),
        ("Conv2d(n, 8, 3)", r"'in_channels' must be a plain value: got n; legal: a number"),
        ("Conv2d(3, 8, 3, stride=0)", r"'stride' must be at least 1"),
        (
            "MaxPool2d((2, 3), padding=(2, 1))",
            r"padding=\(2, 1\) with kernel_size=\(2, 3\), dilation=\(1, 1\); legal: at most \(1, 1\)",
        ),
    ],
)
def test_parse_says_what_it_cannot_read(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ConvSpec.parse(text)


def test_parse_wants_text() -> None:
    with pytest.raises(ArgumentError, match="'text' must be a string: got Conv2d"):
        ConvSpec.parse(nn.Conv2d(3, 8, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["Conv2d({0}, 8, 3)", "Conv2d(3, 8, 3, device={0})", "{0}(3, 8, 3)", "{0}"])
def test_parse_evaluates_nothing(text: str, tmp_path: Path) -> None:
    trace = tmp_path / "evaluated"
    code = text.format(f"__import__('pathlib').Path({str(trace)!r}).touch()")
    with contextlib.suppress(ArgumentError):
        ConvSpec.parse(code)
    assert not trace.exists()


@given(specs)
@example(ConvSpec("conv", (3, 3), in_channels=3))
def test_what_is_printed_can_be_parsed(spec: ConvSpec) -> None:
    assert ConvSpec.parse(repr(spec)) == spec


@pytest.mark.parametrize(
    "text",
    [
        "ConvTranspose2d(64, 32, 4, stride=2, padding=1)",
        "Conv2d(3, 8, (3, 5))",
        "Conv1d(kernel_size=3, padding=((0, 2),), padding_mode='circular')",
        "Conv3d(4, 4, 3, dilation=(1, 2, 2), groups=4, bias=False)",
        "MaxPool2d(3, stride=2, padding=1, ceil_mode=True)",
        "AvgPool2d(2, count_include_pad=False, divisor_override=3)",
        "AvgPool2d(2, padding='same')",
        "AvgPool2d(2, padding='same', count_include_pad=True)",
    ],
)
def test_the_printed_form_is_the_short_one(text: str) -> None:
    assert repr(ConvSpec.parse(text)) == text


LAYERS = [
    nn.Conv1d(4, 6, 3, 2, 1, 2, 2, False, "reflect"),
    nn.Conv2d(3, 8, (3, 5), padding="same"),
    nn.Conv2d(3, 8, 3, padding="valid"),
    nn.Conv3d(2, 2, 3, stride=(1, 2, 2), padding=(0, 1, 1), padding_mode="circular"),
    nn.ConvTranspose1d(4, 6, 5, 3, 1, 2, 2, False, 2),
    nn.ConvTranspose2d(3, 8, 4, stride=2, padding=1),
    nn.ConvTranspose3d(2, 2, 3, stride=2, output_padding=1),
    nn.MaxPool1d(3, 2, 1, 2),
    nn.MaxPool2d(3, ceil_mode=True),
    nn.MaxPool3d((1, 2, 2)),
    nn.AvgPool1d(3),
    nn.AvgPool2d((3, 2), padding=1),
    nn.AvgPool3d(2, 1),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_of_a_layer_is_what_torch_prints(layer: nn.Module) -> None:
    """Two ways that share no code lead to one description: the layer's attributes, and torch's own text."""
    assert ConvSpec.of(layer) == ConvSpec.parse(repr(layer))


def test_every_layer_that_can_be_parsed_can_be_described() -> None:
    assert {type(layer).__name__ for layer in LAYERS} == set(LAYER_NAMES)


def test_a_subclass_counts_as_what_it_derives_from() -> None:
    class Upsample(nn.ConvTranspose2d):
        pass

    assert ConvSpec.of(Upsample(3, 8, 4, 2, 1)) == ConvSpec.of(nn.ConvTranspose2d(3, 8, 4, 2, 1))
    lazy = ConvSpec.of(nn.LazyConv2d(8, 3, bias=False))
    assert (lazy.out_channels, lazy.kernel_size, lazy.bias) == (8, (3, 3), False)


def test_of_reads_average_pooling_whole() -> None:
    spec = ConvSpec.of(nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False, divisor_override=3))
    assert (spec.ceil_mode, spec.count_include_pad, spec.divisor_override) == (True, False, 3)


@pytest.mark.parametrize("thing", [nn.Linear(3, 3), "Conv2d(3, 8, 3)", None, type("Conv2d", (), {})()])
def test_of_refuses_what_is_no_such_layer(thing: object) -> None:
    with pytest.raises(
        ArgumentError, match=r"'layer' must be a convolution or pooling layer: got .*; legal: Conv1d"
    ):
        ConvSpec.of(thing)


def test_of_refuses_values_that_torch_took() -> None:
    with pytest.raises(ArgumentError, match="'stride' must be at least 1"):
        ConvSpec.of(nn.Conv2d(3, 8, 3, stride=0))
