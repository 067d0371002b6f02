"""Networks drawn at random for the tests of tiling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import nn

from tests.tiling.models_to_tile import Function, Residual

F = nn.functional

#: Those that look at whole maps.
WHOLE_KINDS = ("instance", "group", "excite", "pool", "largest")
ALL_KINDS = (
    "conv",
    "transposed",
    "max",
    "mean",
    "function",
    "skip",
    "nearest",
    "linear",
    "crop",
    "norm",
    "softmax",
    *WHOLE_KINDS,
)


@st.composite
def networks(
    draw: st.DrawFn, kinds: Sequence[str] = ALL_KINDS, most_axes: int = 2, channels: int = 2
) -> tuple[nn.Module, tuple[int, ...]]:
    """A row of layers of every kind with skips across some of them, and an input that it accepts."""
    nd = draw(st.integers(1, most_axes))
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(kinds))
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        dilation, padding = draw(st.integers(1, 2)), draw(st.integers(0, 2))
        if kind == "conv":
            made = getattr(nn, f"Conv{nd}d")(channels, channels, kernel, stride, padding, dilation)
        elif kind == "transposed":
            extra = draw(st.integers(0, max(stride, dilation) - 1))
            made = getattr(nn, f"ConvTranspose{nd}d")(
                channels, channels, kernel, stride, padding, extra, dilation=dilation
            )
        elif kind in ("max", "mean"):
            ceil = draw(st.booleans())
            name = "MaxPool" if kind == "max" else "AvgPool"
            made = getattr(nn, f"{name}{nd}d")(kernel, stride, min(padding, kernel // 2), ceil_mode=ceil)
        elif kind == "nearest":
            made = nn.Upsample(scale_factor=stride)
        elif kind == "crop":
            made = Function(lambda x, padding=padding: x[..., padding:])  # type: ignore[misc]
        elif kind == "linear":
            made = nn.Upsample(scale_factor=stride, mode="linear" if nd == 1 else "bilinear")
        elif kind == "norm":
            made = getattr(nn, f"BatchNorm{nd}d")(channels)
        elif kind == "softmax":
            made = nn.Softmax(1)
        elif kind == "instance":
            made = getattr(nn, f"InstanceNorm{nd}d")(channels)
        elif kind == "group":
            made = nn.GroupNorm(draw(st.sampled_from([1, 2])), channels)
        elif kind == "excite":
            made = Function(lambda x: x * x.mean(tuple(range(2, x.dim())), keepdim=True).sigmoid())
        elif kind == "largest":
            made = Function(lambda x: x - x.amax(tuple(range(2, x.dim())), keepdim=True))
        elif kind == "pool":
            pool = getattr(nn, f"AdaptiveAvgPool{nd}d")(stride)
            made = Function(lambda x, pool=pool: x - F.interpolate(pool(x), x.shape[2:]))  # type: ignore[misc]
        elif kind == "skip":
            made = Residual(getattr(nn, f"Conv{nd}d")(channels, channels, kernel, 1, padding))
        else:
            made = draw(
                st.sampled_from([nn.ReLU(inplace=True), nn.GELU(), nn.SiLU(), nn.Sigmoid(), nn.ELU()])
            )
        layers.append(made)
    model = nn.Sequential(*layers)
    with torch.random.fork_rng():
        torch.manual_seed(len(layers))
        for module in model.modules():
            getattr(module, "reset_parameters", lambda: None)()
    return model, (1, channels, *(draw(st.integers(1, 24)) for _ in range(nd)))


def accepts(model: nn.Module, shape: Sequence[int]) -> bool:
    try:
        with torch.inference_mode():
            return bool(model(torch.zeros(tuple(shape))).numel())
    except (RuntimeError, ValueError, IndexError):
        return False
