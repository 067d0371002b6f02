"""Operators that real models use and that need no whole: linear layers, windows, several results.

Where torch's own matrix products take part, which round by the number of rows, tiles are compared with one
tile that is the whole; elsewhere with the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from outstride import tiling
from outstride.errors import ArgumentError, UnsupportedError
from outstride.tiling.rules import indexing
from tests.engine.launch.agreed import is_another_torch
from tests.tiling.models_to_tile import Function, image, seeded, whole_of
from tests.tiling.networks import REAL_KINDS, accepts, networks, response
from tests.tiling.shifted_windows import ShiftedWindows
from tests.tolerance import assert_same_bits, assert_within_roundings

F, chain = nn.functional, nn.Sequential
Made = tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]]


class Channels(nn.Module):
    """A linear map of the channels in some spelling."""

    def __init__(self, spelled: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(5, 6)), nn.Parameter(torch.randn(5))
        self.spelled = spelled

    def forward(self, x: Tensor) -> Tensor:
        return self.spelled(x, self.weight, self.bias)


def tokens(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    made = F.linear(x.flatten(2).transpose(1, 2), w, b)
    return made.transpose(1, 2).reshape(x.shape[0], 5, *x.shape[2:])


def rows(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    made = torch.addmm(b, x.permute(0, 2, 3, 1).reshape(-1, 6), w.t())
    return made.view(x.shape[0], *x.shape[2:], 5).permute(0, 3, 1, 2)


#: Model, input shape, tile.
PRODUCTS: dict[str, Made] = {
    "behind": (lambda: Channels(lambda x, w, b: F.linear(x.movedim(1, 3), w, b)), (2, 6, 11, 13), (6, 5)),
    "tokens": (lambda: Channels(tokens), (2, 6, 11, 13), (4, 5)),
    "rows": (lambda: Channels(rows), (2, 6, 11, 13), (4, 5)),
    "einsum": (lambda: Channels(lambda x, w, _: torch.einsum("oc,bchw->bohw", w, x)), (2, 6, 11, 13), (4, 5)),
    "matmul": (lambda: Channels(lambda x, w, _: (w @ x.flatten(2)).unflatten(2, x.shape[2:])),
               (1, 6, 11, 13), (4, 5)),
    "repeated": (lambda: Channels(lambda x, w, _: torch.bmm(w.repeat(2, 1, 1), x.flatten(2))),
                 (2, 6, 3, 40), (5, 9)),
    "at one position": (lambda: Channels(lambda x, w, b: F.conv1d(x.flatten(2), w[..., None], b)),
                        (1, 6, 7, 30), (5, 21)),
    "mixed": (lambda: chain(Channels(tokens), nn.Conv2d(5, 6, 3, padding=1), nn.GELU(), Channels(rows)),
              (1, 6, 20, 21), (9, 7)),
    "windows": (lambda: ShiftedWindows(8, 4, heads=2, shift=0), (1, 8, 22, 19), (5, 7)),
    "attention of torch": (lambda: ShiftedWindows(16, 4, 2, 0, fused=True), (1, 16, 22, 19), (5, 7)),
    "shifted windows": (lambda: chain(ShiftedWindows(8, 4, 2, 0), ShiftedWindows(8, 4, 2, 2)),
                        (2, 8, 22, 19), (9, 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_tiles_of_products_are_one_tile(name: str) -> None:
    make, shape, tile = PRODUCTS[name]
    model, x = seeded(make), image(*shape)
    assert not tiling.plan(model, shape, tile=tile).kept
    got = tiling.tile_run(model, x, tile=tile, progress=False)
    assert_same_bits(got, tiling.tile_run(model, x, tile=1000, progress=False))
    assert_within_roundings(got, whole_of(model, x), 256, "sums of a few layers in another order")


def test_windows_of_a_large_picture_read_a_window() -> None:
    model = seeded(lambda: chain(ShiftedWindows(8, 4, 2, 0), ShiftedWindows(8, 4, 2, 2)))
    plan = tiling.plan(model, (1, 8, 4000, 3000), tile=64)
    assert not plan.kept
    assert max(plan.reads) <= 64 + 4 * 4


def spectrum(x: Tensor) -> Tensor:
    """Frames back to sound, as vocoders do it: inverse transforms that are added up."""
    real, imaginary = x.chunk(2, 1)
    frames = torch.fft.irfft(torch.complex(real, imaginary), 16, dim=1)
    sound = F.fold(frames, (1, (x.shape[-1] - 1) * 4 + 16), (1, 16), stride=(1, 4))
    return sound[:, 0, 0, 6:-6]


def unpooled(x: Tensor) -> Tensor:
    y, places = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(y * 2, places, (2, 2), output_size=list(x.shape[2:]))


class Halved(torch.autograd.Function):
    """What users write who know a better derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x / 2).sigmoid()


