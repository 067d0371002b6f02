"""Generated code by its structure: tiles keep their sums in registers, text holds no size."""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
import re
import subprocess
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import product

import pytest

from outstride.engine import runtime
from outstride.engine.codegen.arguments import (
    ARGUMENTS,
    DOT_ARGUMENTS,
    FINGERPRINT_ARGUMENTS,
    FINGERPRINT_INDEX,
    GRADIENT_ARGUMENTS,
    GROUP_FIELDS,
    NONFINITE_ARGUMENTS,
)
from outstride.engine.codegen.bands import AHEAD_BYTES_OF_A_ROW
from outstride.engine.codegen.dots import dots_source
from outstride.engine.codegen.fingerprint import (
    BLOCK_BYTES,
    BLOCKS_OF_TASK,
    KEY_BYTES,
    LINE_BYTES,
    MARK_BYTES,
    WORDS,
    fingerprint_source,
)
from outstride.engine.codegen.gradient import gradient_source
from outstride.engine.codegen.ir import I64, Function, module
from outstride.engine.codegen.nest import gather_source
from outstride.engine.codegen.nonfinite import nonfinite_source
from outstride.engine.codegen.tiles import tiles_source
from outstride.engine.codegen.weights import weights_source
from outstride.engine.planner.gradient import GradientProblem, plan_gradient
from outstride.engine.planner.machine import CHANNEL_BLOCK, INSTRUCTION_SETS, Machine
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.tiles import ROW_TILES, STRAIGHT_TILES, TILES, Tile
from outstride.engine.planner.windows import Spread, Window
from outstride.engine.runtime.compiler import compile_assembly, compile_object
from tests import ROOT

_X86 = ("avx512", "avx2", "generic")
_ITEM = {"float32": 4, "float64": 8}
_REGISTER = {"avx512": "zmm", "avx2": "ymm", "generic": "xmm"}


def _tiles(isa: str) -> tuple[Tile, ...]:
    registers = INSTRUCTION_SETS[isa].registers
    far = (replace(t, far=True) for t in TILES[registers] + STRAIGHT_TILES[registers] if t.by_pixel)
    return TILES[registers] + STRAIGHT_TILES[registers] + ROW_TILES[registers] + tuple(far)


def _gradient_tiles(isa: str, dtype: str) -> list[Tile]:
    """Every register tile that some weight gradient uses."""
    machine = Machine(INSTRUCTION_SETS[isa])
    one = (1, 1, 1)
    plans = (
        plan_gradient(
            GradientProblem(dtype, 1, 1, 3, outputs, one, one, one, one, (0, 0, 0), one, "width", "any"),
            machine, 1,
        )
        for outputs in range(1, 80)
    )  # fmt: skip
    return sorted({plan.tile for plan in plans}, key=lambda tile: (tile.rows, tile.vectors))


# -- reading assembly ----------------------------------------------------------------------------------------


