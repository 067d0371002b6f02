"""Run plans: compile, cache, thread, launch. Nothing here decides what to run."""

from outstride.runtime import cache
from outstride.runtime.compiler import compile_assembly as assembly
from outstride.runtime.facts import info
from outstride.runtime.host import available, chosen, decline, instruction_set, machine
from outstride.runtime.kernels import Kernel, Module, compilations, kernel, prepare
from outstride.runtime.pages import LARGE, prefer_large
from outstride.runtime.scratch import scratch

__all__ = [
    "LARGE", "Kernel", "Module",
    "assembly", "available", "cache", "chosen", "compilations", "decline", "info",
    "instruction_set", "kernel", "machine", "prefer_large", "prepare", "scratch",
]  # fmt: skip
