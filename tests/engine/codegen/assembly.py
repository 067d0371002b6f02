"""Reading assembly: a function's body, its innermost loops, and whether they stay in registers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from math import ceil

from outstride.engine.codegen.tiles import tiles_source
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.machine import INSTRUCTION_SETS, LINE_BYTES
from outstride.engine.runtime.compiler import compile_assembly
from tests.engine.codegen.recipes import tiles_of

X86 = ("avx512", "avx2", "generic")


REGISTER = {"avx512": "zmm", "avx2": "ymm", "generic": "xmm"}


#: Comments of x86 begin with # and a space, or with two; those of Arm with //, for there # begins a number.
_COMMENT = re.compile(r"#(?=[\s#]).*|//.*")


def bodies_of(assembly: str) -> dict[str, list[str]]:
    """The lines of every function, without comments."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in (_COMMENT.sub("", raw).rstrip() for raw in assembly.splitlines()):
        if re.match(r"[A-Za-z_]\w*:", line):
            name = line[:-1]
            found[name] = []
        elif line.startswith(".Lfunc_end"):
            name = ""
        elif name and line:
            found[name].append(line.strip())
    return found


FUSED = re.compile(r"vfn?m(add|sub)\d+p[sd]|fml[as]")


def innermost_loops(body: list[str], holding: re.Pattern[str] = FUSED) -> Iterator[list[str]]:
    """The lines from a label to the jump back to it, where they hold multiply-adds and no other loop.

    Or, instead of multiply-adds, lines that begin as another pattern says.
    """
    labels = {line[:-1]: i for i, line in enumerate(body) if line.endswith(":")}
    loops = []
    for i, line in enumerate(body):
        jump = re.match(r"(?:j\w+|b(?:\.\w+)?|cbn?z\s+\w+,|tbn?z\s+\w+, \S+)\s+(\.L\w+)$", line)
        if jump and labels.get(jump[1], i) < i:
            loops.append((labels[jump[1]], i))
    for first, last in loops:
        lines = body[first + 1 : last]
        inner = any(first <= a and b <= last and (a, b) != (first, last) for a, b in loops)
        if not inner and any(holding.match(line) for line in lines):
            yield lines


def expected_products(tile: Tile) -> list[int]:
    """Multiply-adds of every innermost loop; a tile of rows has one for each run of its rows."""
    if tile.dataflow.name != "rows":
        return [tile.rows * tile.vectors]
    return sorted(
        (last - first + 1) * tile.vectors for first in range(tile.rows) for last in range(first, tile.rows)
    )


def assert_tight(body: list[str], tile: Tile, isa: str) -> None:
    loops = list(innermost_loops(body))
    assert sorted(sum(bool(FUSED.match(x)) for x in lines) for lines in loops) == expected_products(tile)
    # Where the frame pointer is none, rbp is a register like any other.
    frame = r"\(%rsp|\(%rbp" if "movq\t%rsp, %rbp" in body else r"\(%rsp"
    for lines in loops:
        text = "\n".join(lines)
        assert not re.search(frame + r"|\bpush|\bpop|\bcall", text), (
            f"stack traffic in the innermost loop:\n{text}"
        )
        # The target comes last; only comparisons end in an operand that they read.
        stores = [x for x in lines if x.endswith(")") and not x.startswith(("cmp", "test", "prefetch"))]
        assert not stores, "a store in the innermost loop"
        assert not any(x.endswith(":") for x in lines), "a branch in the innermost loop"
        fused = [x for x in lines if FUSED.match(x)]
        assert all(x.count(f"%{REGISTER[isa]}") >= 2 for x in fused), "narrower than the vector registers"
        # Each vector and each broadcast is read once, and one entry of the table of terms.
        rows = len(fused) // tile.vectors
        asked = sum(x.startswith("prefetch") for x in lines)
        of_term = tile.vectors * INSTRUCTION_SETS[isa].vector_bytes if tile.dataflow.lists_pixels else 1
        lines_of_term = ceil(of_term / LINE_BYTES)
        assert asked == tile.prefetches * lines_of_term, "the next weights are asked for, by lines"
        read = sum("(" in x and not x.startswith(("lea", "prefetch")) for x in lines)
        assert read <= rows + tile.vectors + 1, text


@cache
def tile_bodies(isa: str, accumulator: str) -> dict[str, list[str]]:
    source = tiles_source(accumulator, INSTRUCTION_SETS[isa], tiles_of(isa))
    return bodies_of(compile_assembly(source, INSTRUCTION_SETS[isa]))


def assert_in_registers(lines: Sequence[str]) -> None:
    text = "\n".join(lines)
    assert not re.search(r"%rsp.*zmm|zmm.*%rsp|\bcall", text), f"stack traffic:\n{text}"
