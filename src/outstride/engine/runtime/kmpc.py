"""GNU's function that starts a parallel region, written for libraries that have LLVM's alone.

`GOMP_parallel(function, argument, threads, flags)` runs a function of one argument on so many threads. LLVM's
`__kmpc_fork_call(location, count, function, ...)` takes the number of threads from a call before it, and
hands two thread numbers to the function ahead of its arguments. The functions are those of this process, by
address, so the code is compiled in each process that needs it and kept nowhere.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

from outstride.engine.planner.machine import InstructionSet
from outstride.engine.runtime import compiler

#: `KMP_IDENT_KMPC`: the region comes from a compiler of this convention.
_FLAGS = 2


class Location(ctypes.Structure):
    """`ident_t`: where in a program a region stands, which the library asks of each."""

    _fields_ = (
        ("first", ctypes.c_int32), ("flags", ctypes.c_int32), ("third", ctypes.c_int32),
        ("fourth", ctypes.c_int32), ("source", ctypes.c_char_p),
    )  # fmt: skip


_LOCATION = Location(0, _FLAGS, 0, 0, b";outstride;kernel;0;0;;")


def fork_source(functions: Mapping[str, int], location: int) -> str:
    """The LLVM IR of `fork(function, argument, threads, flags)` by the functions at these addresses."""
    fork, push, number = (
        f"inttoptr (i64 {functions[name]} to ptr)"
        for name in ("__kmpc_fork_call", "__kmpc_push_num_threads", "__kmpc_global_thread_num")
    )
    at = f"ptr inttoptr (i64 {location} to ptr)"
    # The variadic type tells LLVM where arguments behind the third go: on Apple's Arm onto the stack.
    return f"""\
define internal void @region(ptr %thread, ptr %bound, ptr %function, ptr %argument) nounwind {{
  call void %function(ptr %argument)
  ret void
}}

define void @fork(ptr %function, ptr %argument, i32 %threads, i32 %flags) nounwind {{
  %own = call i32 {number}({at})
  call void {push}({at}, i32 %own, i32 %threads)
  call void (ptr, i32, ptr, ...) {fork}({at}, i32 2, ptr @region, ptr %function, ptr %argument)
  ret void
}}
"""


def fork_address(functions: Mapping[str, int], isa: InstructionSet) -> int:
    """Where such a function is, made for LLVM's functions at these addresses."""
    code = compiler.compile_object(fork_source(functions, ctypes.addressof(_LOCATION)), isa)
    return compiler.load_object(code, isa, ["fork"])[0]
