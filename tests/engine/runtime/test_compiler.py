"""From text to machine code and back to addresses: what is wrong says so."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from outstride.engine import runtime
from outstride.engine.codegen.ir import I64, PTR, Function, module
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.runtime import cache, compiler
from outstride.errors import CompileError
from tests.engine.runtime.small_kernels import _numbers, adder, instruction_set, new_name


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


def test_functions_come_in_the_order_they_are_asked_for(empty_cache: Path) -> None:
    functions = []
    for symbol, amount in (("one", 1), ("two", 2), ("three", 3)):
        f = Function(symbol, [("block", PTR)])
        f.emit(I64, f"atomicrmw add ptr {f.parameters[0].name}, i64 {amount} monotonic")
        functions.append(f)
    source = module(functions, "three functions")
    for symbols, amounts in ((("two", "one", "three"), [2, 1, 3]), (("three",), [3])):
        found = runtime.Module(new_name(), lambda: source, instruction_set(), symbols=symbols).addresses()
        sums = [array("q", [0]) for _ in found]
        for address, block in zip(found, sums, strict=True):
            runtime.Kernel(address).alone(block.buffer_info()[0])
        assert [block[0] for block in sums] == amounts


def test_code_that_is_wrong_says_so(empty_cache: Path) -> None:
    before = runtime.compilations()
    wrong = {
        "no IR at all": "not valid LLVM IR",
        adder(1).replace("ret void", "ret i32 0"): "not valid LLVM IR",
    }
    for source, sentence in wrong.items():
        with pytest.raises(CompileError, match=sentence):
            runtime.kernel(new_name(), lambda source=source: source, instruction_set())  # type: ignore[misc]
    assert (runtime.compilations(), cache.entries()) == (before, []), "nothing was compiled"
    with pytest.raises(CompileError, match="absent"):
        runtime.Module(new_name(), lambda: adder(1), instruction_set(), symbols=("run", "absent")).addresses()


def test_code_is_the_same_with_and_without_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where llvmlite's functions are not found threads wait for each other, and nothing else changes."""
    source = adder(next(_numbers) + 1000)
    unlocked = compiler._unlocked()
    assert unlocked is not None, "llvmlite has other functions than this was written for"
    code = compiler.compile_object(source, instruction_set())
    monkeypatch.setattr(compiler, "_unlocked", lambda: None)
    assert compiler.compile_object(source, instruction_set()) == code

    def missing(_: str) -> object:
        raise OSError

    monkeypatch.undo()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert compiler._unlocked.__wrapped__() is None


def test_assembly_is_that_of_the_instruction_set() -> None:
    for name in runtime.available():
        text = runtime.assembly(adder(12345), INSTRUCTION_SETS[name])
        assert "run:" in text
        assert "12345" in text
