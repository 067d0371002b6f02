"""The epilogue is written in one place, after the whole sum, and what it gives is rounded once."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from outstride.engine.codegen.nest import gather_source
from outstride.engine.planner.epilogue import Epilogue
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.planner.recipe import Recipe
from tests import ROOT
from tests.engine.codegen.recipes import in_place_recipes, recipes_of, unpacked_recipes

CODEGEN = ROOT / "src" / "outstride" / "engine" / "codegen"
#: One names the pointer, in one it is the bias of an exponent, in four that of a norm, and one sums the
#: gradient of a bias.
OTHERS = {
    "epilogue.py", "arguments.py", "elements.py", "operations.py", "channel_sums.py", "normalisation.py",
    "group_norms.py", "layer_norms.py",
}  # fmt: skip
#: The microkernel has a parameter for the operands, which it hands on.
HANDED_ON = re.compile(r'p\.bias|^ +bias: Value$|"bias"', flags=re.MULTILINE)
DOCSTRING = re.compile(r'""".*?"""', flags=re.DOTALL)


def test_one_module_knows_what_an_epilogue_consists_of() -> None:
    for path in CODEGEN.rglob("*.py"):
        code = re.sub(r"#.*", "", DOCSTRING.sub("", path.read_text(encoding="utf-8")))
        assert path.name in OTHERS or "bias" not in HANDED_ON.sub("", code), path


def _functions(source: str) -> dict[str, str]:
    return {text.split("@")[1].split("(")[0]: text for text in source.split("define ")[1:]}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_without_a_bias_none_is_loaded(isa: str) -> None:
    for recipe in (*recipes_of(isa), *in_place_recipes(isa), *unpacked_recipes(isa)):
        bare = replace(recipe, epilogue=Epilogue(bias=False))
        assert bare.name != recipe.name
        # What shares the tasks, `run`, asks of a function whether there is one.
        source, bare_source = (
            "".join(text for name, text in _functions(gather_source(r)).items() if name != "run")
            for r in (recipe, bare)
        )
        assert "icmp ne ptr" in source
        assert "icmp ne ptr" not in bare_source


@pytest.mark.parametrize("recipe", recipes_of("avx2"), ids=lambda recipe: recipe.name)
def test_results_are_rounded_behind_the_epilogue_and_never_before(recipe: Recipe) -> None:
    """What is rounded is the result of the epilogue, or a row that was rounded before, beside the output."""
    written = _functions(gather_source(recipe))["write"]
    added, widened = (set(re.findall(rf"(%v\d+) = {name} ", written)) for name in ("fadd", "fpext"))
    rounded = set(re.findall(r"fptrunc [^%]*(%v\d+)", written))
    assert added
    assert rounded <= added | widened
    assert bool(rounded & added) == (recipe.dtype == "float16")