#: Model, input shape, tile.
MODELS: dict[str, Made] = {
    "normalized": (lambda: Function(lambda x: F.normalize(x, dim=1)), (1, 7, 30, 41), (9, 1)),
    "variance": (lambda: Function(lambda x: x.var(1, keepdim=True) + x.std(1, unbiased=False)[:, None]),
                 (2, 7, 30, 41), (9, 10)),
    "channel norm": (lambda: Function(lambda x: (x - x.mean(1, True)) / (x.var(1, keepdim=True) + 1e-5)),
                     (1, 7, 30, 41), (9, 10)),
    "parts": (lambda: Function(lambda x: torch.cat([*x.split([1, 3], 1), *x.chunk(2, 1), *(
        channel[:, None] for channel in x.unbind(1))], 1)), (1, 4, 12, 13), (5, 6)),
    "repeated": (lambda: Function(lambda x: x.repeat(1, 2, 1, 3)), (1, 2, 12, 13), (5, 6)),
    "repeated to more axes": (lambda: Function(lambda x: x[0].repeat(2, 1, 2, 1)), (1, 2, 12, 13), (5, 6)),
    "each repeated": (lambda: Function(lambda x: x.repeat_interleave(3, 1)), (1, 2, 12, 13), (5, 6)),
    "quarter turns": (lambda: Function(lambda x: torch.rot90(x, 1, (2, 3)) * 2), (1, 2, 12, 13), (5, 6)),
    "half turns": (lambda: Function(lambda x: torch.rot90(x, 2, (1, 3))), (1, 2, 12, 13), (5, 6)),
    "turned back": (lambda: Function(lambda x: torch.rot90(x, 3, (3, 2)).sigmoid()), (1, 2, 12, 13), (5, 6)),
    "one channel": (lambda: Function(lambda x: x.mean(1, keepdim=True).squeeze(1)), (1, 2, 70, 80), (15, 16)),
    "first channel": (lambda: Function(lambda x: x[:, 0]), (1, 2, 70, 80), (15, 16)),
    "flattened channel": (lambda: Function(lambda x: x[:, :1].flatten(0, 1)), (1, 2, 70, 80), (15, 16)),
    "transforms of channels": (lambda: Function(lambda x: torch.fft.rfft(x, dim=1).abs()),
                               (1, 6, 9, 13), (4, 5)),
    "unfolded": (lambda: Function(lambda x: F.unfold(x, (3, 2), padding=1, stride=(1, 2))),
                 (1, 2, 9, 12), (5, 11)),
    "folded": (lambda: Function(lambda x: F.fold(F.unfold(x, 3, padding=1).sin(), x.shape[2:], 3, padding=1)),
               (1, 2, 9, 12), (4, 5)),
    "unpooled": (lambda: Function(unpooled), (1, 3, 22, 31), (7, 8)),
    "unpooled with padding": (lambda: chain(Function(lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True)),
                                            Function(lambda y: y[0] + y[1])), (1, 3, 22, 31), (4, 5)),
    "area": (lambda: Function(lambda x: F.interpolate(x, (8, 10), mode="area")), (1, 3, 24, 20), (3, 4)),
    "adaptive maximum": (lambda: nn.AdaptiveMaxPool2d((8, 10)), (1, 3, 24, 20), (3, 4)),
    "uneven area": (lambda: Function(lambda x: F.interpolate(x, (9, 14), mode="area")),
                    (2, 3, 25, 31), (4, 5)),
    "uneven enlarged area": (lambda: nn.AdaptiveAvgPool2d((35, 9)), (1, 3, 24, 20), (8, 4)),
    "uneven of a line": (lambda: nn.AdaptiveAvgPool1d(17), (2, 3, 50), (5,)),
    "uneven of a volume": (lambda: nn.AdaptiveAvgPool3d((5, 4, 6)), (1, 2, 13, 11, 17), (2, 3, 4)),
    "uneven channels_last": (lambda: Function(lambda x: F.adaptive_avg_pool2d(x.contiguous(
        memory_format=torch.channels_last), (9, 7))), (1, 13, 25, 24), (4, 3)),
    "uneven maximum": (lambda: Function(lambda x: F.adaptive_max_pool2d(x, (9, 14))), (1, 3, 25, 31), (4, 5)),
    "uneven places": (lambda: Function(lambda x: F.adaptive_max_pool2d(x, (9, 14), return_indices=True)[1]),
                      (1, 3, 25, 31), (4, 5)),
    "bicubic": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), (1, 3, 24, 20), (13, 14)),
    "bicubic aligned": (lambda: nn.Upsample((61, 33), mode="bicubic", align_corners=True),
                        (2, 3, 24, 20), (13, 14)),
    "bicubic reduced": (lambda: Function(lambda x: F.interpolate(x, scale_factor=0.4, mode="bicubic")),
                        (1, 3, 54, 50), (7, 9)),
    "bicubic channels_last": (lambda: Function(lambda x: F.interpolate(x.contiguous(
        memory_format=torch.channels_last), scale_factor=1.7, mode="bicubic")), (1, 9, 24, 20), (13, 14)),
    "antialiased": (lambda: Function(lambda x: F.interpolate(x, (11, 13), mode="bilinear", antialias=True)),
                    (1, 3, 54, 50), (4, 5)),
    "antialiased bicubic": (lambda: Function(lambda x: F.interpolate(
        x, scale_factor=0.3, mode="bicubic", antialias=True)), (1, 3, 54, 50), (4, 5)),
    "antialiased enlarged": (lambda: Function(lambda x: F.interpolate(
        x, (80, 70), mode="bicubic", antialias=True)), (1, 3, 24, 25), (14, 15)),
    "a response": (lambda: Function(lambda x: response(x, (2, 3), 1)), (2, 7, 30, 41), (9, 10)),
    "a response behind": (lambda: Function(lambda x: response(F.gelu(x.permute(0, 2, 3, 1)), (1, 2), 3)),
                          (2, 7, 30, 41), (9, 10)),
    "variances": (lambda: Function(lambda x: x * x.var((2, 3), keepdim=True) + x.std((2, 3), correction=0,
                                                                                     keepdim=True)),
                  (2, 7, 30, 41), (9, 10)),
    "variance and mean": (lambda: Function(lambda x: x - sum(torch.var_mean(x, (2, 3), keepdim=True))),
                          (2, 7, 30, 41), (9, 10)),
    "variance behind": (lambda: Function(lambda x: x.permute(0, 2, 3, 1) / x.permute(0, 2, 3, 1).std(
        (1, 2), keepdim=True)), (2, 7, 30, 41), (9, 10)),
    "mean behind": (lambda: Function(lambda x: F.gelu(x.permute(0, 2, 3, 1)).mean((1, 2))),
                    (2, 7, 30, 41), (5,)),
    "its own derivative": (lambda: Function(Halved.apply), (1, 2, 20, 21), (6, 7)),
    "frames": (lambda: Function(spectrum), (1, 18, 50), (37,)),
}  # fmt: skip


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("options", [{"antialias": True}, {}], ids=["antialiased", "plain"])
def test_small_sizes_are_resized_as_torch_does(options: dict[str, bool], layout: torch.memory_format) -> None:
    """Torch's own result of a single column is that of other elements, and so is ours."""
    for sizes in ((1, 5, 1, 2), (5, 2, 4, 1), (5, 1, 2, 1), (2, 2, 1, 4), (1, 2, 4, 2), (5, 5, 2, 4)):
        made = sizes[2:]
        model = Function(lambda x, made=made: F.interpolate(x, made, mode="bicubic", **options))  # type: ignore[misc]
        x = image(2, 3, *sizes[:2]).contiguous(memory_format=layout)
        assert_same_bits(tiling.tile_run(model.eval(), x, tile=1, progress=False), model(x))


