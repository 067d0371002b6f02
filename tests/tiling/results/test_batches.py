"""A list of sources of any sizes: a list of results, and of files each is gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from outstride import accelerate, tiling
from outstride.errors import ArgumentError
from outstride.tiling import capturing, running
from outstride.tiling.results import journal, partial
from outstride.tiling.results.partial import progress_of
from tests.tiling.ended import Heads, content
from tests.tiling.results.test_resuming import failing, names
from tests.tolerance import assert_same_bits

SIZES = ((20, 33), (41, 18), (20, 33), (7, 7))


@pytest.fixture(autouse=True)
def _written_down_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SECONDS_BETWEEN_NOTES", 0.0)


def images() -> list[Tensor]:
    return [
        torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(i)) for i, size in enumerate(SIZES)
    ]


def files(folder: Path) -> list[Path]:
    paths = [folder / f"x{number}.npy" for number in range(len(SIZES))]
    for path, image in zip(paths, images(), strict=True):
        np.save(path, image.numpy())
    return paths


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.InstanceNorm2d(4), nn.GELU()).eval()


def whole(net: nn.Module, x: Any) -> Any:
    with torch.inference_mode():
        return accelerate(net)(x)


def run(sources: Any, out: Any = None, net: nn.Module | None = None, tile: Any = 16, **options: Any) -> Any:
    return tiling.tile_run(net or model(), sources, out, tile, progress=False, **options)


@contextmanager
def captured() -> Iterator[list[Any]]:
    """What models are captured for."""
    real, found = capturing.served_call, list[Any]()

    def served(net: nn.Module, args: Any, kwargs: Any) -> Any:
        found.append(args[0].shape)
        return real(net, args, kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "served_call", served)
        yield found


def test_a_list_makes_a_list_and_each_size_is_planned_once() -> None:
    with captured() as sizes:
        made = run(images())
    assert [size[2:] for size in sizes] == [SIZES[0], SIZES[1], SIZES[3]]
    assert isinstance(made, list)
    for got, x in zip(made, images(), strict=True):
        assert_same_bits(got, whole(model(), x))


class Scaled(nn.Module):
    def forward(self, x: Tensor, scale: Any) -> Tensor:
        made: Tensor = x * scale
        return made


def test_small_inputs_belong_to_their_own_source() -> None:
    net = Scaled()
    given = [(x, torch.full((1, 3, 1, 1), float(i))) for i, x in enumerate(images())]
    for got, (x, scale) in zip(run(given, net=net), given, strict=True):
        assert_same_bits(got, x * scale)
    numbers = [(x, i) for i, x in enumerate(images())]
    for got, (x, number) in zip(run(numbers, net=net), numbers, strict=True):
        assert_same_bits(got, x * number)


def test_results_go_where_they_are_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, into = Heads().eval(), [torch.empty(1, 4, 41, 18), torch.empty(1, 2, 21, 9), torch.empty(1, 2)]
    out = [str(tmp_path / "a.{}.npy"), into]
    assert run(images()[:2], out, net) is out
    assert names(tmp_path) == ["a.coarse.npy", "a.fine.npy", "a.mean.npy"]
    one = tmp_path / "a.b.npy"  # whose name could be that of a result of the list
    run(images()[0], one, only=[((0, 1), (0, 1))])
    run(images()[:1], [tmp_path / "a.{}.npy"], net, overwrite=True)
    assert progress_of(one) == 1
    for got, expected in zip(into, whole(net, images()[1]).values(), strict=True):
        assert_same_bits(got, expected)


def test_an_interrupted_list_goes_on(tmp_path: Path) -> None:
    sources, out = files(tmp_path), [tmp_path / f"y{number}.npy" for number in range(len(SIZES))]
    run(sources, [tmp_path / f"z{number}.npy" for number in range(len(SIZES))])
    with failing(9, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        run(sources, out)  # six tiles of the first, two of the second
    assert [path.exists() for path in out] == [True, False, False, False]
    assert names(tmp_path)[:2] == [".y0.npy.part", ".y1.npy.part"]
    assert names(tmp_path / ".y0.npy.part") == ["journal"]
    with pytest.raises(ArgumentError, match="got a model with other weights"):
        run(sources, out, model(1))
    with captured() as sizes:
        run(sources, out)
    assert len(sizes) == 3
    for number, path in enumerate(out):
        assert content(path) == content(tmp_path / f"z{number}.npy")
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(ArgumentError, match=r"'out' must not exist yet: got .*y0.npy"):
        run(sources, out)


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_a_list_that_is_whole_is_cleaned_up(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends between lines that say that all is over, or between removals."""
    sources, out = files(tmp_path), [tmp_path / f"y{number}.npy" for number in range(len(SIZES))]
    calls = [0]

    def ending(real: Any) -> Any:
        def ends(self: Any) -> None:
            calls[0] += 1
            if calls[0] == count:
                raise KeyboardInterrupt
            real(self)

        return ends

    with monkeypatch.context() as patch:
        for owner, name in ((journal.Journal, "over"), (partial.Partial, "remove")):
            patch.setattr(owner, name, ending(getattr(owner, name)))
        with pytest.raises(KeyboardInterrupt):
            run(sources, out)
    before = [content(path) for path in out]
    with failing(1, AssertionError("nothing is made")):
        run(sources, out)
    assert [content(path) for path in out] == before
    assert not list(tmp_path.glob(".*"))


def test_a_list_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    sources = files(tmp_path)
    (tmp_path / "there.npy").write_bytes(b"mine")
    for out, said in [
        ([tmp_path / "a.npy"], "'out' must name a place for each of the 4 sources: got 1"),
        (tmp_path / "a.npy", "'out' must name a place for each of the 4 sources: got "),
        ([tmp_path / "a.npy"] * 4, "'out' must name another place for each source"),
        (
            [*[tmp_path / f"{i}.npy" for i in range(3)], sources[1]],
            "'out' must be another file than 'source'",
        ),
        ([*[tmp_path / f"{i}.npy" for i in range(3)], tmp_path / "there.npy"], "'out' must not exist yet"),
        ([*[tmp_path / f"{i}.npy" for i in range(3)], tmp_path / "3.txt"], "'out' must be a file of"),
    ]:
        with captured() as sizes, pytest.raises(ArgumentError, match=said):
            run(sources, out)
        assert not sizes
    places = [tmp_path / f"{i}.npy" for i in range(4)]
    with pytest.raises(ArgumentError, match="'only' must go with one source"):
        run(sources, places, only=[((0, 1), (0, 1))])
    with pytest.raises(ArgumentError, match="'resume' must have something to go on with"):
        run(sources, places, resume=True)
    with pytest.raises(
        ArgumentError, match=r"'source' must be what a model is called with once: got a list of 4"
    ):
        tiling.plan(model(), images())
