"""What is left of a run is found from its first tiles, what reading takes from parts of the source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from outstride import tiling
from outstride.tiling.box import Box, elements
from outstride.tiling.costs import pacing, reading
from outstride.tiling.costs.pacing import Left, Pace
from outstride.tiling.costs.reading import seconds_an_element
from outstride.tiling.results import beginning
from outstride.tiling.results.asking import Listener, Options
from outstride.tiling.results.single import make
from outstride.tiling.running import Runs
from tests.tiling.models_to_tile import seeded
from tests.tolerance import assert_within


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (pacing, reading):
        monkeypatch.setattr(module, "perf_counter", clock)
    return clock


def tile(clock: Clock, pace: Pace, read: float, computed: float, stored: float) -> None:
    with pace.during("reading"):
        clock.now += read
    clock.now += computed
    with pace.during("storing"):
        clock.now += stored
    pace.over()


def test_tiles_say_how_long_the_others_take(clock: Clock) -> None:
    said = list[Left]()
    pace = Pace(100, lambda: 25.0, said.append)
    tile(clock, pace, 5, 20, 5)  # with which kernels are compiled
    for _ in range(20):
        tile(clock, pace, 0.25, 0.5, 0.25)
    (left,) = said
    assert left == Left(4, 96 * 1.0 + 25, 0.25, 0.25, 25.0)
    parts = "reading 25%, storing 25%, making files of the numbers 25 s"
    assert str(left) == f"about 2 min after 4 tiles ({parts})"


def test_what_is_soon_over_is_not_said(clock: Clock) -> None:
    said = list[Left]()
    pace = Pace(7, says=said.append)
    for _ in range(7):
        tile(clock, pace, 0.0, 1.0, 0.0)
    assert not said
    assert str(Left(9, 40.0, 0.01, 0.0, 0.0)) == "about 40 s after 9 tiles"


def test_the_least_of_some_tries_counts_but_for_the_first(clock: Clock) -> None:
    times, sizes = [0.001, 0.4, 0.2, 0.3], list[int]()

    def read(index: int, box: Box) -> None:
        del index
        sizes.append(elements(box))
        clock.now += times.pop(0)

    parts = [[(0, ((0, 1), (0, 100)))]] * 4
    assert_within(seconds_an_element(read, parts), 0.2 / 100, 1e-9, "a clock of floats")
    times += [5.0, 1.0]
    large: Any = [[(0, ((0, 1), (0, 3), (0, 10**4), (0, 10**5)))]] * 2
    assert seconds_an_element(read, large) > 0
    assert len(sizes) == 5, "one long try is enough"
    assert sizes[-1] <= 1 << 22
    assert seconds_an_element(read, [[], []]) == 0


def test_a_plan_counts_reading_of_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.InstanceNorm2d(4)))
    values = np.zeros((1, 3, 128, 96), np.float32)
    np.save(tmp_path / "x.npy", values)
    assert tiling.plan(model, values, tile=32).reading_seconds == 0

    def slow(real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda read, parts: 1e-3 + 0 * real(read, parts)

    monkeypatch.setattr("outstride.tiling.running.seconds_an_element", slow(seconds_an_element))
    plan = tiling.plan(model, tmp_path / "x.npy", tile=32)
    assert plan.reading_seconds >= 1e-3 * values.size  # each element at least once, by a pass or a tile
    assert f", {tiling_words(plan.reading_seconds)} of it reading" in str(plan)
    assert plan.to_dict()["reading_seconds"] == plan.reading_seconds
    assert plan.seconds > plan.reading_seconds


def tiling_words(seconds: float) -> str:
    from outstride.tiling.costs.clock import spelled

    return spelled(seconds)


@pytest.mark.parametrize("suffix", [".npy", ".zarr", ".ome.zarr", ".ome.tif", ".png", ".jpg"])
def test_making_a_file_of_the_numbers_is_tried(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a small one, of numbers that have come."""
    for package in ("PIL", "tifffile", "zarr"):
        pytest.importorskip(package)
    monkeypatch.setattr(pacing, "_ENOUGH", 0.0)
    monkeypatch.setattr(pacing, "_WORTH", 0.0)
    monkeypatch.setattr(beginning, "_TRIED", 48)
    said = list[Left]()

    class Told(Listener):
        def goes_on(self, left: Left) -> None:
            said.append(left)

    source = np.random.default_rng(0).random((1, 3, 70, 90), np.float32)
    out = tmp_path / f"y{suffix}"
    make(Runs(nn.Sigmoid(), 32), source, out, Options(progress=False), Told())
    (left,) = said
    assert left.tiles == 2
    assert left.ending > 0
    assert left.seconds > left.ending
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
