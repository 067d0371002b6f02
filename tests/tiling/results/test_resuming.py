"""Nothing that was done is lost: whatever ends a run, the same call goes on and makes the same file."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from outstride import tiling
from outstride.errors import ArgumentError
from outstride.tiling.files.writers import MAKERS, Made, Wanted
from outstride.tiling.results import journal
from outstride.tiling.results.journal import Grid, Journal, Notes
from outstride.tiling.results.partial import Partial, cleaned, folder_of, held, leftovers, progress_of
from tests.tiling.ended import content
from tests.tolerance import assert_equal_values

TILE = 16
TILES = 12


@pytest.fixture(autouse=True)
def _written_down_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SECONDS_BETWEEN_NOTES", 0.0)


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.GELU()).eval()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).random((1, 1, 40, 64), np.float32))
    return path


def run(source: Any, out: Any, net: nn.Module | None = None, tile: Any = TILE, **options: Any) -> Any:
    return tiling.tile_run(net or model(), source, out, tile, progress=False, **options)


@contextmanager
def failing(call: int, error: BaseException) -> Iterator[None]:
    """The writing of a tile raises."""
    from outstride.tiling import arrays

    real, calls = arrays.write, [0]

    def write(target: Any, box: Any, tile: Any) -> None:
        calls[0] += 1
        if calls[0] == call:
            raise error
        real(target, box, tile)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "write", write)
        yield


def stopped(source: Any, out: Path, after: int, **options: Any) -> None:
    with failing(after + 1, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        run(source, out, **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Killed.
def test_what_zarr_had_begun_to_write_is_removed(tmp_path: Path, source: Path) -> None:
    pytest.importorskip("zarr")
    out = tmp_path / "y.zarr"
    stopped(source, out, 5)
    (chunk,) = [path for path in folder_of(out).rglob("c") if path.is_dir()][:1]
    (chunk / "0.00000000000000000000000000000000.partial").write_bytes(b"torn")
    run(source, out)
    assert not list(out.rglob("*.partial"))


# Interrupted, or without space.
@pytest.mark.parametrize("suffix", [".npy", ".png"])
def test_an_interrupted_run_goes_on(tmp_path: Path, source: Path, suffix: str) -> None:
    pytest.importorskip("PIL")
    options: dict[str, Any] = {"output_range": (-1, 1)} if suffix == ".png" else {}
    net = nn.Sequential(model(), nn.Conv2d(2, 1, 1)).eval() if suffix == ".png" else model()
    options["net"] = net
    out = tmp_path / f"y{suffix}"
    run(source, tmp_path / f"z{suffix}", **options)
    stopped(source, out, 5, **options)
    assert names(tmp_path) == [f".y{suffix}.part", "x.npy", f"z{suffix}"]
    assert progress_of(out) == 5
    made: list[Any] = []
    with counted(made):
        run(source, out, **options)
    assert len(made) == TILES - 5
    assert content(out) == content(tmp_path / f"z{suffix}")
    assert names(tmp_path) == ["x.npy", f"y{suffix}", f"z{suffix}"]


@contextmanager
def counted(made: list[Any]) -> Iterator[None]:
    """The boxes that are written."""
    from outstride.tiling import arrays

    real = arrays.write

    def write(target: Any, box: Any, tile: Any) -> None:
        made.append(box)
        real(target, box, tile)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "write", write)
        yield


def test_a_run_that_made_nothing_leaves_nothing(tmp_path: Path, source: Path) -> None:
    stopped(source, tmp_path / "y.npy", 0)
    assert names(tmp_path) == ["x.npy"]


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path, source: Path, suffix: str) -> None:
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    out = tmp_path / f"y{suffix}"
    run(source, tmp_path / f"z{suffix}")
    words = r"'out' must be a file that can be written: .*No space left"
    with full_after(4, suffix), pytest.raises(ArgumentError, match=words):
        run(source, out)
    assert progress_of(out) == 4
    run(source, out)
    assert content(out) == content(tmp_path / f"z{suffix}")


class Full:
    """An array on a disk that has no space for a tile after so many."""

    def __init__(self, array: Any, left: int) -> None:
        self.array, self.left, self.shape, self.dtype = array, left, array.shape, array.dtype

    def __setitem__(self, key: Any, part: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.array[key] = part


@contextmanager
def full_after(count: int, suffix: str) -> Iterator[None]:
    real = MAKERS[suffix]

    def make(folder: Path, wanted: Wanted) -> Made:
        made = real(folder, wanted)
        made.array = Full(made.array, count)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MAKERS, suffix, make)
        yield


@pytest.mark.parametrize("place", ["sync", "finish"])
def test_a_disk_that_is_full_later_loses_nothing(
    tmp_path: Path, source: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile = pytest.importorskip("tifffile")
    out, real, calls = tmp_path / "y.ome.tif", os.fsync, [0]

    def full(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] > 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    def no_space(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run(source, tmp_path / "z.ome.tif")
    with monkeypatch.context() as patch:
        if place == "sync":
            patch.setattr(os, "fsync", full)
        else:
            patch.setattr(tifffile, "TiffWriter", no_space)
        with pytest.raises(ArgumentError, match=r"'out' must be a file that can be written: .*No space left"):
            run(source, out)
    assert 0 < progress_of(out) <= TILES
    assert not out.exists()
    run(source, out)
    # An identifier is made of the name.
    assert_equal_values(tifffile.imread(out), tifffile.imread(tmp_path / "z.ome.tif"))


def test_a_limit_for_the_size_of_files_is_one_sentence(tmp_path: Path, source: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, hard))
    try:
        with pytest.raises(ArgumentError, match=r"'out' must be a file that can be written: .*too large"):
            run(source, tmp_path / "y.npy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["x.npy"]


# What a leftover belongs to.
def touched(source: Path) -> None:
    os.utime(source, ns=(0, 0))


def rewritten(source: Path) -> None:
    np.save(source, np.load(source)[..., ::-1])


@pytest.mark.filterwarnings("ignore:.*values lie beyond")
@pytest.mark.parametrize(
    ("change", "options", "text"),
    [
        (touched, {}, "another source, or one that has changed"),
        (rewritten, {}, "another source, or one that has changed"),
        (lambda _: None, {"net": model(1)}, "a model with other weights"),
        (lambda _: None, {"net": nn.Sequential(model(), nn.ReLU()).eval()}, "another model"),
        (lambda _: None, {"output_range": (0, 1)}, "a result of another shape, type, range or release"),
    ],
)
def test_what_belongs_to_something_else_is_refused(
    tmp_path: Path, source: Path, change: Callable[[Path], None], options: Any, text: str
) -> None:
    out = tmp_path / "y.npy"
    stopped(source, out, 5)
    change(source)
    before = content(folder_of(out))
    with pytest.raises(
        ArgumentError, match=rf"'out' must be gone on with by what began it: got {text}.*5 tiles"
    ):
        run(source, out, **options)
    assert content(folder_of(out)) == before
    run(source, out, resume=False, **options)
    assert names(tmp_path) == ["x.npy", "y.npy"]


def test_other_settings_of_torch_are_refused_and_threads_taken_over(tmp_path: Path, source: Path) -> None:
    threads, out = torch.get_num_threads(), tmp_path / "y.npy"
    run(source, tmp_path / "z.npy")
    stopped(source, out, 5)
    try:
        torch.set_default_dtype(torch.float64)
        with pytest.raises(ArgumentError, match="got other settings"):
            run(source, out)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads + 1)
    try:
        run(source, out)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert content(out) == content(tmp_path / "z.npy")


def test_sources_in_memory_are_known_by_their_numbers(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "y.npy"
    values = np.load(source)
    run(values, tmp_path / "z.npy")
    stopped(values, out, 5)
    with pytest.raises(ArgumentError, match="another source"):
        run(values + 1, out)
    run(values.copy(), out)
    assert content(out) == content(tmp_path / "z.npy")
    stopped(torch.from_numpy(values), tmp_path / "t.npy", 5)
    run(torch.from_numpy(values), tmp_path / "t.npy", resume=True)


def test_sources_that_cannot_be_known_again_begin_anew(tmp_path: Path, source: Path) -> None:
    class Stored:
        def __init__(self) -> None:
            self.values = np.load(source)
            self.shape, self.dtype = self.values.shape, self.values.dtype

        def __getitem__(self, key: Any) -> Any:
            return self.values[key]

    stopped(Stored(), tmp_path / "y.npy", 5)
    assert names(tmp_path) == ["x.npy"]
    run(Stored(), tmp_path / "y.npy")


# Tiles.
def test_tiles_of_before_are_gone_on_with_and_others_are_taken_where_they_are_asked_for(
    tmp_path: Path, source: Path
) -> None:
    out = tmp_path / "y.npy"
    run(source, tmp_path / "z.npy")
    stopped(source, out, 5)
    made: list[Any] = []
    with counted(made), failing(4, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        run(source, out, tile=None)
    assert [tuple(b - a for a, b in box[-2:]) for box in made] == [(16, 16)] * 3
    with counted(made := []):
        run(source, out, tile=(20, 32))
    assert [box[-2:] for box in made] == [((20, 40), (0, 32)), ((20, 40), (32, 64))]
    assert content(out) == content(tmp_path / "z.npy")


def test_tiles_that_cut_chunks_which_are_there_are_refused(tmp_path: Path, source: Path) -> None:
    pytest.importorskip("zarr")
    out = tmp_path / "y.zarr"
    stopped(source, out, 5)
    with pytest.raises(
        ArgumentError, match=r"'tile' must be a multiple of the chunks that are there: got \(24, 24\)"
    ):
        run(source, out, tile=24)
    run(source, out, tile=32)


def test_a_grid_covers_what_its_tiles_cover() -> None:
    grid = Grid((1, 2, 40, 64), (1, 2, 16, 16))
    assert len(grid) == TILES
    grid.done |= {0, 1, 4}
    assert grid.covers(((0, 1), (0, 2), (0, 16), (0, 32)))
    assert grid.covers(((0, 1), (0, 1), (3, 30), (2, 16)))
    assert not grid.covers(((0, 1), (0, 2), (0, 20), (0, 20)))


def test_lines_that_are_torn_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    one = Journal(path)
    one.begin({"source": "x"}, (1, 1, 40, 64), (1, 1, 16, 16))
    one.note([((0, 1), (0, 1), (16 * i, 16 * i + 16), (0, 16)) for i in range(2)], one.counts)
    content = path.read_bytes()
    for cut in range(len(content)):
        path.write_bytes(content[:cut] + b"\0\0")
        found = Journal(path)
        assert found.done <= 2
        if found.grids:
            found.note([((0, 1), (0, 1), (32, 40), (0, 16))], found.counts)
            assert Journal(path).done == found.done == 1 + min(content[:cut].count(b"\n") - 2, 2)


@pytest.mark.parametrize(("line", "again"), [(0, 5), (1, 5), (3, 3)])
def test_tiles_behind_a_damaged_line_are_made_again_and_said_to_be(
    tmp_path: Path, source: Path, line: int, again: int
) -> None:
    out, journal = tmp_path / "y.npy", tmp_path / ".y.npy.part" / "journal"
    run(source, tmp_path / "z.npy")
    stopped(source, out, 5)
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[line] = b"?" + lines[line]
    journal.write_bytes(b"".join(lines))
    with pytest.warns(UserWarning, match=f"{again} tiles were made again: a line of the journal before"):
        run(source, out)
    assert content(out) == content(tmp_path / "z.npy")


def test_only_some_tiles_and_then_the_rest(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "y.npy"
    run(source, tmp_path / "z.npy")
    run(source, out, only=[((0, 16), (20, 40)), ((39, 40), (0, 1))])
    assert not out.exists()
    assert progress_of(out) == 3
    run(source, out)
    assert content(out) == content(tmp_path / "z.npy")
    for box in [16, (16, 32), ((0, 16),), ((0, 16), (0, 65)), ((4, 4), (0, 1)), ((-1, 4), (0, 1))]:
        with pytest.raises(ArgumentError, match="'only' must name boxes of the result's last 2 axes"):
            run(source, tmp_path / "w.npy", only=[box])
    into = np.full((1, 2, 40, 64), 7, np.float32)
    run(source, into, only=[((0, 16), (0, 16))])
    assert (into[..., 16:] == 7).all()
    assert_equal_values(into[..., :16, :16], np.load(out)[..., :16, :16])


# What is there.
def test_there_must_be_something_to_insist_on(tmp_path: Path, source: Path) -> None:
    with pytest.raises(ArgumentError, match=r"'resume' must have something to go on with"):
        run(source, tmp_path / "y.npy", resume=True)
    with pytest.raises(ArgumentError, match="'resume' must go with files to make"):
        run(source, None, resume=True)
    assert names(tmp_path) == ["x.npy"]


def test_what_exists_is_kept_until_it_is_replaced(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "y.npy"
    run(source, out)
    before = content(out)
    stopped(source, out, 5, net=model(1), overwrite=True)
    assert content(out) == before
    with pytest.raises(ArgumentError, match="'out' must not exist yet"):
        run(source, out, net=model(1))
    run(source, out, net=model(1), overwrite=True)
    assert content(out) != before


def test_one_process_makes_a_result(tmp_path: Path, source: Path) -> None:
    pytest.importorskip("fcntl")
    with held(tmp_path / "y.npy"), pytest.raises(ArgumentError, match="made by one process at a time"):
        run(source, tmp_path / "y.npy")


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, source: Path) -> None:
    (tmp_path / ".y.npy.part").mkdir()
    (tmp_path / ".y.npy.part" / "letter").write_text("mine")
    with pytest.raises(ArgumentError, match=r"'out' must have room for '.y.npy.part' beside it"):
        run(source, tmp_path / "y.npy")
    assert (tmp_path / ".y.npy.part" / "letter").read_text() == "mine"


def test_a_journal_of_another_version_is_left_alone(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "y.npy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "_VERSION", 2)
        stopped(source, out, 5)
    with pytest.raises(ArgumentError, match=r"got a journal of another version .* 5 tiles are done"):
        run(source, out)


def test_numbers_that_are_gone_are_not_made_up(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "y.npy"
    stopped(source, out, 5)
    (folder_of(out) / "result").unlink()
    with pytest.raises(ArgumentError, match=r"got '\.y\.npy\.part' without its numbers"):
        run(source, out)
    run(source, out, resume=False)


def test_leftovers_are_found_and_removed(tmp_path: Path, source: Path) -> None:
    stopped(source, tmp_path / "y.npy", 5)
    stopped(source, tmp_path / "z.npy", 2)
    with held(tmp_path / "w.npy"):
        found = leftovers(tmp_path)
    assert [(left.name, left.done, left.tiles) for left in found] == [
        ("y.npy", 5, TILES),
        ("z.npy", 2, TILES),
    ]
    assert all(left.bytes > 0 for left in found)
    cleaned(found[:1])
    assert names(tmp_path) == [".z.npy.part", "x.npy"]


def test_a_run_that_ended_after_its_result_had_its_name(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "y.npy"
    with monkeypatch.context() as patch:
        patch.setattr(Partial, "remove", lambda _: None)
        run(source, out)
    before = content(out)
    run(source, out)
    assert names(tmp_path) == ["x.npy", "y.npy"]
    with monkeypatch.context() as patch:
        patch.setattr(Partial, "remove", lambda _: None)
        run(source, out, overwrite=True)
    out.unlink()
    run(source, out)
    assert content(out) == before


def test_what_a_failed_sync_has_lost_is_not_written_down(tmp_path: Path) -> None:
    one, calls = Journal(tmp_path / "journal"), [0]
    one.begin({"source": "x"}, (1, 1, 40, 64), (1, 1, 16, 16))

    def sync(_: object) -> None:
        calls[0] += 1
        if calls[0] == 1:
            raise OSError(errno.EIO, "the disk says so once")

    notes = Notes(one, sync, Counter())
    with pytest.raises(OSError, match="once"):
        notes.add(((0, 1), (0, 1), (0, 16), (0, 16)))
    notes.add(((0, 1), (0, 1), (0, 16), (16, 32)))
    assert Journal(tmp_path / "journal").grids[0].done == {1}
