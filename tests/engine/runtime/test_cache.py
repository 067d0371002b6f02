"""The kernel cache on disk: several or killed processes, damage, missing rights cost time, never results."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import ROOT

_IDS = ("conv1d-stride-3", "conv2d-groups-2", "transpose2d-kernel-is-stride-2", "transpose2d-depthwise")

# Runs cases, checks them against the definition, and says how many kernels had to be compiled.
_PROGRAM = """
import sys, torch
from outstride.engine import runtime
from tests.cases import BY_ID
from tests.contract import verify_contract
for name in sys.argv[1:]:
    verify_contract(BY_ID[name], "value", torch.float32)
print(runtime.compilations())
"""


def _start(directory: Path | str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *_IDS],
        cwd=ROOT,
        env={**os.environ, "OUTSTRIDE_CACHE_DIR": str(directory), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _compiled(process: subprocess.Popen[str]) -> int:
    """Kernels that a process compiled, after it gave the right results."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    return int(out.split()[-1])


def _files(directory: Path) -> list[Path]:
    return sorted(p for p in directory.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that one process has filled."""
    directory = tmp_path_factory.mktemp("cache") / "kernels"
    assert _compiled(_start(directory)) > 0
    return directory


@pytest.fixture
def copied(filled: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "kernels"
    directory.mkdir(mode=0o700)
    for file in _files(filled):
        (directory / file.name).write_bytes(file.read_bytes())
    return directory


def test_a_second_process_compiles_nothing(filled: Path) -> None:
    assert _compiled(_start(filled)) == 0


@pytest.mark.slow
def test_processes_at_once_all_get_it_right(tmp_path: Path) -> None:
    directory = tmp_path / "kernels"
    running = [_start(directory) for _ in range(3)]
    assert all(_compiled(process) >= 0 for process in running)
    assert _compiled(_start(directory)) == 0, "what several processes wrote together is not whole"
    assert not [f for f in _files(directory) if f.name.startswith(".")], "temporary files were left"


@pytest.mark.slow
def test_killed_processes_leave_a_usable_cache(tmp_path: Path) -> None:
    directory = tmp_path / "kernels"
    for number in range(4):
        process = _start(directory)
        while process.poll() is None and len(_files(directory)) <= number:
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert _compiled(_start(directory)) >= 0
    assert _compiled(_start(directory)) == 0


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _headless(file: Path) -> None:
    file.write_bytes(file.read_bytes()[1:])


def _garbage(file: Path) -> None:
    file.write_bytes(bytes(range(256)) * (file.stat().st_size // 256 + 1))


def _one_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-100] ^= 4
    file.write_bytes(content)


def _longer(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0" * 64)


def _a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.with_name("nowhere"))


def _without_rights(file: Path) -> None:
    file.chmod(0)


_DAMAGES = [
    _empty,
    _truncated,
    _headless,
    _garbage,
    _one_bit,
    _longer,
    _a_directory,
    _dangling,
    _without_rights,
]


def test_damaged_files_are_compiled_again(copied: Path) -> None:
    files = _files(copied)
    assert len(files) >= len(_DAMAGES)
    damages = [_DAMAGES[n % len(_DAMAGES)] for n in range(len(files))]
    for file, damage in zip(files, damages, strict=True):
        damage(file)
    readable = damages.count(_without_rights) if os.geteuid() == 0 else 0  # root reads what it likes
    assert _compiled(_start(copied)) == len(files) - readable
    # Only a directory cannot be replaced by a file of its name.
    assert _compiled(_start(copied)) == damages.count(_a_directory)


def test_files_exchanged_for_each_other_are_told_apart(copied: Path) -> None:
    """Each file is whole and genuine, but it is another kernel's."""
    files = _files(copied)
    contents = [f.read_bytes() for f in files]
    for file, content in zip(files, contents[1:] + contents[:1], strict=True):
        file.write_bytes(content)
    assert _compiled(_start(copied)) == len(files)


def test_foreign_files_are_left_alone(copied: Path) -> None:
    notes, other = copied / "notes.txt", copied / "other.kernel"
    notes.write_text("not a kernel")
    other.write_bytes(b"\x7fELF" + b"\0" * 500)
    assert _compiled(_start(copied)) == 0
    assert notes.read_text() == "not a kernel"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_rights(tmp_path: Path) -> None:
    directory = tmp_path / "kernels"
    directory.mkdir()
    directory.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert _compiled(_start(directory)) > 0
    assert not _files(directory)


@pytest.mark.slow
def test_a_place_that_takes_no_files() -> None:
    assert _compiled(_start("/dev/null/kernels")) > 0


@pytest.mark.slow
def test_a_home_that_takes_no_files() -> None:
    process = _start("", HOME="/proc/nowhere", XDG_CACHE_HOME="/proc/nowhere/cache")
    assert _compiled(process) > 0


def test_a_directory_that_others_may_write_to_is_not_trusted(copied: Path) -> None:
    """Whoever may put a file there could make every user of this cache run it."""
    copied.chmod(0o777)
    assert _compiled(_start(copied)) == len(_files(copied))


def test_new_directories_are_private(filled: Path) -> None:
    assert stat.S_IMODE(filled.stat().st_mode) & 0o077 == 0


@pytest.mark.slow
def test_a_full_disk_costs_only_time(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: writing fails in the middle."""
    program = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n" + _PROGRAM
    environment = {**os.environ, "OUTSTRIDE_CACHE_DIR": str(tmp_path / "kernels")}
    done = subprocess.run(
        [sys.executable, "-c", program, *_IDS],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert not _files(tmp_path / "kernels"), "a part of a file was left"


def test_clear_empties_it_and_running_layers_go_on(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from outstride.engine.runtime import cache

    monkeypatch.setenv("OUTSTRIDE_CACHE_DIR", str(copied))
    files = _files(copied)
    assert cache.path() == copied
    assert cache.size_bytes() == sum(f.stat().st_size for f in files)
    assert cache.clear() == len(files)
    assert cache.size_bytes() == 0
    assert _compiled(_start(copied)) == len(files)
