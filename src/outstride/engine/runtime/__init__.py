"""Run plans: compile, cache, thread, launch. Nothing here decides what to run."""

from outstride.engine.runtime import cache
from outstride.engine.runtime.algorithm import resolved
from outstride.engine.runtime.compiler import compile_assembly as assembly
from outstride.engine.runtime.facts import info
from outstride.engine.runtime.heap import heap_trimmer
from outstride.engine.runtime.host import available, chosen, decline, instruction_set, machine
from outstride.engine.runtime.kernels import Kernel, Module, compilations, kernel, prepare
from outstride.engine.runtime.libm import library_function
from outstride.engine.runtime.pages import LARGE, prefer_large, release_file
from outstride.engine.runtime.scratch import scratch
from outstride.engine.runtime.teams import team
from outstride.engine.runtime.threads import fork_address, run_forking

__all__ = [
    "LARGE", "Kernel", "Module",
    "assembly", "available", "cache", "chosen", "compilations", "decline", "fork_address",
    "heap_trimmer", "info", "instruction_set", "kernel", "library_function", "machine", "prefer_large",
    "prepare", "release_file", "resolved", "run_forking", "scratch", "team",
]  # fmt: skip
