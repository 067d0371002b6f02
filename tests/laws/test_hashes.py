"""Results are constants of the package: the hashes in the table, under every instruction set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import outstride
from outstride.engine import runtime
from tests.cases import Case
from tests.environments import Environment, one_of
from tests.laws import hashed
from tests.laws.hashed import HASHED, SHORT, digests, numbers, table
from tests.roundings import is_short
from tests.tolerance import assert_equal_values


def _everything() -> list[object]:
    """Under one instruction set for each name, always the same, and under the others in the long run."""
    return [
        pytest.param(
            name, isa, id=f"{name}-{isa}".replace(" ", "-"), marks=[] if usual else [pytest.mark.slow]
        )
        for name in HASHED
        for isa in runtime.available()
        for usual in [isa == one_of(runtime.available(), name)]
    ]


@pytest.mark.parametrize(("name", "instruction_set"), _everything())
def test_law4_a_result_is_a_constant(name: str, instruction_set: str) -> None:
    with Environment.of(instruction_set, name).entered():
        found = digests(name)
    expected = table()[name]
    assert found["operands"] == expected["operands"], "the recipe gave other numbers, so results say nothing"
    other = [result for result in expected if found.get(result) != expected[result]]
    assert found.keys() == expected.keys()
    assert not other, f"other bits in {', '.join(other)}: see CONTRIBUTING.md"


def test_the_table_holds_what_is_hashed() -> None:
    assert table().keys() == HASHED.keys()


def test_other_bits_are_written_under_another_version_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hashes.json"
    monkeypatch.setattr(hashed, "TABLE", path)

    def written(operands: str, output: str, version: str = outstride.__version__) -> int:
        before = {"layer": {"operands": "some", "output": "these"}}
        path.write_text(json.dumps({"version": version, "results": before}), encoding="utf-8")
        monkeypatch.setattr(
            hashed, "_everywhere", lambda: {"layer": {"operands": operands, "output": output}}
        )
        return hashed.main(["--write"])

    assert written("some", "others") == 1
    assert "layer: other bits in output" in capsys.readouterr().out
    assert table()["layer"]["output"] == "these"
    assert written("some", "others", "0.0.1") == 0
    assert table()["layer"]["output"] == "others"
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == outstride.__version__
    assert written("new", "others") == 0, "of other operands results are others"


def test_the_recipe_gives_the_numbers_that_it_says() -> None:
    """By hand, with whole numbers of Python's, which have no end to wrap at."""
    odd, first, second, wrap = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 1 << 64

    def number(i: int, operand: int, bits: int) -> float:
        z = (i + 1 + operand * 2**32) * odd % wrap
        z = (z ^ z >> 30) * first % wrap
        z = (z ^ z >> 27) * second % wrap
        return ((z ^ z >> 31) // (1 << 64 - bits) - (1 << bits - 1)) / (1 << bits - 2)

    for dtype, bits in ((torch.float64, 53), (torch.float32, 24), (torch.bfloat16, 8), (torch.float16, 8)):
        expected = [[number(3 * row + column, 2, bits) for column in range(3)] for row in range(2)]
        assert_equal_values(numbers((2, 3), dtype, 2).double(), expected)


@pytest.mark.parametrize("layer", SHORT, ids=lambda layer: layer.id)
def test_layers_that_shall_be_short_are(layer: Case) -> None:
    """Else the table would hold the direct chain twice."""
    assert is_short(layer, "output")
