"""Tile by tile is the whole, for every model, every tile and every number of threads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from outstride import tiling
from outstride.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from outstride.tiling.capturing import served_graph
from outstride.tiling.rules import rule_of
from outstride.tiling.rules.interface import NEEDS_ALL
from tests.tiling.models_to_tile import (
    Function,
    Residual,
    UNet,
    conv,
    image,
    seeded,
    whole_of,
)
from tests.tiling.networks import accepts, networks
from tests.tolerance import assert_same_bits

F, chain = nn.functional, nn.Sequential


def assigned(x: Tensor) -> Tensor:
    x = x.clone()
    x[..., 2:5] = 0
    x[:, :1] *= 2
    x[:, :, -4:] = x[:, :, 1:5] + 1
    x[:, :, ::3] = 7
    return x


#: Model, input shape, tile.
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]]] = {
    "unet": (UNet, (1, 3, 64, 96), (23, 40)),
    "unet_batch": (UNet, (2, 3, 32, 48), (32, 17)),
    "unet_overlapping": (lambda: UNet("overlapping"), (1, 3, 64, 96), (30, 30)),
    "unet_odd": (lambda: UNet("odd"), (1, 3, 64, 96), (21, 50)),
    "unet_nearest_gelu": (lambda: UNet("nearest", nn.GELU), (1, 3, 64, 96), (25, 33)),
    "unet_shuffle_silu": (lambda: UNet("shuffle", nn.SiLU), (1, 3, 64, 96), (31, 29)),
    "unet_strided": (lambda: UNet(down="strided"), (1, 3, 64, 96), (20, 64)),
    "unet_mean": (lambda: UNet(down="mean"), (1, 3, 64, 96), (64, 31)),
    "strided": (lambda: nn.Conv2d(3, 4, 5, 3, 2), (1, 3, 50, 61), (4, 7)),
    "dilated": (lambda: nn.Conv2d(3, 4, 3, padding=12, dilation=12), (1, 3, 40, 41), (11, 11)),
    "wide_padding": (lambda: nn.Conv2d(1, 2, 2, padding=5), (1, 1, 9, 10), (3, 4)),
    "holes": (lambda: nn.ConvTranspose2d(2, 3, 2, 5, output_padding=4), (1, 2, 7, 6), (3, 4)),
    "transposed_dilated": (lambda: nn.ConvTranspose2d(2, 3, 3, 2, 3, dilation=3), (1, 2, 13, 12), (5, 6)),
    "one_image": (lambda: nn.Conv2d(3, 4, 3, padding=1), (3, 20, 30), (7, 8)),
    "volume": (lambda: chain(nn.Conv3d(1, 4, 3, padding=1), nn.ConvTranspose3d(4, 2, 2, 2)),
               (1, 1, 10, 12, 14), (7, 9, 11)),
    "ceil": (lambda: chain(nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
             (1, 2, 33, 30), (3, 4)),
    "mean_of_inside": (lambda: nn.AvgPool2d((3, 2), 1, (1, 0), count_include_pad=False),
                       (1, 2, 20, 17), (6, 5)),
    "mean_divided": (lambda: nn.AvgPool2d(3, divisor_override=5), (1, 2, 20, 17), (2, 2)),
    "line_pool": (lambda: chain(nn.MaxPool1d(3, 2, 1), nn.AvgPool1d(2, 2)), (2, 2, 100), (7,)),
    "volume_pool": (lambda: chain(nn.MaxPool3d(2), nn.AvgPool3d(2, 1)), (1, 2, 12, 12, 12), (2, 3, 3)),
    "softmax": (lambda: chain(nn.Conv2d(3, 5, 1), nn.Softmax(1)), (1, 3, 32, 64), (9, 10)),
    "log_softmax": (lambda: chain(nn.Conv2d(3, 5, 1), nn.LogSoftmax(1)), (1, 3, 32, 64), (9, 10)),
    "classes": (lambda: Function(lambda x: x.argmax(1).to(torch.uint8)), (1, 3, 20, 30), (7, 9)),
    "channel_mean": (lambda: Function(lambda x: x.mean(1, keepdim=True) * x.amax(1, keepdim=True)),
                     (2, 7, 20, 32), (7, 9)),
    "reflect": (lambda: nn.Conv2d(2, 3, 5, padding=2, padding_mode="reflect"), (1, 2, 20, 21), (6, 7)),
    "replicate": (lambda: nn.Conv2d(2, 3, 5, padding=2, padding_mode="replicate"), (1, 2, 20, 21), (6, 7)),
    "circular": (lambda: nn.Conv2d(2, 3, 5, padding=2, padding_mode="circular"), (1, 2, 20, 21), (6, 7)),
    "constant": (lambda: Function(lambda x: F.pad(x, (1, -2, 3, 0), value=2.5)), (1, 2, 12, 13), (5, 5)),
    "residual": (lambda: Residual(nn.Conv2d(3, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 3)),
                 (1, 3, 30, 31), (8, 9)),
    "channels_last_norm": (lambda: Function(lambda x: F.layer_norm(x.movedim(1, 3), (6,)).movedim(3, 1)),
                           (1, 6, 16, 20), (5, 6)),
    "shuffled_channels": (lambda: chain(nn.ChannelShuffle(2), nn.PixelUnshuffle(2)),
                          (1, 4, 16, 20), (3, 4)),
    "viewed": (lambda: Function(lambda x: x.view(1, 2, 3, *x.shape[2:]).transpose(1, 2).flatten(1, 2)),
               (1, 6, 16, 20), (5, 6)),
    "folded": (lambda: Function(lambda x: x.unflatten(2, (8, 2)).amax(3)), (1, 2, 16, 20), (3, 6)),
    "turned": (lambda: Function(lambda x: torch.cat([x.flip(3), x.roll((2, -3), (2, 3))], 1)),
               (1, 2, 12, 13), (5, 6)),
    "side_by_side": (lambda: Function(lambda x: torch.cat([x, x[..., 2:7], x], 3)), (1, 2, 12, 13), (5, 6)),
    "every_second": (lambda: Function(lambda x: x[:, :, 1::2, ::3] + 1), (1, 2, 22, 23), (3, 4)),
    "nearest": (lambda: Function(lambda x: F.interpolate(x, (37, 29), mode="nearest")),
                (1, 2, 12, 13), (10, 11)),
    "nearest_exact": (lambda: Function(lambda x: F.interpolate(x, scale_factor=1.7, mode="nearest-exact")),
                      (1, 2, 12, 13), (7, 8)),
    "bilinear": (lambda: Function(lambda x: F.interpolate(x, scale_factor=3, mode="bilinear")),
                 (1, 4, 30, 41), (25, 37)),
    "bilinear_aligned": (lambda: chain(nn.Upsample((97, 150), mode="bilinear", align_corners=True)),
                         (2, 2, 31, 40), (20, 37)),
    "bilinear_small": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (1, 2, 12, 13), (5, 6)),
    "linear": (lambda: nn.Upsample(scale_factor=1.7, mode="linear"), (1, 2, 50), (9,)),
    "trilinear": (lambda: nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True),
                  (1, 2, 9, 10, 12), (7, 8, 9)),
    "stacked": (lambda: Function(lambda x: torch.stack([x, -x, x * 2], 1).flatten(1, 2)),
                (1, 2, 12, 13), (5, 6)),
    "assigned": (lambda: Function(assigned), (1, 2, 12, 13), (5, 6)),
    "gated": (lambda: chain(nn.Conv2d(3, 8, 3), nn.GLU(1)), (1, 3, 18, 34), (8, 9)),
    "squeeze_excite": (lambda: Function(lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True))),
                       (1, 4, 16, 32), (5, 6)),
    "instance_norm": (lambda: chain(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4)), (1, 3, 18, 34), (5, 6)),
    "mask": (lambda: Function(lambda x: torch.where(x > 0, x, x.new_full((), -1.0)) + torch.ones(2, 1, 13)),
             (1, 2, 12, 13), (5, 6)),
    "bfloat16": (lambda: chain(nn.Conv2d(3, 4, 3, padding=1), nn.AvgPool2d(3, 1, 1)).bfloat16(),
                 (1, 3, 20, 32), (7, 8)),
    "double": (lambda: chain(nn.Conv2d(3, 4, 3, padding=1), nn.Sigmoid()).double(), (1, 3, 20, 32), (7, 8)),
    "weight_norm": (lambda: chain(nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 3, 5, padding=2))),
                    (1, 2, 50), (7,)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_tile_is_the_whole(name: str) -> None:
    make, shape, tile = MODELS[name]
    model = seeded(make)
    x = image(*shape, dtype=next((p.dtype for p in model.parameters()), torch.float32))
    assert_same_bits(tiling.tile_run(model, x, tile=tile, progress=False), whole_of(model, x))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("tile", [(1, 1), (5, 96), (64, 7), (64, 96), (200, 300)])
def test_the_tile_does_not_matter(tile: tuple[int, int], threads: int) -> None:
    model, x = (
        seeded(lambda: UNet("overlapping")),
        image(1, 3, 12 if tile == (1, 1) else 64, 16 if tile == (1, 1) else 96),
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = tiling.tile_run(model, x, tile=tile, progress=False)
    finally:
        torch.set_num_threads(before)
    assert_same_bits(got, whole_of(model, x))


@settings(max_examples=150, deadline=None)
@given(networks(), st.data())
def test_any_network_in_any_tiles(network: tuple[nn.Module, tuple[int, ...]], data: st.DataObject) -> None:
    model, shape = network
    model = seeded(lambda: model)
    if not accepts(model, shape):
        return
    if len(shape) == 4 and data.draw(st.booleans()):
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = image(*shape)
    expected = whole_of(model, x)
    tile = tuple(data.draw(st.integers(1, 16)) for _ in shape[2:])
    assert_same_bits(tiling.tile_run(model, x, tile=tile, progress=False), expected)


@pytest.mark.parametrize(("pads", "got"), [((0, 0), 2), ((1, 1), 4)], ids=["without padding", "with padding"])
def test_a_tile_reads_only_what_it_needs(pads: tuple[int, int], got: int) -> None:
    class Watched:
        shape, dtype = (1, 1, 8, 8), np.dtype(np.float32)

        def __init__(self) -> None:
            self.most = 0

        def __getitem__(self, key: tuple[slice, ...]) -> Any:
            part = np.ones(self.shape, np.float32)[key]
            self.most = max(self.most, *part.shape[2:])
            return part

    watched = Watched()
    model = conv(1, 1, 3 if pads[0] else 1, padding=pads)
    tiling.tile_run(model, watched, tile=2, progress=False)
    assert watched.most == got


def test_what_lies_beyond_the_halo_does_not_arrive() -> None:
    model, x = conv(1, 1, 3, padding=1), image(1, 1, 30, 30)
    expected = whole_of(model, x)
    x[:, :, 20:] = torch.nan
    got = tiling.tile_run(model, x, tile=6, progress=False)
    assert_same_bits(got[:, :, :18], expected[:, :, :18])


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid, "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu, "elu": F.elu, "selu": F.selu, "celu": F.celu, "softplus": F.softplus, "mish": F.mish,
    "hardswish": F.hardswish, "logsigmoid": F.logsigmoid, "tanh": torch.tanh, "exp": torch.exp,
    "pow": lambda x: x.abs() ** 1.3, "rsqrt": lambda x: torch.rsqrt(x.abs() + 0.1), "erf": torch.erf,
    "log": lambda x: torch.log(x.abs() + 0.1), "snake": lambda x: x + torch.sin(x) ** 2,
    "softmax": lambda x: x.softmax(1), "log_softmax": lambda x: x.log_softmax(1),
    "mean": lambda x: x.mean(1), "sum": lambda x: x.sum(1, keepdim=True),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_torchs_to_the_last_element(name: str, threads: int, dtype: torch.dtype) -> None:
    """Torch computes the last elements of each thread's share by another routine than the others."""
    model, x = Function(FUNCTIONS[name]), 3 * image(2, 7, 61, 83, dtype=dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_same_bits(tiling.tile_run(model, x, tile=(40, 37), progress=False), model(x))
    finally:
        torch.set_num_threads(before)


def test_each_rule_is_met_by_a_model() -> None:
    met: set[str] = set()
    for make, shape, _ in MODELS.values():
        model = seeded(make)
        dtype = next((p.dtype for p in model.parameters()), torch.float32)
        nodes = [node for node in served_graph(model, shape, dtype).nodes if node.target is not None]
        met |= {node.name for node in nodes if rule_of(node) is not NEEDS_ALL}
    for name in ("conv", "conv_transpose"):
        assert f"outstride.{name}" in met
    for name in (
        "max_pool2d_with_indices",
        "avg_pool2d",
        "cat",
        "slice",
        "constant_pad_nd",
        "_softmax",
        "view",
    ):
        assert f"aten.{name}" in met


def test_an_interrupted_run_leaves_no_file(tmp_path: Path) -> None:
    class Broken:
        shape, dtype = (1, 1, 8, 8), np.dtype(np.float32)

        def __getitem__(self, key: tuple[slice, ...]) -> Any:
            if key[2].start:
                raise KeyboardInterrupt
            return np.ones(self.shape, np.float32)[key]

    with pytest.raises(KeyboardInterrupt):
        tiling.tile_run(conv(1, 1, 1), Broken(), tmp_path / "y.npy", tile=4, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"tile": 0}, ArgumentError, "'tile' must have one positive size"),
        ({"tile": (3, 3, 3)}, ArgumentError, "'tile' must have one positive size"),
        ({"tile": 2.5}, ArgumentError, "'tile' must have one positive size"),
        ({"memory": "much"}, ArgumentError, "'memory' must be a number of bytes"),
        ({"memory": 0}, ArgumentError, "'memory' must be a number of bytes"),
        ({"memory": 100}, ShapeError, "'memory' must hold one tile"),
        (
            {"out": torch.empty(1, 1, 3, 3)},
            ArgumentError,
            r"'out' must have the shape.*legal: \(1, 1, 8, 8\)",
        ),
        ({"out": torch.empty(1, 1, 8, 8, dtype=torch.float64)}, ArgumentError, "'out' must have the type"),
        ({"out": "somewhere/else.npy"}, ArgumentError, "'out' must be a file of"),
        ({"out": "y.gif"}, ArgumentError, "'out' must be a file of"),
        ({"source": "missing.png"}, ArgumentError, "'source' must be a file that exists"),
        ({"source": 3}, ArgumentError, "'source' must be an array, a tensor or a path"),
        ({"source": image(1, 1, 8, 8).to(torch.complex64)}, DTypeError, "'source' must hold real numbers"),
        ({"source": image(1, 2, 8, 8)}, ShapeError, "'model' must run on the source"),
        ({"model": torch.relu}, ArgumentError, "'model' must be a torch.nn.Module"),
        (
            {"model": nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1))},
            ArgumentError,
            "inference mode: got '1'",
        ),
        (
            {"model": Function(lambda x: (x, x + 1)), "out": [None]},
            ArgumentError,
            "'out' must name a place for each of the 2 tensors",
        ),
        ({"model": Function(lambda _: 3)}, UnsupportedError, "'model' must return"),
        ({"model": Function(lambda x: x if x.sum() > 0 else -x)}, UnsupportedError, "whatever numbers"),
    ],
)
def test_bad_input_gets_one_sentence(kwargs: dict[str, Any], error: type[Exception], text: str) -> None:
    given_: dict[str, Any] = {
        "model": conv(1, 1, 3, padding=1),
        "source": image(1, 1, 8, 8),
        "progress": False,
    } | kwargs
    with pytest.raises(error, match=text) as caught:
        tiling.tile_run(**given_)
    assert "legal: " in str(caught.value)
