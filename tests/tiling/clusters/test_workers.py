"""A scheduler and workers, here in this process or in ones of their own, make the whole."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from outstride import accelerate, tiling
from outstride.cli import main
from outstride.errors import ArgumentError, UnsupportedError
from outstride.tiling.clusters import blocks, jobs, schedulers, workers
from tests.tiling.models_to_tile import Function, image, seeded, whole_of
from tests.tolerance import assert_same_bits

distributed = pytest.importorskip("distributed")
zarr = pytest.importorskip("zarr")
ARRIVED = "OUTSTRIDE_TEST_ARRIVED"


class Counted(nn.Module):
    """A model that counts how often it arrives in a process."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.Sigmoid(), nn.ConvTranspose2d(4, 2, 2, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result

    def __setstate__(self, state: dict[str, Any]) -> None:
        os.environ[ARRIVED] = str(int(os.environ.get(ARRIVED, "0")) + 1)
        self.__dict__.update(state)


@contextmanager
def cluster(**options: Any) -> Iterator[Any]:
    """A scheduler and its workers on the loopback address."""
    options |= {"dashboard_address": ":0", "memory_limit": 0, "threads_per_worker": 1, "silence_logs": 50}
    with distributed.LocalCluster(host="127.0.0.1", **options) as made:
        yield made


@pytest.fixture(scope="module")
def here() -> Iterator[str]:
    """The address of a scheduler with two workers in this process."""
    with cluster(n_workers=2, processes=False, protocol="tcp") as made:
        yield made.scheduler_address


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr("outstride.tiling.sizing.NEAR_BYTES", 60_000)
    monkeypatch.setattr("outstride.tiling.sizing.MOST_RECOMPUTED", 10)


def stored(place: Path, *shape: int) -> Tensor:
    x = image(*shape)
    zarr.create_array(place, shape=x.shape, dtype="float32", chunks=(1, 3, 16, 16))[:] = x.numpy()
    return x


def read(place: Path) -> Tensor:
    return torch.from_numpy(zarr.open_array(place, mode="r")[:])


