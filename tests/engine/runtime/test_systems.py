"""Code for systems that the tests do not run on: what is in its objects, and what it computes here."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from outstride.engine.codegen.launch_list import launch_list_source
from outstride.engine.codegen.nest import gather_source
from outstride.engine.codegen.packing.weights import weights_source
from outstride.engine.codegen.tiles import tiles_source
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.runtime import compiler, host, kmpc, openmp, systems, trial
from outstride.engine.runtime.systems import SYSTEMS, System
from tests import ROOT
from tests.engine.codegen.recipes import recipes_of, sources_of, tiles_of
from tests.engine.codegen.test_short import _planned

#: What the loader of llvmlite resolves by itself.
_RESOLVED = {"_GLOBAL_OFFSET_TABLE_"}
#: What Windows has for stacks beyond a page, and `compiler` hands over.
_PROVIDED = {"__chkstk"}
#: Relocations that it knows how to apply, of those that occur.
_KNOWN = {
    "X86_64_64", "X86_64_PC64", "X86_64_GOT64", "X86_64_GOTPC64", "X86_64_GOTOFF64",
    "AARCH64_ABS64", "AARCH64_PREL32", "AARCH64_CALL26", "AARCH64_ADR_PREL_PG_HI21",
    "AARCH64_ADD_ABS_LO12_NC",
    "AARCH64_LDST32_ABS_LO12_NC", "AARCH64_LDST64_ABS_LO12_NC", "AARCH64_LDST128_ABS_LO12_NC",
    "AARCH64_MOVW_UABS_G0_NC", "AARCH64_MOVW_UABS_G1_NC", "AARCH64_MOVW_UABS_G2_NC", "AARCH64_MOVW_UABS_G3",
    "UNSIGNED", "BRANCH26", "PAGE21", "PAGEOFF12", "GOT_LOAD_PAGE21", "GOT_LOAD_PAGEOFF12",
}  # fmt: skip
_SETS = {"x86_64": ("avx512", "avx2", "generic"), "aarch64": ("neon",)}


def _object(code: bytes) -> Any:
    lief = pytest.importorskip("lief", reason="reads objects of every system")
    return lief.parse(code)


def _undefined(read: Any) -> set[str]:
    """Symbols that somebody else would have to define."""
    import lief

    if isinstance(read, lief.ELF.Binary):
        return {str(s.name) for s in read.symbols if s.name and s.shndx == 0}
    # Of Mach-O: those that lie in no section, and are no absolute values.
    return {str(s.name) for s in read.symbols if s.numberof_sections == 0}


def _relocations(read: Any) -> set[str]:
    import lief

    if isinstance(read, lief.ELF.Binary):
        return {str(r.type).rpartition(".")[2] for r in read.relocations}
    return {str(r.type).rpartition(".")[2] for section in read.sections for r in section.relocations}


def _assert_is_self_contained(source: str, isa: str, system: System, name: str) -> None:
    read = _object(compiler.compile_object(source, INSTRUCTION_SETS[isa], system.triple))
    # Neither a routine for what the processor lacks, nor `memset`.
    provided = _PROVIDED if system.name == "Windows" else set()
    assert _undefined(read) <= _RESOLVED | provided, (name, system)
    assert _relocations(read) <= _KNOWN, (name, system)
    # Nothing is unwound, so that nothing has to be registered for it.
    unwinding = ("eh_frame", "pdata", "xdata", "compact_unwind", "gcc_except")
    assert not [s.name for s in read.sections if any(word in s.name for word in unwinding)], (name, system)


@cache
def _sources(isa: str) -> dict[str, str]:
    found = sources_of(isa)
    for kernel in (3, 5, 7):
        for unit in ("width", "channel"):
            recipe = _planned(isa, "float32", unit, kernel).recipe
            found[f"short {recipe.name}"] = gather_source(recipe)
            weights = weights_source("float32", INSTRUCTION_SETS[isa], recipe.short)
            found[f"short weights {recipe.name}"] = weights
    return found


def _some(isa: str) -> Iterator[tuple[str, str]]:
    """A few of the sources: what is compiled for a process itself, and kernels of several kinds."""
    yield "trial", trial.source(INSTRUCTION_SETS[isa])
    yield "launch list", launch_list_source()
    yield "fork", kmpc.fork_source(dict.fromkeys(openmp.LLVM, 1 << 46), 1 << 46)
    for recipe in recipes_of(isa)[::12]:
        yield f"gather {recipe.name}", gather_source(recipe)
    yield "tile", tiles_source("float32", INSTRUCTION_SETS[isa], tiles_of(isa)[:1])
    short = _planned(isa, "float32", "width", 5).recipe.short
    yield "short weights", weights_source("float32", INSTRUCTION_SETS[isa], short)


@pytest.mark.parametrize("system", SYSTEMS, ids=str)
def test_objects_need_nothing_of_a_system(system: System) -> None:
    isa = _SETS[system.architecture][-1]
    for name, source in _some(isa):
        _assert_is_self_contained(source, isa, system, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "isa"), [(s, isa) for s in SYSTEMS for isa in _SETS[s.architecture]], ids=str
)
def test_no_object_needs_anything_of_a_system(system: System, isa: str) -> None:
    for name, source in _sources(isa).items():
        _assert_is_self_contained(source, isa, system, name)


def test_an_object_that_needs_something_is_found_out() -> None:
    """Stacks beyond a page are made by a routine of Windows', and large copies are calls everywhere."""
    large = """
define void @run(ptr %block) {
  %room = alloca [2048 x i64], align 64
  store ptr %room, ptr %block
  ret void
}
"""
    windows = next(s for s in SYSTEMS if str(s) == "Windows x86_64")
    read = _object(compiler.compile_object(large, INSTRUCTION_SETS["avx2"], windows.triple))
    assert _undefined(read) - _RESOLVED == {"__chkstk"}
    copying = """
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
define void @run(ptr %to, ptr %from, i64 %count) {
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %count, i1 false)
  ret void
}
"""
    for system in SYSTEMS:
        isa = INSTRUCTION_SETS[_SETS[system.architecture][-1]]
        read = _object(compiler.compile_object(copying, isa, system.triple))
        assert {name.lstrip("_") for name in _undefined(read) - _RESOLVED} == {"memcpy"}, system


