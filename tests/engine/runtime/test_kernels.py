"""Kernels in memory: compiled once, found on disk by all that made them, asked for again after failing."""

from __future__ import annotations

import runpy
import shutil
from functools import partial
from pathlib import Path

import pytest

import outstride
from outstride.engine import runtime
from outstride.engine.codegen.authorship import authors, authorship
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.runtime import cache, compiler, kernels
from outstride.errors import CompileError
from tests.engine.runtime.small_kernels import _numbers, adder, instruction_set, new_name, run_kernel


def test_a_kernel_is_compiled_once_and_then_found(empty_cache: Path) -> None:
    name, source = new_name(), adder(next(_numbers) + 1000)

    def never() -> str:
        raise AssertionError("a kernel in memory was written again")

    before = runtime.compilations()
    first = runtime.kernel(name, lambda: source, instruction_set())
    assert (runtime.compilations(), len(cache.entries())) == (before + 1, 1)
    assert runtime.kernel(name, never, instruction_set()).address == first.address
    assert runtime.compilations() == before + 1
    other = runtime.kernel(new_name(), lambda: source, instruction_set())
    assert runtime.compilations() == before + 1, "it was on disk"
    assert other.address != first.address
    assert run_kernel(first) == run_kernel(other) > 0
    cache.clear()
    runtime.kernel(new_name(), lambda: source, instruction_set())
    assert (runtime.compilations(), len(cache.entries())) == (before + 2, 1)
    assert run_kernel(first) == run_kernel(other), "a kernel in use goes on after the cache is gone"


def test_a_kernel_of_a_known_author_is_found_before_it_is_written(empty_cache: Path) -> None:
    name, source = new_name(), adder(next(_numbers) + 1000)
    before = runtime.compilations()
    runtime.kernel(name, lambda: source, instruction_set(), "an author")
    kernels._addresses.pop((name, instruction_set().name))  # as in another process

    def never() -> str:
        raise AssertionError("the text of a kernel on disk was written again")

    runtime.kernel(name, never, instruction_set(), "an author")
    assert runtime.compilations() == before + 1
    kernels._addresses.pop((name, instruction_set().name))
    runtime.kernel(name, lambda: source, instruction_set(), "another author")
    assert runtime.compilations() == before + 2, "another author may mean another text by the same name"


def test_the_author_of_kernels_is_every_module_that_decides_their_text(tmp_path: Path) -> None:
    package = Path(outstride.__file__).parent
    for file in authors():
        copy = tmp_path / file.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    module = tmp_path / "engine" / "codegen" / "authorship.py"
    assert _author(module) == authorship()
    for name in ("engine/codegen/ir.py", "engine/planner/recipe.py", "layer/shortening.py", "errors.py"):
        changed = tmp_path / name
        before = _author(module)
        changed.write_text(changed.read_text() + "\n")
        assert _author(module) != before


def _author(module: Path) -> str:
    """The digest of the rooms beside a copy of the module."""
    return str(runpy.run_path(str(module))["authorship"]())


def test_instruction_sets_have_kernels_of_their_own(empty_cache: Path) -> None:
    name, source = new_name(), adder(7)
    names = runtime.available()
    kernels = [runtime.kernel(name, lambda: source, INSTRUCTION_SETS[n]) for n in names]
    assert len({k.address for k in kernels}) == len(names) == len(cache.entries())
    assert [run_kernel(k) for k in kernels] == [7] * len(names)


def test_a_file_that_cannot_be_used_is_compiled_anew(empty_cache: Path) -> None:
    """Its digest is right, so the cache trusts it; the entry point is not there."""
    source = adder(5)
    runtime.kernel(new_name(), lambda: source, instruction_set())
    (file,) = cache.entries()
    before = runtime.compilations()
    cache.write(
        file.name.removesuffix(".kernel"),
        compiler.compile_object(source.replace("@run", "@ran"), instruction_set()),
    )
    assert run_kernel(runtime.kernel(new_name(), lambda: source, instruction_set())) == 5
    assert runtime.compilations() == before + 1
    assert run_kernel(runtime.kernel(new_name(), lambda: source, instruction_set())) == 5
    assert runtime.compilations() == before + 1, "the file was not written anew"


def test_a_cache_without_a_place_costs_only_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTSTRIDE_CACHE_DIR", "/dev/null/kernels")
    before = runtime.compilations()
    for n in (1, 2):
        assert run_kernel(runtime.kernel(new_name(), lambda: adder(9), instruction_set())) == 9
        assert runtime.compilations() == before + n


def test_a_failed_kernel_can_be_asked_for_again(empty_cache: Path) -> None:
    name = new_name()
    with pytest.raises(CompileError):
        runtime.kernel(name, lambda: "no IR at all", instruction_set())
    assert run_kernel(runtime.kernel(name, lambda: adder(3), instruction_set())) == 3


def test_modules_are_prepared_together(empty_cache: Path) -> None:
    amounts = [next(_numbers) + 1000 for _ in range(5)]
    modules = [runtime.Module(new_name(), partial(adder, amount), instruction_set()) for amount in amounts]
    before = runtime.compilations()
    runtime.prepare([*modules, modules[0]])
    assert (runtime.compilations(), len(cache.entries())) == (before + 5, 5)
    assert [run_kernel(m.kernel()) for m in modules] == amounts
    runtime.prepare(modules)
    assert runtime.compilations() == before + 5


def test_a_wrong_module_does_not_keep_others_from_being_used(empty_cache: Path) -> None:
    right = runtime.Module(new_name(), partial(adder, 4), instruction_set())
    with pytest.raises(CompileError, match="not valid LLVM IR"):
        runtime.prepare([right, runtime.Module(new_name(), lambda: "no IR at all", instruction_set())])
    assert run_kernel(right.kernel()) == 4
