"""The text of kernels: always the same, without sizes, fused, and compiled for every target."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from functools import lru_cache
from itertools import product

import pytest

from outstride.engine.codegen.arguments import (
    ARGUMENTS,
    GRADIENT_ARGUMENTS,
)
from outstride.engine.codegen.dataflows.in_place_tasks import PREFETCH_BYTES_OF_A_ROW
from outstride.engine.codegen.fingerprint import (
    BLOCK_BYTES,
)
from outstride.engine.codegen.nest import gather_source
from outstride.engine.planner.machine import CHANNEL_BLOCK, INSTRUCTION_SETS
from outstride.engine.runtime.compiler import compile_object
from tests import ROOT
from tests.engine.codegen.assembly import X86
from tests.engine.codegen.recipes import in_place_recipes, recipes_of, sources_of, stepped_recipes
from tests.environments import COMPILED_SETS

#: Text with steps, which are torch's operators: some of those subtract and divide.
STEPS_WITHIN = re.compile(r"^steps|_batchnorm")

_texts = lru_cache(sources_of)


def _digest() -> str:
    """Of all text, for comparison between processes."""
    text = "".join(name + source for isa in INSTRUCTION_SETS for name, source in _texts(isa).items())
    return hashlib.sha256(text.encode()).hexdigest()


def test_recipes_cover_every_value() -> None:
    recipes = recipes_of("avx512")
    assert {r.dtype for r in recipes} == {"float32", "float64", "bfloat16", "float16"}
    assert {(r.in_unit, r.out_unit) for r in recipes} == set(
        product(("width", "channel", "any"), ("width", "channel", "any"))
    )


def test_the_same_recipe_gives_the_same_text_twice() -> None:
    assert sources_of("avx512") == _texts("avx512")


def test_other_processes_write_the_same_text() -> None:
    """Nothing hangs on what was written before or on the order of a set, else each would compile anew."""
    done = subprocess.run(
        [sys.executable, "-c", "from tests.engine.codegen.test_nest import _digest; print(_digest())"],
        cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "1"}, capture_output=True,
        text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.split()[-1] == _digest()


def test_recipes_that_differ_give_other_code() -> None:
    """Two recipes of one name would be one kernel in memory."""
    for isa in INSTRUCTION_SETS:
        recipes = [*recipes_of(isa), *in_place_recipes(isa), *stepped_recipes(isa)]
        assert len({r.name for r in recipes}) == len(recipes) == len({gather_source(r) for r in recipes})


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_addresses_are_never_integers(isa: str) -> None:
    for name, source in _texts(isa).items():
        assert not re.search(r"inttoptr|addrspace|\basm\b", source), name
        # Only how far an address is from an aligned one is ever asked of it as a number.
        asked = re.findall(
            r"(%\w+) = ptrtoint ptr \S+ to i64\n +(%\w+) = sub nsw i64 0, \1\n +\S+ = and i64 \2,", source
        )
        assert source.count("ptrtoint") == len(asked), name


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_products_and_sums_are_fused_and_nothing_may_be_reordered(isa: str) -> None:
    """Law 4: one rounding a term, and no licence for the compiler to take another order."""
    for name, source in _texts(isa).items():
        assert not re.search(r"\b(fast|reassoc|contract|nnan|ninf|nsz|arcp|afn|fmuladd)\b", source), name
        assert STEPS_WITHIN.search(name) or not re.search(r"\b(fsub|fdiv)\b", source), name
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
    most = max(len(ARGUMENTS), len(GRADIENT_ARGUMENTS), tile, CHANNEL_BLOCK, square, PREFETCH_BYTES_OF_A_ROW)
    no_number = re.compile(r"[%@][\w.]+|\bi\d+\b|<[^>]*>|\[\d+ x \w+\]|align \d+|#0|;.*")
    for name, source in _texts(isa).items():
        code = [no_number.sub("", line) for line in source.splitlines() if re.search(r"\bi64\b", line)]
        numbers = {int(n) for line in code for n in re.findall(r"-?\b\d+\b", line)}
        assert len(numbers) > 3 or name.startswith("tiles")
        # Rows lie above each other where taps go upwards.
        assert min(numbers) >= (-7 if "_i_" in name else -1), name
        assert max(numbers) <= (BLOCK_BYTES if name == "fingerprint" else most), name


def test_module_text_says_what_it_is() -> None:
    for isa in INSTRUCTION_SETS:
        for recipe in recipes_of(isa):
            assert gather_source(recipe).splitlines()[0] == f"; outstride gather_{recipe.name}"


def _machine_number(code: bytes) -> int:
    assert code[:4] == b"\x7fELF"
    return int.from_bytes(code[18:20], "little")


def test_everything_compiles_for_aarch64() -> None:
    isa = INSTRUCTION_SETS["neon"]
    for name, source in list(_texts("neon").items())[::3]:
        code = compile_object(source, isa)
        assert _machine_number(code) == 183, name
        assert b"run\0" in code or name.startswith("tiles"), f"{name} has no entry point"


@pytest.mark.parametrize("isa", [each for each in COMPILED_SETS if each.values[0] in X86])
def test_everything_compiles_for_x86(isa: str) -> None:
    for name, source in list(_texts(isa).items())[::6]:
        assert _machine_number(compile_object(source, INSTRUCTION_SETS[isa])) == 62, name
