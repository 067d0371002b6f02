"""LLVM IR text to object code, and object code to callable addresses."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
from llvmlite.utils import get_library_name

from outstride.engine.planner.machine import MESH, InstructionSet
from outstride.errors import CompileError

_lock = threading.Lock()  # around what is loaded: modules of its own each, but one process

#: Kernels leave little to optimise: variables become registers and empty jumps go. The whole -O2 pipeline
#: takes ten times as long for the same inner loop; numbering values costs time, too, and saves nothing.
PASSES = ("sroa", "simplify_cfg")


@lru_cache(maxsize=1)
def _targets_ready() -> bool:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return True


@lru_cache(maxsize=1)
def _all_targets_ready() -> bool:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return True


def version() -> str:
    """Compiler and version, part of every cache key."""
    return f"llvmlite {llvmlite.__version__} LLVM {'.'.join(map(str, llvm.llvm_version_info))}"


def host_cpu() -> str:
    """LLVM's name of this processor, which it finds by the number of the model.

    Virtual machines give an older model's number. Of Intel's only servers multiply tiles, so one that does is
    no `rocketlake`, which takes twice as long for a multiply-add and has its third level near.
    """
    _targets_ready()
    name, features = str(llvm.get_host_cpu_name()), host_features()
    if features.get("amx-tile") and name not in MESH and not name.startswith("znver"):
        return "graniterapids" if features.get("prefetchi") else "sapphirerapids"
    return name


def host() -> str:
    """This processor as LLVM sees it: its name and all that it has."""
    features = sorted(name for name, there in host_features().items() if there)
    return " ".join((str(llvm.get_process_triple()), host_cpu(), *features))


def refusal() -> str | None:
    """Why this system lets no memory be run that was written, or nothing."""
    try:
        llvm.check_jit_execution()
    except OSError as problem:
        reason = os.strerror(problem.errno) if problem.errno else "no reason given"
        return f"the system refuses to run code from memory ({reason})"
    return None


def host_features() -> dict[str, bool]:
    """The processor's features by LLVM's names."""
    return dict(llvm.get_host_cpu_features())


#: Apple's name of an architecture, and everybody else's.
_ALIKE = {"arm64": "aarch64"}


def _architecture(triple: str) -> str:
    name = triple.partition("-")[0]
    return _ALIKE.get(name, name)


def architecture() -> str:
    """The architecture of this process by LLVM's name, such as "x86_64"."""
    return _architecture(str(llvm.get_process_triple()))


def native(isa: InstructionSet) -> bool:
    """Whether code for the instruction set runs on this machine's architecture."""
    return _architecture(isa.triple) == architecture()


def triple(isa: InstructionSet) -> str:
    """What code for an instruction set is compiled for: this system, or where it would run."""
    return str(llvm.get_process_triple()) if native(isa) else isa.triple


def _machine(isa: InstructionSet, system: str | None = None) -> llvm.TargetMachine:
    if native(isa):
        _targets_ready()
    if system is not None or not native(isa):
        _all_targets_ready()
    model = "jitdefault" if system is not None or native(isa) else "small"
    return llvm.Target.from_triple(system or triple(isa)).create_target_machine(
        cpu=isa.cpu, features=isa.features, opt=3, reloc="pic", codemodel=model
    )


def _optimised(source: str, machine: llvm.TargetMachine) -> llvm.ModuleRef:
    """The module, in a context of its own: then several threads may work on one each."""
    try:
        module = llvm.parse_assembly(source, llvm.create_context())
        module.verify()
    except RuntimeError as problem:
        raise CompileError(f"the generated code is not valid LLVM IR: {problem}") from problem
    passes = llvm.create_new_module_pass_manager()
    for name in PASSES:
        getattr(passes, f"add_{name}_pass")()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2)))
    return module


def compile_object(source: str, isa: InstructionSet, system: str | None = None) -> bytes:
    """The object file of an IR module for an instruction set; threads compile side by side.

    With `system`, a triple of LLVM's, it is the one that would be loaded there.
    """
    machine = _machine(isa, system)
    module = _optimised(source, machine)
    unlocked = _unlocked()
    return bytes(machine.emit_object(module)) if unlocked is None else unlocked.emit(machine, module)