@pytest.mark.parametrize("name", MODELS)
def test_a_tile_is_the_whole(name: str) -> None:
    make, shape, tile = MODELS[name]
    model, x = seeded(make), image(*shape)
    assert not tiling.plan(model, shape, tile=tile).kept or is_another_torch()
    assert_same_bits(tiling.tile_run(model, x, tile=tile, progress=False), whole_of(model, x))


@settings(max_examples=60, deadline=None)
@given(networks((*REAL_KINDS, "conv", "max", "function", "linear", "skip"), channels=8), st.data())
def test_any_network_of_such_operators_in_any_tiles(
    network: tuple[nn.Module, tuple[int, ...]], data: st.DataObject
) -> None:
    model, shape = network
    model = seeded(lambda: model)
    if not accepts(model, shape):
        return
    x, tile = image(*shape), tuple(data.draw(st.integers(1, 16)) for _ in shape[2:])
    got = tiling.tile_run(model, x, tile=tile, progress=False)
    assert_same_bits(got, tiling.tile_run(model, x, tile=1000, progress=False))
    assert_within_roundings(got, whole_of(model, x), 4096, "sums of a few layers in another order")


class Heads(nn.Module):
    """Results of several sizes in a nest."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 2, padding=1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        a = self.first(x)
        b = self.second(a.relu())
        return {"out": self.head(a), "deep": [self.head(b), (b, b.mean((2, 3)))], "again": a}


@pytest.mark.parametrize("tile", [(9, 10), (1000, 1000), (31, 4)])
def test_every_result_of_several_is_the_whole(tile: tuple[int, int]) -> None:
    model, x = seeded(Heads), image(2, 3, 31, 40)
    with torch.inference_mode():
        expected = whole_of_several(model, x)
    got = tiling.tile_run(model, x, tile=tile, progress=False)
    assert list(got) == list(expected)
    for key in ("out", "again"):
        assert_same_bits(got[key], expected[key])
    assert_same_bits(got["deep"][0], expected["deep"][0])
    for a, b in zip(got["deep"][1], expected["deep"][1], strict=True):
        assert_same_bits(a, b)


class Beside(Heads):
    """What is no tensor beside those that are."""

    def forward(self, x: Tensor) -> dict[str, Any]:
        return {"loss": None, **super().forward(x), "sizes": ["fine", x.shape[-1], 0.5]}


def test_what_is_no_tensor_is_handed_back(tmp_path: Any) -> None:
    """Such as the loss that a model in evaluation has none of."""
    model, x = seeded(Beside), image(1, 3, 31, 40)
    with torch.inference_mode():
        expected = whole_of_several(model, x)
    got = tiling.tile_run(model, x, tile=(9, 10), progress=False)
    assert list(got) == list(expected)
    assert got["loss"] is None
    assert got["sizes"] == ["fine", 40, 0.5]
    assert_same_bits(got["again"], expected["again"])
    tiling.tile_run(model, x, tmp_path / "y.{}.npy", tile=(9, 10), progress=False)
    names = ["y.again", "y.deep-0", "y.deep-1-0", "y.deep-1-1", "y.out"]
    assert sorted(path.stem for path in tmp_path.iterdir()) == names
    strange = Function(lambda x: {"y": x, "form": x.dtype})
    with pytest.raises(UnsupportedError, match=r"'model' must return tensors: got dict with dtype; legal: "):
        tiling.plan(strange, (1, 3, 20, 20))


def whole_of_several(model: nn.Module, x: Tensor) -> Any:
    from outstride import accelerate

    return accelerate(model)(x)


def test_channels_behind_are_not_cut() -> None:
    """A backbone's maps of (N, H, W, C) are cut along height and width all the same."""
    model = seeded(
        lambda: chain(nn.Conv2d(3, 8, 3, padding=1), Function(lambda x: F.gelu(x.permute(0, 2, 3, 1))))
    )
    plan = tiling.plan(model, (1, 3, 3000, 2000), memory="4MB")
    assert plan.tile[-1] == 8
    assert max(plan.reads[1:]) < 700
    x = image(1, 3, 40, 33)
    assert_same_bits(tiling.tile_run(model, x, tile=(7, 9), progress=False), whole_of(model, x))


