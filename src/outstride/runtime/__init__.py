"""Run plans: compile, cache, thread, launch. Nothing here decides what to run."""

from outstride.runtime import cache
from outstride.runtime.compiler import compile_assembly as assembly
from outstride.runtime.facts import info
from outstride.runtime.host import available, decline, instruction_set, machine
from outstride.runtime.kernels import Kernel, compilations, kernel
from outstride.runtime.pages import prefer_large
from outstride.runtime.scratch import scratch

__all__ = [
    "Kernel",
    "assembly", "available", "cache", "compilations", "decline", "info", "instruction_set", "kernel", "machine", "prefer_large",
    "scratch",
]  # fmt: skip