class _Unlocked:
    """Emitting object code without llvmlite's lock, which lets one thread of a process into LLVM at a time.

    LLVM itself asks only that contexts and target machines are not shared. These are llvmlite's own
    functions, called as it calls them.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer = ctypes.c_void_p
        self._emit = library.LLVMPY_TargetMachineEmitToMemory
        self._emit.argtypes = [pointer, pointer, ctypes.c_int, ctypes.POINTER(pointer)]
        self._emit.restype = pointer
        self._start, self._size = library.LLVMPY_GetBufferStart, library.LLVMPY_GetBufferSize
        self._start.argtypes, self._start.restype = [pointer], pointer
        self._size.argtypes, self._size.restype = [pointer], ctypes.c_size_t
        self._dispose = library.LLVMPY_DisposeMemoryBuffer
        self._dispose.argtypes, self._dispose.restype = [pointer], None

    def emit(self, machine: llvm.TargetMachine, module: llvm.ModuleRef) -> bytes:
        """The object code of a module."""
        problem = ctypes.c_void_p()
        buffer = self._emit(machine, module, 1, ctypes.byref(problem))
        if not buffer:
            words = ctypes.string_at(problem.value).decode() if problem.value else "no reason given"
            raise CompileError(f"the generated code cannot be compiled: {words}")
        try:
            return ctypes.string_at(self._start(buffer), self._size(buffer))
        finally:
            self._dispose(buffer)


@lru_cache(maxsize=1)
def _unlocked() -> _Unlocked | None:
    """None where llvmlite does not have its functions where they were: then threads wait for each other."""
    try:
        return _Unlocked(ctypes.CDLL(str(Path(llvm.__file__).parent / get_library_name())))
    except (OSError, AttributeError):
        return None


def compile_assembly(source: str, isa: InstructionSet, system: str | None = None) -> str:
    """The same as assembly text, to be read by people and by tests that count spills."""
    machine = _machine(isa, system)
    return str(machine.emit_assembly(_optimised(source, machine)))


#: How object files begin where code is loaded: ELF of 64 bits, little-endian; Mach-O of 64 bits; COFF has no
#: signature beside its machine (x86-64, Arm).
_SIGNATURES = (b"\x7fELF\x02\x01", b"\xcf\xfa\xed\xfe", b"\x64\x86", b"\x64\xaa")
_ELF_HEADER_BYTES = 64


def _is_object(code: bytes) -> bool:
    """Whether bytes look like an object file: LLVM's loader ends the process at others."""
    if not code.startswith(_SIGNATURES) or len(code) < _ELF_HEADER_BYTES:
        return False
    if not code.startswith(b"\x7fELF"):
        return True
    # The table of sections must lie within: e_shoff, e_shentsize, e_shnum.
    offset = int.from_bytes(code[40:48], "little")
    size, count = (int.from_bytes(code[at : at + 2], "little") for at in (58, 60))
    return count > 0 and offset + size * count <= len(code)


@lru_cache(maxsize=1)
def _symbols_ready() -> bool:
    """What code may call that is loaded here: on Windows a routine of its own, which makes large stacks.

    Stacks grow there by a page at a time, so functions that need more have it touch all of them first. LLVM
    calls it by this name; only some processes have it where LLVM would look.
    """
    if sys.platform == "win32":
        routine = getattr(ctypes.WinDLL("ntdll"), "__chkstk")
        llvm.add_symbol("__chkstk", ctypes.cast(routine, ctypes.c_void_p).value)
    return True


#: Loaded code lives as long as the process: addresses are handed to other threads and to pools of theirs.
_engines: list[llvm.ExecutionEngine] = []


def load_object(code: bytes, isa: InstructionSet, symbols: Sequence[str]) -> tuple[int, ...]:
    """Map an object file into the process: the addresses of `symbols`, or CompileError if it is damaged."""
    if not _is_object(code):
        raise CompileError("the object code cannot be loaded: it is no object file of this machine")
    with _lock:
        _symbols_ready()
        machine = _machine(isa)
        try:
            engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
            engine.add_object_file(llvm.ObjectFileRef.from_data(code))
            engine.finalize_object()
            addresses = tuple(int(engine.get_function_address(symbol)) for symbol in symbols)
        except (RuntimeError, ValueError) as problem:
            raise CompileError(f"the object code cannot be loaded: {problem}") from problem
        if not all(addresses):
            raise CompileError(f"the object code lacks one of the symbols {', '.join(symbols)}")
        _engines.append(engine)
        return addresses
