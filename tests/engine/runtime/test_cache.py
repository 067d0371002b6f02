"""The kernel cache on disk: several or killed processes, damage, missing rights cost time, never results."""

from __future__ import annotations

import multiprocessing
import os
import resource
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from outstride.engine import runtime
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.runtime import cache, compiler
from tests.cases import BY_ID
from tests.contract import verify_contract
from tests.engine.runtime.small_kernels import instruction_set, new_name

_IDS = ("conv1d-stride-3", "conv2d-groups-2", "transpose2d-kernel-is-stride-2", "transpose2d-depthwise")

#: Forked off one that has torch loaded: what is tested is what a process finds, not that it starts.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])


def _verify(there: Connection, environment: dict[str, str], most_bytes: int | None) -> None:
    """Check cases against the definition, and send how many kernels had to be compiled."""
    os.environ.update(environment)
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    for name in _IDS:
        verify_contract(BY_ID[name], "value", torch.float32)
    there.send(runtime.compilations())


class _Run:
    """A process that runs cases with a directory as its cache, and may write files of so many bytes."""

    def __init__(self, directory: Path | str, most_bytes: int | None = None, **environment: str) -> None:
        self._result, there = _PROCESSES.Pipe(duplex=False)
        # Only kernels are counted here, so nothing is to be kept beside them.
        given = {"OUTSTRIDE_CACHE_DIR": str(directory), "OUTSTRIDE_PROBE": "off", **environment}
        self.process = _PROCESSES.Process(target=_verify, args=(there, given, most_bytes))
        self.process.start()
        there.close()

    def compiled(self) -> int:
        """Kernels that it compiled, after it gave the right results."""
        assert self._result.poll(240), "it hangs"
        found: int = self._result.recv()
        self.process.join(60)
        assert self.process.exitcode == 0
        return found


def _files(directory: Path) -> list[Path]:
    return sorted(p for p in directory.rglob("*") if p.is_file())


def _kernels(directory: Path) -> list[Path]:
    return [file for file in _files(directory) if file.suffix == ".kernel"]