class Masked(nn.Module):
    """A picture, a mask as large and a small vector."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.style = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor, mask: Tensor, style: Tensor) -> Tensor:
        made: Tensor = self.layer(x) * mask + self.style(style)[..., None, None]
        return made


def test_a_cluster_opens_several_inputs(here: str, tmp_path: Path) -> None:
    model, style = seeded(Masked), image(1, 8)
    x, mask = stored(tmp_path / "x.zarr", 1, 3, 64, 80), image(1, 1, 64, 80)
    np.save(tmp_path / "mask.npy", mask.numpy())
    source = {"x": tmp_path / "x.zarr", "mask": tmp_path / "mask.npy", "style": style}
    out = tiling.cluster_run(model, source, tmp_path / "y.zarr", here, tile=16, progress=False)
    with torch.inference_mode():
        assert_same_bits(read(Path(out)), accelerate(model)(x, mask, style))
    with pytest.raises(ArgumentError, match="'source' must be what every worker can open: got Tensor"):
        tiling.cluster_run(model, {**source, "mask": mask}, tmp_path / "z.zarr", here, progress=False)


def test_a_cluster_makes_the_whole(here: str, tmp_path: Path, small_blocks: None) -> None:
    model, x = seeded(Counted), stored(tmp_path / "x.zarr", 2, 3, 64, 80)
    plans: list[workers.Spread] = []
    notes = workers.cluster_run_noting(
        model, tmp_path / "x.zarr", tmp_path / "y.zarr", here, None, None, False, False, plans.append
    )
    assert (list(notes), plans[0].workers, plans[0].threads) == ([], 2, 2)
    assert plans[0].tasks >= 12
    assert f"in tasks      {plans[0].tasks} tasks of " in str(plans[0])
    assert_same_bits(read(tmp_path / "y.zarr"), whole_of(model, x))
    array = zarr.open_array(tmp_path / "x.zarr", mode="r")
    tiling.cluster_run(nn.ReLU(), array, tmp_path / "y.zarr", here, tile=17, progress=True, overwrite=True)
    assert_same_bits(read(tmp_path / "y.zarr"), x.relu())
    with distributed.Client(here) as client:
        lazy = tiling.dask(model, tmp_path / "x.zarr", tile=32)
        assert_same_bits(torch.from_numpy(client.compute(lazy, sync=True)), whole_of(model, x))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.zarr", "y.zarr"]


def test_a_window_goes_over_any_number_of_blocks(
    here: str, tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_WINDOW", 3)
    x = stored(tmp_path / "x.zarr", 1, 3, 64, 80)
    tiling.cluster_run(nn.ReLU(), tmp_path / "x.zarr", tmp_path / "y.zarr", here, tile=8, progress=False)
    assert_same_bits(read(tmp_path / "y.zarr"), x.relu())


def stopping_at(monkeypatch: pytest.MonkeyPatch, number: int, happens: Callable[[], object]) -> None:
    """Have something happen at the client when so many blocks are done."""

    def shown(done: Iterable[None], *_: object) -> Iterator[None]:
        for place, each in enumerate(done, 1):
            if place == number:
                happens()
            yield each

    @contextmanager
    def bar(*_: object) -> Iterator[Callable[..., Iterator[None]]]:
        yield shown

    monkeypatch.setattr(workers, "bar", bar)


def interrupted() -> None:
    raise KeyboardInterrupt


def test_an_interruption_leaves_nothing_that_works_or_can_be_opened(
    here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path / "x.zarr", 1, 3, 64, 80)
    stopping_at(monkeypatch, 2, interrupted)
    paths = [str(tmp_path / name) for name in ("x.zarr", "y.zarr")]
    with pytest.raises(SystemExit) as stopped:
        main(["tile", "Conv2d(3, 2, 3)", *paths, "--scheduler", here, "--tile", "8"])
    assert stopped.value.code == 130
    said = capsys.readouterr()
    assert "tasks of 8 x 8, 2 at a time on 2 workers" in said.out
    assert "y.zarr was made" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]
    assert not any(jobs._now.values())
    with distributed.Client(here) as client:
        while any(client.processing().values()):  # the scheduler hears of it in its own time
            time.sleep(0.02)


def test_what_a_task_raises_is_said(here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path / "x.zarr", 1, 3, 64, 80)

    def broken(*_: object) -> None:
        raise ArgumentError("'source' must be a file that can be read")

    monkeypatch.setattr(jobs.Job, "_fetch", broken)
    with pytest.raises(ArgumentError, match="'source' must be a file that can be read"):
        tiling.cluster_run(seeded(Counted), tmp_path / "x.zarr", tmp_path / "y.zarr", here, tile=8)
    assert not (tmp_path / "y.zarr").exists()


class Ended(NamedTuple):
    """A block of which the scheduler says how it ended."""

    status: str
    error: BaseException | None = None

    def exception(self) -> BaseException | None:
        return self.error


@pytest.mark.parametrize(
    ("ended", "error", "text"),
    [
        (
            Ended("cancelled"),
            ArgumentError,
            "'scheduler' must run until the result is whole: got 'tcp://h:1'",
        ),
        (Ended("lost"), ArgumentError, "which went away"),
        (
            Ended("error", distributed.KilledWorker("block", None, 3)),
            ArgumentError,
            "'memory' must be what a worker has for a task: got a block with which 4 workers ended",
        ),
        (
            Ended("error", ModuleNotFoundError("No module named 'x'")),
            UnsupportedError,
            "No module named 'x'; legal",
        ),
        (Ended("error", ArgumentError("'source' must be")), ArgumentError, "'source' must be"),
    ],
)
def test_a_block_that_is_not_made_is_one_sentence(ended: Any, error: type[Exception], text: str) -> None:
    refused = workers._refusal(ended, "tcp://h:1")
    assert isinstance(refused, error)
    assert text in str(refused)


def test_what_workers_cannot_do_is_one_sentence(
    here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(tmp_path / "x.zarr", 1, 3, 20, 20)
    source, out, model = tmp_path / "x.zarr", tmp_path / "y.zarr", seeded(Counted)
    for arguments, error, text in (
        (
            (model, image(1, 3, 8, 8), out),
            ArgumentError,
            "'source' must be what every worker can open: got T",
        ),
        ((model, tmp_path / "z.npy", out), ArgumentError, "'source' must be a file that exists"),
        ((model, source, tmp_path / "y.npy"), ArgumentError, "'out' must be an array of zarr where"),
        ((model, source, source), ArgumentError, "'out' must be another place"),
        ((Function(lambda x: x - x.mean()), source, out), UnsupportedError, "must not need every pixel"),
        ((nn.Sequential(model, nn.Dropout()), source, out), ArgumentError, "must be in inference mode"),
    ):
        with pytest.raises(error, match=text):
            tiling.cluster_run(arguments[0], arguments[1], arguments[2], here)
    monkeypatch.setattr(schedulers, "python_version", lambda: "2.7.18" if _at_the_client() else "3.9.1")
    with pytest.raises(
        UnsupportedError, match=r"workers with the same Python: got 3.9.1 on .*; legal: 2.7, as here"
    ):
        tiling.cluster_run(model, source, out, here, progress=False)
    monkeypatch.undo()
    monkeypatch.setattr(schedulers, "_PACKAGES", ("nowhere",))
    monkeypatch.setattr(schedulers, "version", _version)
    with pytest.raises(
        UnsupportedError, match=r"workers with the same nowhere: got none on tcp://.*; legal: 1"
    ):
        tiling.cluster_run(model, source, out, here, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]


def _at_the_client() -> bool:
    return threading.current_thread() is threading.main_thread()


def _version(package: str) -> str:
    """The version of a package that only the client has."""
    if _at_the_client():
        return "1"
    raise PackageNotFoundError(package)


def test_a_scheduler_that_is_not_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schedulers, "_PATIENCE", 0.2)
    stored(tmp_path / "x.zarr", 1, 3, 20, 20)
    paths = [str(tmp_path / name) for name in ("x.zarr", "y.zarr")]
    for address in ("tcp://127.0.0.1:9", "no address", "nothing://127.0.0.1:9"):
        with pytest.raises(SystemExit) as stopped:
            main(["tile", "Conv2d(3, 2, 3)", *paths, "--scheduler", address])
        assert stopped.value.code == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert (
            f"'--scheduler' must be the address of a Dask scheduler that answers: got {address!r}" in said.err
        )
    with cluster(n_workers=0, processes=False, protocol="tcp") as empty:
        address = empty.scheduler_address
        with pytest.raises(ArgumentError, match=f"'scheduler' must have workers: got {address!r} with none"):
            tiling.cluster_run(seeded(Counted), paths[0], paths[1], address)
    assert not (tmp_path / "y.zarr").exists()


# In processes of their own.
class Processes:
    """A scheduler and workers that are started, and killed, as others do it."""

    def __init__(self, folder: Path) -> None:
        self.file, self.running = folder / "scheduler.json", list[subprocess.Popen[bytes]]()
        self.scheduler = self.start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0", "--no-show"
        )
        while not self.file.exists() or not self.file.read_text(encoding="utf-8").endswith("}"):
            assert self.scheduler.poll() is None
            time.sleep(0.05)
        self.address = str(json.loads(self.file.read_text(encoding="utf-8"))["address"])

    def start(self, kind: str, *options: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(self.file)]
        self.running.append(
            subprocess.Popen([*command, *options], env=environment, stderr=subprocess.DEVNULL)
        )
        return self.running[-1]

    def worker(self) -> subprocess.Popen[bytes]:
        return self.start("worker", "--no-nanny", "--no-dashboard", "--nthreads", "1", "--memory-limit", "0")

    def end(self) -> None:
        for process in self.running:
            process.kill()
        for process in self.running:
            process.wait()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.mark.slow
def test_workers_end_in_the_middle_and_the_result_is_the_whole(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = seeded(Counted), stored(tmp_path / "x.zarr", 1, 3, 160, 160)
    workers = [processes.worker(), processes.worker()]

    def all_end() -> None:
        """And with them all copies of the model."""
        for worker in workers:
            worker.kill()
            worker.wait()
        processes.worker()

    expected = whole_of(model, x)
    with distributed.Client(processes.address) as client:
        client.wait_for_workers(2)
        for happens in (lambda: None, workers[0].kill, all_end):
            stopping_at(monkeypatch, 40, happens)
            tiling.cluster_run(
                model, tmp_path / "x.zarr", tmp_path / "y.zarr", processes.address, tile=16, overwrite=True
            )
            assert_same_bits(read(tmp_path / "y.zarr"), expected)
            if happens not in (workers[0].kill, all_end):
                assert set(client.run(os.getenv, ARRIVED).values()) == {"1"}
    assert workers[0].poll() == workers[1].poll() == -signal.SIGKILL


@pytest.mark.slow
def test_a_scheduler_that_ends_leaves_nothing_that_looks_whole(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(tmp_path / "x.zarr", 1, 3, 160, 160)
    processes.worker()
    stopping_at(monkeypatch, 5, processes.scheduler.kill)
    with pytest.raises(ArgumentError, match="'scheduler' must run until the result is whole"):
        tiling.cluster_run(
            seeded(Counted), tmp_path / "x.zarr", tmp_path / "y.zarr", processes.address, tile=16
        )
    assert not (tmp_path / "y.zarr" / "zarr.json").exists()


MINE = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x):
        return scaled(self.layer(x))


def scaled(x):
    return 2 * x.relu()


def network():
    torch.manual_seed(0)
    return Block()
"""