def _bodies(assembly: str) -> dict[str, list[str]]:
    """The lines of every function."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in (raw.split("#")[0].rstrip() for raw in assembly.splitlines()):
        if re.match(r"[A-Za-z_]\w*:", line):
            name = line[:-1]
            found[name] = []
        elif line.startswith(".Lfunc_end"):
            name = ""
        elif name and line:
            found[name].append(line.strip())
    return found


_FUSED = re.compile(r"vfn?m(add|sub)\d+p[sd]|fml[as]")


def _innermost_loops(body: list[str]) -> Iterator[list[str]]:
    """The lines from a label to the jump back to it, where they hold multiply-adds and no other loop."""
    labels = {line[:-1]: i for i, line in enumerate(body) if line.endswith(":")}
    loops = []
    for i, line in enumerate(body):
        jump = re.match(r"(?:j\w+|b(?:\.\w+)?|cbn?z\s+\w+,|tbn?z\s+\w+, \S+)\s+(\.L\w+)$", line)
        if jump and labels.get(jump[1], i) < i:
            loops.append((labels[jump[1]], i))
    for first, last in loops:
        lines = body[first + 1 : last]
        inner = any(first <= a and b <= last and (a, b) != (first, last) for a, b in loops)
        if not inner and any(_FUSED.match(line) for line in lines):
            yield lines


def _expected(tile: Tile) -> list[int]:
    """Multiply-adds of every innermost loop; a tile of rows has one for each run of its rows."""
    if tile.dataflow != "rows":
        return [tile.rows * tile.vectors]
    return sorted(
        (last - first + 1) * tile.vectors for first in range(tile.rows) for last in range(first, tile.rows)
    )


def _assert_tight(body: list[str], tile: Tile, isa: str) -> None:
    loops = list(_innermost_loops(body))
    assert sorted(sum(bool(_FUSED.match(x)) for x in lines) for lines in loops) == _expected(tile)
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
        fused = [x for x in lines if _FUSED.match(x)]
        assert all(x.count(f"%{_REGISTER[isa]}") >= 2 for x in fused), "narrower than the vector registers"
        # Each vector and each broadcast is read once, and one entry of the table of terms.
        rows = len(fused) // tile.vectors
        asked = sum(x.startswith("prefetch") for x in lines)
        assert asked == tile.far * tile.vectors, "the next weights are asked for, a vector each"
        read = sum("(" in x and not x.startswith(("lea", "prefetch")) for x in lines)
        assert read <= rows + tile.vectors + 1, text


@cache
def _tile_bodies(isa: str, accumulator: str) -> dict[str, list[str]]:
    source = tiles_source(accumulator, INSTRUCTION_SETS[isa], _tiles(isa))
    return _bodies(compile_assembly(source, INSTRUCTION_SETS[isa]))


@pytest.mark.parametrize(("isa", "accumulator"), list(product(_X86, _ITEM)))
def test_register_tiles_stay_in_registers(isa: str, accumulator: str) -> None:
    for tile in _tiles(isa):
        _assert_tight(_tile_bodies(isa, accumulator)[tile.name], tile, isa)


_WINDOWS = (
    Window(1, 1, 1),
    Window(3, 1, 1),
    Window(3, 2, 1),
    Window(4, 3, 2),
    Window(7, 1, 1),
    Window(3, 1, -2),
    Window(3, 2, 1, 2),
    Window(5, 3, 1, 3),
    Window(3, 1, 1, 1, 3),
    Window(3, 1, -1, 1, 2),
    Window(3, 2, 1, 2, 3),
    Window(5, 2, 1, 2, 5),
    Window(3, 1, 2, 1, 1),
    Window(7, 1, 1, 1, 7, narrow=True),
    Window(5, 1, -1, 1, 5, narrow=True),
)


_SPREADS = (
    Spread((4, 4), (2, 2), (1, 1), (1, 1)),
    Spread((1, 12), (1, 2), (0, 5), (1, 1)),
    Spread((3, 2), (2, 3), (1, 0), (2, 1)),
    Spread((8, 8), (4, 4), (2, 2), (1, 1)),
    Spread((1, 16), (1, 8), (4, 0), (1, 1)),
    Spread((6, 6), (3, 3), (1, 1), (1, 1)),
    Spread((6, 6), (6, 3), (1, 1), (1, 1)),
)


def _spread_recipe(spread: Spread, isa: str, dtype: str) -> Recipe:
    step = spread.stride[1]
    return Recipe(dtype, isa, "width", "width", 1, step if step <= 8 else 0, ("in_place",), spread)


def _in_place_recipes(isa: str) -> list[Recipe]:
    """Kernels that read in place, for an instruction set with masks: every step and way along the height."""
    if not INSTRUCTION_SETS[isa].masks:
        return []
    dtypes = ("float32", "float64", "bfloat16", "float16")
    return [
        Recipe(
            dtypes[n % 4], isa, "width", "width",
            window.shared if window.across or window.shared > 1 else 1 + n % 4, 1, ("in_place",), window,
        )
        for n, window in enumerate((*_WINDOWS, *_WINDOWS[2:5]))
    ] + [_spread_recipe(spread, isa, dtypes[n % 4]) for n, spread in enumerate(_SPREADS)]  # fmt: skip


@pytest.mark.parametrize("window", _WINDOWS)
@pytest.mark.parametrize("dtype", _ITEM)
def test_tiles_that_read_in_place_stay_in_registers(dtype: str, window: Window) -> None:
    """One loop for each input row: it loads what its output rows share, and multiplies for each of them.

    Few taps along the width are written out instead, and their vectors loaded once for all of them.
    """
    recipe = Recipe(dtype, "avx512", "width", "width", window.shared, 1, ("in_place",), window)
    bodies = _bodies(compile_assembly(gather_source(recipe), INSTRUCTION_SETS["avx512"]))
    for tile in window.tiles:
        written_out = window.written_out(tile.vectors)
        together = window.across if written_out else window.shared
        reached = [len(rows) * tile.vectors * together for _, rows in window.rows(tile.rows)]
        if written_out or window.shared > 1:  # of a loop the last taps may be fewer, in parts elsewhere
            _assert_in_registers(bodies[tile.name])
            assert sum(bool(_FUSED.match(x)) for x in bodies[tile.name]) == sum(reached)
            loads = sum(bool(re.match(r"vmov\S+\s.*\(.*{z}", x.strip())) for x in bodies[tile.name])
            each = window.reads(tile.vectors, window.shared)
            assert loads == len(reached) * each, "each vector is loaded once"
            if written_out:
                masks = sum(bool(re.match(r"kmov\S+\s.*\(", x.strip())) for x in bodies[tile.name])
                assert masks <= each + tile.rows * (tile.vectors + 1), "masks stay in registers"
            continue
        loops = list(_innermost_loops(bodies[tile.name]))
        found = [sum(bool(_FUSED.match(x)) for x in lines) for lines in loops]
        assert sorted(found) == sorted(reached)
        for lines in loops:
            _assert_in_registers(lines)
            assert not re.search(r"\bpush|\bpop", "\n".join(lines)), "a loop saves registers"
            masked = sum("{%k" in x for x in lines)
            assert masked == min(2, tile.vectors), "those at the ends are loaded under their masks"


@pytest.mark.parametrize("spread", _SPREADS)
@pytest.mark.parametrize("dtype", _ITEM)
def test_tiles_that_spread_stay_in_registers(dtype: str, spread: Spread) -> None:
    """Every product is written out; an input row is loaded once for each offset that some phase reads."""
    source = gather_source(_spread_recipe(spread, "avx512", dtype))
    bodies = _bodies(compile_assembly(source, INSTRUCTION_SETS["avx512"]))
    assert {tile.vectors for tile in spread.tiles} == set(range(1, len(spread.tiles) + 1))
    for tile in spread.tiles:
        lines = bodies[tile.name]
        _assert_in_registers(lines)
        products, loads = spread.work(tile, (1, *spread.kernel_size), 1)
        assert sum(bool(_FUSED.match(x)) for x in lines) == products
        assert sum(bool(re.match(r"vmov\S+\s.*\(.*{z}", x.strip())) for x in lines) == loads


def _assert_in_registers(lines: Sequence[str]) -> None:
    text = "\n".join(lines)
    assert not re.search(r"%rsp.*zmm|zmm.*%rsp|\bcall", text), f"stack traffic:\n{text}"


@pytest.mark.parametrize(("isa", "dtype"), list(product(_X86, _ITEM)))
def test_tiles_of_the_weight_gradient_stay_in_registers(isa: str, dtype: str) -> None:
    tiles = _gradient_tiles(isa, dtype)
    assert {tile.vectors for tile in tiles} == set(range(1, 1 + max(tile.vectors for tile in tiles)))
    for tile in tiles:
        source = gradient_source(Recipe(dtype, isa, "width", "any", 1, 1), tile)
        assembly = _bodies(compile_assembly(source, INSTRUCTION_SETS[isa]))
        _assert_tight(assembly[tile.name], tile, isa)


def test_accumulators_and_operands_fit_the_registers() -> None:
    for isa in INSTRUCTION_SETS.values():
        for tile in (*_tiles(isa.name), *(t for d in _ITEM for t in _gradient_tiles(isa.name, d))):
            assert tile.rows * tile.vectors + tile.vectors + 1 <= isa.registers, (isa.name, tile)


def test_a_tile_that_does_not_fit_is_found_out() -> None:
    """The reader of assembly must see spills where there are some, else the tests above could not fail."""
    tile = Tile("pixels", 10, 4)
    isa = INSTRUCTION_SETS["avx512"]
    body = _bodies(compile_assembly(tiles_source("float32", isa, (tile,)), isa))[tile.name]
    assert [sum(bool(_FUSED.match(x)) for x in lines) for lines in _innermost_loops(body)] == [40]
    with pytest.raises(AssertionError, match="stack traffic"):
        _assert_tight(body, tile, "avx512")


# -- the text ------------------------------------------------------------------------------------------------


def _recipes(isa: str) -> list[Recipe]:
    """Every value of every field at least once, and each pair of steps."""
    dtypes, units = ("float32", "float64", "bfloat16", "float16"), ("width", "channel", "any")
    made = []
    for n, (in_step, out_step) in enumerate(product(range(5), (0, 1, 2, 3, 4, 8))):
        in_unit = units[n % 3]
        made.append(Recipe(dtypes[n % 4], isa, in_unit, units[n // 3 % 3], in_step, out_step))  # type: ignore[arg-type]
    return made


def _sources(isa: str) -> dict[str, str]:
    """Everything that is compiled for an instruction set, by name."""
    found = {f"gather {r.name}": gather_source(r) for r in (*_recipes(isa), *_in_place_recipes(isa))}
    for r in _recipes(isa)[::4]:
        for tile in _gradient_tiles(isa, r.dtype)[-1:]:
            found[f"gradient {r.name}"] = gradient_source(r, tile)
        found[f"dots {r.name}"] = dots_source(r, 4)
    found |= {f"weights {d}": weights_source(d) for d in ("float32", "float64", "bfloat16", "float16")}
    found |= {f"nonfinite {d}": nonfinite_source(d) for d in ("float32", "float64", "bfloat16", "float16")}
    found |= {f"tiles {d}": tiles_source(d, INSTRUCTION_SETS[isa], _tiles(isa)) for d in _ITEM}
    return found | {"fingerprint": fingerprint_source()}


def _digest() -> str:
    """Of all text, for comparison between processes."""
    text = "".join(name + source for isa in INSTRUCTION_SETS for name, source in _sources(isa).items())
    return hashlib.sha256(text.encode()).hexdigest()


def test_recipes_cover_every_value() -> None:
    recipes = _recipes("avx512")
    assert {r.dtype for r in recipes} == {"float32", "float64", "bfloat16", "float16"}
    assert {(r.in_unit, r.out_unit) for r in recipes} == set(
        product(("width", "channel", "any"), ("width", "channel", "any"))
    )


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_the_same_recipe_gives_the_same_text_twice(isa: str) -> None:
    assert _sources(isa) == _sources(isa)


def test_other_processes_write_the_same_text() -> None:
    """Nothing hangs on the order of a set, else each process would compile anew."""
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", "from tests.engine.codegen.test_codegen import _digest; print(_digest())"],
            cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
            timeout=120, check=True,
        )  # fmt: skip
        assert done.stdout.split()[-1] == _digest()


def test_recipes_that_differ_give_other_code() -> None:
    """Two recipes of one name would be one kernel in memory."""
    for isa in INSTRUCTION_SETS:
        recipes = [*_recipes(isa), *_in_place_recipes(isa)]
        assert len({r.name for r in recipes}) == len(recipes) == len({gather_source(r) for r in recipes})


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_addresses_are_never_integers(isa: str) -> None:
    for name, source in _sources(isa).items():
        assert not re.search(r"inttoptr|addrspace|\basm\b", source), name
        # Only how far an address is from an aligned one is ever asked of it as a number.
        asked = re.findall(
            r"(%\w+) = ptrtoint ptr \S+ to i64\n +(%\w+) = sub nsw i64 0, \1\n +\S+ = and i64 \2,", source
        )
        assert source.count("ptrtoint") == len(asked), name


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_products_and_sums_are_fused_and_nothing_may_be_reordered(isa: str) -> None:
    """Law 4: one rounding a term, and no licence for the compiler to take another order."""
    for name, source in _sources(isa).items():
        assert not re.search(
            r"\b(fast|reassoc|contract|nnan|ninf|nsz|arcp|afn|fmuladd|fsub|fdiv)\b", source
        ), name
        if name.startswith("tiles"):
            assert "llvm.fma." in source
            assert not re.search(r"\bfmul\b", source), name
            for tile in source.split("define ")[1:]:  # the bias comes behind every sum
                assert "fadd" not in tile[: tile.rfind("llvm.fma.")], name


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_the_text_holds_no_size(isa: str) -> None:
    """Law 6: its integers are steps, lanes, blocks and places in the argument blocks, all of them small."""
    tile = INSTRUCTION_SETS[isa].registers * INSTRUCTION_SETS[isa].lanes(4)
    square = (64 // 4) ** 2  # places in a square of weights that is turned
    most = max(len(ARGUMENTS), len(GRADIENT_ARGUMENTS), tile, CHANNEL_BLOCK, square, AHEAD_BYTES_OF_A_ROW)
    no_number = re.compile(r"[%@][\w.]+|\bi\d+\b|<[^>]*>|\[\d+ x \w+\]|align \d+|#0|;.*")
    for name, source in _sources(isa).items():
        code = [no_number.sub("", line) for line in source.splitlines() if re.search(r"\bi64\b", line)]
        numbers = {int(n) for line in code for n in re.findall(r"-?\b\d+\b", line)}
        assert len(numbers) > 3 or name.startswith("tiles")
        # Rows lie above each other where taps go upwards.
        assert min(numbers) >= (-7 if "_i_" in name else -1), name
        assert max(numbers) <= (BLOCK_BYTES if name == "fingerprint" else most), name


def test_module_text_says_what_it_is() -> None:
    for isa in INSTRUCTION_SETS:
        for recipe in _recipes(isa):
            assert gather_source(recipe).splitlines()[0] == f"; outstride gather_{recipe.name}"


# -- every target --------------------------------------------------------------------------------------------


def _machine_number(code: bytes) -> int:
    assert code[:4] == b"\x7fELF"
    return int.from_bytes(code[18:20], "little")


def test_everything_compiles_for_aarch64() -> None:
    isa = INSTRUCTION_SETS["neon"]
    for name, source in _sources("neon").items():
        code = compile_object(source, isa)
        assert _machine_number(code) == 183, name
        assert b"run\0" in code or name.startswith("tiles"), f"{name} has no entry point"


@pytest.mark.parametrize("accumulator", _ITEM)
def test_tiles_for_aarch64_multiply_and_add_in_vectors(accumulator: str) -> None:
    bodies = _tile_bodies("neon", accumulator)
    for tile in _tiles("neon"):
        loops = list(_innermost_loops(bodies[tile.name]))
        counts = Counter(sum(bool(_FUSED.match(x)) for x in lines) for lines in loops)
        assert sorted(counts.elements()) == _expected(tile)
        assert not any(re.search(r"\[sp|\bbl\b", x) for lines in loops for x in lines), tile


@pytest.mark.parametrize("isa", _X86)
def test_everything_compiles_for_x86(isa: str) -> None:
    for name, source in list(_sources(isa).items())[::3]:
        assert _machine_number(compile_object(source, INSTRUCTION_SETS[isa])) == 62, name


# -- the writer ----------------------------------------------------------------------------------------------


def test_integers_fold_as_python_does() -> None:
    f = Function("f", [("n", I64)])
    (n,) = f.parameters
    assert (f.add(2, 3), f.sub(2, 3), f.mul(2, 3), f.div(7, 2), f.rem(7, 2)) == (5, -1, 6, 3, 1)
    assert (f.minimum(2, 3), f.maximum(2, 3), f.ceil_div(7, 2)) == (2, 3, 4)
    assert all(x is n for x in (f.add(n, 0), f.add(0, n), f.sub(n, 0), f.mul(n, 1), f.mul(1, n), f.div(n, 1)))
    assert (f.mul(n, 0), f.mul(0, n), f.rem(n, 1)) == (0, 0, 0)
    assert f.text().count("%v") == 0, "what folds leaves no instruction"


def test_loops_run_as_range_does() -> None:
    """Written, compiled and run: the indices that a loop goes through."""
    f = Function("run", [("block", "ptr")])
    (block,) = f.parameters
    start, stop, step = (f.load_i64(block, i) for i in range(3))
    with f.loop(start, stop, step) as i, f.loop(0, 2) as j, f.when(f.compare("eq", j, 1)):
        count = f.load_i64(block, 3)
        f.store(i, f.at(block, f.add(count, 4), I64), 8)
        f.store(f.i64(f.add(count, 1)), f.at(block, 3, I64), 8)
    kernel = runtime.kernel("test_loops", lambda: module([f], "loops"), runtime.machine().instruction_set)
    for bounds in ((0, 5, 1), (2, 11, 3), (4, 4, 1), (7, 3, 2), (-3, 3, 2)):
        values = array("q", [*bounds, 0, *[0] * 20])
        kernel.alone(values.buffer_info()[0])
        assert list(values[4 : 4 + values[3]]) == list(range(*bounds))


# -- fingerprints --------------------------------------------------------------------------------------------


def _kernel_marks(data: bytes, keys: bytes, marks: list[int] | None = None) -> tuple[list[int], bool]:
    """What the kernel writes as the marks of the data, or whether it finds others than these."""
    isa = runtime.machine().instruction_set
    blocks = -(-len(data) // BLOCK_BYTES)
    memory = (ctypes.c_char * max(1, len(data))).from_buffer_copy(data or b"\0")
    key_memory = (ctypes.c_char * KEY_BYTES).from_buffer_copy(keys)
    result = array("Q", bytes(blocks * MARK_BYTES) if marks is None else marks)
    values = {
        "data_at": ctypes.addressof(memory), "size_bytes": len(data), "keys_at": ctypes.addressof(key_memory),
        "marks_at": result.buffer_info()[0], "renew": int(marks is None),
        "tasks": -(-blocks // BLOCKS_OF_TASK),
    }  # fmt: skip
    block = array("q", [values.get(name, 0) for name in FINGERPRINT_ARGUMENTS])
    runtime.kernel("fingerprint", fingerprint_source, isa).alone(block.buffer_info()[0])
    return list(result), block[FINGERPRINT_INDEX["changed"]] != 0


def _marks_by_hand(data: bytes, keys: bytes) -> list[int]:
    """NH of every lane of every block, with the keys of its lines and with those of the lines behind."""
    marks = []
    for start in range(0, len(data), BLOCK_BYTES):
        part = data[start : start + BLOCK_BYTES]
        part += bytes(-len(part) % LINE_BYTES)
        for shift in (0, 1):
            sums = [0] * WORDS
            for line in range(len(part) // LINE_BYTES):
                for lane in range(WORDS):
                    at, key = LINE_BYTES * line + 8 * lane, LINE_BYTES * (line + shift) + 8 * lane
                    low, high = (
                        (int.from_bytes(part[at + i : at + i + 4], "little")
                         + int.from_bytes(keys[key + i : key + i + 4], "little")) % 2**32
                        for i in (0, 4)
                    )  # fmt: skip
                    sums[lane] = (sums[lane] + low * high) % 2**64
            marks += sums
    return marks


@pytest.mark.parametrize("size", [1, 7, 63, 64, 65, 640, 1000, 4096, 4097, 9001])
def test_fingerprints_are_nh(size: int) -> None:
    random_ = random.Random(size)
    data, keys = random_.randbytes(size), random_.randbytes(KEY_BYTES)
    marks, _ = _kernel_marks(data, keys)
    assert marks == _marks_by_hand(data, keys)
    assert not _kernel_marks(data, keys, marks)[1]


def test_fingerprints_tell_every_bit_and_every_exchange() -> None:
    random_ = random.Random(5)
    size = BLOCKS_OF_TASK * BLOCK_BYTES + 5000
    data, keys = random_.randbytes(size), random_.randbytes(KEY_BYTES)
    marks, _ = _kernel_marks(data, keys)
    for bit in range(0, 8 * size, 8 * 4093 + 5):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        assert _kernel_marks(bytes(changed), keys, marks)[1], f"bit {bit}"
    for a, b in ((0, 64), (8, 72), (0, 8), (64, 128), (0, 4096), (4096, 8192), (192, size - 8)):
        changed = bytearray(data)
        changed[a : a + 8], changed[b : b + 8] = data[b : b + 8], data[a : a + 8]
        assert _kernel_marks(bytes(changed), keys, marks)[1], (a, b)


def test_fingerprints_tell_changes_that_sums_do_not() -> None:
    """The sign of every float64, a doubling of powers of two, and lines A B B A that become B A A B."""
    random_ = random.Random(6)
    keys, lines = random_.randbytes(KEY_BYTES), [random_.randbytes(LINE_BYTES) for _ in range(2)]
    ones = array("d", [1.0, -1.0] * 512)
    pairs = [
        (ones.tobytes(), array("d", [-v for v in ones]).tobytes()),
        (ones.tobytes(), array("d", [2 * v for v in ones]).tobytes()),
        (b"".join(lines[i] for i in (0, 1, 1, 0)), b"".join(lines[i] for i in (1, 0, 0, 1))),
    ]
    for before, after in pairs:
        marks, _ = _kernel_marks(before, keys)
        assert _kernel_marks(after, keys, marks)[1]


def test_arguments_have_one_place_each() -> None:
    arguments = (ARGUMENTS, DOT_ARGUMENTS, GRADIENT_ARGUMENTS, FINGERPRINT_ARGUMENTS, NONFINITE_ARGUMENTS)
    for names in (*arguments, GROUP_FIELDS):
        assert len(set(names)) == len(names)
