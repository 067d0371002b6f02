"""Tiles and streams of layers by short algorithms begin with cells, and so are the whole to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import accumulate
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from outstride import accelerate, functional, tiling
from outstride.tiling.rules import convolution as rule
from tests.environments import everything_short
from tests.tiling.models_to_tile import Function, Residual, UNet, image, seeded, whole_of
from tests.tiling.networks import accepts, networks
from tests.tolerance import assert_differ, assert_same_bits

chain = nn.Sequential


@pytest.fixture(autouse=True, scope="module")
def _whatever_it_saves() -> Iterator[None]:
    """Every kind of cells, also of layers that do without them because they gain little."""
    with everything_short():
        yield


def padded(low: int, high: int, mode: str) -> nn.Module:
    return Function(lambda x: nn.functional.pad(x, (low, high), mode=mode))


#: Model, input shape, tile: each has tiles that begin within a cell of some layer.
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]]] = {
    "one": (lambda: nn.Conv2d(16, 16, 3, padding=1), (2, 16, 23, 26), (7, 9)),
    "row": (lambda: chain(*(nn.Conv2d(16, 16, 3, padding=1) for _ in range(3))), (1, 16, 21, 22), (8, 6)),
    "without padding": (lambda: chain(nn.Conv2d(16, 17, 3), nn.Conv2d(17, 16, 3)), (1, 16, 22, 19), (5, 5)),
    "many channels": (lambda: nn.Conv2d(72, 40, 3, padding=1), (1, 72, 15, 14), (5, 7)),
    "strided": (lambda: chain(nn.Conv2d(16, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, padding=1)),
                (1, 16, 41, 37), (7, 5)),
    "kernel 5": (lambda: nn.Conv2d(16, 16, 5, padding=2), (1, 16, 20, 21), (7, 9)),
    "dilated": (lambda: nn.Conv2d(16, 16, 3, padding=2, dilation=2), (1, 16, 25, 24), (6, 7)),
    "dilated unlike": (lambda: nn.Conv2d(16, 16, (3, 2), padding=3, dilation=(3, 1)),
                       (1, 16, 22, 24), (8, 7)),
    "one axis of taps": (lambda: nn.Conv2d(16, 16, (1, 3), padding=(0, 1)), (1, 16, 12, 23), (5, 7)),
    "grouped": (lambda: nn.Conv2d(32, 48, 3, padding=1, groups=2), (1, 32, 17, 18), (5, 7)),
    "transposed 4": (lambda: nn.ConvTranspose2d(16, 16, 4, 2, 1), (1, 16, 11, 12), (7, 9)),
    "transposed 3": (lambda: nn.ConvTranspose2d(16, 16, 3, 2, 1, 1), (1, 16, 11, 12), (7, 10)),
    "transposed 5": (lambda: nn.ConvTranspose2d(16, 16, 5, 2, 2), (1, 16, 11, 12), (7, 10)),
    "up and down": (lambda: chain(nn.ConvTranspose2d(16, 16, 4, 2, 1), nn.Conv2d(16, 16, 4, 2, 1)),
                    (1, 16, 19, 18), (5, 7)),
    "pools between": (lambda: chain(nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(3, 2, 1),
                                    nn.Conv2d(16, 16, 3, padding=1), nn.AvgPool2d(2)),
                      (1, 16, 45, 46), (3, 5)),
    "residual": (lambda: Residual(nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3)),
                 (1, 16, 24, 25), (7, 9)),
    "reflect": (lambda: chain(nn.Conv2d(16, 16, 3, padding=1),
                              nn.Conv2d(16, 16, 5, padding=2, padding_mode="reflect")),
                (1, 16, 20, 21), (6, 7)),
    "line": (lambda: chain(nn.Conv1d(16, 16, 3, padding=4, dilation=4), nn.Conv1d(16, 16, 7, padding=3)),
             (1, 16, 75), (13,)),
    "volume": (lambda: chain(nn.Conv3d(16, 16, 3, padding=1), nn.ConvTranspose3d(16, 16, 4, 2, 1)),
               (1, 16, 7, 6, 5), (7, 5, 3)),
    "bfloat16": (lambda: chain(nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3)).bfloat16(),
                 (1, 16, 20, 22), (7, 9)),
    "unet": (lambda: UNet("overlapping"), (1, 3, 64, 96), (23, 31)),
    "unet, strided": (lambda: UNet("odd", down="strided"), (1, 3, 64, 96), (15, 21)),
}  # fmt: skip


def model_of(name: str) -> tuple[nn.Module, Tensor, tuple[int, ...]]:
    make, shape, tile = MODELS[name]
    model = seeded(make)
    return model, image(*shape, dtype=next(model.parameters()).dtype), tile


@pytest.mark.parametrize("name", MODELS)
def test_a_tile_is_the_whole(name: str) -> None:
    model, x, tile = model_of(name)
    assert_same_bits(tiling.tile_run(model, x, tile=tile, progress=False), whole_of(model, x))


#: Few results of bfloat16 tell in which order they were summed.
@pytest.mark.parametrize("name", [name for name in MODELS if name != "bfloat16"])
def test_it_would_not_be_if_tiles_began_where_they_are_needed(name: str) -> None:
    model, x, tile = model_of(name)
    with patch.object(rule, "_alignment", lambda node: (1,) * len(node.shape)):
        got = tiling.tile_run(model, x, tile=tile, progress=False)
    assert_differ(got, whole_of(model, x))


@settings(max_examples=40, deadline=None)
@given(networks(channels=16), st.data())
def test_any_network_in_any_tiles(network: tuple[nn.Module, tuple[int, ...]], data: st.DataObject) -> None:
    model, shape = network
    model = seeded(lambda: model)
    if not accepts(model, shape):
        return
    x = image(*shape)
    expected = whole_of(model, x)
    tile = tuple(data.draw(st.integers(1, 16)) for _ in shape[2:])
    assert_same_bits(tiling.tile_run(model, x, tile=tile, progress=False), expected)


def test_a_tile_ends_where_it_is_needed_to() -> None:
    """A cell that goes on beyond a tile reads nothing there that the tile depends on."""
    model, x = seeded(lambda: nn.Conv2d(16, 16, 3, padding=1)), image(1, 16, 29, 30)
    expected = whole_of(model, x)
    x[:, :, 22:] = torch.nan
    got = tiling.tile_run(model, x, tile=7, progress=False)
    assert_same_bits(got[:, :, :21], expected[:, :, :21])


def test_chunks_of_dask_are_the_whole() -> None:
    da = pytest.importorskip("dask.array")
    model, x, tile = model_of("strided")
    lazy = tiling.dask(model, da.from_array(x.numpy(), chunks=(1, 16, 20, 20)), tile=tile)
    assert_same_bits(torch.from_numpy(lazy.compute(scheduler="synchronous")), whole_of(model, x))


def test_a_plan_says_where_tiles_begin_early() -> None:
    model, x = seeded(lambda: nn.Conv2d(16, 32, 3, padding=1)), (1, 16, 900, 900)
    odd, even = tiling.plan(model, x, tile=63), tiling.plan(model, x, tile=64)
    assert (odd.early, odd.early_by, odd.reads) == (1, 1, (66, 66))
    assert "starts        up to 1 before what is needed in 1 layers, where cells" in str(odd)
    assert (even.early, even.early_by, even.reads) == (0, 0, (66, 66))
    assert "starts" not in str(even)
    assert odd.taken.tensors == 4 * (16 * 66 * 66 + 32 * 64 * 64)
    assert odd.to_dict()["early_by"] == 1
    transposed = tiling.plan(seeded(lambda: nn.ConvTranspose2d(16, 16, 4, 2, 1)), x, tile=63)
    assert (transposed.early, transposed.early_by) == (1, 3)


def test_nothing_begins_early_where_layers_are_direct() -> None:
    model = seeded(lambda: chain(nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3)))
    assert tiling.plan(model, (1, 16, 900, 900), tile=63).early > 0
    assert tiling.plan(accelerate(model, algorithm="direct"), (1, 16, 900, 900), tile=63).early == 0
    assert tiling.plan(deepcopy(model).double(), (1, 16, 900, 900), tile=63).early == 0


def test_what_a_model_calls_is_tiled_as_layers_are() -> None:
    weight, x = image(32, 16, 3, 3), image(1, 16, 30, 31)
    called = Function(lambda x: nn.functional.conv2d(x, weight))
    plan = tiling.plan(called, x, tile=(7, 9))
    assert (plan.called, plan.early) == (1, 1)
    whole = functional.conv2d(x, weight)
    assert_same_bits(tiling.tile_run(called, x, tile=(7, 9), progress=False), whole)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 3e38])
@pytest.mark.parametrize("where", ["input", "weight"])
@pytest.mark.parametrize("name", ["one", "transposed 4"])
def test_numbers_that_are_not_finite_are_where_the_whole_has_them(
    name: str, where: str, value: float
) -> None:
    model, x, tile = model_of(name)
    if where == "input":
        x[0, 3, 5, 5] = value
    else:
        next(model.parameters()).data[5, 3, 0, 1] = value
    assert_same_bits(tiling.tile_run(model, x, tile=tile, progress=False), whole_of(model, x))


STREAMS: dict[str, Callable[[], nn.Module]] = {
    "centred": lambda: nn.Conv1d(16, 16, 7, padding=3),
    "causal": lambda: chain(nn.ConstantPad1d((4, 0), 0.0), nn.Conv1d(16, 17, 5)),
    "dilated": lambda: nn.Conv1d(16, 16, 3, padding=8, dilation=8),
    "strided": lambda: chain(nn.Conv1d(16, 16, 3, 2, 1), nn.Conv1d(16, 16, 3, padding=1)),
    "transposed": lambda: nn.ConvTranspose1d(16, 16, 4, 2, 1),
    "there and back": lambda: chain(nn.Conv1d(16, 16, 4, 2, 1), nn.ConvTranspose1d(16, 16, 4, 2, 1)),
    "reflected": lambda: nn.Conv1d(16, 16, 5, padding=2, padding_mode="reflect"),
    "decoder": lambda: chain(
        nn.Conv1d(16, 32, 7, padding=3), nn.ConvTranspose1d(32, 16, 16, 8, 4),
        Residual(nn.ReLU(), nn.Conv1d(16, 16, 3, padding=5, dilation=5)), nn.Conv1d(16, 1, 7, padding=3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("chunks", [(1,) * 40, (7, 0, 30, 1, 26), (63, 1)])
def test_a_stream_is_the_whole_and_waits_no_longer(name: str, chunks: tuple[int, ...]) -> None:
    model, x = seeded(STREAMS[name]), image(1, 16, sum(chunks))
    live, direct = tiling.stream(model, (1, 16, 0)), tiling.stream(deepcopy(model).double(), (1, 16, 0))
    assert live.latency == direct.latency
    parts = [live.push(chunk) for chunk in x.split(chunks, -1)]
    returned = accumulate(part.shape[-1] for part in parts)
    for pushed, results in zip(accumulate(chunks), returned, strict=True):
        assert results >= (pushed - live.latency) * live.rate, "later than its latency says"
    assert_same_bits(torch.cat([*parts, live.close()], -1), whole_of(model, x))


def test_the_end_of_a_stream_reads_from_where_a_cell_begins() -> None:
    """A border that turns round, of which few results are left: cells lie elsewhere from every end."""
    every_third = Function(lambda x: x[..., 1::3])
    model = seeded(
        lambda: chain(nn.Conv1d(16, 16, 2, dilation=3, padding=3), padded(0, 5, "reflect"), every_third)
    )
    chunks = (7, 13, 1, 1, 30, 13, 2, 3, 2, 2, 3, 2, 13, 2, 3, 3, 13, 3, 11)
    x, live = image(1, 16, sum(chunks)), tiling.stream(model, (1, 16, 0))
    parts = [live.push(chunk) for chunk in x.split(chunks, -1)]
    assert_same_bits(torch.cat([*parts, live.close()], -1), whole_of(model, x))


def test_a_long_stream_holds_little() -> None:
    model, x = seeded(STREAMS["decoder"]), image(1, 16, 3000)
    live = tiling.stream(model)
    parts = [live.push(chunk) for chunk in x.split(300, -1)]
    assert sum(tensor.numel() for tensor in live._held.values()) < 3000
    assert_same_bits(torch.cat([*parts, live.close()], -1), whole_of(model, x))
