"""The runtime: kernels from memory, disk or the compiler; threads and scratch; what is known of the host."""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import shutil
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count, pairwise, product
from pathlib import Path
from typing import TypeVar

import pytest
import torch

import outstride
from outstride.engine import runtime
from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.ir import I64, PTR, Function, module
from outstride.engine.codegen.tasks import take_tasks
from outstride.engine.planner.machine import INSTRUCTION_SETS, InstructionSet
from outstride.engine.runtime import cache, compiler, host, kernels, pages, threads
from outstride.engine.runtime.scratch import scratch
from outstride.errors import ArgumentError, CompileError

_T = TypeVar("_T")
_numbers = count()


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of the test's own, which does not exist yet."""
    directory = tmp_path / "deep" / "kernels"
    monkeypatch.setenv("OUTSTRIDE_CACHE_DIR", str(directory))
    return directory


def _isa() -> InstructionSet:
    return runtime.machine().instruction_set


def _new_name() -> str:
    return f"test_runtime_{next(_numbers)}"


def _adder(amount: int) -> str:
    """A kernel that adds `amount` to the first word of its block, in one step that no thread can divide."""
    f = Function("run", [("block", PTR)])
    f.emit(I64, f"atomicrmw add ptr {f.parameters[0].name}, i64 {amount} monotonic")
    return module([f], "adder")


def _run(kernel: runtime.Kernel, workers: int = 1) -> int:
    block = array("q", [0])
    kernel.launch(block.buffer_info()[0], workers)
    return block[0]


def _in_threads(calls: int, do: Callable[[int], _T]) -> list[_T]:
    """`do(i)` in as many threads as calls, all at the same time."""
    gate = threading.Barrier(calls)

    def wait_and_do(i: int) -> _T:
        gate.wait(60)
        return do(i)

    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(wait_and_do, range(calls)))


# -- the disk cache ----------------------------------------------------------------------------------------


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
    monkeypatch.setattr(os, "replace", refuse)
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

    def remember(name: str) -> None:
        asked.append(name)

    monkeypatch.setattr(cache, "read", remember)
    isa = INSTRUCTION_SETS["avx2"] if _isa().triple.startswith("x86") else INSTRUCTION_SETS["neon"]
    monkeypatch.setattr(compiler, "compile_object", lambda *_: b"")
    monkeypatch.setattr(compiler, "load_object", lambda *_: (1,))
    values = {"triple": isa.triple, "cpu": isa.cpu, "features": isa.features}

    def ask(source: str) -> None:
        made = replace(isa, **values)  # type: ignore[arg-type]  # all of them are texts
        runtime.Module(_new_name(), lambda: source, made).addresses()

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


# -- kernels -----------------------------------------------------------------------------------------------


def test_a_kernel_is_compiled_once_and_then_found(empty_cache: Path) -> None:
    name, source = _new_name(), _adder(next(_numbers) + 1000)

    def never() -> str:
        raise AssertionError("a kernel in memory was written again")

    before = runtime.compilations()
    first = runtime.kernel(name, lambda: source, _isa())
    assert (runtime.compilations(), len(cache.entries())) == (before + 1, 1)
    assert runtime.kernel(name, never, _isa()).address == first.address
    assert runtime.compilations() == before + 1
    other = runtime.kernel(_new_name(), lambda: source, _isa())
    assert runtime.compilations() == before + 1, "it was on disk"
    assert other.address != first.address
    assert _run(first) == _run(other) > 0
    cache.clear()
    runtime.kernel(_new_name(), lambda: source, _isa())
    assert (runtime.compilations(), len(cache.entries())) == (before + 2, 1)
    assert _run(first) == _run(other), "a kernel in use goes on after the cache is gone"


def test_a_kernel_of_a_known_author_is_found_before_it_is_written(empty_cache: Path) -> None:
    name, source = _new_name(), _adder(next(_numbers) + 1000)
    before = runtime.compilations()
    runtime.kernel(name, lambda: source, _isa(), "an author")
    kernels._addresses.pop((name, _isa().name))  # as in another process

    def never() -> str:
        raise AssertionError("the text of a kernel on disk was written again")

    runtime.kernel(name, never, _isa(), "an author")
    assert runtime.compilations() == before + 1
    kernels._addresses.pop((name, _isa().name))
    runtime.kernel(name, lambda: source, _isa(), "another author")
    assert runtime.compilations() == before + 2, "another author may mean another text by the same name"


