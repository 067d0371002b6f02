"""Descriptions of layers for hypothesis to draw: every option, legal by construction."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from outstride.layer.arguments import PADDING_MODES
from outstride.layer.spec import ConvSpec


def _rows(draw: st.DrawFn, nd: int, least: int, most: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(least, most)) for _ in range(nd))


def _pads(draw: st.DrawFn, most: list[int], torchs: bool) -> Any:
    if torchs:
        return tuple(draw(st.integers(0, m)) for m in most)
    if draw(st.booleans()):
        return draw(st.sampled_from(["same", "valid"]))
    return tuple((draw(st.integers(0, m)), draw(st.integers(0, m))) for m in most)


@st.composite
def conv_specs(
    draw: st.DrawFn,
    kinds: tuple[str, ...] = ("conv", "conv_transpose"),
    most: int = 4,
    torchs: bool = False,
) -> ConvSpec:
    """Convolutions and transposed convolutions, kernels, strides and paddings up to ``most``.

    With ``torchs`` only what torch's own layers take.
    """
    nd = draw(st.integers(1, 3))
    options: dict[str, Any] = {
        "kind": draw(st.sampled_from(kinds)),
        "kernel_size": _rows(draw, nd, 1, most),
        "stride": _rows(draw, nd, 1, most),
        "dilation": _rows(draw, nd, 1, 3),
        "padding": _pads(draw, [most] * nd, torchs),
        "groups": draw(st.integers(1, 3)),
        "padding_mode": draw(st.sampled_from(PADDING_MODES)),
        "bias": draw(st.booleans()),
    }
    if torchs and options["kind"] == "conv_transpose":
        options["padding_mode"] = "zeros"
    if options["kind"] == "conv_transpose" and options["padding"] != "same":
        bounds = [max(s, d) - 1 for s, d in zip(options["stride"], options["dilation"], strict=True)]
        options["output_padding"] = tuple(draw(st.integers(0, bound)) for bound in bounds)
    if draw(st.booleans()):
        options["in_channels"] = options["groups"] * draw(st.integers(0, 4))
    if draw(st.booleans()):
        options["out_channels"] = options["groups"] * draw(st.integers(0, 4))
    return ConvSpec(**options)


@st.composite
def pool_specs(draw: st.DrawFn, most: int = 4, torchs: bool = False) -> ConvSpec:
    """Maximum and average pooling with windows up to ``most``."""
    nd = draw(st.integers(1, 3))
    kernel_size = _rows(draw, nd, 1, most)
    options: dict[str, Any] = {
        "kind": draw(st.sampled_from(["max_pool", "avg_pool"])),
        "kernel_size": kernel_size,
        "stride": draw(st.one_of(st.none(), st.just(_rows(draw, nd, 1, most)))),
        "padding": _pads(draw, [k // 2 for k in kernel_size], torchs),
    }
    if options["padding"] != "same":
        options["ceil_mode"] = draw(st.booleans())
    if options["kind"] == "max_pool":
        options["dilation"] = _rows(draw, nd, 1, 3)
    else:
        options["count_include_pad"] = draw(st.booleans())
        if nd > 1:
            options["divisor_override"] = draw(st.one_of(st.none(), st.integers(1, 9)))
    return ConvSpec(**options)
