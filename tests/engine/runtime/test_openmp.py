"""Which OpenMP library is torch's: found as each system's loader has bound it, never a second copy."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from outstride.engine.runtime import kmpc, openmp, threads
from tests.engine.runtime.small_kernels import adder, instruction_set, run_kernel

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="as Linux finds it")


@linux
def test_the_library_is_the_one_that_torch_calls() -> None:
    found = openmp.find()
    assert isinstance(found, openmp.OpenMP), found
    if "ATen parallel backend: OpenMP" in torch.__config__.parallel_info():
        mapped = Path("/proc/self/maps").read_text()
        assert str(Path(found.path).resolve()) in mapped
        address = found.functions[openmp.GNU[0]]
        lines = (line.split() for line in mapped.splitlines())
        spans = [(words[0].split("-"), words[-1]) for words in lines if len(words) > 5]
        (file,) = (file for (a, b), file in spans if int(a, 16) <= address < int(b, 16))
        assert Path(file).name == Path(found.path).resolve().name


def test_without_torch_there_is_no_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch._C")
    assert openmp.find() == "torch is not loaded"
    assert threads.pool() == "none: one thread; torch is not loaded"
    assert threads.fork_address.__wrapped__() == 0


def test_a_library_without_a_region_is_passed_over() -> None:
    """Intel's and LLVM's have GNU's function, too; where it is missing, LLVM's own three do."""

    def library(*names: str) -> ctypes.CDLL:
        functions = {name: ctypes.CFUNCTYPE(None)(4096 + n) for n, name in enumerate(names)}
        return cast(ctypes.CDLL, SimpleNamespace(**functions))

    both = (*openmp.GNU, *openmp.LLVM)
    cases = {
        (): "torch was built without OpenMP",
        ((), ("malloc",), openmp.LLVM[:2]): "torch was built without OpenMP",
        ((), openmp.LLVM): openmp.LLVM,
        (both,): openmp.GNU,
        (openmp.LLVM, both): openmp.LLVM,
    }
    for places, expected in cases.items():
        found = openmp.bound_to(library(*names) for names in places)
        if isinstance(found, str):
            assert found == expected
        else:
            assert tuple(found.functions) == expected
            assert found.is_gnu == (expected == openmp.GNU)
            assert found.path == "a library without a name"


@linux
@pytest.mark.parametrize(("platform", "first"), [("linux", None), ("darwin", "torch")])
def test_what_the_whole_process_sees_comes_first_but_on_macos(platform: str, first: str | None) -> None:
    places = list(openmp.scopes(torch._C.__file__, platform))
    assert [place._name is None for place in places] == ([True, False] if first is None else [False])


def test_an_extension_that_is_not_loaded_is_not_loaded_now(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.so")
    assert [place._name for place in openmp.scopes(absent, "linux")] == [None]
    assert [place._name for place in openmp.scopes(absent, "darwin")] == [None]


@linux
def test_libraries_of_windows_are_found_by_name() -> None:
    """The handle of this process stands for that of a library, which has none of LLVM's functions."""
    process = ctypes.CDLL(None)._handle

    def loaded(*names: str) -> openmp.OpenMP | str:
        handles = {name: process + number for number, name in enumerate(names)}
        return openmp.loaded_by_name(handles.get, lambda handle: names[handle - process])

    assert loaded() == "torch was built without OpenMP"
    assert "vcomp140.dll" in str(loaded("vcomp140.dll"))
    assert loaded("libiomp5md.dll") == "libiomp5md.dll lacks LLVM's functions"


_FAKE = """
define void @push(ptr %at, i32 %own, i32 %threads) nounwind {{
  store i32 %own, ptr inttoptr (i64 {seen} to ptr)
  store i32 %threads, ptr inttoptr (i64 {count} to ptr)
  ret void
}}
define i32 @number(ptr %at) nounwind {{
  ret i32 7
}}
define void @fork(ptr %at, i32 %count, ptr %function, ptr %first, ptr %second) nounwind {{
  %threads = load i32, ptr inttoptr (i64 {count} to ptr)
  br label %loop
loop:
  %n = phi i32 [ 0, %0 ], [ %next, %loop ]
  call void %function(ptr %at, ptr %at, ptr %first, ptr %second)
  %next = add i32 %n, 1
  %more = icmp slt i32 %next, %threads
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="variadic arguments lie elsewhere there")
def test_a_region_is_started_by_functions_of_llvms(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that runs one thread after the other is told how many, and hands over what is run on what."""
    from outstride.engine import runtime
    from outstride.engine.runtime import compiler

    seen, count = ctypes.c_int32(), ctypes.c_int32()
    source = _FAKE.format(seen=ctypes.addressof(seen), count=ctypes.addressof(count))
    code = compiler.compile_object(source, instruction_set())
    addresses = compiler.load_object(code, instruction_set(), ["fork", "push", "number"])
    found = openmp.OpenMP("fake", dict(zip(openmp.LLVM, addresses, strict=True)))
    monkeypatch.setattr(openmp, "find", lambda: found)
    parallel = threads._parallel.__wrapped__
    threads.fork_address.cache_clear()
    monkeypatch.setattr(threads, "_parallel", parallel)
    try:
        kernel = runtime.kernel("test_a_region", lambda: adder(1), instruction_set())
        assert [run_kernel(kernel, workers) for workers in (1, 2, 5)] == [1, 2, 5]
        assert (seen.value, count.value) == (7, 5)
    finally:
        threads.fork_address.cache_clear()


def test_a_location_is_laid_out_as_the_library_reads_it() -> None:
    assert ctypes.sizeof(kmpc.Location) == 16 + ctypes.sizeof(ctypes.c_void_p)
    assert (kmpc.Location.flags.offset, kmpc.Location.source.offset) == (4, 16)


def _intels() -> Path:
    try:
        found = [Path(str(f.locate())) for f in files("intel-openmp") or [] if f.name == "libiomp5.so"]
    except PackageNotFoundError:
        found = []
    if not any(file.exists() for file in found):
        pytest.skip("needs intel-openmp, by hand: `pip install intel-openmp`")
    return found[0]


@linux
@pytest.mark.parametrize("kind", ["GNU", "LLVM"])
def test_intels_library_is_shared_where_it_was_preloaded(kind: str) -> None:
    """As many programs run torch; by GNU's function, and by LLVM's as on Windows."""
    program = f"""
import torch
from outstride.engine.runtime import openmp, threads
if {kind!r} == "LLVM":
    openmp.GNU = ("no such function",)
import outstride.functional as ours
torch.set_num_threads(3)
x, w = torch.randn(2, 16, 40, 40), torch.randn(16, 16, 3, 3)
found = ours.conv2d(x, w)
assert threads.pool().endswith("libiomp5.so"), threads.pool()
torch.set_num_threads(1)
print(torch.equal(found, ours.conv2d(x, w)))
"""
    environment = {**os.environ, "LD_PRELOAD": str(_intels())}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["True"], done.stderr