def test_arguments_of_a_region_lie_where_each_system_has_them() -> None:
    """On Apple's Arm those behind the third are on the stack, elsewhere in registers."""
    source = kmpc.fork_source(dict.fromkeys(openmp.LLVM, 1 << 46), 1 << 46)
    stacks = {
        str(s): "[sp" in compiler.compile_assembly(source, INSTRUCTION_SETS["neon"], s.triple)
        for s in SYSTEMS
        if s.architecture == "aarch64"
    }
    assert stacks["macOS aarch64"]
    for name in ("Windows x86_64", "macOS x86_64"):
        system = next(s for s in SYSTEMS if str(s) == name)
        text = compiler.compile_assembly(source, INSTRUCTION_SETS["avx2"], system.triple)
        registers = ("%rcx", "%edx", "%r8") if "Windows" in name else ("%rdi", "%esi", "%rdx")
        assert all(register in text for register in registers), name


def test_this_system_is_named_as_it_is() -> None:
    name, _, tried = systems.here().partition(": ")
    if sys.platform.startswith("linux") and compiler.architecture() == "x86_64":
        assert (name, tried.split(":")[0]) == ("Linux x86_64", "tested")


def test_windows_on_arm_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(compiler, "architecture", lambda: "aarch64")
    assert host.detected.__wrapped__() == ()
    monkeypatch.setattr(host, "available", lambda: ())
    assert host.decline() == systems.unserved()
    assert "not served" in systems.here()


@pytest.mark.parametrize(
    ("kernel", "expected"), [("Darwin", "macOS riscv64: untested"), ("Plan 9", "Plan 9 riscv64: untested")]
)
def test_systems_that_nobody_has_tried_are_untested(
    kernel: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: kernel)
    monkeypatch.setattr(compiler, "architecture", lambda: "riscv64")
    assert systems.here() == expected


def test_the_page_of_systems_has_each_as_it_is() -> None:
    page = (ROOT / "docs" / "guides" / "systems.md").read_text()
    for system in SYSTEMS:
        assert f"| {system} | {system.tried} |" in page, system
    for (name, architecture), reason in systems.UNSERVED.items():
        assert f"| {name} {architecture} | not served: {reason} |" in page


_FOREIGN = '''
import sys
from outstride.engine import runtime
from outstride.engine.runtime import compiler, kernels
system, isa_name = sys.argv[1:3]
machine, made = compiler._machine, kernels.Kernel.__init__
foreign = lambda isa, _=None: machine(isa, system)
compiler._machine = foreign
THUNK = """
define void @run(ptr %block) nounwind {{
  call win64cc void inttoptr (i64 {0} to ptr)(ptr %block)
  ret void
}}
"""
def as_called_here(self, address):
    if "windows" in system:
        isa, compiler._machine = runtime.machine().instruction_set, machine
        code = compiler.compile_object(THUNK.format(address), isa)
        (address,) = compiler.load_object(code, isa, ["run"])
        compiler._machine = foreign
    made(self, address)
kernels.Kernel.__init__ = as_called_here
import llvmlite.binding as llvm
isa = runtime.machine().instruction_set
code = machine(isa).emit_object(llvm.parse_assembly("define void @nothing() { ret void }"))
compiler._machine = machine
llvm.add_symbol("__chkstk", compiler.load_object(bytes(code), isa, ["nothing"])[0])
compiler._machine = foreign
import torch
from tests.cases import CASES
from tests.contract import verify_contract
torch.set_num_threads(2)
for case in CASES[int(sys.argv[3]) :: int(sys.argv[4])]:
    for law in ("value", "integers"):
        for algorithm in ("direct", "short"):
            verify_contract(case, law, torch.float32, isa_name, algorithm)
verify_contract(case, "value", torch.bfloat16, isa_name)
print("right", runtime.compilations() > 0)
'''


@pytest.mark.slow
@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="where Linux's own code is known to be right"
)
@pytest.mark.parametrize("isa", _SETS["x86_64"])
@pytest.mark.parametrize("system", [s for s in SYSTEMS if s.architecture == "x86_64"][1:], ids=str)
def test_kernels_of_other_systems_obey_laws_here(system: System, isa: str, empty_cache: Path) -> None:
    """Windows hands arguments over in other registers and wants others kept; macOS has other objects."""
    if isa not in host.available():
        pytest.skip("this processor lacks the instruction set")
    command = [sys.executable, "-c", _FOREIGN, system.triple, isa, "3", "40"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=ROOT)
    assert done.stdout.split() == ["right", "True"], done.stderr