def test_the_author_of_kernels_is_every_module_that_decides_their_text(tmp_path: Path) -> None:
    engine = Path(outstride.__file__).parent / "engine"
    for room in ("codegen", "planner"):
        shutil.copytree(engine / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    module = tmp_path / "codegen" / "authorship.py"
    assert _author(module) == authorship()
    for changed in (tmp_path / "codegen" / "ir.py", tmp_path / "planner" / "recipe.py"):
        before = _author(module)
        changed.write_text(changed.read_text() + "\n")
        assert _author(module) != before


def _author(module: Path) -> str:
    """The digest of the rooms beside a copy of the module."""
    return str(runpy.run_path(str(module))["authorship"]())


def test_instruction_sets_have_kernels_of_their_own(empty_cache: Path) -> None:
    name, source = _new_name(), _adder(7)
    names = runtime.available()
    kernels = [runtime.kernel(name, lambda: source, INSTRUCTION_SETS[n]) for n in names]
    assert len({k.address for k in kernels}) == len(names) == len(cache.entries())
    assert [_run(k) for k in kernels] == [7] * len(names)


def test_a_file_that_cannot_be_used_is_compiled_anew(empty_cache: Path) -> None:
    """Its digest is right, so the cache trusts it; the entry point is not there."""
    source = _adder(5)
    runtime.kernel(_new_name(), lambda: source, _isa())
    (file,) = cache.entries()
    before = runtime.compilations()
    cache.write(
        file.name.removesuffix(".kernel"), compiler.compile_object(source.replace("@run", "@ran"), _isa())
    )
    assert _run(runtime.kernel(_new_name(), lambda: source, _isa())) == 5
    assert runtime.compilations() == before + 1
    assert _run(runtime.kernel(_new_name(), lambda: source, _isa())) == 5
    assert runtime.compilations() == before + 1, "the file was not written anew"


@pytest.mark.parametrize("damage", ["text", "empty", "head", "half"])
def test_bytes_that_are_no_object_file_are_refused(damage: str) -> None:
    """LLVM would end the process, so this stands in one of its own."""
    program = f"""
from outstride.engine import runtime
from outstride.errors import CompileError
from outstride.engine.runtime import compiler
isa = runtime.machine().instruction_set
code = compiler.compile_object("define void @run(ptr %p) {{ ret void }}", isa)
damaged = {{"text": b"no object file", "empty": b"", "head": code[:64], "half": code[: len(code) // 2]}}
assert all(compiler.load_object(code, isa, ["run"]))
try:
    compiler.load_object(damaged[{damage!r}], isa, ["run"])
except CompileError:
    print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["refused"]), done.stderr


def test_a_cache_without_a_place_costs_only_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTSTRIDE_CACHE_DIR", "/dev/null/kernels")
    before = runtime.compilations()
    for n in (1, 2):
        assert _run(runtime.kernel(_new_name(), lambda: _adder(9), _isa())) == 9
        assert runtime.compilations() == before + n


def test_functions_come_in_the_order_they_are_asked_for(empty_cache: Path) -> None:
    functions = []
    for symbol, amount in (("one", 1), ("two", 2), ("three", 3)):
        f = Function(symbol, [("block", PTR)])
        f.emit(I64, f"atomicrmw add ptr {f.parameters[0].name}, i64 {amount} monotonic")
        functions.append(f)
    source = module(functions, "three functions")
    for symbols, amounts in ((("two", "one", "three"), [2, 1, 3]), (("three",), [3])):
        found = runtime.Module(_new_name(), lambda: source, _isa(), symbols=symbols).addresses()
        assert [_run(runtime.Kernel(address)) for address in found] == amounts


def test_code_that_is_wrong_says_so(empty_cache: Path) -> None:
    before = runtime.compilations()
    wrong = {
        "no IR at all": "not valid LLVM IR",
        _adder(1).replace("ret void", "ret i32 0"): "not valid LLVM IR",
    }
    for source, sentence in wrong.items():
        with pytest.raises(CompileError, match=sentence):
            runtime.kernel(_new_name(), lambda source=source: source, _isa())  # type: ignore[misc]
    assert (runtime.compilations(), cache.entries()) == (before, []), "nothing was compiled"
    with pytest.raises(CompileError, match="absent"):
        runtime.Module(_new_name(), lambda: _adder(1), _isa(), symbols=("run", "absent")).addresses()


def test_a_failed_kernel_can_be_asked_for_again(empty_cache: Path) -> None:
    name = _new_name()
    with pytest.raises(CompileError):
        runtime.kernel(name, lambda: "no IR at all", _isa())
    assert _run(runtime.kernel(name, lambda: _adder(3), _isa())) == 3


def test_modules_are_prepared_together(empty_cache: Path) -> None:
    amounts = [next(_numbers) + 1000 for _ in range(5)]
    modules = [runtime.Module(_new_name(), partial(_adder, amount), _isa()) for amount in amounts]
    before = runtime.compilations()
    runtime.prepare([*modules, modules[0]])
    assert (runtime.compilations(), len(cache.entries())) == (before + 5, 5)
    assert [_run(m.kernel()) for m in modules] == amounts
    runtime.prepare(modules)
    assert runtime.compilations() == before + 5


def test_a_wrong_module_does_not_keep_others_from_being_used(empty_cache: Path) -> None:
    right = runtime.Module(_new_name(), partial(_adder, 4), _isa())
    with pytest.raises(CompileError, match="not valid LLVM IR"):
        runtime.prepare([right, runtime.Module(_new_name(), lambda: "no IR at all", _isa())])
    assert _run(right.kernel()) == 4


def test_code_is_the_same_with_and_without_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where llvmlite's functions are not found threads wait for each other, and nothing else changes."""
    source = _adder(next(_numbers) + 1000)
    unlocked = compiler._unlocked()
    assert unlocked is not None, "llvmlite has other functions than this was written for"
    code = compiler.compile_object(source, _isa())
    monkeypatch.setattr(compiler, "_unlocked", lambda: None)
    assert compiler.compile_object(source, _isa()) == code

    def missing(_: str) -> object:
        raise OSError

    monkeypatch.undo()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert compiler._unlocked.__wrapped__() is None


def test_assembly_is_that_of_the_instruction_set() -> None:
    for name in runtime.available():
        text = runtime.assembly(_adder(12345), INSTRUCTION_SETS[name])
        assert "run:" in text
        assert "12345" in text


# -- threads -----------------------------------------------------------------------------------------------


def test_launch_runs_on_as_many_workers_as_asked() -> None:
    kernel = runtime.kernel(_new_name(), lambda: _adder(1), _isa())
    assert threads.openmp_library(), "torch is loaded, so its OpenMP library is"
    for workers in (1, 2, 3, 5):
        assert _run(kernel, workers) == workers


def _tasks_kernel() -> runtime.Kernel:
    """A kernel whose task n writes n * n + 1 to place n of the block's results."""
    names = ("scratch_at", "scratch_bytes", "next_task", "next_worker", "tasks", "results_at")
    index = {name: i for i, name in enumerate(names)}
    f = Function("task", [("block", PTR), ("scratch", PTR), ("number", I64)], internal=True)
    block, mine, number = f.parameters
    f.store(f.i64(f.mul(number, number)), mine, 8)
    results = f.load(PTR, f.at(block, index["results_at"], I64), 8)
    f.store(f.i64(f.add(f.load_i64(mine, 0), 1)), f.at(results, number, I64), 8)
    return runtime.kernel("test_tasks", lambda: module([f, take_tasks(index)], "tasks"), _isa())


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_python_threads_launch_one_kernel_at_once(workers: int) -> None:
    """Every task runs once, in scratch of its own, whatever threads of Python and of the pool there are."""
    kernel = _tasks_kernel()

    def call(i: int) -> list[list[int]]:
        found = []
        for tasks in (0, 1, 7, 100 + i):
            results = array("q", [0] * (tasks + 1))
            block = array("q", [scratch(64 * workers), 64, 0, 0, tasks, results.buffer_info()[0]])
            kernel.launch(block.buffer_info()[0], workers)
            assert block[2] == tasks + block[3], "every worker asks once more than there are tasks"
            assert block[3] == workers
            found.append(list(results))
        return found

    for i, found in enumerate(_in_threads(4, call)):
        assert found == [[n * n + 1 for n in range(tasks)] + [0] for tasks in (0, 1, 7, 100 + i)]


def test_without_a_pool_one_thread_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = runtime.kernel(_new_name(), lambda: _adder(1), _isa())
    monkeypatch.setattr(threads, "_gomp_parallel", lambda: None)
    assert _run(kernel, 4) == 1


def test_scratch_belongs_to_the_calling_thread() -> None:
    def call(i: int) -> tuple[int, bytes]:
        address = scratch(1 << 16)
        ctypes.memset(address, i + 1, 1 << 16)
        together.wait(60)
        return address, ctypes.string_at(address, 1 << 16)

    together = threading.Barrier(4)
    found = _in_threads(4, call)
    assert [content for _, content in found] == [bytes([i + 1]) * (1 << 16) for i in range(4)]
    starts = sorted(address for address, _ in found)
    assert all(b - a >= 1 << 16 for a, b in pairwise(starts))


def test_scratch_grows_and_is_kept() -> None:
    def call(_: int) -> None:
        address = scratch(100)
        for size in (1, 100, 4096):
            assert scratch(size) == address, "less than there is, yet it was allocated anew"
        for size in (5000, pages.LARGE // 8 + 1, 3 * pages.LARGE):
            address = scratch(size)
            assert address % 4096 == 0
            ctypes.memset(address, 1, size)
            assert scratch(size) == scratch(10) == address
        assert address % pages.LARGE == 0, "large scratch asks for large pages"

    _in_threads(1, call)


# -- large pages -------------------------------------------------------------------------------------------


def test_asking_for_large_pages_never_raises() -> None:
    memory = (ctypes.c_char * (3 * pages.LARGE + 4096))()
    start = ctypes.addressof(memory)
    for address, size in product(
        (start, start + 1, start + 4095), (0, 1, 4096, pages.LARGE, len(memory) - 4096)
    ):
        runtime.prefer_large(address, size)
    runtime.prefer_large(0, 0)
    runtime.prefer_large(1 << 46, 4 * pages.LARGE)  # nothing is there
    ctypes.memset(start, 1, len(memory))


def test_only_whole_large_pages_inside_the_memory_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(pages, "_madvise", lambda: lambda *a: asked.append(a))
    large = pages.LARGE
    for address, size in (
        (large, large),
        (large + 1, 3 * large),
        (10 * large - 4096, large + 4096),
        (5, large),
    ):
        before = len(asked)
        runtime.prefer_large(address, size)
        for first, length, _ in asked[before:]:
            assert first % large == length % large == 0 < length
            assert address <= first
            assert first + length <= address + size
    assert [(first // large, length // large) for first, length, _ in asked] == [(1, 1), (2, 2), (10, 1)]
    monkeypatch.setattr(pages, "_madvise", lambda: None)
    runtime.prefer_large(large, large)


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_other_systems_are_not_asked(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert pages._madvise.__wrapped__() is None
    assert threads.openmp_library.__wrapped__() is None


# -- the machine -------------------------------------------------------------------------------------------


def test_instruction_sets_nest_and_end() -> None:
    assert runtime.chosen() is None
    default = runtime.machine().instruction_set.name
    names = runtime.available()
    with runtime.instruction_set(names[-1]):
        assert runtime.machine().instruction_set.name == runtime.chosen() == names[-1]
        with runtime.instruction_set(names[0]):
            assert runtime.machine().instruction_set.name == names[0]
        assert runtime.machine().instruction_set.name == names[-1]
        with pytest.raises(ZeroDivisionError), runtime.instruction_set(names[0]):
            raise ZeroDivisionError
        assert runtime.chosen() == names[-1], "an error inside a block must end it"
    assert runtime.chosen() is None
    assert runtime.machine().instruction_set.name == default


def test_other_threads_keep_their_instruction_set() -> None:
    names = runtime.available()
    choices = [*names, None]

    def call(i: int) -> list[str | None]:
        seen = []
        for _ in range(50):
            name = choices[i]
            if name is None:
                seen.append(runtime.chosen())
            else:
                with runtime.instruction_set(name):
                    seen.append(runtime.machine().instruction_set.name)
        return seen

    with runtime.instruction_set(names[-1]):
        found = _in_threads(len(choices), call)
    assert found == [[name] * 50 for name in choices]


@pytest.mark.parametrize("name", ["avx1024", "", "AVX2", "neon" if "avx2" in host.available() else "avx2"])
def test_instruction_sets_that_this_processor_lacks_are_refused(name: str) -> None:
    with pytest.raises(
        ArgumentError, match="'instruction_set' must be one that this processor runs"
    ) as refusal:
        runtime.instruction_set(name).__enter__()
    assert repr(name) in str(refusal.value)
    assert all(legal in str(refusal.value) for legal in runtime.available())
    assert runtime.chosen() is None


def test_the_environment_chooses_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in runtime.available():
        monkeypatch.setenv("OUTSTRIDE_ISA", name)
        assert host._default.__wrapped__() == name
    monkeypatch.setenv("OUTSTRIDE_ISA", "avx1024")
    with pytest.raises(ArgumentError, match="avx1024"):
        host._default.__wrapped__()
    monkeypatch.delenv("OUTSTRIDE_ISA")
    assert host._default.__wrapped__() == runtime.available()[0]


def test_detection_asks_for_every_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without one of the features that the code uses is not given that code."""
    if not compiler.native(INSTRUCTION_SETS["avx2"]):
        pytest.skip("these features are those of x86")
    features = {"avx": True, "fma": True, "f16c": True, "avx2": True, "avx512f": True, "avx512vl": True}
    features |= {"avx512dq": True, "avx512bw": True}
    monkeypatch.setattr(compiler, "host_features", lambda: features)
    assert host.available.__wrapped__() == ("avx512", "avx2", "generic")
    expected = {
        "avx512vl": ("avx2", "generic"), "avx512dq": ("avx2", "generic"), "avx2": ("avx512", "generic"),
        "avx512bw": ("avx2", "generic"), "avx512f": ("avx2", "generic"), "avx": ("avx512", "avx2"),
        "fma": (), "f16c": (),
    }  # fmt: skip
    for lacking, names in expected.items():
        monkeypatch.setattr(compiler, "host_features", lambda lacking=lacking: {**features, lacking: False})
        assert host.available.__wrapped__() == names, lacking


def test_used_features_are_asked_for() -> None:
    """What the compiler may use for an instruction set is what detection asks for; bmi2 comes with avx512."""
    for name, isa in INSTRUCTION_SETS.items():
        switched_on = {word[1:] for word in isa.features.split(",") if word.startswith("+")}
        assert switched_on - set(host._NEEDS[name]) <= {"bmi2", "neon"}, name


def test_a_processor_that_nothing_runs_on_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.decline() is None
    monkeypatch.setattr(host, "available", lambda: ())
    reason = runtime.decline()
    assert reason
    assert "multiply-add" in reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1024K", 1 << 20), ("2M\n", 1 << 21), ("", 1 << 19), ("many", 1 << 19), ("1024", 1 << 19)],
)
def test_the_cache_size_is_read_or_supposed(
    text: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_: text)
    assert host._l2_bytes.__wrapped__() == expected


def test_the_cache_size_of_a_machine_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise OSError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert host._l2_bytes.__wrapped__() == 1 << 19


def test_machines_of_this_host() -> None:
    for name in runtime.available():
        with runtime.instruction_set(name):
            machine = runtime.machine()
            assert machine is runtime.machine(), "plans are found by it"
            known = INSTRUCTION_SETS[name]
            assert replace(machine.instruction_set, fma_per_cycle=known.fma_per_cycle) == known
            assert 1 << 14 <= machine.strip_bytes < machine.l2_bytes
            assert machine.panel_bytes + machine.strip_bytes <= machine.l2_bytes


@pytest.mark.parametrize(("cpu", "share"), [("znver4", 0.5), ("icelake-client", 0.5), ("znver5", 1.0)])
def test_some_processors_take_twice_as_long_for_the_widest_vectors(
    cpu: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "host_cpu", lambda: cpu)
    for name, known in INSTRUCTION_SETS.items():
        own = share if known.vector_bytes == 64 else 1.0
        found = host._machine.__wrapped__(name).instruction_set
        assert found == replace(known, fma_per_cycle=known.fma_per_cycle * own)


# -- facts -------------------------------------------------------------------------------------------------


def test_info_says_what_there_is(empty_cache: Path) -> None:
    facts = runtime.info()
    assert set(facts) == {
        "python", "platform", "compiler", "cpu", "cpu_count", "instruction_sets", "instruction_set",
        "declines", "l2_bytes", "openmp", "dtypes", "cache_path", "cache_bytes", "cache_entries",
    }  # fmt: skip
    assert json.loads(json.dumps(facts)) == facts
    assert facts["instruction_sets"] == list(runtime.available())
    assert facts["cache_path"] == str(empty_cache)
    assert (facts["cache_entries"], facts["cache_bytes"]) == (0, 0)
    assert "libgomp" in str(facts["openmp"])
    assert "LLVM" in str(facts["compiler"])
    assert all(hasattr(torch, str(name)) for name in facts["dtypes"])  # type: ignore[attr-defined]
    cache.write("a", b"code")
    with runtime.instruction_set(runtime.available()[-1]):
        later = runtime.info()
    assert later["instruction_set"] == runtime.available()[-1]
    assert (later["cache_entries"], later["cache_bytes"]) == (1, cache.size_bytes())


def test_info_on_a_machine_that_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "available", lambda: ())
    facts = runtime.info()
    assert facts["declines"]
    assert (facts["instruction_sets"], facts["instruction_set"], facts["l2_bytes"]) == ([], None, None)
