"""Networks drawn at random for the tests of tiling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.tiling.models_to_tile import Function, Residual
from tests.tiling.shifted_windows import ShiftedWindows

F = nn.functional

#: Those that look at whole maps.
WHOLE_KINDS = ("instance", "group", "excite", "pool", "largest", "response", "deviation")
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
#: What real models do besides, on eight channels.
REAL_KINDS = (
    *("behind", "tokens", "einsum", "windows", "shifted", "attended", "normalized", "repeated", "turned"),
    *("parts", "folded", "unpooled", "area", "transformed", "one channel", "each repeated"),
    *("circular", "rolled", "uneven", "uneven maximum", "bicubic", "antialiased", "behind a response"),
)


def real(kind: str, channels: int, nd: int, size: int) -> nn.Module | None:
    """A layer of such a kind that keeps the channels; None where there is none for so many axes."""
    weight = torch.randn(channels, channels)
    letters = "hwd"[:nd]
    by_axes: dict[str, Callable[[Tensor], Tensor]] = {
        "normalized": lambda x: F.normalize(x, dim=1),
        "repeated": lambda x: x.repeat(1, 2, *[1] * nd)[:, 1 : 1 + channels],
        "each repeated": lambda x: x.repeat_interleave(size, 1)[:, :channels],
        "parts": lambda x: torch.cat([*x.split([1, channels - 1], 1)[::-1]], 1) + torch.stack(x.unbind(1), 1),
        "one channel": lambda x: (
            x + x.mean(1, keepdim=True).squeeze(1)[:, None] + x[:, :1].flatten(1, 2)[:, None]
        ),
        "transformed": lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=1), channels, dim=1),
        "einsum": lambda x: torch.einsum(f"oc,bc{letters}->bo{letters}", weight, x),
        "circular": lambda x: F.pad(x, (min(size, x.shape[-1]), 0) * nd, mode="circular") * 0.5,
        "rolled": lambda x: x.roll([size - 2] * nd, list(range(2, 2 + nd))) - x.roll(size, -1),
        "uneven": lambda x: uneven(x, size, "avg"),
        "uneven maximum": lambda x: uneven(x, size, "max"),
    }
    if kind in by_axes:
        return Function(by_axes[kind])
    if kind == "behind":
        return Behind(nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels), nn.GELU()))
    if kind == "tokens":
        return Tokens(nn.Linear(channels, channels))
    if nd != 2:
        return None
    in_two: dict[str, Callable[[Tensor], Tensor]] = {
        "turned": lambda x: torch.rot90(x, size, (2, 3)),
        "folded": lambda x: F.fold(F.unfold(x, size, padding=1), x.shape[2:], size, padding=1),
        "unpooled": unpooled,
        "area": lambda x: F.interpolate(x, [max(n // size, 1) for n in x.shape[2:]], mode="area"),
        "bicubic": lambda x: resized(x, size, mode="bicubic", align_corners=size == 2),
        "antialiased": lambda x: resized(x, size, mode=("bilinear", "bicubic")[size % 2], antialias=True),
        "behind a response": lambda x: response(x.permute(0, 2, 3, 1), (1, 2), 3).permute(0, 3, 1, 2),
    }
    if kind in in_two:
        return Function(in_two[kind])
    return ShiftedWindows(channels, 1 + size, 2, 1 if kind == "shifted" else 0, fused=kind == "attended")


def uneven(x: Tensor, size: int, kind: str) -> Tensor:
    """Pooled over windows of two lengths, three of them where it can be."""
    function = getattr(F, f"adaptive_{kind}_pool{x.dim() - 2}d")
    made: Tensor = function(x, [max(2 * n // (2 * size + 1), 1) for n in x.shape[2:]])
    return made


def resized(x: Tensor, size: int, **options: Any) -> Tensor:
    made = [max(n * (size + 1) // (5 - size), 1) for n in x.shape[2:]]
    return F.interpolate(x, made, **options)


def response(x: Tensor, positions: tuple[int, ...], channels: int) -> Tensor:
    """Global response normalization, as ConvNeXt V2 has it."""
    norm = torch.linalg.vector_norm(x, 2, positions, keepdim=True)
    made: Tensor = x + x * (norm / (norm.mean(channels, keepdim=True) + 1e-6)) * 0.5
    return made


def unpooled(x: Tensor) -> Tensor:
    y, places = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(y * 2, places, (2, 2), output_size=list(x.shape[2:]))


class Behind(nn.Module):
    """Layers on channels that lie behind all other axes."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layers(x.movedim(1, -1)).movedim(-1, 1)
        return made


class Tokens(Behind):
    """The same on positions in a row."""

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layers(x.flatten(2).transpose(1, 2)).transpose(1, 2)
        return made.reshape(x.shape)


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
        elif kind == "response":
            made = Function(lambda x: response(x, tuple(range(2, x.dim())), 1))
        elif kind == "deviation":
            made = Function(lambda x: x / (x.std(tuple(range(2, x.dim())), correction=0, keepdim=True) + 1))
        elif kind == "pool":
            pool = getattr(nn, f"AdaptiveAvgPool{nd}d")(stride)
            made = Function(lambda x, pool=pool: x - F.interpolate(pool(x), x.shape[2:]))  # type: ignore[misc]
        elif kind == "skip":
            made = Residual(getattr(nn, f"Conv{nd}d")(channels, channels, kernel, 1, padding))
        elif kind not in REAL_KINDS:
            made = draw(
                st.sampled_from([nn.ReLU(inplace=True), nn.GELU(), nn.SiLU(), nn.Sigmoid(), nn.ELU()])
            )
        if kind in REAL_KINDS:
            found = real(kind, channels, nd, draw(st.integers(1, 3)))
            made = nn.Identity() if found is None else found
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
