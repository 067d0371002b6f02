"""Launches that threads run beside each other, each its own ones, as one launch."""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.codegen.arguments import STRAND_INDEX
from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.strands import strands_source
from outstride.engine.launch.argument_block import ArgumentBlock
from outstride.engine.launch.entries import list_kernel
from outstride.engine.launch.launches import Launch
from outstride.engine.runtime import kernel, machine


def strands_launch(strands: Sequence[Sequence[Launch]]) -> Launch:
    """One launch of strands, a thread for each: none waits for another, and its launches take one thread."""
    assert all(launch.workers == 1 for strand in strands for launch in strand), "a strand is one thread's"
    made = kernel("strands", strands_source, machine().instruction_set, authorship())
    scalars = {"run_at": list_kernel().address, "tasks": len(strands)}
    most_bytes = max(launch.scratch_bytes for strand in strands for launch in strand)
    return Launch(
        made, ArgumentBlock.of(STRAND_INDEX, scalars, {}), len(strands), {},
        scratch_bytes=most_bytes * len(strands), flag="found", strands=tuple(map(tuple, strands)),
    )  # fmt: skip