@pytest.mark.slow
def test_a_model_of_ones_own_file_runs_on_workers(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers have no such file, and the scheduler nothing at all."""
    x = stored(tmp_path / "x.zarr", 1, 3, 48, 48)
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    processes.worker()
    out = tmp_path / "y.zarr"
    for place in ("mine:network", str(tmp_path / "mine.py:network")):
        options = ("--scheduler", processes.address, "--tile", "16", "--overwrite")
        with pytest.raises(SystemExit) as stopped:
            main(["tile", place, str(tmp_path / "x.zarr"), str(out), *options])
        assert stopped.value.code == 0
        network = importlib.import_module("mine").network().eval()
        assert_same_bits(read(out), whole_of(network, x))
        with distributed.Client(processes.address) as client:
            lazy = tiling.dask(network, tmp_path / "x.zarr", tile=16)
            assert_same_bits(torch.from_numpy(client.compute(lazy, sync=True)), whole_of(network, x))


@pytest.mark.slow
def test_ctrl_c_at_the_command_line(processes: Processes, tmp_path: Path) -> None:
    stored(tmp_path / "x.zarr", 1, 3, 320, 320)
    processes.worker()
    paths = [str(tmp_path / name) for name in ("x.zarr", "y.zarr")]
    options = ["--scheduler", processes.address, "--tile", "8"]
    command = subprocess.Popen(
        [sys.executable, "-m", "outstride", "tile", "Conv2d(3, 2, 3)", *paths, *options],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    while not list((tmp_path / "y.zarr").glob("c/0/0/*")):
        assert command.poll() is None
        time.sleep(0.02)
    command.send_signal(signal.SIGINT)
    _, said = command.communicate()
    assert command.returncode == 130
    assert said.count("\n") == 1
    assert "y.zarr was made" in said
    assert not (tmp_path / "y.zarr").exists()
