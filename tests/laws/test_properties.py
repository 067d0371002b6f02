"""Layers nobody thought of: hypothesis draws every option, size and instruction set; the loops judge."""

from __future__ import annotations

import torch
from hypothesis import given, note, settings
from hypothesis import strategies as st

from outstride.engine import runtime
from tests.cases import LAYOUTS, Case, case
from tests.contract import verify_contract

_MODES = ("zeros", "reflect", "replicate", "circular")
_SETS = st.sampled_from(runtime.available())
#: Than of other drawn things, for each has kernels to compile; the fuzzer draws others in every run.
_fewer = settings(max_examples=settings().max_examples // 2)


@st.composite
def layers(draw: st.DrawFn) -> Case:
    """A layer of one to three axes on an input small enough for the loops, legal in every option."""
    nd = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    groups = draw(st.sampled_from([1, 1, 2, 3, 8]))
    depth = st.integers(1, 20 if nd < 3 and groups < 8 else 4)
    channels = (groups * draw(depth), groups * draw(depth if groups == 1 else st.integers(1, 3)))
    mode = draw(st.sampled_from(_MODES))
    axes = [draw(_axes(transposed, mode, 40 // nd**2)) for _ in range(nd)]
    size, kernel, stride, dilation, pads, output_padding = zip(*axes, strict=True)
    batched = draw(st.booleans())
    options: dict[str, object] = {"output_padding": output_padding} if transposed else {}
    name = f"drawn-{draw(st.integers(0, 2**32))}"
    return case(
        name,
        "conv_transpose" if transposed else "conv",
        size,
        kernel,
        channels,
        stride=stride,
        dilation=dilation,
        padding=pads,
        groups=groups,
        padding_mode=mode,
        bias=draw(st.booleans()),
        batch=draw(st.integers(0, 3)) if batched else 1,
        batched=batched,
        layout=draw(st.sampled_from(LAYOUTS)) if batched else "contiguous",
        weight_layout=draw(st.sampled_from(LAYOUTS)),
        **options,
    )


@st.composite
def _axes(
    draw: st.DrawFn, transposed: bool, mode: str, longest: int
) -> tuple[int, int, int, int, tuple[int, int], int]:
    kernel, stride = draw(st.integers(1, 5)), draw(st.sampled_from([1, 1, 2, 3, 4, 5, 6, 9, 16]))
    dilation = draw(st.sampled_from([1, 1, 2, 3, 4, 17, 33]))
    extent = (kernel - 1) * dilation + 1
    if not transposed:
        size = draw(st.integers(1, longest))
        most = _most_padding(mode, size)
        low, high = draw(st.integers(0, min(most, 7))), draw(st.integers(0, min(most, 7)))
        missing = max(0, extent - size - low - high)  # a longer input, so that the kernel fits
        return size + missing, kernel, stride, dilation, (low, high), 0
    size = draw(st.integers(1, max(1, longest // stride)))
    output_padding = draw(st.integers(0, max(stride, dilation) - 1)) if mode == "zeros" else 0
    whole = (size - 1) * stride + extent + output_padding
    low = draw(st.integers(0, min(whole - 1, 7)))
    high = draw(st.integers(0, min(whole - low - 1, 7)))
    while max(low, high) > _most_padding(mode, whole - low - high):
        low, high = low // 2, high // 2
    return size, kernel, stride, dilation, (low, high), output_padding


def _most_padding(mode: str, size: int) -> int:
    return {"zeros": 99, "replicate": 99, "reflect": size - 1, "circular": size}[mode]


def _play(drawn: Case, law: str, dtype: torch.dtype, instruction_set: str) -> None:
    note(f"verify_contract({drawn!r}, {law!r}, {dtype}, {instruction_set!r})")
    verify_contract(drawn, law, dtype, instruction_set)


@_fewer
@given(layers(), _SETS, st.sampled_from([torch.float32, torch.float64]))
def test_drawn_layers_have_the_value_of_the_definition(
    drawn: Case, instruction_set: str, dtype: torch.dtype
) -> None:
    _play(drawn, "value", dtype, instruction_set)


@_fewer
@given(layers(), _SETS, st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_drawn_layers_are_exact_on_small_integers(
    drawn: Case, instruction_set: str, dtype: torch.dtype
) -> None:
    _play(drawn, "integers", dtype, instruction_set)


@_fewer
@given(layers(), _SETS)
def test_drawn_layers_are_adjoint(drawn: Case, instruction_set: str) -> None:
    _play(drawn, "adjoint", torch.float64, instruction_set)


@_fewer
@given(layers(), _SETS)
def test_drawn_layers_do_not_depend_on_the_batch(drawn: Case, instruction_set: str) -> None:
    _play(drawn, "batch", torch.float32, instruction_set)


@_fewer
@given(layers(), _SETS)
def test_drawn_layers_are_the_same_in_tiles(drawn: Case, instruction_set: str) -> None:
    _play(drawn, "tile", torch.float32, instruction_set)


@_fewer
@given(layers(), _SETS)
def test_drawn_layers_do_not_depend_on_the_layout(drawn: Case, instruction_set: str) -> None:
    _play(drawn, "layouts", torch.float32, instruction_set)