def test_several_results_go_where_they_are_told(tmp_path: Any) -> None:
    model, x = seeded(lambda: Function(lambda x: (x * 2, x[..., ::2]))), image(1, 2, 12, 16)
    out = [tmp_path / "a.npy", torch.empty(1, 2, 12, 8)]
    assert tiling.tile_run(model, x, out, tile=5, progress=False) is out
    import numpy as np

    assert_same_bits(torch.from_numpy(np.load(out[0])), x * 2)
    assert_same_bits(out[1], x[..., ::2])


def test_files_of_several_results_have_their_names(tmp_path: Any) -> None:
    model, x = seeded(Heads), image(2, 3, 31, 40)
    out = tiling.tile_run(model, x, tmp_path / "y.{}.npy", tile=16, progress=False)
    assert [path.removeprefix(str(tmp_path)) for path in out] == [
        "/y.out.npy", "/y.deep-0.npy", "/y.deep-1-0.npy", "/y.deep-1-1.npy", "/y.again.npy"
    ]  # fmt: skip
    import numpy as np

    with torch.inference_mode():
        expected = whole_of_several(model, x)
    assert_same_bits(torch.from_numpy(np.load(out[0])), expected["out"])
    assert_same_bits(torch.from_numpy(np.load(out[3])), expected["deep"][1][1])
    with pytest.raises(ArgumentError, match=r"'out' must not exist yet.*y.out.npy"):
        tiling.tile_run(model, x, tmp_path / "y.{}.npy", tile=16, progress=False)
    said = r"a file for each of the 5 tensors.*legal: 'z.{}.npy', in which {} becomes out, deep-0"
    with pytest.raises(ArgumentError, match=said):
        tiling.tile_run(model, x, tmp_path / "z.npy", tile=16, progress=False)
    assert not (tmp_path / "z.npy").exists()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_positions_in_runs_are_those_that_are_asked_for(data: st.DataObject) -> None:
    """Around borders and repeated they are copied together, any others are taken one by one."""
    size = data.draw(st.integers(1, 9))
    line = torch.arange(size, dtype=torch.float64)[None, None]
    pads = data.draw(st.tuples(*[st.integers(0, size - 1)] * 2))
    positions = data.draw(
        st.sampled_from([
            F.pad(line, pads, mode="reflect")[0, 0], F.pad(line, pads, mode="replicate")[0, 0],
            F.interpolate(line, [data.draw(st.integers(1, 30))])[0, 0], line[0, 0].roll(pads[0]),
        ])
    ).long()  # fmt: skip
    first = data.draw(st.integers(0, len(positions) - 1))
    asked = positions[first : data.draw(st.integers(first + 1, len(positions)))]
    for axis, x in ((1, torch.randn(2, size, 3)), (2, torch.randn(2, 3, size))):
        assert_same_bits(indexing._selected(x, axis, asked), x.index_select(axis, asked))