@pytest.fixture(scope="module")
def filled(other_processes: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that one process has filled."""
    directory = tmp_path_factory.mktemp("cache") / "kernels"
    assert _Run(directory).compiled() > 0
    return directory


@pytest.fixture
def copied(filled: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "kernels"
    directory.mkdir(mode=0o700)
    for file in _files(filled):
        (directory / file.name).write_bytes(file.read_bytes())
    return directory


def test_a_second_process_compiles_nothing(filled: Path) -> None:
    assert _Run(filled).compiled() == 0


@pytest.mark.slow
def test_processes_at_once_all_get_it_right(tmp_path: Path) -> None:
    directory = tmp_path / "kernels"
    running = [_Run(directory) for _ in range(3)]
    assert all(run.compiled() >= 0 for run in running)
    assert _Run(directory).compiled() == 0, "what several processes wrote together is not whole"
    assert not [f for f in _files(directory) if f.name.startswith(".")], "temporary files were left"


@pytest.mark.slow
def test_killed_processes_leave_a_usable_cache(tmp_path: Path) -> None:
    directory = tmp_path / "kernels"
    for number in range(4):
        process = _Run(directory).process
        while process.is_alive() and len(_files(directory)) <= number:
            time.sleep(0.002)
        process.kill()
        process.join(60)
    assert _Run(directory).compiled() >= 0
    assert _Run(directory).compiled() == 0


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
    files = _kernels(copied)
    assert len(files) >= len(_DAMAGES)
    damages = [_DAMAGES[n % len(_DAMAGES)] for n in range(len(files))]
    for file, damage in zip(files, damages, strict=True):
        damage(file)
    readable = damages.count(_without_rights) if os.geteuid() == 0 else 0  # root reads what it likes
    assert _Run(copied).compiled() == len(files) - readable
    # Only a directory cannot be replaced by a file of its name.
    assert _Run(copied).compiled() == damages.count(_a_directory)


def test_files_exchanged_for_each_other_are_told_apart(copied: Path) -> None:
    """Each file is whole and genuine, but it is another kernel's."""
    files = _kernels(copied)
    contents = [f.read_bytes() for f in files]
    for file, content in zip(files, contents[1:] + contents[:1], strict=True):
        file.write_bytes(content)
    assert _Run(copied).compiled() == len(files)


def test_foreign_files_are_left_alone(copied: Path) -> None:
    notes, other = copied / "notes.txt", copied / "other.kernel"
    notes.write_text("not a kernel")
    other.write_bytes(b"\x7fELF" + b"\0" * 500)
    assert _Run(copied).compiled() == 0
    assert notes.read_text() == "not a kernel"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_write_rights(tmp_path: Path) -> None:
    directory = tmp_path / "kernels"
    directory.mkdir()
    directory.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert _Run(directory).compiled() > 0
    assert not _files(directory)


@pytest.mark.slow
def test_a_place_that_takes_no_files() -> None:
    assert _Run("/dev/null/kernels").compiled() > 0


@pytest.mark.slow
def test_a_home_that_takes_no_files() -> None:
    assert _Run("", HOME="/proc/nowhere", XDG_CACHE_HOME="/proc/nowhere/cache").compiled() > 0


def test_a_directory_that_others_may_write_to_is_not_trusted(copied: Path) -> None:
    """Whoever may put a file there could make every user of this cache run it."""
    copied.chmod(0o777)
    assert _Run(copied).compiled() == len(_kernels(copied))


def test_new_directories_are_private(filled: Path) -> None:
    assert stat.S_IMODE(filled.stat().st_mode) & 0o077 == 0


@pytest.mark.slow
def test_a_full_disk_costs_only_time(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: writing fails in the middle."""
    assert _Run(tmp_path / "kernels", most_bytes=200).compiled() > 0
    assert not _files(tmp_path / "kernels"), "a part of a file was left"


def test_clear_empties_it_and_running_layers_go_on(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from outstride.engine.runtime import cache

    monkeypatch.setenv("OUTSTRIDE_CACHE_DIR", str(copied))
    files = _kernels(copied)
    assert cache.path() == copied
    assert cache.size_bytes() == sum(f.stat().st_size for f in files)
    assert cache.clear() == len(files)
    assert not _files(copied), "a verdict was left"
    assert _Run(copied).compiled() == len(files)


def test_what_is_written_is_read(empty_cache: Path) -> None:
    assert (cache.read("a"), cache.size_bytes(), cache.entries(), cache.clear()) == (None, 0, [], 0)
    contents = {"a": b"", "b": b"\0", "c": bytes(range(256)) * 40}
    for name, content in contents.items():
        assert cache.write(name, content)
    assert {name: cache.read(name) for name in contents} == contents
    assert [p.parent for p in cache.entries()] == [empty_cache] * 3
    assert cache.size_bytes() == sum(p.stat().st_size for p in empty_cache.iterdir())
    assert cache.write("a", b"anew")
    assert (cache.read("a"), len(cache.entries())) == (b"anew", 3)
    assert cache.clear() == 3
    assert (cache.read("a"), cache.size_bytes(), cache.clear()) == (None, 0, 0)


def test_a_file_under_another_name_is_not_trusted(empty_cache: Path) -> None:
    cache.write("a", b"code")
    (file,) = cache.entries()
    file.rename(file.with_name(file.name.replace("a", "b", 1)))
    assert cache.read("b") is None


@pytest.mark.parametrize("place", [0, 5, 20, 40, -1])
def test_every_byte_of_a_file_counts(empty_cache: Path, place: int) -> None:
    cache.write("a", b"code of some length, so that there is something to damage")
    (file,) = cache.entries()
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert cache.read("a") is None
    file.write_bytes(content[:place])
    assert cache.read("a") is None


def _pipe(file: Path) -> None:
    os.mkfifo(file)


def _endless(file: Path) -> None:
    file.symlink_to("/dev/zero")


def _sparse(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(60 << 30)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
@pytest.mark.parametrize("strange", [_pipe, _endless, _sparse])
def test_what_is_no_file_of_a_kernel_is_passed_over(
    empty_cache: Path, strange: Callable[[Path], None]
) -> None:
    """Nor waited for, nor read to its end."""
    cache.write("a", b"code")
    (file,) = cache.entries()
    file.unlink()
    strange(file)
    assert cache.read("a") is None
    assert cache.write("a", b"anew")
    assert cache.read("a") == b"anew"


def test_a_directory_that_others_may_write_to_is_neither_read_nor_written(empty_cache: Path) -> None:
    cache.write("a", b"code")
    for mode in (0o720, 0o702, 0o777):
        empty_cache.chmod(mode)
        assert cache.read("a") is None
        assert not cache.write("b", b"code")
    empty_cache.chmod(0o700)
    assert cache.read("a") == b"code"
    assert cache.read("b") is None


def test_writing_fails_without_raising_and_leaves_nothing(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no space left on device")

    cache.write("a", b"code")
    monkeypatch.setattr(Path, "replace", refuse)
    assert not cache.write("b", b"code")
    assert [p.name for p in empty_cache.iterdir()] == [p.name for p in cache.entries()]
    assert cache.read("a") == b"code"


def test_foreign_files_are_neither_counted_nor_deleted(empty_cache: Path) -> None:
    cache.write("a", b"code")
    (empty_cache / "notes.txt").write_text("mine")
    (empty_cache / "folder.kernel").mkdir()
    assert len(cache.entries()) == cache.clear() == 1
    assert sorted(p.name for p in empty_cache.iterdir()) == ["folder.kernel", "notes.txt"]


def test_keys_tell_parts_apart() -> None:
    parts = ("source", "triple", "cpu", "features")
    keys = [cache.key(*parts)]
    for i, part in enumerate(parts):
        keys += [cache.key(*parts[:i], part + "x", *parts[i + 1 :]), cache.key(*parts[:i], *parts[i + 1 :])]
    keys += [cache.key("sourcetriple", "cpu", "features"), cache.key("source", "triplecpu", "features")]
    keys += [cache.key(), cache.key(""), cache.key("", "")]
    assert len(set(keys)) == len(keys)
    assert cache.key(*parts) == keys[0]
    assert all(key.isalnum() for key in keys), "a key is a file name"


@pytest.mark.parametrize("field", ["triple", "cpu", "features", "compiler", "passes", "source"])
def test_all_that_makes_the_code_is_part_of_its_key(
    field: str, monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    """Code for another processor or from another compiler is never loaded by mistake."""
    asked: list[str] = []

    def remember(name: str, suffix: str = cache.KERNEL) -> None:
        if suffix == cache.KERNEL:
            asked.append(name)

    monkeypatch.setattr(cache, "read", remember)
    isa = INSTRUCTION_SETS["avx2"] if instruction_set().triple.startswith("x86") else INSTRUCTION_SETS["neon"]
    monkeypatch.setattr(compiler, "compile_object", lambda *_: b"")
    monkeypatch.setattr(compiler, "load_object", lambda *_: (1,))
    values = {"triple": isa.triple, "cpu": isa.cpu, "features": isa.features}

    def ask(source: str) -> None:
        made = replace(isa, **values)  # type: ignore[arg-type]  # all of them are texts
        runtime.Module(new_name(), lambda: source, made).addresses()

    ask("one")
    ask("one")
    if field in values:
        values[field] += "x"
    elif field == "compiler":
        monkeypatch.setattr(compiler, "version", lambda: "another")
    elif field == "passes":
        monkeypatch.setattr(compiler, "PASSES", compiler.PASSES[:1])
    ask("two" if field == "source" else "one")
    assert asked[0] == asked[1] != asked[2]


@pytest.mark.parametrize(
    ("platform", "variable", "end"),
    [
        ("linux", "XDG_CACHE_HOME", "outstride/kernels"),
        ("win32", "LOCALAPPDATA", "outstride/kernels"),
        ("darwin", "HOME", "Library/Caches/outstride/kernels"),
    ],
)
def test_the_users_cache_directory(
    platform: str, variable: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OUTSTRIDE_CACHE_DIR", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert cache.path() == tmp_path / end
    monkeypatch.setenv("OUTSTRIDE_CACHE_DIR", str(tmp_path / "mine"))
    assert cache.path() == tmp_path / "mine"


def test_who_has_no_home_gets_a_private_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("OUTSTRIDE_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache.path().parent == tmp_path
    assert cache.write("name", b"code")
    assert cache.path().stat().st_mode & 0o077 == 0
    assert cache.read("name") == b"code"
