"""Several results of one run: each is a file that is gone on with, and all have their names or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from outstride import tiling
from outstride.errors import ArgumentError
from outstride.models.graph import Nest
from outstride.tiling.outputs import Outputs
from outstride.tiling.results import journal
from outstride.tiling.results.partial import Partial, folders_of, progress_of
from tests.tiling.ended import Heads, content
from tests.tiling.models_to_tile import Function
from tests.tiling.results.test_resuming import failing, names
from tests.tolerance import assert_equal_values

TILE = 16
TILES = 12
NAMES = ("fine", "coarse", "mean")


@pytest.fixture(autouse=True)
def _written_down_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SECONDS_BETWEEN_NOTES", 0.0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).random((1, 3, 40, 64), np.float32))
    return path


def heads(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Heads().eval()


def run(source: Any, out: Any, net: nn.Module | None = None, tile: Any = TILE, **options: Any) -> Any:
    return tiling.tile_run(net or heads(), source, out, tile, progress=False, **options)


def stopped(source: Any, out: Any, after: int, **options: Any) -> None:
    """A run that is interrupted after so many parts of tiles."""
    with failing(after + 1, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        run(source, out, **options)


@contextmanager
def written() -> Iterator[Counter[tuple[int, ...]]]:
    """How many parts are written of results of each shape."""
    from outstride.tiling import arrays

    real, found = arrays.write, Counter[tuple[int, ...]]()

    def write(target: Any, box: Any, part: Any) -> None:
        found[tuple(target.shape)] += 1
        real(target, box, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "write", write)
        yield found


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_an_interrupted_run_of_several_goes_on(tmp_path: Path, source: Path, suffix: str) -> None:
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    out, whole = tmp_path / f"y.{{}}{suffix}", tmp_path / f"z.{{}}{suffix}"
    run(source, whole)
    stopped(source, out, 10)  # one of the mean, five of the fine and four of the coarse one
    assert [folder.name for folder in folders_of(out)] == [
        f".y.{name}{suffix}.part" for name in sorted(NAMES)
    ]
    assert progress_of(out) == 4
    with written() as parts:
        made = run(source, out)
    assert sum(parts.values()) == 2 * TILES + 1 - 9  # what was written and not written down is written again
    assert made == [str(tmp_path / f"y.{name}{suffix}") for name in NAMES]
    assert {name.replace("y.", "z."): part for name, part in content(out).items()} == content(whole)
    assert names(tmp_path) == sorted(["x.npy", *(f"{x}.{name}{suffix}" for x in "yz" for name in NAMES)])


def places(out: Any) -> list[Path]:
    return [out.with_name(out.name.replace("{}", name)) for name in NAMES]


@pytest.mark.parametrize(
    "kind", [list, lambda paths: dict(zip(NAMES, paths, strict=True))], ids=["list", "dict"]
)
def test_places_in_a_list_or_a_dict_go_on(tmp_path: Path, source: Path, kind: Callable[[Any], Any]) -> None:
    run(source, tmp_path / "z.{}.npy")
    (tmp_path / "other").mkdir()
    paths = [tmp_path / "a.npy", tmp_path / "other" / "b.npy", tmp_path / "c.npy"]
    out = kind(paths)
    stopped(source, out, 10)
    with written() as parts:
        assert run(source, out) is out
    assert sum(parts.values()) == 2 * TILES + 1 - 9
    for path, place in zip(paths, places(tmp_path / "z.{}.npy"), strict=True):
        assert content(path) == content(place)
    with pytest.raises(ArgumentError, match="'out' must name another place for each result"):
        run(source, [tmp_path / "d.npy"] * 3)
    with pytest.raises(ArgumentError, match=r"'out' must name a place for each of the 3 tensors .*got 2"):
        run(source, [tmp_path / "d.npy", tmp_path / "e.npy"])
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("step", ["seal", "name", "remove"])
def test_all_have_their_names_or_the_same_call_gives_them(
    tmp_path: Path, source: Path, step: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "y.{}.npy"
    run(source, out)
    before = content(out)
    real, calls = getattr(Partial, step), [0]

    def ends(self: Partial) -> None:
        calls[0] += 1
        if calls[0] == count:
            raise KeyboardInterrupt
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Partial, step, ends)
        with pytest.raises(KeyboardInterrupt):
            run(source, out, heads(1), overwrite=True)
    with written() as parts:
        run(source, out, heads(1), overwrite=True)
    assert not parts
    after = content(out)
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in after)
    assert names(tmp_path) == ["x.npy", *(f"y.{name}.npy" for name in sorted(NAMES))]
    run(source, tmp_path / "w.{}.npy", heads(1))
    assert {name.replace("w.", "y."): part for name, part in content(tmp_path / "w.{}.npy").items()} == after


def test_one_that_is_removed_while_others_are_named_is_made_again(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "y.{}.npy"
    with monkeypatch.context() as patch:
        patch.setattr(Partial, "remove", lambda _: None)
        run(source, out)
    before = content(out)
    (tmp_path / "y.coarse.npy").unlink()
    with written() as parts:
        run(source, out)
    assert list(parts.values()) == [TILES]
    assert content(out) == before


def test_what_exists_is_kept_and_some_tiles_are_asked_for(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "y.{}.npy"
    run(source, tmp_path / "z.{}.npy")
    (tmp_path / "y.coarse.npy").write_bytes(b"mine")
    with pytest.raises(ArgumentError, match=r"'out' must not exist yet: got .*y.coarse.npy"):
        run(source, out)
    (tmp_path / "y.coarse.npy").unlink()
    with pytest.raises(ArgumentError, match=r"'resume' must have something to go on with"):
        run(source, out, resume=True)
    run(source, out, only=[((0, 16), (20, 40))])
    assert progress_of(out) == 2
    with pytest.raises(ArgumentError, match=r"'out' must be gone on with by what began it: got a model with"):
        run(source, out, heads(1))
    run(source, out, resume=True)
    for mine, whole in zip(places(out), places(tmp_path / "z.{}.npy"), strict=True):
        assert content(mine) == content(whole)
    stopped(source, out, 5, overwrite=True)
    assert content(places(out)[0]) == content(places(tmp_path / "z.{}.npy")[0])
    run(source, out, heads(1), resume=False, overwrite=True)
    assert content(places(out)[0]) != content(places(tmp_path / "z.{}.npy")[0])
    assert not folders_of(out)


def test_threads_of_before_are_taken_over(tmp_path: Path, source: Path) -> None:
    out, threads = tmp_path / "y.{}.npy", torch.get_num_threads()
    run(source, tmp_path / "z.{}.npy")
    stopped(source, out, 5)
    torch.set_num_threads(threads + 1)
    try:
        run(source, out)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    for mine, whole in zip(places(out), places(tmp_path / "z.{}.npy"), strict=True):
        assert content(mine) == content(whole)


def test_all_are_verified(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "y.{}.npy"
    run(source, out)
    verdict = tiling.recheck(heads(), source, out, 100, TILE)
    assert verdict
    assert verdict.elements == 4 * 40 * 64 + 2 * 20 * 32 + 2
    assert tiling.recheck(heads(), source, places(out), 3, TILE)
    values = np.load(tmp_path / "y.coarse.npy")
    values[0, 1, 3, 4] += 1
    np.save(tmp_path / "y.coarse.npy", values)
    verdict = tiling.recheck(heads(), source, out, 100, TILE)
    assert (verdict.different, verdict.first, verdict.name) == (1, (0, 1, 3, 4), "y.coarse.npy")
    assert "the first at (0, 1, 3, 4) of y.coarse.npy" in str(verdict)


def test_one_tensor_may_be_returned_twice(tmp_path: Path, source: Path) -> None:
    def twice(x: Tensor) -> tuple[Tensor, Tensor]:
        y = x * 2
        return y, y

    run(source, tmp_path / "y.{}.npy", Function(twice))
    expected = np.load(source) * np.float32(2)
    for number in range(2):
        assert_equal_values(np.load(tmp_path / f"y.{number}.npy"), expected)
    into = [np.zeros(expected.shape, np.float32) for _ in range(2)]
    run(source, into, Function(twice))
    for made in into:
        assert_equal_values(made, expected)


# Parts of the smaller ones.
@pytest.mark.parametrize("fine", [40, 41, 43, 64, 1000])
@pytest.mark.parametrize("times", [1, 2, 3, 4, 7.3])
def test_parts_of_a_smaller_result_are_all_of_it_and_of_one_size(fine: int, times: float) -> None:
    size = max(round(fine / times), 1)
    outputs = Outputs((0, 1), {0: (1, 2, fine, fine), 1: (1, 3, size, size)}, Nest(None, {}), 2)
    starts = [(a, min(a + 16, fine)) for a in range(0, fine, 16)]
    boxes = [outputs.boxes(((0, 1), (0, 2), start, (0, fine)))[1] for start in starts]
    assert [box[2][0] for box in boxes] == [0, *(box[2][1] for box in boxes[:-1])]
    assert boxes[-1][2][1] == size
    assert all(box[3] == (0, size) for box in boxes)
    if times in (1, 2, 4):
        tile = outputs.tile_of(1, (16, fine))
        assert tile == (min(16 // int(times), size), size)
        assert all(box[2][1] - box[2][0] == tile[0] for box in boxes[:-1])


def test_no_chunk_is_written_by_two_tiles(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    x = np.random.default_rng(0).random((1, 3, 130, 258), np.float32)
    run(x, tmp_path / "y.{}.zarr", tile=64)
    chunks = [zarr.open_array(tmp_path / f"y.{name}.zarr").chunks[-2:] for name in ("fine", "coarse")]
    assert chunks == [(64, 64), (32, 32)]
